//! Which frames a packet socket is given: a classic BPF program in the kernel.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket::set_option;
use crate::nic::Claim;
use crate::packet::MacAddress;

/// Beyond these a program would cost more than the frames that it keeps away; all are taken then.
const ADDRESSES_MAX: usize = 64;
// linux/filter.h: what is known of a frame beside its octets.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
const PACKET_OUTGOING: u32 = 4;

const LOAD_OCTET: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const A_TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
const X_TO_A: u32 = libc::BPF_MISC | libc::BPF_TXA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// The frame, whole.
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::nic) struct Filter(Vec<Instruction>);

/// `struct sock_filter`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

impl Filter {
    /// Takes no frame.
    pub(in crate::nic) fn nothing() -> Filter {
        Filter(vec![step(RETURN, NOTHING)])
    }

    /// Takes what is claimed, and nothing that the host itself sends.
    pub(in crate::nic) fn of(claim: &Claim) -> Filter {
        let mut program = vec![
            // PACKET_IGNORE_OUTGOING does the same, before the frame is cloned, but not for a fanout group of an old kernel.
            step(LOAD_WORD, PACKET_TYPE),
            jump(JUMP_IF_EQUAL, PACKET_OUTGOING, 0, 1),
            step(RETURN, NOTHING),
        ];
        match claim {
            Claim::Addresses(addresses) if addresses.len() <= ADDRESSES_MAX => {
                destination_in(&mut program, addresses);
            }
            _ => program.push(step(RETURN, ALL)),
        }
        Filter(program)
    }

    /// Has the kernel run it on what arrives at a socket.
    pub(in crate::nic) fn attach(&self, socket: &OwnedFd) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: self.0.len() as u16,
            filter: self.0.as_ptr().cast_mut().cast(),
        };
        set_option(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            &program,
        )
    }
}

/// Takes groups' frames and those for `addresses`.
fn destination_in(program: &mut Vec<Instruction>, addresses: &[MacAddress]) {
    program.extend([
        step(LOAD_OCTET, 0),
        jump(JUMP_IF_ANY_BIT, 1, 0, 1),
        step(RETURN, ALL),
        step(LOAD_HALF, 0),
        step(A_TO_X, 0),
        step(LOAD_WORD, 2),
    ]);
    for MacAddress([a, b, c, d, e, f]) in addresses {
        program.extend([
            jump(JUMP_IF_EQUAL, u32::from_be_bytes([*c, *d, *e, *f]), 0, 4),
            step(X_TO_A, 0),
            jump(JUMP_IF_EQUAL, u32::from_be_bytes([0, 0, *a, *b]), 0, 1),
            step(RETURN, ALL),
            step(LOAD_WORD, 2),
        ]);
    }
    program.push(step(RETURN, NOTHING));
}

fn step(code: u32, value: u32) -> Instruction {
    jump(code, value, 0, 0)
}

fn jump(code: u32, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code: code as u16,
        if_true,
        if_false,
        value,
    }
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
