//! Helpers that call functions of the program: `bpf_loop` and `bpf_for_each_map_elem`.

use std::ops::ControlFlow;

use super::{Answer, Call, Failure, helpers};
use crate::Errno;
use crate::map::MapKind;

helpers! {
    164 => for_each_map_elem, calls_back;
    181 => repeat, calls_back;
}

/// bpf_iter.c: `BPF_MAX_LOOPS`
const LOOPS_MAX: u32 = 1 << 23;

// bpf_iter.c: bpf_loop
fn repeat(call: &mut Call<'_>, [count, function, context, flags, _]: [u64; 5]) -> Answer {
    is_function(call, function)?;
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let count = count as u32;
    if count > LOOPS_MAX {
        return Err(Errno::E2BIG.into());
    }
    for index in 0..count {
        // Each call of a function costs fuel, so this ends.
        let stop = call
            .machine
            .call_back(function, [u64::from(index), context, 0, 0, 0])?;
        if stop != 0 {
            return Ok(u64::from(index) + 1);
        }
    }
    Ok(u64::from(count))
}

// arraymap.c: bpf_for_each_array_elem; hashtab.c: bpf_for_each_hash_elem
fn for_each_map_elem(call: &mut Call<'_>, [handle, function, context, flags, _]: [u64; 5]) -> Answer {
    let map = call.map(1, handle, can_be_walked)?;
    is_function(call, function)?;
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let at = call.machine.at();
    let mut stopped = false;
    let visited = map.for_each(at, &mut |key, value| {
        let arguments = [handle, u64::from(key), u64::from(value), context, 0];
        match call.machine.call_back(function, arguments) {
            Ok(0) => ControlFlow::Continue(()),
            Ok(_) => ControlFlow::Break(()),
            Err(_) => {
                stopped = true;
                ControlFlow::Break(())
            }
        }
    })?;
    if stopped {
        return Err(Failure::Stopped);
    }
    Ok(u64::from(visited))
}

/// Stops a program that names what is no function of its own.
fn is_function(call: &mut Call<'_>, handle: u64) -> Result<(), Failure> {
    match call.machine.program().code.function_of_handle(handle) {
        Some(_) => Ok(()),
        None => Err(call.refuse(2, handle)),
    }
}

fn can_be_walked(kind: MapKind) -> bool {
    matches!(
        kind,
        MapKind::Array
            | MapKind::PercpuArray
            | MapKind::Hash
            | MapKind::PercpuHash
            | MapKind::LruHash
            | MapKind::LruPercpuHash
    )
}
