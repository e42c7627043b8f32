//! `bpf(2)`: programs, maps, lists and links.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use super::scenario::{List, MapCode, ProgramCode};

// enum bpf_cmd of linux/bpf.h
const MAP_CREATE: i64 = 0;
const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const PROG_LOAD: i64 = 5;
const PROG_ATTACH: i64 = 8;
const PROG_DETACH: i64 = 9;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const PROG_QUERY: i64 = 16;
const LINK_CREATE: i64 = 28;
const LINK_UPDATE: i64 = 29;
const LINK_DETACH: i64 = 34;

const PROG_TYPE_SCHED_CLS: u32 = 3;
/// `BPF_F_REPLACE`: swap the program.
pub const REPLACE: u32 = 1 << 2;
/// `BPF_F_BEFORE`
pub const BEFORE: u32 = 1 << 3;
/// `BPF_F_AFTER`
pub const AFTER: u32 = 1 << 4;
/// `BPF_F_ID`: the relative object is named by its id.
pub const ID: u32 = 1 << 5;
/// `BPF_F_LINK`: the relative object is a link.
pub const LINK: u32 = 1 << 13;

const LDDW: u8 = 0x18;
const PSEUDO_MAP: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;

/// `union bpf_attr`, written by offset.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

/// Where in a list (`struct bpf_prog_attach_opts`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub flags: u32,
    pub replace: i32,
    pub relative: u32,
    pub revision: u64,
}

/// What a list holds.
#[derive(Debug)]
pub struct Listing {
    pub revision: u64,
    /// Ids of programs, and of the links that hold them or 0.
    pub entries: Vec<(u32, u32)>,
}

/// What the kernel says of a link.
#[derive(Debug)]
pub struct LinkInfo {
    pub id: u32,
    pub program: u32,
    pub ifindex: u32,
    pub attach_type: u32,
}

impl Attributes {
    fn new() -> Attributes {
        Attributes([0; 128])
    }

    fn u32(mut self, offset: usize, value: u32) -> Attributes {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, offset: usize, value: u64) -> Attributes {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, offset: usize, file: &File) -> Attributes {
        self.u32(offset, file.as_raw_fd() as u32)
    }

    fn read_u32(&self, offset: usize) -> u32 {
        self.0[offset..]
            .first_chunk()
            .map_or(0, |it| u32::from_ne_bytes(*it))
    }

    fn read_u64(&self, offset: usize) -> u64 {
        self.0[offset..]
            .first_chunk()
            .map_or(0, |it| u64::from_ne_bytes(*it))
    }

    fn call(&mut self, command: i64) -> io::Result<i64> {
        // SAFETY: the attributes are those of the command; what they point to outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    }

    fn make(&mut self, command: i64) -> io::Result<File> {
        let fd = self.call(command)?;
        // SAFETY: a new descriptor of ours.
        Ok(unsafe { File::from_raw_fd(fd as i32) })
    }
}

/// The number of an attach type (`BPF_NETKIT_PRIMARY`, `BPF_NETKIT_PEER`).
pub fn attach_type(list: List) -> u32 {
    match list {
        List::Primary => 54,
        List::Peer => 55,
    }
}

/// Makes a map.
pub fn create_map(map: &MapCode) -> io::Result<File> {
    Attributes::new()
        .u32(0, map.kind)
        .u32(4, map.key_size)
        .u32(8, map.value_size)
        .u32(12, map.max_entries)
        .u32(16, map.flags)
        .make(MAP_CREATE)
}

/// Reads a word of an array.
pub fn lookup(map: &File, index: u32) -> io::Result<u32> {
    let mut value = 0u32;
    Attributes::new()
        .fd(0, map)
        .u64(8, std::ptr::from_ref(&index) as u64)
        .u64(16, std::ptr::from_mut(&mut value) as u64)
        .call(MAP_LOOKUP_ELEM)?;
    Ok(value)
}

/// Writes a word of an array.
pub fn update(map: &File, index: u32, value: u32) -> io::Result<()> {
    let mut attributes = Attributes::new()
        .fd(0, map)
        .u64(8, std::ptr::from_ref(&index) as u64)
        .u64(16, std::ptr::from_ref(&value) as u64);
    attributes.call(MAP_UPDATE_ELEM).map(drop)
}

/// Loads a program, with descriptors in place of the maps' numbers; a refusal says what the verifier said.
pub fn load(program: &ProgramCode, license: &str, maps: &[File]) -> Result<File, String> {
    let mut instructions = program.instructions.clone();
    for [opcode, registers, _, _, immediate @ ..] in &mut instructions {
        if *opcode == LDDW && matches!(*registers >> 4, PSEUDO_MAP | PSEUDO_MAP_VALUE) {
            let map = &maps[u32::from_ne_bytes(*immediate) as usize];
            *immediate = map.as_raw_fd().to_ne_bytes();
        }
    }
    let license = format!("{license}\0");
    let mut log = vec![0u8; 1 << 20];
    let attributes = |level| {
        Attributes::new()
            .u32(0, PROG_TYPE_SCHED_CLS)
            .u32(4, instructions.len() as u32)
            .u64(8, instructions.as_ptr() as u64)
            .u64(16, license.as_ptr() as u64)
            .u32(24, level)
    };
    attributes(0).make(PROG_LOAD).map_err(|error| {
        let _ = attributes(1)
            .u32(28, log.len() as u32)
            .u64(32, log.as_mut_ptr() as u64)
            .make(PROG_LOAD);
        let text = String::from_utf8_lossy(&log);
        let text = text.trim_end_matches('\0');
        format!("{} is refused: {error}\n{text}", program.name)
    })
}

/// Attaches a program to the list of a device.
pub fn attach(ifindex: u32, list: List, program: &File, options: Options) -> io::Result<()> {
    attach_attributes(ifindex, list, options)
        .fd(4, program)
        .call(PROG_ATTACH)
        .map(drop)
}

/// Detaches a program, or the one that the options name.
pub fn detach(ifindex: u32, list: List, program: Option<&File>, options: Options) -> io::Result<()> {
    let attributes = attach_attributes(ifindex, list, options);
    let mut attributes = match program {
        Some(program) => attributes.fd(4, program),
        None => attributes,
    };
    attributes.call(PROG_DETACH).map(drop)
}

fn attach_attributes(ifindex: u32, list: List, options: Options) -> Attributes {
    Attributes::new()
        .u32(0, ifindex)
        .u32(8, attach_type(list))
        .u32(12, options.flags)
        .u32(16, options.replace as u32)
        .u32(20, options.relative)
        .u64(24, options.revision)
}

/// Attaches a program by a new link.
pub fn create_link(ifindex: u32, list: List, program: &File, options: Options) -> io::Result<File> {
    Attributes::new()
        .fd(0, program)
        .u32(4, ifindex)
        .u32(8, attach_type(list))
        .u32(12, options.flags)
        .u32(16, options.relative)
        .u64(24, options.revision)
        .make(LINK_CREATE)
}

/// Swaps a link's program.
pub fn update_link(link: &File, program: &File, expected: Option<&File>) -> io::Result<()> {
    let attributes = Attributes::new().fd(0, link).fd(4, program);
    let mut attributes = match expected {
        Some(expected) => attributes.u32(8, REPLACE).fd(12, expected),
        None => attributes,
    };
    attributes.call(LINK_UPDATE).map(drop)
}

/// Takes a link's program out of its list.
pub fn detach_link(link: &File) -> io::Result<()> {
    Attributes::new().fd(0, link).call(LINK_DETACH).map(drop)
}

/// What a list holds.
pub fn query(ifindex: u32, list: List) -> io::Result<Listing> {
    const ROOM: usize = 128;
    let (mut programs, mut links) = ([0u32; ROOM], [0u32; ROOM]);
    let mut attributes = Attributes::new()
        .u32(0, ifindex)
        .u32(4, attach_type(list))
        .u64(16, programs.as_mut_ptr() as u64)
        .u32(24, ROOM as u32)
        .u64(40, links.as_mut_ptr() as u64);
    attributes.call(PROG_QUERY)?;
    let count = attributes.read_u32(24) as usize;
    Ok(Listing {
        revision: attributes.read_u64(56),
        entries: programs.into_iter().zip(links).take(count).collect(),
    })
}

/// A program's id.
pub fn program_id(program: &File) -> io::Result<u32> {
    // bpf_prog_info: type, id.
    Ok(information(program)?[1])
}

/// What the kernel says of a link.
pub fn link_info(link: &File) -> io::Result<LinkInfo> {
    // bpf_link_info: type, id, prog_id, padding, and of netkit ifindex, attach_type.
    let [_, id, program, _, ifindex, attach_type, ..] = information(link)?;
    Ok(LinkInfo {
        id,
        program,
        ifindex,
        attach_type,
    })
}

/// The beginning of the information that a descriptor has.
fn information(file: &File) -> io::Result<[u32; 8]> {
    #[repr(C, align(8))]
    struct Room([u32; 8]);
    let mut room = Room([0; 8]);
    Attributes::new()
        .fd(0, file)
        .u32(4, size_of::<Room>() as u32)
        .u64(8, room.0.as_mut_ptr() as u64)
        .call(OBJ_GET_INFO_BY_FD)?;
    Ok(room.0)
}
