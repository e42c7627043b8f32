//! Why a frame was not delivered: every drop has exactly one reason, and each reason a counter.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $describe:literal;)+) => {
        /// The named cause of a frame that was not delivered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $describe] $variant),+
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: [DropReason; [$($name),+].len()] = [$(DropReason::$variant),+];

            /// The name in counters and traces, in snake_case.
            pub fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name),+
                }
            }

            /// One sentence for a user.
            pub fn describe(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $describe),+
                }
            }
        }
    };
}

reasons! {
    SenderDown = "sender_down", "The sending device is down.";
    NoPeer = "no_peer", "The sending device has no peer (it is single).";
    PeerDown = "peer_down", "The peer of the sending device is down.";
    Runt = "runt", "The frame is shorter than an Ethernet header.";
    PolicyBlackhole = "policy_blackhole", "No program is attached and the policy is blackhole.";
    ProgramDrop = "program_drop", "A program returned DROP.";
    UnknownVerdict = "unknown_verdict", "A program returned a code that netkit does not know.";
    ProgramFault = "program_fault", "A program did what it must not do and was stopped, or is in quarantine because it did so too often.";
    RedirectFailed = "redirect_failed", "A program asked for a redirect to a device that is missing or in another domain, to receive on one that is down, or of a kind that cannot be.";
    RedirectLoop = "redirect_loop", "Programs redirected the frame more often than the recursion limit allows.";
    NeighbourUnknown = "neighbour_unknown", "There is no route to the frame's next hop, or no neighbour there.";
    ReceiverRingFull = "receiver_ring_full", "The receiver has no buffers for the frame.";
    NoReceiver = "no_receiver", "Nothing is attached behind the receiving device.";
    ReceiverNotReady = "receiver_not_ready", "What is attached behind the receiving device has not started its queues.";
    FrameTooLong = "frame_too_long", "The frame is longer than the receiver can take.";
    MalformedChain = "malformed_chain", "The sender's descriptor chain cannot be read.";
    BadOffloadHeader = "bad_offload_header", "The sender's virtio-net header does not fit the frame.";
    RingDisabled = "ring_disabled", "The sender's queue is started but disabled.";
    DeviceGone = "device_gone", "The device or the memory behind it vanished while the frame was in flight.";
    TapError = "tap_error", "The host netdev refused the frame.";
    UplinkDown = "uplink_down", "The uplink is down, or the NIC behind it is missing or has no carrier.";
    UplinkFull = "uplink_full", "The NIC behind the uplink has no room for the frame.";
    NicError = "nic_error", "The NIC behind the uplink, or its driver on the host, refused the frame.";
    NotClaimed = "not_claimed", "The frame is for none of the devices that share the uplink.";
    LesseeDown = "lessee_down", "The device that leases the queue on which the frame arrived is down.";
    NeighbourMalformed = "neighbour_malformed", "An L3 guest sent an ARP or neighbour discovery message that cannot be read.";
}

impl DropReason {
    pub(crate) const COUNT: usize = DropReason::ALL.len();
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_follow_the_table_and_names_differ() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert!(
                reason
                    .name()
                    .bytes()
                    .all(|octet| octet.is_ascii_lowercase() || octet == b'_')
            );
            assert!(reason.describe().ends_with('.'));
        }
    }
}
