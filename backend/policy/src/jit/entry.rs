//! Where native code begins and ends, and what it calls beside helpers.

use std::arch::naked_asm;
use std::mem::offset_of;

use crate::Errno;
use crate::layout::CONTEXT;
use crate::machine::{Machine, Stopped, Words};

// Compiled code reaches the words from the machine's address.
const _: () = assert!(offset_of!(Machine, words) == 0);
const _: () = assert!(size_of::<Words>() < 128);

/// Values of [`Words::stopped`] beside 1, which helpers set: why the code stopped by itself.
pub(super) const STOP_FUEL: u32 = 2;
pub(super) const STOP_CALL_DEPTH: u32 = 3;
pub(super) const STOP_MISALIGNED: u32 = 4;
pub(super) const STOP_ACCESS: u32 = 5;

/// What a run of native code came to.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Outcome {
    pub r0: u64,
    /// Not 0: it was stopped.
    pub stopped: u64,
}

/// Calls native code with the machine in rdi, the window in r12, r1 to r5 and r10 as given and all other registers
/// zero, so that programs never see what the host left in them.
///
/// # Safety
/// `entry` is the entry of a proven function, the machine is the caller's own and `arguments` are five.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn enter(
    machine: *mut Machine,
    entry: usize,
    arguments: *const u64,
    frame: u32,
) -> Outcome {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // An abort finds the way here by this address, and has popped it then.
        "lea rax, [rip + 3f]",
        "push rax",
        "mov [rdi + {abort_stack}], rsp",
        "mov r12, [rdi + {base}]",
        "mov ebp, ecx",
        "mov r11, rsi",
        "mov rsi, [rdx]",
        "mov rcx, [rdx + 16]",
        "mov r8, [rdx + 24]",
        "mov r9, [rdx + 32]",
        "mov rdx, [rdx + 8]",
        "xor eax, eax",
        "xor ebx, ebx",
        "xor r13d, r13d",
        "xor r14d, r14d",
        "xor r15d, r15d",
        "call r11",
        "xor edx, edx",
        "add rsp, 8",
        "2:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        "3:",
        "mov edx, 1",
        "jmp 2b",
        abort_stack = const offset_of!(Words, abort_stack),
        base = const offset_of!(Words, base),
    )
}

/// Where the signal handler leads a run that made a stray access: ends it, with the machine in rdi.
#[unsafe(naked)]
unsafe extern "sysv64" fn abort() {
    naked_asm!(
        "mov rsp, [rdi + {abort_stack}]",
        "ret",
        abort_stack = const offset_of!(Words, abort_stack),
    )
}

/// The address of [`abort`].
pub(super) fn abort_address() -> usize {
    abort as *const () as usize
}

/// The legacy packet loads (RFC 9669, 5.5): octets of the frame in network order. If there are none, the function that
/// asked returns 0 (filter.c: `bpf_gen_ld_abs`).
pub(super) extern "sysv64" fn load_packet(machine: &mut Machine, offset: u64, len: u64) -> u64 {
    let loaded = machine.load_packet(offset as i32, len as u8);
    machine.words.scratch = u64::from(loaded.is_none());
    loaded.unwrap_or(0)
}

/// `bpf_tail_call`: runs the program that it leads to. If there is one, the function that asked returns what it returned.
pub(super) extern "sysv64" fn tail_call(machine: &mut Machine, _context: u64, map: u64, index: u64) -> u64 {
    let (caller, frame) = (machine.program, machine.words.frame);
    let Some(target) = machine.tail_call(map, index) else {
        machine.words.scratch = 0;
        return Errno::ENOENT.to_register();
    };
    let result = target.call(machine, 0, [u64::from(CONTEXT), 0, 0, 0, 0], frame);
    machine.words.scratch = 1;
    match result {
        Ok(r0) => {
            // Who called the function that asked goes on in its own program.
            machine.program = caller;
            r0
        }
        Err(Stopped) => {
            machine.words.stopped = machine.words.stopped.max(1);
            0
        }
    }
}
