//! Registers and descriptors of the 82576 family, by the names of its datasheet (chapters 7 and 8).

/// Octets of registers that are mapped.
pub const LEN: usize = 0x2_0000;

// 8.2: general.
pub const CTRL: usize = 0x0000;
pub const CTRL_SLU: u32 = 1 << 6;
pub const CTRL_RST: u32 = 1 << 26;
pub const STATUS: usize = 0x0008;
pub const STATUS_LU: u32 = 1 << 1;
pub const STATUS_SPEED_SHIFT: u32 = 6;
pub const EECD: usize = 0x0010;
pub const EECD_AUTO_RD: u32 = 1 << 9;
pub const CTRL_EXT: usize = 0x0018;
pub const CTRL_EXT_DRV_LOAD: u32 = 1 << 28;
pub const CTRL_EXT_LINK_MODE: u32 = 3 << 22;
pub const MDIC: usize = 0x0020;
pub const MDIC_REGISTER_SHIFT: u32 = 16;
pub const MDIC_PHY: u32 = 1 << 21;
pub const MDIC_WRITE: u32 = 1 << 26;
pub const MDIC_READY: u32 = 1 << 28;

// 8.6: PCIe.
pub const GCR: usize = 0x5b00;
pub const GCR_COMPLETION_TIMEOUT_RESEND: u32 = 1 << 16;

// 8.8: interrupts. The first three also are at 0x1500 on, where QEMU's model has nothing.
pub const ICR: usize = 0x00c0;
pub const IMS: usize = 0x00d0;
pub const IMC: usize = 0x00d8;
pub const INTERRUPT_LSC: u32 = 1 << 2;
pub const GPIE: usize = 0x1514;
pub const GPIE_NSICR: u32 = 1 << 0;
pub const GPIE_MULTIPLE_MSIX: u32 = 1 << 4;
pub const GPIE_EIAME: u32 = 1 << 30;
pub const GPIE_PBA: u32 = 1 << 31;
pub const EIMS: usize = 0x1524;
pub const EIMC: usize = 0x1528;
pub const EIAC: usize = 0x152c;
pub const EIAM: usize = 0x1530;
pub const EICR: usize = 0x1580;
pub const IVAR: usize = 0x1700;
pub const IVAR_MISC: usize = 0x1740;
pub const IVAR_VALID: u32 = 1 << 7;

// 8.10: receive.
pub const RCTL: usize = 0x0100;
pub const RCTL_EN: u32 = 1 << 1;
pub const RCTL_UPE: u32 = 1 << 3;
pub const RCTL_MPE: u32 = 1 << 4;
pub const RCTL_LPE: u32 = 1 << 5;
pub const RCTL_BAM: u32 = 1 << 15;
pub const RCTL_SECRC: u32 = 1 << 26;
pub const RXCSUM: usize = 0x5000;
pub const RXCSUM_IPOFLD: u32 = 1 << 8;
pub const RXCSUM_TUOFLD: u32 = 1 << 9;
pub const RXCSUM_PCSD: u32 = 1 << 13;
pub const RLPML: usize = 0x5004;
pub const MTA: usize = 0x5200;
pub const MTA_WORDS: usize = 128;
pub const MRQC: usize = 0x5818;
pub const MRQC_RSS: u32 = 2;
pub const MRQC_VMDQ: u32 = 3;
/// TCP and UDP over IPv4 and IPv6 by ports too, other IP by addresses.
pub const MRQC_FIELDS: u32 = 0x01ff_0000;
pub const RETA: usize = 0x5c00;
pub const RETA_ENTRIES: usize = 128;
pub const RSSRK: usize = 0x5c80;
pub const RSSRK_WORDS: usize = 10;
pub const RAH_AV: u32 = 1 << 31;
pub const RAH_POOL_SHIFT: u32 = 18;

// 8.14: pools of queues.
pub const VFRE: usize = 0x0c8c;
pub const VFTE: usize = 0x0c90;
pub const VT_CTL: usize = 0x581c;
pub const VT_CTL_NO_DEFAULT_POOL: u32 = 1 << 29;
pub const VT_CTL_REPLICATE: u32 = 1 << 30;
pub const VMOLR: usize = 0x5ad0;
pub const VMOLR_LPE: u32 = 1 << 16;
pub const VMOLR_AUPE: u32 = 1 << 24;
pub const VMOLR_ROMPE: u32 = 1 << 25;
pub const VMOLR_BAM: u32 = 1 << 27;
pub const VMOLR_STRCRC: u32 = 1 << 31;

// 8.10, 8.12: queues. Those of queue n are 0x40 * n further on.
pub const QUEUE_STRIDE: usize = 0x40;
pub const RDBAL: usize = 0xc000;
pub const RDBAH: usize = 0xc004;
pub const RDLEN: usize = 0xc008;
pub const SRRCTL: usize = 0xc00c;
pub const SRRCTL_ADVANCED_ONE_BUFFER: u32 = 1 << 25;
pub const SRRCTL_DROP_EN: u32 = 1 << 31;
pub const RDH: usize = 0xc010;
pub const RDT: usize = 0xc018;
pub const RXDCTL: usize = 0xc028;
pub const TDBAL: usize = 0xe000;
pub const TDBAH: usize = 0xe004;
pub const TDLEN: usize = 0xe008;
pub const TDH: usize = 0xe010;
pub const TDT: usize = 0xe018;
pub const TXDCTL: usize = 0xe028;
pub const QUEUE_ENABLE: u32 = 1 << 25;

// 8.12: transmit.
pub const TCTL: usize = 0x0400;
pub const TCTL_EN: u32 = 1 << 1;
pub const TCTL_PSP: u32 = 1 << 3;
pub const TCTL_CT: u32 = 0xf << 4;
pub const TCTL_RTLC: u32 = 1 << 24;

/// Octets of a descriptor, and of all that a ring has.
pub const DESCRIPTOR: usize = 16;

// 7.1.5.2: advanced receive descriptor as it is written back, second half.
pub const RX_DD: u64 = 1 << 0;
pub const RX_EOP: u64 = 1 << 1;
pub const RX_L4I: u64 = 1 << 5;
pub const RX_L4E: u64 = 1 << 29;
pub const RX_IPE: u64 = 1 << 30;
pub const RX_RXE: u64 = 1 << 31;

// 7.2.2.2: advanced transmit context descriptor, third word.
pub const TX_DTYP_CONTEXT: u32 = 2 << 20;
pub const TX_CONTEXT_IPV4: u32 = 1 << 10;
pub const TX_CONTEXT_TCP: u32 = 1 << 11;
// 7.2.2.3: advanced transmit data descriptor, third word.
pub const TX_DTYP_DATA: u32 = 3 << 20;
pub const TX_EOP: u32 = 1 << 24;
pub const TX_IFCS: u32 = 1 << 25;
pub const TX_RS: u32 = 1 << 27;
pub const TX_DEXT: u32 = 1 << 29;
pub const TX_TSE: u32 = 1 << 31;
// And fourth.
pub const TX_DD: u32 = 1 << 0;
pub const TX_IXSM: u32 = 1 << 8;
pub const TX_TXSM: u32 = 1 << 9;
pub const TX_PAYLEN_SHIFT: u32 = 14;

/// A queue's register.
pub const fn of_queue(register: usize, queue: usize) -> usize {
    register + QUEUE_STRIDE * queue
}

/// RAL and RAH of an address that is received (8.10.20).
pub const fn address(index: usize) -> (usize, usize) {
    let low = match index {
        0..16 => 0x5400 + 8 * index,
        _ => 0x54e0 + 8 * (index - 16),
    };
    (low, low + 4)
}
