//! What a driver may put in a descriptor that was never told the rules, or does not care.

use proptest::prelude::*;
use proptest::sample::select;

use super::driver::{Descriptor, INDIRECT, NEXT, WRITE};

/// Three neighbours with odd seams, a hole, and one more region.
pub const TILES: &[(u64, u64)] = &[(0, 0x4000), (0x4000, 0x801), (0x4801, 0x7ff), (0x8000, 0x1000)];
/// Where indirect tables are.
pub const TABLES: u64 = 0x1000;
/// An indirect table here lies in two regions, one of its descriptors too.
pub const TORN_TABLE: u64 = 0x3fe8;

/// The flags of a descriptor.
fn flags() -> impl Strategy<Value = u16> {
    prop_oneof![
        10 => select(vec![0, NEXT, WRITE, NEXT | WRITE]),
        5 => Just(INDIRECT),
        1 => 0..8u16,
        1 => any::<u16>(),
    ]
}

/// Where an indirect table is, and its length.
fn table() -> impl Strategy<Value = (u64, u32)> {
    let address = prop_oneof![
        8 => select(vec![TABLES, TORN_TABLE]),
        1 => select(vec![TABLES + 1, 0x4ff0, 0x8ff8, u64::MAX - 8]),
    ];
    let len = prop_oneof![
        3 => Just(16 * 8),
        3 => (1..9u32).prop_map(|entries| 16 * entries),
        1 => select(vec![0, 8, 17, 16 * 32768, 16 * 32769, 16 * 65535, 16 * 65536, u32::MAX - 15]),
    ];
    (address, len)
}

/// Where a buffer is, and its length.
fn buffer() -> impl Strategy<Value = (u64, u32)> {
    let address = prop_oneof![
        12 => 0x3000..0x5000u64,
        4 => 0x8000..0x9000u64,
        1 => select(vec![0x4fff, 0x5000, 0x7fff, 0x8fff, 0x9000, u64::MAX, u64::MAX - 100]),
    ];
    let len = prop_oneof![
        12 => 1..0x200u32,
        3 => 0x200..0x1000u32,
        1 => select(vec![0, 0x1_0000, 0x8000_0000, u32::MAX]),
    ];
    (address, len)
}

/// A descriptor that may break any rule, but keeps to each of them more often than not.
pub fn any_descriptor(size: u16) -> impl Strategy<Value = Descriptor> {
    let next = prop_oneof![10 => 0..size, 1 => size..=u16::MAX];
    (flags(), next, buffer(), table()).prop_map(|(flags, next, buffer, table)| {
        let (address, len) = if flags & INDIRECT == 0 { buffer } else { table };
        Descriptor {
            address,
            len,
            flags,
            next,
        }
    })
}
