//! Room in a frame: octets made linear, put in and taken out, with what points into the frame moved along.

use crate::Errno;
use crate::layout::{HEADROOM, PACKET, PACKET_LEN};
use crate::machine::Machine;

/// Makes the first `len` octets linear (`bpf_try_make_writable`). Fails with ENOMEM if the frame is shorter.
#[inline]
pub fn make_linear(machine: &mut Machine, len: u32) -> Result<(), Errno> {
    if len <= machine.linear_len() {
        return Ok(());
    }
    machine.import_context();
    pull(machine, len)
}

/// As [`make_linear`] within [`super::change`], where the context has been taken in already.
pub fn pull(machine: &mut Machine, len: u32) -> Result<(), Errno> {
    if len > machine.packet_len() {
        return Err(Errno::ENOMEM);
    }
    make_room_behind(machine, len)?;
    machine.pull(len)
}

/// Where an octet of the linear part lies.
pub fn at(machine: &Machine, offset: u32) -> *mut u8 {
    machine.linear().wrapping_add(offset as usize)
}

/// Reads octets at an offset; None if they are not all there.
pub fn read<const LEN: usize>(machine: &Machine, offset: u32) -> Option<[u8; LEN]> {
    let mut octets = [0; LEN];
    machine.read_packet(offset, &mut octets).ok().map(|()| octets)
}

/// Puts `len` zero octets behind the first `offset` ones of the linear part (`bpf_skb_generic_push`). Fails with ENOMEM
/// if the window has no room for them, or an offset into the frame no bits.
pub fn insert(machine: &mut Machine, offset: u32, len: u32) -> Result<(), Errno> {
    let mut moved = *machine.packet.metadata;
    let offload = &mut moved.offload;
    let further = |place: u16| {
        u32::from(place)
            .checked_add(len)
            .and_then(|at| at.try_into().ok())
    };
    if let Some(partial) = &mut offload.partial {
        partial.start = further(partial.start).ok_or(Errno::ENOMEM)?;
    }
    if let Some(gso) = &mut offload.gso {
        gso.header_len = further(gso.header_len).ok_or(Errno::ENOMEM)?;
        if let Some(encapsulation) = &mut gso.encapsulation {
            encapsulation.inner = further(encapsulation.inner).ok_or(Errno::ENOMEM)?;
        }
    }
    if let Some(transport) = &mut moved.layers.transport {
        *transport = transport.checked_add(len).ok_or(Errno::ENOMEM)?;
    }
    open_gap(machine, offset, len)?;
    *machine.packet.metadata = moved;
    Ok(())
}

/// Takes `len` octets behind the first `offset` ones out (`bpf_skb_generic_pop`). Fails with ENOMEM if they are not
/// there.
pub fn remove(machine: &mut Machine, offset: u32, len: u32) -> Result<(), Errno> {
    pull(machine, offset.checked_add(len).ok_or(Errno::ENOMEM)?)?;
    // SAFETY: `offset + len` octets are linear, and the linear part is mapped.
    unsafe { std::ptr::copy(at(machine, 0), at(machine, len), offset as usize) };
    machine.packet.data += len;

    let metadata = &mut *machine.packet.metadata;
    let offload = &mut metadata.offload;
    let nearer = |place: u16| u32::from(place).checked_sub(len).map(|at| at as u16);
    // skbuff.h: skb_postpull_rcsum; nothing is left to compute if the start is gone.
    offload.partial = offload.partial.and_then(|mut partial| {
        partial.start = nearer(partial.start)?;
        Some(partial)
    });
    if let Some(gso) = &mut offload.gso {
        gso.header_len = nearer(gso.header_len).unwrap_or(0);
        gso.encapsulation = gso.encapsulation.and_then(|mut encapsulation| {
            encapsulation.inner = nearer(encapsulation.inner)?;
            // An outer header that is gone needs no more care.
            (u32::from(encapsulation.inner) > metadata.layers.network).then_some(encapsulation)
        });
    }
    metadata.layers.transport = metadata
        .layers
        .transport
        .and_then(|transport| transport.checked_sub(len));
    Ok(())
}

/// Makes the linear part longer by zero octets, or shorter. All of the frame is linear.
pub fn set_len(machine: &mut Machine, len: u32) -> Result<(), Errno> {
    let old = machine.linear_len();
    if len > old {
        make_room_behind(machine, len)?;
        // SAFETY: there is room for `len` octets in the packet region, as was just seen to.
        unsafe { std::ptr::write_bytes(at(machine, old), 0, (len - old) as usize) };
    }
    machine.packet.data_end = machine.packet.data + len;
    Ok(())
}

/// Whether the frame is still to be cut (`skb_is_gso`).
pub fn is_gso(machine: &Machine) -> bool {
    machine.packet.metadata.offload.gso.is_some()
}

/// Moves what is there so that the linear part may become `len` octets long at its end.
fn make_room_behind(machine: &mut Machine, len: u32) -> Result<(), Errno> {
    if len <= PACKET + PACKET_LEN - machine.packet.data {
        return Ok(());
    }
    let room = PACKET_LEN.checked_sub(len).ok_or(Errno::ENOMEM)?;
    let linear_len = machine.linear_len();
    let data = PACKET + room.min(HEADROOM);
    // SAFETY: both places lie in the packet region, which is mapped.
    unsafe { std::ptr::copy(machine.linear(), machine.view().at(data), linear_len as usize) };
    machine.packet.data = data;
    machine.packet.data_end = data + linear_len;
    Ok(())
}

/// Moves what is in front of a gap forward into the headroom or, if there is too little, all of it back.
fn open_gap(machine: &mut Machine, offset: u32, len: u32) -> Result<(), Errno> {
    let linear_len = machine.linear_len();
    let offset = offset.min(linear_len);
    let new_len = linear_len.checked_add(len).ok_or(Errno::ENOMEM)?;
    let old = machine.packet.data;
    let data = if len <= old - PACKET {
        old - len
    } else {
        PACKET
            + PACKET_LEN
                .checked_sub(new_len)
                .ok_or(Errno::ENOMEM)?
                .min(HEADROOM)
    };
    let view = machine.view();
    let behind = data + offset + len;
    // SAFETY: the old and the new linear part lie in the packet region, which is mapped. The rear part moves back or
    // stays, so that it does not touch the front part before that moves.
    unsafe {
        if behind != old + offset {
            std::ptr::copy(
                view.at(old + offset),
                view.at(behind),
                (linear_len - offset) as usize,
            );
        }
        std::ptr::copy(view.at(old), view.at(data), offset as usize);
        std::ptr::write_bytes(view.at(data + offset), 0, len as usize);
    }
    machine.packet.data = data;
    machine.packet.data_end = data + new_len;
    Ok(())
}
