//! Helpers on maps.

use super::call::Scratch;
use super::{Answer, Call, Failure, helpers};
use crate::machine::Machine;
use crate::map::{At, Map, MapKind};

helpers! {
    1 => lookup;
    2 => update;
    3 => delete;
    87 => push;
    88 => pop;
    89 => peek;
    195 => lookup_percpu;
}

/// linux/bpf.h: `BPF_F_RDONLY_PROG`
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

impl Machine {
    /// How this machine's programs see maps.
    #[inline(always)]
    pub(super) fn at(&self) -> At {
        At {
            view: self.view(),
            shard: self.shard(),
        }
    }
}

#[inline(always)]
fn lookup(call: &mut Call<'_>, [map, key, ..]: [u64; 5]) -> Answer {
    let map = call.map(1, map, has_entries)?;
    let mut scratch = Scratch::new();
    let key = call.stable(2, key, map.definition().key_size, &mut scratch)?;
    // SAFETY: the key's octets are accessible, and stay as they are.
    let value = unsafe { map.lookup(call.machine.at(), key) };
    Ok(u64::from(value.unwrap_or(0)))
}

fn update(call: &mut Call<'_>, [map, key, value, flags, _]: [u64; 5]) -> Answer {
    let map = call.map(1, map, has_writable_entries)?;
    writable(call, map)?;
    let mut scratch = Scratch::new();
    let key = call.stable(2, key, map.definition().key_size, &mut scratch)?;
    let value = value_to_read(call, 3, map, value)?;
    // SAFETY: the key's octets are accessible and stay as they are; the value's are accessible.
    unsafe { map.update(call.machine.at(), key, value, flags) }?;
    Ok(0)
}

fn delete(call: &mut Call<'_>, [map, key, ..]: [u64; 5]) -> Answer {
    let map = call.map(1, map, has_writable_entries)?;
    writable(call, map)?;
    let mut scratch = Scratch::new();
    let key = call.stable(2, key, map.definition().key_size, &mut scratch)?;
    // SAFETY: the key's octets are accessible, and stay as they are.
    unsafe { map.delete(call.machine.at(), key) }?;
    Ok(0)
}

fn push(call: &mut Call<'_>, [map, value, flags, ..]: [u64; 5]) -> Answer {
    let map = call.map(1, map, takes_pushes)?;
    writable(call, map)?;
    let mut scratch = Scratch::new();
    let value = member_or_value(call, map, value, &mut scratch)?;
    // SAFETY: the value's octets are accessible.
    unsafe { map.push(call.machine.at(), value, flags) }?;
    Ok(0)
}

fn pop(call: &mut Call<'_>, [map, value, ..]: [u64; 5]) -> Answer {
    let map = call.map(1, map, is_queue_or_stack)?;
    writable(call, map)?;
    let value = value_to_write(call, map, value)?;
    // SAFETY: the program may write the value's octets.
    unsafe { map.pop(call.machine.at(), value) }?;
    Ok(0)
}

fn peek(call: &mut Call<'_>, [map, value, ..]: [u64; 5]) -> Answer {
    let map = call.map(1, map, takes_pushes)?;
    let mut scratch = Scratch::new();
    let value = match map.kind() {
        // A bloom filter only looks at the value.
        MapKind::BloomFilter => member_or_value(call, map, value, &mut scratch)?.cast_mut(),
        _ => value_to_write(call, map, value)?,
    };
    // SAFETY: the program may access the value's octets as this kind of map does.
    unsafe { map.peek(call.machine.at(), value) }?;
    Ok(0)
}

fn lookup_percpu(call: &mut Call<'_>, [map, key, cpu, ..]: [u64; 5]) -> Answer {
    let map = call.map(1, map, is_per_cpu)?;
    let mut scratch = Scratch::new();
    let key = call.stable(2, key, map.definition().key_size, &mut scratch)?;
    // SAFETY: the key's octets are accessible, and stay as they are.
    let value = unsafe { map.lookup_percpu(call.machine.at(), key, cpu as u32) };
    Ok(u64::from(value.unwrap_or(0)))
}

/// A value that the map copies, once.
fn value_to_read(call: &mut Call<'_>, argument: u8, map: &Map, value: u64) -> Result<*const u8, Failure> {
    let len = u64::from(map.definition().value_size);
    call.charge(len)?;
    call.read(argument, value, len)
}

fn value_to_write(call: &mut Call<'_>, map: &Map, value: u64) -> Result<*mut u8, Failure> {
    let len = u64::from(map.definition().value_size);
    call.charge(len)?;
    call.write(2, value, len)
}

/// A value that the map copies once, or, for a bloom filter, looks at more than once.
fn member_or_value(
    call: &mut Call<'_>,
    map: &Map,
    value: u64,
    scratch: &mut Scratch,
) -> Result<*const u8, Failure> {
    let len = map.definition().value_size;
    if map.kind() == MapKind::BloomFilter && len as usize <= Scratch::LEN {
        call.stable(2, value, len, scratch)
    } else {
        value_to_read(call, 2, map, value)
    }
}

/// Stops a program that would write to a map that only others may write (verifier.c: record_func_map).
fn writable(call: &mut Call<'_>, map: &Map) -> Result<(), Failure> {
    match map.definition().flags & BPF_F_RDONLY_PROG {
        0 => Ok(()),
        _ => Err(call.refuse(1, u64::from(map.handle()))),
    }
}

#[inline(always)]
fn has_entries(kind: MapKind) -> bool {
    has_writable_entries(kind) || matches!(kind, MapKind::ArrayOfMaps | MapKind::HashOfMaps)
}

#[inline(always)]
fn has_writable_entries(kind: MapKind) -> bool {
    is_per_cpu(kind)
        || matches!(
            kind,
            MapKind::Hash | MapKind::Array | MapKind::LruHash | MapKind::LpmTrie
        )
}

fn is_per_cpu(kind: MapKind) -> bool {
    matches!(
        kind,
        MapKind::PercpuHash | MapKind::PercpuArray | MapKind::LruPercpuHash
    )
}

fn is_queue_or_stack(kind: MapKind) -> bool {
    matches!(kind, MapKind::Queue | MapKind::Stack)
}

fn takes_pushes(kind: MapKind) -> bool {
    is_queue_or_stack(kind) || kind == MapKind::BloomFilter
}
