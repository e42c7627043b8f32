//! A hash of 2^20 entries, keys of 16 and values of 32 octets; two threads, nine lookups to one update: our map, and
//! the kernel's driven by the same loop as a BPF program (map.bpf.c). Nanoseconds for an operation of one thread.

use std::hint::black_box;
use std::io;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use object::{Object, ObjectSection};
use policy::layout::STACK;
use policy::map::{At, Map};
use policy::memory::Memory;
use policy::object::MapDefinition;

const ENTRIES: u64 = 1 << 20;
/// Operations in one run of the program.
const ROUNDS: u64 = 1024;
const RUNS: u64 = 2048;
const THREADS: usize = 2;
const REPETITIONS: usize = 7;

fn main() {
    // Not when all targets are run as tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let ours = Ours::new();
    let kernel = Kernel::new();
    if let Err(error) = &kernel {
        println!("the kernel's map is not measured: {error}");
    }
    let mut best = [f64::MAX; 2];
    for _ in 0..REPETITIONS {
        best[0] = best[0].min(measure(|shard| ours.run(shard)));
        if let Ok(kernel) = &kernel {
            best[1] = best[1].min(measure(|_| kernel.run()));
        }
    }
    println!("ours   {:6.1} ns per operation", best[0]);
    if kernel.is_ok() {
        println!("kernel {:6.1} ns per operation", best[1]);
    }
}

/// Nanoseconds that an operation takes when all threads do them.
fn measure(work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(THREADS);
    let nanoseconds: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|shard| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    let start = thread_time();
                    work(shard);
                    (thread_time() - start) / (RUNS * ROUNDS) as f64
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    nanoseconds.iter().sum::<f64>() / THREADS as f64
}

/// Nanoseconds for which this thread had a processor: others may use this machine, too.
fn thread_time() -> f64 {
    // SAFETY: zero is a time, and the call fills it in.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn key(number: u64) -> [u64; 2] {
    [number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15)]
}

struct Ours {
    memory: Arc<Memory>,
    map: Map,
}

impl Ours {
    fn new() -> Ours {
        let memory = Arc::new(Memory::new(THREADS, None).unwrap());
        let definition = MapDefinition {
            name: "entries".to_owned(),
            kind: 1,
            key_size: 16,
            value_size: 32,
            max_entries: ENTRIES as u32,
            flags: 0,
            pinned: false,
            inner: None,
            values: Vec::new(),
            contents: None,
            types: None,
            extra: 0,
            spin_lock_offset: None,
        };
        let map = Map::create(1, 1, definition, &memory).unwrap();
        for number in 0..ENTRIES {
            let key: Vec<u8> = key(number).iter().flat_map(|word| word.to_ne_bytes()).collect();
            map.set(&key, &[1; 32], 0).unwrap();
        }
        Ours { memory, map }
    }

    fn run(&self, shard: usize) {
        let view = self.memory.view(shard);
        let at = At { view, shard };
        // As a program has them: in its window.
        let (key_at, value_at) = (view.at(STACK), view.at(STACK + 64));
        let mut x = Instant::now().elapsed().as_nanos() as u64 | 0x1234_5678_9abc_def1 << shard;
        let mut sum = 0_u64;
        for _ in 0..RUNS * ROUNDS {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let number = x >> 44;
            // SAFETY: the stack of the window is mapped and only this thread uses it; so is the value's address.
            unsafe {
                key_at.cast::<[u64; 2]>().write(key(number));
                if x & 0xffff < 6554 {
                    value_at.cast::<[u64; 4]>().write([x; 4]);
                    self.map.update(at, key_at, value_at, 0).unwrap();
                } else if let Some(value) = self.map.lookup(at, key_at) {
                    sum = sum.wrapping_add(view.at(value).cast::<u64>().read());
                }
            }
        }
        black_box(sum);
    }
}

/// `union bpf_attr`
#[derive(Default)]
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn set(mut self, index: usize, words: &[u32]) -> Attributes {
        self.0[index..index + words.len()].copy_from_slice(words);
        self
    }

    fn pointer<T: ?Sized>(self, index: usize, to: *const T) -> Attributes {
        let address = to.cast::<()>() as u64;
        self.set(index, &[address as u32, (address >> 32) as u32])
    }

    fn call(&self, command: i32) -> io::Result<u32> {
        // SAFETY: the attributes are as long as said; what they point to, the callers keep.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &self.0, size_of_val(&self.0)) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(result as u32)
    }
}

struct Kernel {
    program: u32,
}

impl Kernel {
    fn new() -> io::Result<Kernel> {
        let map = Attributes::default()
            .set(0, &[1, 16, 32, ENTRIES as u32])
            .call(0)?;
        for number in 0..ENTRIES {
            let (key, value) = (key(number), [1_u64; 4]);
            let attributes = Attributes::default().set(0, &[map]);
            attributes
                .pointer(2, &raw const key)
                .pointer(4, &raw const value)
                .call(2)?;
        }
        let mut instructions = compile()?;
        for instruction in instructions.chunks_exact_mut(8) {
            // lddw, of which there are only those of the map: its descriptor goes into the immediate.
            if instruction[0] == 0x18 && instruction[1] >> 4 == 0 && instruction[4..] == [0; 4] {
                instruction[1] |= 1 << 4;
                instruction[4..].copy_from_slice(&map.to_ne_bytes());
            }
        }
        let count = instructions.len() as u32 / 8;
        let load = Attributes::default()
            .set(0, &[3, count])
            .pointer(2, instructions.as_ptr())
            .pointer(4, c"Apache-2.0".as_ptr())
            .call(5);
        Ok(Kernel { program: load? })
    }

    fn run(&self) {
        let frame = [0_u8; 64];
        Attributes::default()
            .set(0, &[self.program, 0, frame.len() as u32])
            .pointer(4, frame.as_ptr())
            .set(8, &[RUNS as u32])
            .call(10)
            .unwrap();
    }
}

/// The program's instructions; the references to the map are zero.
fn compile() -> io::Result<Vec<u8>> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/map.bpf.c");
    let target = std::env::temp_dir().join(format!("map-{}.o", std::process::id()));
    let include = "/usr/include/x86_64-linux-gnu";
    let status = Command::new("clang")
        .args(["-O2", "-target", "bpf", "-I", include, "-c", source, "-o"])
        .arg(&target)
        .status()?;
    if !status.success() {
        return Err(io::Error::other("clang fails"));
    }
    let octets = std::fs::read(&target)?;
    std::fs::remove_file(&target)?;
    let file = object::File::parse(&*octets).map_err(io::Error::other)?;
    let section = file
        .section_by_name("tc")
        .ok_or_else(|| io::Error::other("no program"))?;
    Ok(section.data().map_err(io::Error::other)?.to_vec())
}
