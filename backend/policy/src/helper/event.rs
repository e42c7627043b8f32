//! Helpers that send records to user space: ring buffers and perf event arrays.

use std::ptr::NonNull;

use super::{Answer, Call, Failure, helpers};
use crate::Errno;
use crate::layout::{PACKET, PACKET_LEN};
use crate::machine::Machine;
use crate::map::{Map, MapKind};

helpers! {
    25 => perf_event_output;
    130 => ringbuf_output;
    131 => ringbuf_reserve;
    132 => |call: &mut Call<'_>, arguments| commit(call, arguments, Map::ring_submit);
    133 => |call: &mut Call<'_>, arguments| commit(call, arguments, Map::ring_discard);
    134 => ringbuf_query;
}

/// Samples that a run may have reserved at a time.
pub(super) const RESERVATIONS_MAX: usize = 16;
/// linux/bpf.h: `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`
const WAKEUP_FLAGS: u64 = 3;
/// linux/bpf.h: `BPF_F_INDEX_MASK`, `BPF_F_CTXLEN_MASK`
const INDEX_MASK: u64 = 0xffff_ffff;
const CONTEXT_LEN_MASK: u64 = 0xf_ffff << 32;

/// The samples that a run has reserved and not yet given back.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    places: [Option<Reservation>; RESERVATIONS_MAX],
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Reservation {
    /// Dropped before the run ends (`discard_all`), and maps stay until then.
    ring: NonNull<Map>,
    sample: u32,
}

// ringbuf.c: bpf_ringbuf_output
fn ringbuf_output(call: &mut Call<'_>, [map, data, len, flags, _]: [u64; 5]) -> Answer {
    let ring = call.map(1, map, is_ring)?;
    let data = call.read(2, data, len)?;
    if flags & !WAKEUP_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    call.charge(len)?;
    // SAFETY: the octets are accessible.
    unsafe { ring.ring_output(call.machine.at(), data, len, flags) }?;
    Ok(0)
}

// ringbuf.c: bpf_ringbuf_reserve
fn ringbuf_reserve(call: &mut Call<'_>, [map, len, flags, ..]: [u64; 5]) -> Answer {
    let ring = call.map(1, map, is_ring)?;
    let at = call.machine.at();
    let Some(place) = call.machine.helpers.reservations.vacant().filter(|_| flags == 0) else {
        return Ok(0);
    };
    let Some(sample) = ring.ring_reserve(at, len, flags) else {
        return Ok(0);
    };
    *place = Some(Reservation {
        ring: NonNull::from(ring),
        sample,
    });
    call.machine.helpers.reservations.count += 1;
    Ok(u64::from(sample))
}

// ringbuf.c: bpf_ringbuf_submit, bpf_ringbuf_discard
fn commit(
    call: &mut Call<'_>,
    [sample, flags, ..]: [u64; 5],
    how: fn(&Map, u32, u64) -> Result<(), Errno>,
) -> Answer {
    let Some(reservation) = call.machine.helpers.reservations.take(sample as u32) else {
        return Err(call.refuse(1, sample));
    };
    // SAFETY: a map stays until the run has ended that found it.
    let ring = unsafe { reservation.ring.as_ref() };
    // The helper returns nothing, whatever the flags are.
    let _ = how(ring, reservation.sample, flags);
    Ok(0)
}

// ringbuf.c: bpf_ringbuf_query
fn ringbuf_query(call: &mut Call<'_>, [map, flags, ..]: [u64; 5]) -> Answer {
    let ring = call.map(1, map, is_ring)?;
    Ok(ring.ring_query(flags))
}

// filter.c: bpf_skb_event_output
fn perf_event_output(call: &mut Call<'_>, [_, map, flags, data, len]: [u64; 5]) -> Answer {
    let events = call.map(2, map, |kind| kind == MapKind::PerfEventArray)?;
    let data = call.read(4, data, len)?;
    if flags & !(CONTEXT_LEN_MASK | INDEX_MASK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let frame_len = ((flags & CONTEXT_LEN_MASK) >> 32) as u32;
    if frame_len > call.machine.packet_len() {
        return Err(Errno::EFAULT.into());
    }
    call.charge(len.saturating_add(u64::from(frame_len)))?;
    let frame = frame(call.machine, frame_len)?;
    let parts = [(data, len as u32), (frame, frame_len)];
    // SAFETY: the octets of both parts are accessible.
    unsafe { events.perf_output(call.machine.at(), flags & INDEX_MASK, &parts) }?;
    Ok(0)
}

/// The first octets of the frame in one piece. Those that are not in the linear part are copied into the room behind
/// it, where nothing is.
fn frame(machine: &Machine, len: u32) -> Result<*const u8, Failure> {
    let linear_len = machine.linear_len();
    if len > linear_len {
        if len > PACKET_LEN - (machine.packet.data - PACKET) {
            return Err(Errno::EFAULT.into());
        }
        let behind = machine.view().at(machine.packet.data_end);
        // SAFETY: the room is mapped, as just checked, and only this thread uses it.
        let room = unsafe { std::slice::from_raw_parts_mut(behind, (len - linear_len) as usize) };
        machine.octets().read_fragments(0, room);
    }
    Ok(machine.linear())
}

/// Gives back what the run has reserved and left.
#[inline]
pub(super) fn discard_all(machine: &mut Machine) {
    let reservations = &mut machine.helpers.reservations;
    if reservations.count == 0 {
        return;
    }
    reservations.count = 0;
    for Reservation { ring, sample } in reservations.places.iter_mut().filter_map(Option::take) {
        // SAFETY: a map stays until the run has ended that found it.
        let _ = unsafe { ring.as_ref() }.ring_discard(sample, 0);
    }
}

impl Reservations {
    fn vacant(&mut self) -> Option<&mut Option<Reservation>> {
        self.places.iter_mut().find(|place| place.is_none())
    }

    fn take(&mut self, sample: u32) -> Option<Reservation> {
        let is_sample = |place: &&mut Option<Reservation>| place.is_some_and(|there| there.sample == sample);
        let taken = self.places.iter_mut().find(is_sample)?.take();
        self.count -= 1;
        taken
    }
}

fn is_ring(kind: MapKind) -> bool {
    kind == MapKind::Ringbuf
}
