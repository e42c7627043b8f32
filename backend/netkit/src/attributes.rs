//! The attributes with a fixed set of words, spelled as iproute2 and libbpf spell them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The word is not one that the attribute can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{word}\" is not a {attribute}; use one of: {choices}")]
pub struct UnknownWord {
    word: String,
    attribute: &'static str,
    choices: &'static str,
}

macro_rules! words {
    (
        $(#[$doc:meta])* $name:ident ($attribute:literal, $choices:literal) {
            $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// The word for it, as iproute2 prints it.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => Err(UnknownWord {
                        word: word.to_owned(),
                        attribute: $attribute,
                        choices: $choices,
                    }),
                }
            }
        }
    };
}

words! {
    /// `IFLA_NETKIT_MODE`: what the frames of a pair carry.
    Mode("netkit mode", "l2, l3") {
        /// Ethernet, with addresses and ARP/ND.
        L2 = "l2",
        /// IP; the Ethernet header is there with all addresses zero.
        L3 = "l3",
    }
}

words! {
    /// `IFLA_NETKIT_POLICY`: what happens to a frame while no program is attached.
    Policy("netkit policy", "forward, blackhole") {
        /// Hand it to the other end.
        Forward = "forward",
        /// Drop it.
        Blackhole = "blackhole",
    }
}

words! {
    /// `IFLA_NETKIT_SCRUB`: whether a frame that leaves the sender's domain loses mark and priority.
    Scrub("netkit scrub", "none, default") {
        /// It keeps them.
        None = "none",
        /// It loses them.
        Default = "default",
    }
}

words! {
    /// What a device is.
    DeviceKind("device kind", "netkit, uplink") {
        /// One end of a pair, or a single.
        Netkit = "netkit",
        /// A NIC.
        Uplink = "uplink",
    }
}

words! {
    /// The kind of a queue (`enum netdev_queue_type`).
    QueueKind("queue kind", "rx, tx") {
        /// For what is received.
        Rx = "rx",
        /// For what is transmitted.
        Tx = "tx",
    }
}

words! {
    /// `IFLA_NETKIT_PAIRING`: whether the device has another end.
    Pairing("netkit pairing", "pair, single") {
        /// A primary and a peer.
        Pair = "pair",
        /// A device alone: its frames go through the queues that it leases, and it takes no programs.
        Single = "single",
    }
}

words! {
    /// Which of a pair's or an uplink's two lists is meant (`BPF_NETKIT_PRIMARY`, `BPF_NETKIT_PEER`, `BPF_TCX_INGRESS`,
    /// `BPF_TCX_EGRESS`).
    AttachType("attach type", "primary, peer, tcx_ingress, tcx_egress") {
        /// The list that runs on what the primary transmits.
        Primary = "primary",
        /// The list that runs on what the peer transmits.
        Peer = "peer",
        /// The list that runs on what the NIC behind an uplink received.
        TcxIngress = "tcx_ingress",
        /// The list that runs on what an uplink transmits.
        TcxEgress = "tcx_egress",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_iproute2s_and_round_trip() {
        for (mode, word) in [(Mode::L2, "l2"), (Mode::L3, "l3")] {
            assert_eq!((mode.to_string().as_str(), word.parse()), (word, Ok(mode)));
        }
        for (policy, word) in [(Policy::Forward, "forward"), (Policy::Blackhole, "blackhole")] {
            assert_eq!((policy.to_string().as_str(), word.parse()), (word, Ok(policy)));
        }
        for (scrub, word) in [(Scrub::None, "none"), (Scrub::Default, "default")] {
            assert_eq!((scrub.to_string().as_str(), word.parse()), (word, Ok(scrub)));
        }
        for (pairing, word) in [(Pairing::Pair, "pair"), (Pairing::Single, "single")] {
            assert_eq!((pairing.to_string().as_str(), word.parse()), (word, Ok(pairing)));
        }
        for (list, word) in [
            (AttachType::Primary, "primary"),
            (AttachType::Peer, "peer"),
            (AttachType::TcxIngress, "tcx_ingress"),
            (AttachType::TcxEgress, "tcx_egress"),
        ] {
            assert_eq!((list.to_string().as_str(), word.parse()), (word, Ok(list)));
        }
        for (kind, word) in [(DeviceKind::Netkit, "netkit"), (DeviceKind::Uplink, "uplink")] {
            assert_eq!((kind.to_string().as_str(), word.parse()), (word, Ok(kind)));
        }
        for (kind, word) in [(QueueKind::Rx, "rx"), (QueueKind::Tx, "tx")] {
            assert_eq!((kind.to_string().as_str(), word.parse()), (word, Ok(kind)));
        }
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_choices() {
        let error = "L2".parse::<Mode>().unwrap_err().to_string();
        assert_eq!(error, "\"L2\" is not a netkit mode; use one of: l2, l3");
    }
}
