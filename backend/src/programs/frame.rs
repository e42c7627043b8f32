//! A frame as the engine sees it: its octets, and the metadata beside them.

use devices::packet::{Frame, GsoType, HEAD_ROOM, Offload, PacketType, VlanTag};
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

/// What a program is shown beside the octets.
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
        layers: engine::Layers::default(),
        offload: export_offload(&frame.offload),
    }
}

#[inline]
fn export_offload(offload: &Offload) -> engine::Offload {
    let gso = |kind| engine::Gso {
        kind,
        size: offload.gso_size,
        segments: 0,
        header_len: offload.hdr_len,
        ecn: offload.ecn,
        encapsulation: None,
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
    let offload = import_offload(&metadata.offload);
    let changed = frame.offload != offload;
    frame.offload = offload;
    changed
}

#[inline]
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
    }
    imported
}
