//! A map domain: programs and maps that may see each other, with a machine for each shard.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::machine::Machine;
use crate::map::Map;
use crate::memory::{Memory, MemoryError};

/// Map handles are below this; 0 is no map.
pub(crate) const HANDLES: usize = 4096;

/// Memory, machines and handles. Programs of different domains cannot reach each other's maps.
#[derive(Debug)]
pub struct Domain {
    memory: Arc<Memory>,
    handles: Arc<Handles>,
    places: Box<[Place]>,
}

/// The maps of a domain by the number that programs know them by.
#[derive(Debug)]
pub struct Handles(Box<[AtomicPtr<Map>]>);

/// A shard's machine, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Place {
    machine: UnsafeCell<Machine>,
    /// Odd while a program runs.
    turns: AtomicU64,
}

// SAFETY: a place's machine is used by its shard's thread alone (`Domain::enter`).
unsafe impl Sync for Place {}

impl Domain {
    /// A domain without maps; see [`Memory::new`] for the directory.
    pub fn new(shards: usize, directory: Option<&std::path::Path>) -> Result<Domain, MemoryError> {
        let memory = Arc::new(Memory::new(shards, directory)?);
        let handles = Arc::new(Handles::new());
        let place = |shard| Place {
            machine: UnsafeCell::new(Machine::new(memory.clone(), handles.clone(), shard)),
            turns: AtomicU64::new(0),
        };
        Ok(Domain {
            places: (0..shards).map(place).collect(),
            memory,
            handles,
        })
    }

    /// The memory that maps are made in.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The maps by handle.
    pub fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Runs `work` with a shard's machine.
    ///
    /// # Safety
    /// No other thread is in a call with the same shard, and `work` makes no such call.
    ///
    /// # Panics
    /// If there is no such shard.
    #[inline]
    pub(crate) unsafe fn enter<T>(&self, shard: usize, work: impl FnOnce(&mut Machine) -> T) -> T {
        let place = &self.places[shard];
        let turn = place.turns.load(Ordering::Relaxed);
        // The fence that has these stores seen in time is in `wait`, as a membarrier on every thread of ours.
        place.turns.store(turn + 1, Ordering::Relaxed);
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        // SAFETY: nobody else uses this machine now, as the caller guarantees.
        let result = work(unsafe { &mut *place.machine.get() });
        place.turns.store(turn + 2, Ordering::Release);
        result
    }

    /// Returns when every run that was going on has ended: then nobody uses what was taken out of a map before.
    pub fn wait(&self) {
        barrier();
        for place in &self.places {
            let turn = place.turns.load(Ordering::Acquire);
            while turn % 2 == 1 && place.turns.load(Ordering::Acquire) == turn {
                std::thread::yield_now();
            }
        }
    }
}

impl Handles {
    fn new() -> Handles {
        Handles((0..HANDLES).map(|_| AtomicPtr::default()).collect())
    }

    /// The map behind a handle that a program gave.
    ///
    /// # Safety
    /// Only within a run in the domain (`Domain::enter`), and the result only until it ends.
    #[inline]
    pub(crate) unsafe fn get<'a>(&self, handle: u64) -> Option<&'a Map> {
        let slot = self.0.get(handle as usize).filter(|_| handle < HANDLES as u64)?;
        // SAFETY: a map that is in the table, or was when the run began, is not dropped before the run has ended
        // (`remove`).
        unsafe { slot.load(Ordering::Acquire).as_ref() }
    }

    /// A handle that is free now.
    pub fn vacant(&self) -> Option<u16> {
        let free = |slot: &AtomicPtr<Map>| slot.load(Ordering::Relaxed).is_null();
        self.0.iter().skip(1).position(free).map(|index| index as u16 + 1)
    }

    /// Lets programs find a map.
    ///
    /// # Safety
    /// The map stays where it is until [`Handles::remove`] and a [`Domain::wait`] after it have returned.
    pub unsafe fn insert(&self, map: &Map) {
        self.0[map.handle() as usize].store(std::ptr::from_ref(map).cast_mut(), Ordering::Release);
    }

    /// Lets programs find a map no longer.
    pub fn remove(&self, handle: u16) {
        self.0[handle as usize].store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// Has every running thread of the process pass a full memory barrier, which spares the runs their own.
fn barrier() {
    const MEMBARRIER_CMD_PRIVATE_EXPEDITED: i32 = 1 << 3;
    const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
    static REGISTER: std::sync::Once = std::sync::Once::new();
    let membarrier = |command: i32| {
        // SAFETY: the system call takes no pointers.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
    };
    REGISTER.call_once(|| {
        membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    });
    if membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0 {
        // Without the call (a seccomp filter, an old kernel): longer than any store stays unseen.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
