//! The XDP program that tells our frames from the host's, assembled here so that no compiler is needed, and its maps.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::bpf::{self, Instruction, Map, MapKind};
use super::socket::Socket;
use crate::packet::MacAddress;

/// The most addresses that can be claimed at one NIC.
pub const MAX_ADDRESSES: u32 = 4096;
const XDP_PASS: i32 = 2;
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_REDIRECT_MAP: i32 = 51;

/// An address as the program compares it: the octets as they are, then two zeros.
type Key = [u8; 8];

/// A program with its maps. It is detached when this is dropped, and also when the process dies.
#[derive(Debug)]
pub struct Program {
    sockets: Map<u32, u32>,
    claimed: Map<Key, u8>,
    everything: Map<u32, u32>,
    addresses: BTreeSet<MacAddress>,
    link: Option<Attached>,
}

#[derive(Debug)]
struct Attached {
    _link: OwnedFd,
    generic: bool,
}

impl Program {
    /// Makes the maps for queues up to `queues`. Nothing is claimed, nothing attached.
    pub fn new(queues: u32) -> io::Result<Program> {
        Ok(Program {
            sockets: Map::new(MapKind::Sockets, queues)?,
            claimed: Map::new(MapKind::Hash, MAX_ADDRESSES)?,
            everything: Map::new(MapKind::Array, 1)?,
            addresses: BTreeSet::new(),
            link: None,
        })
    }

    /// Has our frames of a queue go to a socket.
    pub fn serve(&self, queue: u32, socket: &Socket) -> io::Result<()> {
        self.sockets.insert(&queue, &(socket.as_raw_fd() as u32))
    }

    /// Has the netdev run the program: its driver if it can, else the kernel.
    pub fn attach(&mut self, ifindex: u32) -> io::Result<()> {
        let program = bpf::load(&self.assemble())?;
        let (link, generic) = match bpf::attach(&program, ifindex, bpf::XDP_FLAGS_DRV_MODE) {
            Ok(link) => (link, false),
            Err(error) if is_final(&error) => return Err(error),
            Err(_) => (bpf::attach(&program, ifindex, bpf::XDP_FLAGS_SKB_MODE)?, true),
        };
        self.link = Some(Attached { _link: link, generic });
        Ok(())
    }

    /// Whether the kernel runs it and not the driver.
    pub fn is_generic(&self) -> bool {
        self.link.as_ref().is_some_and(|it| it.generic)
    }

    /// Takes all frames, or not.
    pub fn claim_everything(&self, all: bool) -> io::Result<()> {
        self.everything.insert(&0, &u32::from(all))
    }

    /// Takes frames for these addresses and no others.
    pub fn claim(&mut self, addresses: &BTreeSet<MacAddress>) -> io::Result<()> {
        for address in self.addresses.clone().difference(addresses) {
            self.claimed.remove(&key(*address))?;
            self.addresses.remove(address);
        }
        for address in addresses {
            if !self.addresses.contains(address) {
                self.claimed.insert(&key(*address), &1)?;
                self.addresses.insert(*address);
            }
        }
        Ok(())
    }

    /// The program. A frame for a group goes to the host, for it could not have it otherwise: a redirect does not copy.
    fn assemble(&self) -> Vec<Instruction> {
        let mut code = Assembler::default();
        // r6 = the frame
        code.push(MOVE, 6, 1, 0, 0);
        // if everything[0] goto redirect
        code.push(STORE_IMMEDIATE_U32, 10, 0, -4, 0);
        code.lookup(self.everything.number(), -4);
        code.jump_to_pass(JUMP_EQUAL, 0, 0);
        code.push(LOAD_U32, 1, 0, 0, 0);
        let to_redirect = code.push(JUMP_NOT_EQUAL, 1, 0, 0, 0);
        // if the frame has no Ethernet header goto pass
        code.push(LOAD_U32, 2, 6, 0, 0); // xdp_md.data
        code.push(LOAD_U32, 3, 6, 4, 0); // xdp_md.data_end
        code.push(MOVE, 1, 2, 0, 0);
        code.push(ADD_IMMEDIATE, 1, 0, 0, 14);
        code.jump_to_pass(JUMP_GREATER, 1, 3);
        // if not claimed[destination] goto pass
        code.push(LOAD_U32, 1, 2, 0, 0);
        code.push(LOAD_U16, 2, 2, 4, 0);
        code.push(STORE_U32, 10, 1, -8, 0);
        code.push(STORE_U32, 10, 2, -4, 0);
        code.lookup(self.claimed.number(), -8);
        code.jump_to_pass(JUMP_EQUAL, 0, 0);
        // redirect: return bpf_redirect_map(sockets, xdp_md.rx_queue_index, XDP_PASS if we do not serve it)
        code.land(to_redirect);
        code.push(LOAD_U32, 2, 6, 16, 0);
        code.load_map(1, self.sockets.number());
        code.push(MOVE_IMMEDIATE, 3, 0, 0, XDP_PASS);
        code.push(CALL, 0, 0, 0, BPF_REDIRECT_MAP);
        code.push(EXIT, 0, 0, 0, 0);
        code.finish_with_pass()
    }
}

/// Whether the kernel would refuse in the other mode too.
fn is_final(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(
        errno,
        Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::ENODEV)
    )
}

fn key(address: MacAddress) -> Key {
    let mut key = Key::default();
    key[..6].copy_from_slice(&address.0);
    key
}

// RFC 9669, 4 and 5
const LOAD_U32: u8 = 0x61;
const LOAD_U16: u8 = 0x69;
const LOAD_IMMEDIATE_U64: u8 = 0x18;
const STORE_U32: u8 = 0x63;
const STORE_IMMEDIATE_U32: u8 = 0x62;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const ADD_IMMEDIATE: u8 = 0x07;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_GREATER: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `BPF_PSEUDO_MAP_FD`: the immediate is a map's descriptor.
const MAP_BY_DESCRIPTOR: u8 = 1;

/// Instructions so far, and the jumps among them that lead to the end.
#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    to_pass: Vec<usize>,
}

impl Assembler {
    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> usize {
        self.code.push(Instruction {
            code,
            registers: from << 4 | to,
            offset,
            immediate,
        });
        self.code.len() - 1
    }

    fn load_map(&mut self, to: u8, map: i32) {
        self.push(LOAD_IMMEDIATE_U64, to, MAP_BY_DESCRIPTOR, 0, map);
        self.push(0, 0, 0, 0, 0);
    }

    /// r0 = where a map has the value for the key at an offset from the frame pointer.
    fn lookup(&mut self, map: i32, key: i32) {
        self.push(MOVE, 2, 10, 0, 0);
        self.push(ADD_IMMEDIATE, 2, 0, 0, key);
        self.load_map(1, map);
        self.push(CALL, 0, 0, 0, BPF_MAP_LOOKUP_ELEM);
    }

    fn jump_to_pass(&mut self, code: u8, left: u8, right: u8) {
        let jump = self.push(code, left, right, 0, 0);
        self.to_pass.push(jump);
    }

    /// Makes a jump lead to the next instruction.
    fn land(&mut self, jump: usize) {
        // An offset counts from behind the jump.
        self.code[jump].offset = (self.code.len() - jump - 1) as i16;
    }

    fn finish_with_pass(mut self) -> Vec<Instruction> {
        for jump in std::mem::take(&mut self.to_pass) {
            self.land(jump);
        }
        self.push(MOVE_IMMEDIATE, 0, 0, 0, XDP_PASS);
        self.push(EXIT, 0, 0, 0, 0);
        self.code
    }
}
