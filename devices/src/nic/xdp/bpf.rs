//! The system call bpf(2), as far as an XDP program needs it: maps, loading, and a link that ends with its descriptor.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// linux/bpf.h
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// The driver runs the program, before the kernel has made anything of the frame.
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// The kernel runs it, for netdevs whose driver cannot.
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;

/// What a map is.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`
    Array = 2,
    /// `BPF_MAP_TYPE_XSKMAP`
    Sockets = 17,
}

/// A map in the kernel.
#[derive(Debug)]
pub struct Map<K, V> {
    fd: OwnedFd,
    types: std::marker::PhantomData<fn(K, V)>,
}

/// One instruction, as RFC 9669, 3 lays it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Destination register in the lower half, source in the upper.
    pub registers: u8,
    /// Of a jump or of memory.
    pub offset: i16,
    /// The operand.
    pub immediate: i32,
}

#[derive(Default)]
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Default)]
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl<K: Copy, V: Copy> Map<K, V> {
    /// Makes a map for this many entries.
    pub fn new(kind: MapKind, max_entries: u32) -> io::Result<Map<K, V>> {
        let mut attributes = MapCreate {
            kind: kind as u32,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags: 0,
        };
        // SAFETY: no pointer is in the attributes.
        let fd = unsafe { descriptor(BPF_MAP_CREATE, &mut attributes) }?;
        Ok(Map {
            fd,
            types: std::marker::PhantomData,
        })
    }

    /// Stores a value.
    pub fn insert(&self, key: &K, value: &V) -> io::Result<()> {
        self.element(BPF_MAP_UPDATE_ELEM, key, std::ptr::from_ref(value) as u64)
    }

    /// Removes a value.
    pub fn remove(&self, key: &K) -> io::Result<()> {
        self.element(BPF_MAP_DELETE_ELEM, key, 0)
    }

    fn element(&self, command: libc::c_int, key: &K, value: u64) -> io::Result<()> {
        let mut attributes = Element {
            map: self.fd.as_raw_fd() as u32,
            key: std::ptr::from_ref(key) as u64,
            value,
            ..Element::default()
        };
        // SAFETY: key and value outlive the call and are as long as the map was told.
        unsafe { bpf(command, &mut attributes) }.map(drop)
    }

    /// The descriptor's number, for an instruction.
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// Loads an XDP program that takes frames in several parts.
pub fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"netkitd");
    let mut attributes = ProgramLoad {
        kind: BPF_PROG_TYPE_XDP,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        flags: BPF_F_XDP_HAS_FRAGS,
        name,
        ..ProgramLoad::default()
    };
    // SAFETY: the instructions and the licence outlive the call.
    unsafe { descriptor(BPF_PROG_LOAD, &mut attributes) }
}

/// Has a netdev run a program for as long as the descriptor is open.
pub fn attach(program: &OwnedFd, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        ifindex,
        attach_type: BPF_XDP,
        flags,
    };
    // SAFETY: no pointer is in the attributes.
    unsafe { descriptor(BPF_LINK_CREATE, &mut attributes) }
}

/// # Safety
/// Pointers in the attributes must be valid for what the command does with them, and the command must make a descriptor.
unsafe fn descriptor<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the pointers; the descriptor has just been made for us.
    unsafe { bpf(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// # Safety
/// Pointers in the attributes must be valid for what the command does with them.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads the attributes' length, and the caller vouches for what they point to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}
