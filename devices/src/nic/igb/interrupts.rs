//! Which MSI-X vector tells of what: one for each receive queue, and the next one for the link.

use super::model::Model;
use super::registers as r;
use crate::nic::vfio::Registers;

/// Routes the causes and lets the link's through (82576 datasheet, 7.3). A queue's is let through by arming it.
pub fn set_up(registers: &Registers, model: &Model, queues: usize) {
    let mode = r::GPIE_NSICR | r::GPIE_MULTIPLE_MSIX | r::GPIE_EIAME | r::GPIE_PBA;
    registers.write(r::GPIE, mode);
    for queue in 0..queues {
        route(registers, model, queue);
    }
    registers.write(r::IVAR_MISC, (queues as u32 | r::IVAR_VALID) << 8);
    // A vector that fires is cleared and masked by that, so nothing fires until it is armed again (8.8.5, 8.8.6).
    let all = (1u32 << (queues + 1)) - 1;
    registers.write(r::EIAC, all);
    registers.write(r::EIAM, all);
    arm_link(registers, queues);
}

/// Has a change of the link fire its vector once.
pub fn arm_link(registers: &Registers, vector: usize) {
    // Reading clears the cause, without which the next change would be none, and with GPIE.NSICR the mask, too (8.8.1).
    registers.read::<u32>(r::ICR);
    arm(registers, vector);
    registers.write(r::IMS, r::INTERRUPT_LSC);
}

/// Lets a vector fire once, for a cause that comes from now on: who waits for it has to look once more, for what came before
/// fires nothing.
#[inline]
pub fn arm(registers: &Registers, vector: usize) {
    registers.write(r::EICR, 1u32 << vector);
    registers.write(r::EIMS, 1u32 << vector);
    // The NIC has done both when it answers. Otherwise clearing could hit the cause of a frame that arrives behind the look.
    registers.read::<u32>(r::STATUS);
}

/// Keeps a vector from firing. One that has fired does so by itself, but not in QEMU's model.
#[inline]
pub fn disarm(registers: &Registers, vector: usize) {
    registers.write(r::EIMC, 1u32 << vector);
}

/// Keeps all vectors from firing.
pub fn mask(registers: &Registers) {
    registers.write(r::IMC, u32::MAX);
    registers.write(r::EIMC, u32::MAX);
}

/// Has a queue's frames fire the vector of its number. Frames that are sent fire nothing: they are looked at when there is
/// more to send.
fn route(registers: &Registers, model: &Model, queue: usize) {
    let (register, shift) = match model.neighbours_share_ivar {
        true => (queue / 2, 16 * (queue % 2)),
        false => (queue % 8, 16 * (queue / 8)),
    };
    let register = r::IVAR + 4 * register;
    let others = registers.read::<u32>(register) & !(0xffff << shift);
    registers.write(register, others | (queue as u32 | r::IVAR_VALID) << shift);
}
