//! A frame as the engine sees it: its octets, and the metadata beside them.

use devices::packet::{
    Encapsulation, Frame, GsoType, HEAD_ROOM, Offload, PacketType, VlanTag, complete_checksum, recheck,
};
use netkit::Surroundings;
use policy::packet as engine;

/// The octets of a frame.
pub struct FrameOctets<'a> {
    frame: &'a mut Frame,
    changed: bool,
}

impl<'a> FrameOctets<'a> {
    pub fn new(frame: &'a mut Frame) -> Self {
        FrameOctets {
            frame,
            changed: false,
        }
    }

    pub fn frame(&self) -> &Frame {
        self.frame
    }

    pub fn frame_mut(&mut self) -> &mut Frame {
        self.frame
    }

    /// Whether the program left other octets than it found.
    pub fn changed(&self) -> bool {
        self.changed
    }
}

impl engine::Octets for FrameOctets<'_> {
    fn linear(&self) -> &[u8] {
        self.frame.head()
    }

    #[inline]
    fn set_linear(&mut self, octets: &[u8]) {
        if self.frame.head() == octets {
            return;
        }
        self.changed = true;
        // The engine's room for the linear part is no larger than a head's.
        self.frame.set_head(&octets[..octets.len().min(HEAD_ROOM)]);
    }

    fn fragments_len(&self) -> usize {
        self.frame.tail_len()
    }

    fn read_fragments(&self, offset: usize, to: &mut [u8]) {
        self.frame.read_tail(offset, to);
    }

    fn take_fragments(&mut self, to: &mut [u8]) {
        self.frame.take_tail(to);
    }

    fn truncate_fragments(&mut self, len: usize) {
        self.frame.truncate_tail(len);
        self.changed = true;
    }
}

/// What a program is shown beside the octets, but for what [`export_work`] says.
#[inline]
pub fn export_metadata(frame: &Frame, surroundings: &Surroundings<'_>) -> engine::Metadata {
    let meta = &frame.meta;
    engine::Metadata {
        packet_type: meta.packet_type as u32,
        mark: meta.mark,
        queue_mapping: meta.queue_mapping,
        protocol: meta.protocol,
        vlan: meta.vlan.map(|tag| engine::VlanTag {
            protocol: tag.protocol,
            tci: tag.tci,
        }),
        priority: meta.priority,
        ingress_ifindex: surroundings.ingress_ifindex(),
        ifindex: surroundings.ifindex().0,
        tc_index: meta.tc_index,
        cb: meta.cb,
        hash: meta.hash,
        tc_classid: meta.tc_classid,
        tstamp: meta.tstamp,
        tstamp_type: 0,
        layers: engine::Layers {
            encapsulated: frame.offload.encapsulation.is_some(),
            ..engine::Layers::default()
        },
        offload: engine::Offload {
            verified: frame.offload.data_valid,
            ..engine::Offload::default()
        },
    }
}

/// What is left to do on a frame, if something is, for [`engine::Metadata::offload`].
///
/// Nothing is left to do on most frames, and then the offload is not even read, nor copied: it was cleared piece by piece,
/// and reading several pieces at once would wait for the processor's store buffer.
#[inline]
pub fn export_work(offload: &Offload) -> Option<engine::Offload> {
    let is_work = offload.needs_csum || offload.gso_type != GsoType::None;
    is_work.then(|| export_offload(offload))
}

#[inline(never)]
fn export_offload(offload: &Offload) -> engine::Offload {
    let gso = |kind| engine::Gso {
        kind,
        size: offload.gso_size,
        segments: 0,
        header_len: offload.hdr_len,
        ecn: offload.ecn,
        encapsulation: offload
            .encapsulation
            .map(|Encapsulation { inner, udp }| engine::Encapsulation { inner, udp }),
    };
    engine::Offload {
        partial: offload.needs_csum.then_some(engine::PartialChecksum {
            start: offload.csum_start,
            offset: offload.csum_offset,
        }),
        verified: offload.data_valid,
        gso: match offload.gso_type {
            GsoType::None => None,
            GsoType::TcpV4 => Some(gso(engine::GsoKind::TcpV4)),
            GsoType::TcpV6 => Some(gso(engine::GsoKind::TcpV6)),
            GsoType::Udp => Some(gso(engine::GsoKind::Udp)),
        },
    }
}

/// Takes over what a program left beside the octets; true if that changes what is left to do on the frame.
#[inline]
pub fn import_metadata(frame: &mut Frame, metadata: &engine::Metadata) -> bool {
    let meta = &mut frame.meta;
    meta.packet_type = match metadata.packet_type {
        0 => PacketType::Host,
        1 => PacketType::Broadcast,
        2 => PacketType::Multicast,
        _ => PacketType::OtherHost,
    };
    meta.mark = metadata.mark;
    meta.queue_mapping = metadata.queue_mapping;
    meta.protocol = metadata.protocol;
    meta.vlan = metadata.vlan.map(|tag| VlanTag {
        protocol: tag.protocol,
        tci: tag.tci,
    });
    meta.priority = metadata.priority;
    meta.tc_index = metadata.tc_index;
    meta.cb = metadata.cb;
    meta.hash = metadata.hash;
    meta.tc_classid = metadata.tc_classid;
    meta.tstamp = metadata.tstamp;
    let (before, after) = (&frame.offload, &metadata.offload);
    let nothing_before = !before.needs_csum && before.gso_type == GsoType::None;
    if nothing_before && after.partial.is_none() && after.gso.is_none() {
        return std::mem::replace(&mut frame.offload.data_valid, after.verified) != after.verified;
    }
    let offload = import_offload(after);
    let changed = frame.offload != offload;
    frame.offload = offload;
    changed
}

#[inline(never)]
fn import_offload(offload: &engine::Offload) -> Offload {
    let mut imported = Offload {
        data_valid: offload.verified,
        ..Offload::default()
    };
    if let Some(partial) = offload.partial {
        imported.needs_csum = true;
        imported.csum_start = partial.start;
        imported.csum_offset = partial.offset;
    }
    if let Some(gso) = offload.gso {
        imported.gso_type = match gso.kind {
            engine::GsoKind::TcpV4 => GsoType::TcpV4,
            engine::GsoKind::TcpV6 => GsoType::TcpV6,
            engine::GsoKind::Udp => GsoType::Udp,
        };
        imported.ecn = gso.ecn;
        imported.gso_size = gso.size;
        imported.hdr_len = gso.header_len;
        imported.encapsulation = gso
            .encapsulation
            .map(|engine::Encapsulation { inner, udp }| Encapsulation { inner, udp });
    }
    imported
}

/// Whether what a program left to do on the frame is something that a receiver can be told, or that can be done here.
pub fn still_fits(frame: &mut Frame) -> bool {
    let offload = frame.offload;
    if !offload.needs_csum && offload.gso_type == GsoType::None || recheck(frame).is_ok() {
        return true;
    }
    // The checksum of a packet within a packet, say: no receiver knows its place, but it can be computed.
    frame.offload = offload;
    offload.gso_type == GsoType::None && complete_checksum(frame).is_ok()
}

#[cfg(test)]
mod tests {
    use devices::packet::{AdaptError, OffloadFeatures, adapt};

    use super::*;

    /// A TCP packet of IPv4 with that much payload, behind an outer IPv4 header of this protocol.
    fn encapsulated(protocol: u8, payload: usize) -> Frame {
        let inner_len = (40 + payload) as u16;
        let [high, low] = inner_len.to_be_bytes();
        let octets = [
            [2; 12].as_slice(),
            &[8, 0],
            &[
                0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            ],
            &[
                0x45, 0, high, low, 0, 0, 0, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2,
            ],
            &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0],
            &vec![7; payload],
        ];
        let mut frame = Frame::from_octets(&octets.concat());
        frame.offload = Offload {
            needs_csum: true,
            csum_start: 54,
            csum_offset: 16,
            ..Offload::default()
        };
        frame
    }

    /// The same, to be cut.
    fn oversized(protocol: u8) -> Frame {
        let mut frame = encapsulated(protocol, 3000);
        frame.offload = Offload {
            gso_type: GsoType::TcpV4,
            gso_size: 1000,
            hdr_len: 74,
            encapsulation: Some(Encapsulation {
                inner: 34,
                udp: false,
            }),
            ..frame.offload
        };
        frame
    }

    fn deliver(frame: &mut Frame) -> Vec<Frame> {
        let mut delivered = vec![];
        let adapted: Result<(), AdaptError> = adapt(frame, OffloadFeatures::ALL, &mut Frame::new(), |part| {
            let mut copy = Frame::new();
            copy.copy_from(part);
            delivered.push(copy);
            Ok(())
        });
        adapted.unwrap();
        delivered
    }

    #[test]
    fn the_next_program_sees_the_offload_that_the_last_one_left() {
        let mut whole = oversized(4).offload;
        for encapsulation in [whole.encapsulation, None] {
            whole.encapsulation = encapsulation;
            let exported = export_offload(&whole);
            let seen = exported.gso.unwrap().encapsulation;
            let expected = encapsulation.map(|_| engine::Encapsulation {
                inner: 34,
                udp: false,
            });
            assert_eq!(seen, expected);
            assert_eq!(import_offload(&exported), whole);
        }
    }

    #[test]
    fn what_a_program_encapsulated_is_cut_when_it_is_delivered() {
        let mut frame = oversized(4);
        let offload = frame.offload;
        assert!(still_fits(&mut frame));
        assert_eq!(frame.offload, offload);
        let segments = deliver(&mut frame);
        let lengths: Vec<_> = segments
            .iter()
            .map(|segment| (segment.len(), &segment.head()[16..18], &segment.head()[36..38]))
            .collect();
        let (outer, inner) = (1060u16.to_be_bytes(), 1040u16.to_be_bytes());
        assert_eq!(lengths, [(1074, outer.as_slice(), inner.as_slice()); 3]);
        assert!(
            segments
                .iter()
                .all(|segment| segment.offload == Offload::default())
        );
    }

    #[test]
    fn what_is_in_no_tunnel_that_we_know_is_not_cut() {
        assert!(!still_fits(&mut oversized(97)));
    }

    #[test]
    fn a_partial_checksum_is_completed_where_no_receiver_looks_for_it() {
        let mut frame = encapsulated(97, 100);
        assert!(still_fits(&mut frame));
        assert_eq!(frame.offload, Offload::default());
        assert_ne!(frame.head()[70..72], [0, 0]);
        // IP in IP is known: a receiver that leaves checksums to be computed is told of it, another gets it complete.
        let mut known = encapsulated(4, 100);
        assert!(still_fits(&mut known) && known.offload.needs_csum);
        let none = OffloadFeatures::NONE;
        let adapted: Result<(), AdaptError> = adapt(&mut known, none, &mut Frame::new(), |_| Ok(()));
        assert_eq!((adapted, &known.head()[54..]), (Ok(()), &frame.head()[54..]));
    }

    #[test]
    fn a_partial_checksum_outside_of_the_frame_does_not_fit() {
        let mut frame = encapsulated(4, 0);
        frame.offload.csum_start = u16::MAX;
        assert!(!still_fits(&mut frame));
    }
}
