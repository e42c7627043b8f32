//! How much of its processor a thread had, and whether that is enough for its round to count.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Error, Result};

/// A thread that had less was disturbed: its round does not count.
pub const ENOUGH: f64 = 0.95;

const PAUSE: Duration = Duration::from_millis(20);
/// What a generator does after its measurement falls into the end of what is watched.
const AFTERMATH: Duration = Duration::from_millis(100);

/// What threads do when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Habit {
    /// They go on looking, so they should have the whole processor.
    Polls,
    /// They fall asleep, at once or after a while, so they should have the processor whenever they are awake.
    Sleeps,
}

/// What the kernel counts of threads (`/proc/PID/task/TID/schedstat`), in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// On a processor.
    pub ran: u64,
    /// Ready to run, while others did.
    pub waited: u64,
}

impl Usage {
    fn parse(text: &str) -> Option<Usage> {
        let mut numbers = text.split_whitespace().map(str::parse);
        Some(Usage {
            ran: numbers.next()?.ok()?,
            waited: numbers.next()?.ok()?,
        })
    }

    /// What was used since `before`.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

/// What threads that share a processor did over a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Of all of them together.
    pub usage: Usage,
    /// Nanoseconds that went by.
    pub wall: u64,
    pub habit: Habit,
}

impl Share {
    /// The part of the processor that was had, of what was wanted.
    pub fn part(&self) -> f64 {
        let of = |wanted: u64| match wanted {
            0 => 1.0,
            wanted => self.usage.ran as f64 / wanted as f64,
        };
        match self.habit {
            Habit::Polls => of(self.wall),
            // They wait for each other, too: if there is nothing left of the processor, then nobody else had any.
            Habit::Sleeps => of(self.usage.ran + self.usage.waited).max(of(self.wall)),
        }
    }

    /// Percent of one processor, whether wanted or not.
    pub fn percent_of_a_core(&self) -> f64 {
        100.0 * self.usage.ran as f64 / self.wall.max(1) as f64
    }
}

/// The threads of a process whose names begin like this.
pub fn threads(process: u32, prefix: &str) -> Result<Vec<PathBuf>> {
    let directory = format!("/proc/{process}/task");
    let tasks = std::fs::read_dir(&directory).map_err(Error::io("read", &directory))?;
    let found: Vec<PathBuf> = tasks
        .flatten()
        .map(|task| task.path())
        .filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(prefix)))
        .collect();
    match found.is_empty() {
        true => Err(Error::Missing(format!(
            "process {process} has no thread {prefix}"
        ))),
        false => Ok(found),
    }
}

/// What the threads have used so far, together. One that has ended counts for nothing.
pub fn usage(threads: &[PathBuf]) -> Usage {
    let usages = threads
        .iter()
        .filter_map(|task| std::fs::read_to_string(task.join("schedstat")).ok())
        .filter_map(|text| Usage::parse(&text));
    usages.fold(Usage::default(), |sum, it| Usage {
        ran: sum.ran + it.ran,
        waited: sum.waited + it.waited,
    })
}

/// Looks at threads again and again while somebody else measures, without knowing yet which time counts.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Usage)>>,
    habit: Habit,
}

impl Watch {
    /// Begins.
    pub fn start(threads: Vec<PathBuf>, habit: Habit) -> Watch {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let look = move || {
            let mut looks = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                looks.push((Instant::now(), usage(&threads)));
                std::thread::sleep(PAUSE);
            }
            looks
        };
        Watch {
            stop,
            thread: std::thread::spawn(look),
            habit,
        }
    }

    /// Ends: what the threads did in the last `length` before now, less a moment for the end of the other's work.
    pub fn finish(self, length: Duration) -> Option<Share> {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.thread.join().ok()?;
        share(&looks, Instant::now().checked_sub(AFTERMATH)?, length, self.habit)
    }
}

fn share(looks: &[(Instant, Usage)], end: Instant, length: Duration, habit: Habit) -> Option<Share> {
    let begin = end.checked_sub(length)?;
    let mut inside = looks.iter().filter(|(at, _)| (begin..=end).contains(at));
    let (first, before) = inside.next()?;
    let (last, after) = inside.next_back()?;
    Some(Share {
        usage: after.since(*before),
        wall: last.duration_since(*first).as_nanos() as u64,
        habit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polls(ran: u64, wall: u64) -> Share {
        Share {
            usage: Usage { ran, waited: 0 },
            wall,
            habit: Habit::Polls,
        }
    }

    #[test]
    fn who_polls_wants_all_the_time() {
        assert_eq!(polls(94, 100).part(), 0.94);
        assert!(polls(94, 100).part() < ENOUGH && polls(96, 100).part() >= ENOUGH);
    }

    #[test]
    fn who_sleeps_wants_only_what_it_is_awake_for() {
        let usage = Usage { ran: 10, waited: 10 };
        let share = Share {
            usage,
            wall: 1000,
            habit: Habit::Sleeps,
        };
        assert_eq!((share.part(), share.percent_of_a_core()), (0.5, 1.0));
        let asleep = Share {
            usage: Usage::default(),
            ..share
        };
        assert_eq!(asleep.part(), 1.0);
    }

    #[test]
    fn threads_that_fill_a_core_between_them_are_not_disturbed() {
        let usage = Usage { ran: 98, waited: 98 };
        let share = Share {
            usage,
            wall: 100,
            habit: Habit::Sleeps,
        };
        assert_eq!(share.part(), 0.98);
    }

    #[test]
    fn schedstat_is_read() {
        let read = Usage::parse("214226678 32933611 755\n");
        assert_eq!(
            read,
            Some(Usage {
                ran: 214_226_678,
                waited: 32_933_611
            })
        );
        assert_eq!(Usage::parse("none"), None);
    }

    #[test]
    fn only_the_measured_time_is_looked_at() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let busy = |ms: u64, ran: u64| {
            (
                at(ms),
                Usage {
                    ran: ran * 1_000_000,
                    waited: 0,
                },
            )
        };
        // Idle at first, busy from 100 ms to 200 ms, then done.
        let looks = [
            busy(0, 0),
            busy(100, 0),
            busy(150, 50),
            busy(200, 100),
            busy(400, 100),
        ];
        let share = share(&looks, at(200), Duration::from_millis(100), Habit::Polls).unwrap();
        assert_eq!(share.part(), 1.0);
    }

    #[test]
    fn a_thread_that_runs_is_seen_to_run() {
        let own = threads(std::process::id(), "").unwrap();
        let watch = Watch::start(own, Habit::Sleeps);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {}
        assert!(watch.finish(Duration::from_millis(180)).unwrap().usage.ran > 0);
    }
}
