//! One shard's place to run the programs of a map domain: its window, and what stands around a run.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::context::SkBuff;
use crate::domain::Handles;
use crate::fault::FaultKind;
use crate::layout::{
    CONTEXT, CONTEXT_LEN, HEADROOM, PACKET, PACKET_DATA, PACKET_LEN, STACK, STACK_LEN, STACK_TOP,
};
use crate::map::Map;
use crate::memory::{Memory, View};
use crate::packet::{Environment, Gso, Metadata, Octets, VlanTag, copy_frame};
use crate::{Errno, Program};

/// The words that compiled code uses, at fixed places.
#[derive(Debug)]
#[repr(C)]
pub struct Words {
    /// The start of the window in the process.
    pub base: *mut u8,
    /// Instructions that may still be run; a run ends when it is negative.
    pub fuel: i64,
    /// Not 0: a helper stopped the program, or a function that it called back did.
    pub stopped: u32,
    /// Tail calls that may still be made.
    pub tail_calls: u32,
    /// r10 of the function that called a helper which calls back.
    pub frame: u32,
    /// The instruction that caused a fault, or that called the helper which did.
    pub instruction: u32,
    /// Where the native stack was when compiled code was entered last: where an abort returns to.
    pub abort_stack: usize,
    /// The native address of the last faulting access.
    pub fault_pc: usize,
    /// The process address of a faulting access.
    pub fault_address: usize,
    /// Where compiled code keeps a register for the time of one instruction, and is told whether to leave a function.
    pub scratch: u64,
}

/// A run was stopped; the machine knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Which engine runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// Native code.
    Compiled,
    /// The interpreter.
    Interpreter,
}

/// The most tail calls in one run (linux/bpf.h: `MAX_TAIL_CALL_CNT`).
pub const TAIL_CALLS_MAX: u32 = 33;

/// A window, and the run that goes on in it.
#[derive(Debug)]
#[repr(C)]
pub struct Machine {
    /// What compiled code uses; first, so that its address is the machine's.
    pub words: Words,
    view: View,
    memory: Arc<Memory>,
    handles: Arc<Handles>,
    shard: usize,
    /// The frame of this run.
    pub packet: PacketState,
    /// Which engine runs.
    pub executor: Executor,
    /// The program that runs: after a tail call not the one that was started.
    pub program: *const Program,
    /// Why the run was stopped.
    pub fault: Option<FaultKind>,
    /// The window address of the spin lock that the program holds.
    pub lock: Option<u32>,
    /// What helpers remember.
    pub helpers: crate::helper::State,
}

// SAFETY: the pointers in a machine are set for the time of a run by the thread that runs, and are not used otherwise.
unsafe impl Send for Machine {}

/// The frame of a run.
#[derive(Debug)]
pub struct PacketState {
    /// Window address of the linear part.
    pub data: u32,
    /// Window address behind it.
    pub data_end: u32,
    /// Octets behind the linear part.
    pub fragments_len: u32,
    /// What travels beside the octets. The program writes some of it in the context: see [`Machine::import_context`].
    pub metadata: Held,
}

/// The caller's packet for the time of a run. It is used as what travels beside the octets.
#[derive(Debug)]
pub struct Held(Option<NonNull<Packet<'static>>>);

/// What a run works on.
#[expect(missing_debug_implementations, reason = "trait objects")]
pub struct Packet<'a> {
    /// What travels beside the octets.
    pub metadata: Metadata,
    /// The octets.
    pub octets: &'a mut dyn Octets,
    /// What surrounds the run.
    pub environment: &'a mut dyn Environment,
}

impl Held {
    #[inline]
    fn packet(&self) -> *mut Packet<'static> {
        match self.0 {
            Some(packet) => packet.as_ptr(),
            None => unreachable!("only during a run"),
        }
    }
}

impl Deref for Held {
    type Target = Metadata;

    #[inline]
    fn deref(&self) -> &Metadata {
        // SAFETY: set for the time of the run from a reference that outlives it (`begin`).
        unsafe { &(*self.packet()).metadata }
    }
}

impl DerefMut for Held {
    #[inline]
    fn deref_mut(&mut self) -> &mut Metadata {
        // SAFETY: as above; the caller does not use it during the run.
        unsafe { &mut (*self.packet()).metadata }
    }
}

impl Machine {
    /// A machine on the window of a shard.
    pub fn new(memory: Arc<Memory>, handles: Arc<Handles>, shard: usize) -> Machine {
        let view = memory.view(shard);
        Machine {
            words: Words {
                base: view.at(0),
                fuel: 0,
                stopped: 0,
                tail_calls: 0,
                frame: STACK_TOP,
                instruction: 0,
                abort_stack: 0,
                fault_pc: 0,
                fault_address: 0,
                scratch: 0,
            },
            view,
            memory,
            handles,
            shard,
            packet: PacketState {
                data: PACKET_DATA,
                data_end: PACKET_DATA,
                fragments_len: 0,
                metadata: Held(None),
            },
            executor: Executor::Interpreter,
            program: std::ptr::null(),
            fault: None,
            lock: None,
            helpers: crate::helper::State::default(),
        }
    }

    /// The number of the shard, which programs see as their processor.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// How many shards there are, which programs see as the number of processors.
    pub fn shards(&self) -> usize {
        self.memory.shards()
    }

    /// How this machine sees map memory.
    #[inline(always)]
    pub fn view(&self) -> View {
        self.view
    }

    /// The program that runs.
    ///
    /// # Panics
    /// If none does.
    pub fn program(&self) -> &Program {
        assert!(!self.program.is_null(), "only during a run");
        // SAFETY: set for the time of the run from a reference that outlives it (`Program::run_on`, tail calls).
        unsafe { &*self.program }
    }

    /// A map by the handle that the program gave.
    ///
    /// # Safety
    /// Only during a run, and the result only until it ends.
    #[inline]
    pub unsafe fn map<'a>(&self, handle: u64) -> Option<&'a Map> {
        // SAFETY: the caller guarantees it.
        unsafe { self.handles.get(handle) }
    }

    /// Stops the run when the helper that calls this has returned.
    #[cold]
    pub fn stop(&mut self, kind: FaultKind) -> Stopped {
        self.words.stopped = 1;
        if self.fault.is_none() {
            self.fault = Some(kind);
        }
        Stopped
    }

    /// Where `len` octets at a window address lie, if the program may access all of them. The upper 32 bits of the
    /// address do not count, as in loads and stores. The pointer may be used until the helper returns; other shards
    /// may access the same octets, so never make a reference of it.
    #[inline]
    pub fn slice(&self, address: u64, len: u32, write: bool) -> Option<*mut u8> {
        let address = address as u32;
        let within = |start: u32, region: u32| {
            let offset = address.wrapping_sub(start);
            offset < region && len <= region - offset
        };
        (within(STACK, STACK_LEN)
            || within(PACKET, PACKET_LEN)
            || self.memory.allows(address, len, write)
            || within(CONTEXT, CONTEXT_LEN))
        .then(|| self.view.at(address))
    }

    /// As [`Machine::slice`] for an argument of a helper: stops the program if it may not access the octets. No octets
    /// may be anywhere.
    #[inline]
    pub fn argument(
        &mut self,
        helper: u32,
        argument: u8,
        address: u64,
        len: u64,
        write: bool,
    ) -> Result<*mut u8, Stopped> {
        if len == 0 {
            return Ok(self.view.at(PACKET));
        }
        let found = u32::try_from(len)
            .ok()
            .and_then(|len| self.slice(address, len, write));
        found.ok_or_else(|| {
            self.stop(FaultKind::Argument {
                helper,
                argument,
                value: address,
                len,
            })
        })
    }

    /// The surroundings of the run.
    pub fn environment(&mut self) -> &mut dyn Environment {
        // SAFETY: set for the time of the run from a reference that outlives it (`begin`); the machine is borrowed for
        // as long as the result.
        unsafe { &mut *(*self.packet.metadata.packet()).environment }
    }

    /// Puts a frame and its context into the window.
    #[inline(always)]
    pub(crate) fn begin(&mut self, packet: &mut Packet<'_>) {
        let (linear, fragments_len) = packet.octets.parts();
        let len = linear.len().min((PACKET_LEN - HEADROOM) as usize);
        // SAFETY: the packet region is mapped and only this thread uses this window; `len` octets fit in it.
        unsafe { copy_frame(linear.as_ptr(), self.view.at(PACKET_DATA), len) };
        self.packet.data = PACKET_DATA;
        self.packet.data_end = PACKET_DATA + len as u32;
        self.packet.fragments_len = fragments_len as u32;
        self.fill_context(&packet.metadata);
        // The lifetime is cut off; `end` forgets the pointer before the borrow ends.
        self.packet.metadata = Held(Some(NonNull::from(packet).cast()));
        self.words.stopped = 0;
        self.words.tail_calls = TAIL_CALLS_MAX;
        self.fault = None;
        self.lock = None;
    }

    /// Takes the frame, and what the program may write in its context, back out of the window.
    #[inline(always)]
    pub(crate) fn end(&mut self, packet: &mut Packet<'_>) {
        self.packet.metadata = Held(None);
        take_in(self.context(), &mut packet.metadata);
        let linear = self.linear();
        // SAFETY: the linear part lies in the packet region of this window, which no other thread uses.
        let linear = unsafe { std::slice::from_raw_parts(linear, self.linear_len() as usize) };
        packet.octets.set_linear(linear);
    }

    /// Where the linear part lies.
    pub fn linear(&self) -> *mut u8 {
        self.view.at(self.packet.data)
    }

    /// Octets of the linear part.
    pub fn linear_len(&self) -> u32 {
        self.packet.data_end - self.packet.data
    }

    /// Octets of the frame.
    pub fn packet_len(&self) -> u32 {
        self.linear_len() + self.packet.fragments_len
    }

    /// Copies octets of the frame, linear or not. Fails with EFAULT if it is shorter.
    pub fn read_packet(&self, offset: u32, to: &mut [u8]) -> Result<(), Errno> {
        let end = u64::from(offset) + to.len() as u64;
        if end > u64::from(self.packet_len()) {
            return Err(Errno::EFAULT);
        }
        let linear_len = self.linear_len();
        let from_linear = (linear_len.saturating_sub(offset) as usize).min(to.len());
        let (front, back) = to.split_at_mut(from_linear);
        // SAFETY: the octets lie in the linear part; `to` is not in a window, or is checked memory of the caller.
        unsafe {
            std::ptr::copy(
                self.view.at(self.packet.data.wrapping_add(offset)),
                front.as_mut_ptr(),
                from_linear,
            )
        };
        if !back.is_empty() {
            let offset = offset.saturating_sub(linear_len) as usize;
            self.octets().read_fragments(offset, back);
        }
        Ok(())
    }

    /// What the legacy packet loads (`LD_ABS`, `LD_IND`) put into r0: `len` octets of the frame in network order. None
    /// if the frame does not have them.
    pub fn load_packet(&self, offset: i32, len: u8) -> Option<u64> {
        // linux/filter.h: SKF_NET_OFF, SKF_LL_OFF; filter.c: bpf_skb_load_helper_convert_offset
        const NETWORK: i32 = -0x10_0000;
        const LINK: i32 = -0x20_0000;
        let offset = match offset {
            0.. => offset,
            NETWORK.. => (offset - NETWORK).wrapping_add_unsigned(self.packet.metadata.layers.network),
            LINK.. => offset - LINK,
            _ => return None,
        };
        let mut octets = [0; 8];
        let room = octets.get_mut(8 - usize::from(len.min(8))..)?;
        self.read_packet(offset as u32, room).ok()?;
        Some(u64::from_be_bytes(octets))
    }

    /// Moves octets of the fragments into the linear part until that has `len` octets (`pskb_may_pull`). Fails with
    /// ENOMEM if the frame is shorter, as the kernel does, or if the window has no room.
    pub fn pull(&mut self, len: u32) -> Result<(), Errno> {
        let have = self.linear_len();
        if len <= have {
            return Ok(());
        }
        if len > self.packet_len() || len > PACKET_LEN - (self.packet.data - PACKET) {
            return Err(Errno::ENOMEM);
        }
        let more = len - have;
        // SAFETY: the room behind the linear part is mapped, as just checked, and only this thread uses it.
        let room =
            unsafe { std::slice::from_raw_parts_mut(self.view.at(self.packet.data_end), more as usize) };
        self.octets_mut().take_fragments(room);
        self.packet.data_end += more;
        self.packet.fragments_len -= more;
        self.export_context();
        Ok(())
    }

    /// The frame's fragments.
    pub fn octets(&self) -> &dyn Octets {
        // SAFETY: set for the time of the run from a reference that outlives it (`begin`).
        unsafe { &*(*self.packet.metadata.packet()).octets }
    }

    /// The frame's fragments, to be changed.
    pub fn octets_mut(&mut self) -> &mut dyn Octets {
        // SAFETY: as in `octets`; the machine is borrowed for as long as the result.
        unsafe { &mut *(*self.packet.metadata.packet()).octets }
    }

    /// Has the surroundings send a copy of the frame as it is now, with what the program wrote into the context.
    pub(crate) fn clone_redirect(&mut self, ifindex: u32, flags: u64) -> Result<(), Errno> {
        self.import_context();
        let metadata = *self.packet.metadata;
        let packet = self.packet.metadata.packet();
        // SAFETY: the linear part lies in the packet region of this window, which no other thread uses and which the
        // environment cannot reach; octets and environment are two objects, set for the time of the run (`begin`).
        unsafe {
            let linear = std::slice::from_raw_parts(self.linear(), self.linear_len() as usize);
            let (environment, octets) = (&mut *(*packet).environment, &*(*packet).octets);
            environment.clone_redirect(linear, octets, &metadata, ifindex, flags)
        }
    }

    /// Writes the context, all of it, from what the machine knows. Call it after the frame or its metadata changed;
    /// what the program wrote is taken in first by those who change metadata.
    pub fn export_context(&mut self) {
        self.show(&self.packet.metadata);
    }

    /// Writes the context, all of it, with this metadata.
    pub(crate) fn show(&self, metadata: &Metadata) {
        // SAFETY: the context page is mapped, aligned, and only this thread uses it.
        unsafe { self.view.at(CONTEXT).cast::<SkBuff>().write(SkBuff::default()) };
        self.fill_context(metadata);
    }

    /// Writes the fields of the context that are not always 0. Those that are may hold what a program of this domain
    /// stored there, to nobody's harm; the kernel's verifier would not have let it.
    #[inline(always)]
    fn fill_context(&self, metadata: &Metadata) {
        let len = self.packet_len();
        let segments = match &metadata.offload.gso {
            None => Segments {
                size: 0,
                count: 0,
                wire_len: len,
            },
            Some(gso) => Segments::of(gso, len),
        };
        let vlan = metadata.vlan.unwrap_or(VlanTag { protocol: 0, tci: 0 });
        // SAFETY: the context page is mapped, aligned, and only this thread uses it; any octets are a context.
        let context = unsafe { &mut *self.view.at(CONTEXT).cast::<SkBuff>() };
        context.len = len;
        context.pkt_type = metadata.packet_type;
        context.mark = metadata.mark;
        context.queue_mapping = u32::from(metadata.queue_mapping);
        context.protocol = u32::from(metadata.protocol.to_be());
        context.vlan_present = u32::from(metadata.vlan.is_some());
        context.vlan_tci = u32::from(vlan.tci);
        context.vlan_proto = u32::from(vlan.protocol.to_be());
        context.priority = metadata.priority;
        context.ingress_ifindex = metadata.ingress_ifindex;
        context.ifindex = metadata.ifindex;
        context.tc_index = u32::from(metadata.tc_index);
        context.cb = metadata.cb;
        context.hash = metadata.hash;
        context.tc_classid = metadata.tc_classid;
        context.data = self.packet.data;
        context.data_end = self.packet.data_end;
        context.data_meta = self.packet.data;
        context.tstamp = metadata.tstamp;
        context.wire_len = segments.wire_len;
        context.gso_segs = segments.count;
        context.gso_size = segments.size;
        context.tstamp_type = metadata.tstamp_type;
    }

    /// Takes in the fields that a tc program may write (filter.c: `tc_cls_act_is_valid_access`).
    pub fn import_context(&mut self) {
        let context = self.context();
        take_in(context, &mut self.packet.metadata);
    }

    /// The context as it is now.
    #[inline(always)]
    fn context<'a>(&self) -> &'a SkBuff {
        // SAFETY: the context page is mapped, aligned, and only this thread uses it; any octets are a context.
        unsafe { &*self.view.at(CONTEXT).cast::<SkBuff>() }
    }
}

/// Takes in the fields that a tc program may write (filter.c: `tc_cls_act_is_valid_access`).
#[inline(always)]
fn take_in(context: &SkBuff, metadata: &mut Metadata) {
    metadata.mark = context.mark;
    metadata.queue_mapping = context.queue_mapping as u16;
    metadata.priority = context.priority;
    metadata.tc_index = context.tc_index as u16;
    metadata.cb = context.cb;
    metadata.tc_classid = context.tc_classid;
    metadata.tstamp = context.tstamp;
}

/// What a program sees of segmentation that is still to be done.
struct Segments {
    size: u32,
    count: u32,
    wire_len: u32,
}

impl Segments {
    /// Of a frame of so many octets.
    fn of(gso: &Gso, len: u32) -> Segments {
        let (size, header_len) = (u32::from(gso.size), u32::from(gso.header_len));
        let payload = len.saturating_sub(header_len);
        let count = u32::from(gso.segments).max(payload.div_ceil(size.max(1)));
        let headers = count.saturating_sub(1).saturating_mul(header_len);
        Segments {
            size,
            count,
            wire_len: len.saturating_add(headers),
        }
    }
}
