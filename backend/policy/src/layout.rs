//! Where things lie in a window: the only addresses that a program ever sees.
//!
//! A window address is an offset into the window, below 4 GiB, so that `__sk_buff.data` can hold it.
//!
//! ```text
//! 0x0000_0000  nothing: null, and map handles, which are below 64 KiB
//! 0x0001_0000  the context, struct __sk_buff
//! 0x0002_0000  the stack: 8 frames of 512 octets, the first one on top
//! 0x0010_0000  the frame's linear part, with room in front of it
//! 0x1000_0000  read-only map values (.rodata)
//! 0x2000_0000  map values of all workers
//! 0xe000_0000  map values of this worker alone (per-CPU maps)
//! ```

/// Octets that one window spans.
pub const WINDOW_LEN: usize = 1 << 32;
/// Inaccessible octets in front of and behind a window. A displacement reaches 32 KiB; the rest is for peace of mind.
pub const GUARD_LEN: usize = 1 << 16;

/// The first window address that may be mapped.
pub const FIRST: u32 = 0x0001_0000;

/// The context.
pub const CONTEXT: u32 = 0x0001_0000;
/// Mapped octets of the context (a page, of which `struct __sk_buff` is the start).
pub const CONTEXT_LEN: u32 = 4096;

/// The lowest octet of the stack.
pub const STACK: u32 = 0x0002_0000;
/// Octets of a function's frame (linux/filter.h: `MAX_BPF_STACK`).
pub const FRAME_LEN: u32 = 512;
/// Functions that may be active at a time (linux/bpf_verifier.h: `MAX_CALL_FRAMES`).
pub const FRAMES_MAX: u32 = 8;
/// Octets of the stack.
pub const STACK_LEN: u32 = FRAME_LEN * FRAMES_MAX;
/// What r10 is in the first function.
pub const STACK_TOP: u32 = STACK + STACK_LEN;

/// The lowest octet of the room for the frame's linear part.
pub const PACKET: u32 = 0x0010_0000;
/// Octets of that room.
pub const PACKET_LEN: u32 = 0x0002_0000;
/// Octets in front of the linear part when a run starts.
pub const HEADROOM: u32 = 512;
/// Where the linear part starts when a run starts.
pub const PACKET_DATA: u32 = PACKET + HEADROOM;

/// Values of maps that programs cannot write.
pub const READ_ONLY: u32 = 0x1000_0000;
/// The most octets of those.
pub const READ_ONLY_MAX: u32 = 0x1000_0000;

/// Values of maps that all workers share.
pub const SHARED: u32 = 0x2000_0000;
/// The most octets of those.
pub const SHARED_MAX: u32 = 0xc000_0000;

/// Values of per-CPU maps: the same address holds other octets in each worker's window.
pub const PER_SHARD: u32 = 0xe000_0000;
/// The most octets of those.
pub const PER_SHARD_MAX: u32 = 0x1000_0000;

const _: () = assert!(SHARED as u64 + SHARED_MAX as u64 <= PER_SHARD as u64);
const _: () = assert!(PER_SHARD as u64 + PER_SHARD_MAX as u64 <= WINDOW_LEN as u64);
