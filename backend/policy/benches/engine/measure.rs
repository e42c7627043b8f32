//! Measuring in turns, on one processor, by the thread's own time.

use std::fmt;
use std::time::Instant;

/// Measurements of each row that are to count.
const ROUNDS: usize = 11;
/// Rounds after which there are no more, whatever counts.
const ROUNDS_MAX: usize = 40 * ROUNDS;
/// The share of a processor without which a measurement does not count.
const SHARE_MIN: f64 = 0.95;

/// Something that is measured.
pub struct Row<'a> {
    pub name: String,
    runs: u32,
    work: Box<dyn FnMut(u32) + 'a>,
}

/// What came of it, in nanoseconds for a run.
pub struct Figure {
    pub name: String,
    times: Vec<f64>,
    shares: Vec<f64>,
}

impl<'a> Row<'a> {
    /// Something that does what is measured so many times.
    pub fn new(name: String, runs: u32, work: impl FnMut(u32) + 'a) -> Row<'a> {
        Row {
            name,
            runs,
            work: Box::new(work),
        }
    }

    /// Nanoseconds for a run, and the share of the processor that the thread had.
    fn measure(&mut self) -> (f64, f64) {
        let (wall, thread) = (Instant::now(), thread_time());
        (self.work)(self.runs);
        let (wall, thread) = (wall.elapsed().as_nanos() as f64, thread_time() - thread);
        (wall / f64::from(self.runs), thread / wall)
    }
}

/// Measures all rows in turns until each has as many good measurements as it takes.
pub fn rounds(rows: &mut [Row<'_>]) -> Vec<Figure> {
    let figure = |row: &Row<'_>| Figure {
        name: row.name.clone(),
        times: Vec::new(),
        shares: Vec::new(),
    };
    let mut figures: Vec<Figure> = rows.iter().map(figure).collect();
    for row in rows.iter_mut() {
        row.measure();
    }
    for _ in 0..ROUNDS_MAX {
        for (row, figure) in rows.iter_mut().zip(&mut figures) {
            let (time, share) = row.measure();
            if share >= SHARE_MIN && figure.times.len() < ROUNDS {
                figure.times.push(time);
                figure.shares.push(share);
            }
        }
        if figures.iter().all(|figure| figure.times.len() == ROUNDS) {
            break;
        }
    }
    for figure in &mut figures {
        figure.times.sort_by(f64::total_cmp);
    }
    figures
}

impl Figure {
    /// The middle of all measurements.
    pub fn median(&self) -> f64 {
        self.times.get(self.times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |time: Option<&f64>| time.copied().unwrap_or(f64::NAN);
        write!(
            f,
            "{:32} {:10.1} {:10.1} {:10.1} {:6} {:5.0}%",
            self.name,
            self.median(),
            end(self.times.first()),
            end(self.times.last()),
            self.times.len(),
            100.0 * self.shares.iter().copied().fold(1.0, f64::min),
        )
    }
}

/// Nanoseconds for which this thread had a processor.
fn thread_time() -> f64 {
    // SAFETY: zero is a time, and the call fills it in.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Keeps this thread on the processor that it is on.
pub fn pin() {
    // SAFETY: zero is the empty set, which is as long as said.
    unsafe {
        let mut processors: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut processors);
        libc::sched_setaffinity(0, size_of_val(&processors), &raw const processors);
    }
}

/// What the processor is called.
pub fn processor() -> String {
    let all = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("a processor", |line| line.trim_start_matches([' ', '\t', ':']))
        .to_owned()
}

/// How fast the processor counts down, which takes it a cycle a number.
#[cfg(target_arch = "x86_64")]
pub fn gigahertz() -> f64 {
    const CYCLES: u64 = 50_000_000;
    let start = thread_time();
    // SAFETY: nothing but a register changes.
    unsafe { std::arch::asm!("2:", "dec {0}", "jnz 2b", inout(reg) CYCLES => _) };
    CYCLES as f64 / (thread_time() - start)
}

/// Not known.
#[cfg(not(target_arch = "x86_64"))]
pub fn gigahertz() -> f64 {
    f64::NAN
}
