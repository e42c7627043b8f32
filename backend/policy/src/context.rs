//! `struct __sk_buff`: what a program sees through its first argument (linux/bpf.h).

/// The context as the program reads it, octet for octet the kernel's user-space view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SkBuff {
    pub len: u32,
    pub pkt_type: u32,
    pub mark: u32,
    pub queue_mapping: u32,
    /// EtherType in network order.
    pub protocol: u32,
    pub vlan_present: u32,
    pub vlan_tci: u32,
    pub vlan_proto: u32,
    pub priority: u32,
    pub ingress_ifindex: u32,
    pub ifindex: u32,
    pub tc_index: u32,
    pub cb: [u32; 5],
    pub hash: u32,
    pub tc_classid: u32,
    /// Window address of the linear part.
    pub data: u32,
    /// Window address behind the linear part.
    pub data_end: u32,
    pub napi_id: u32,
    /// Socket fields, which tc programs may not read: family to local_port.
    pub socket: [u32; 13],
    pub data_meta: u32,
    pub flow_keys: u64,
    pub tstamp: u64,
    pub wire_len: u32,
    pub gso_segs: u32,
    pub sk: u64,
    pub gso_size: u32,
    pub tstamp_type: u8,
    pub padding: [u8; 3],
    pub hwtstamp: u64,
}

const _: () = assert!(size_of::<SkBuff>() == 192);
const _: () = assert!(std::mem::offset_of!(SkBuff, data) == 76);
const _: () = assert!(std::mem::offset_of!(SkBuff, data_meta) == 140);
const _: () = assert!(std::mem::offset_of!(SkBuff, tstamp) == 152);
const _: () = assert!(std::mem::offset_of!(SkBuff, gso_size) == 176);
const _: () = assert!(std::mem::offset_of!(SkBuff, hwtstamp) == 184);
