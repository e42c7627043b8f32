//! What programs print with `bpf_trace_printk`: a log of the process, bounded, that anybody may follow.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The latest lines of all programs. The oldest make room for new ones.
#[derive(Debug, Default)]
pub struct TraceLog(Mutex<Lines>);

/// What one program printed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The program's id.
    pub program: u32,
    /// The shard that it ran on, its processor.
    pub shard: usize,
    /// The thread of that shard.
    pub thread: u32,
    /// The thread's name.
    pub task: Arc<str>,
    /// Since the system started.
    pub time: Duration,
    /// Lines of the shard in front of this one that were not written, because there were too many.
    pub suppressed: u64,
    /// What it printed.
    pub text: Box<[u8]>,
}

/// Lines that were read, and where to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The lines, oldest first.
    pub lines: Vec<Arc<Line>>,
    /// What to give [`TraceLog::read_from`] next.
    pub next: u64,
    /// Lines that were gone before they could be read, or that were never written because there were too many.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Arc<Line>>,
    /// The sequence number of the oldest line that is kept.
    first: u64,
    octets: usize,
}

/// Lines that are kept.
const LINES_MAX: usize = 64 << 10;
/// Octets that their text may take.
const OCTETS_MAX: usize = 4 << 20;
/// Lines that are read at once, so that no writer waits for long.
const BATCH: usize = 1024;

/// The log of this process.
pub fn trace_log() -> &'static TraceLog {
    static LOG: LazyLock<TraceLog> = LazyLock::new(TraceLog::default);
    &LOG
}

impl TraceLog {
    /// Adds a line.
    pub fn write(&self, line: Line) {
        let line = Arc::new(line);
        let mut lines = self.lock();
        lines.octets += line.text.len();
        lines.kept.push_back(line);
        while lines.kept.len() > LINES_MAX || lines.octets > OCTETS_MAX {
            let Some(oldest) = lines.kept.pop_front() else {
                break;
            };
            lines.octets -= oldest.text.len();
            lines.first += 1;
        }
    }

    /// Where lines that are written from now on are read.
    pub fn end(&self) -> u64 {
        let lines = self.lock();
        lines.first + lines.kept.len() as u64
    }

    /// Some of the lines from a sequence number on; 0 is the oldest. When there is none, the batch is empty.
    pub fn read_from(&self, sequence: u64) -> Batch {
        let lines = self.lock();
        let start = sequence.max(lines.first);
        let skipped = usize::try_from(start - lines.first).unwrap_or(usize::MAX);
        let read: Vec<Arc<Line>> = lines.kept.iter().skip(skipped).take(BATCH).cloned().collect();
        let suppressed: u64 = read.iter().map(|line| line.suppressed).sum();
        Batch {
            next: start.min(lines.first + lines.kept.len() as u64) + read.len() as u64,
            lost: start - sequence + suppressed,
            lines: read,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// A line of the calling thread; `time` is in nanoseconds.
    pub(crate) fn new(program: u32, shard: usize, time: u64, suppressed: u64, text: &[u8]) -> Line {
        thread_local! {
            static THREAD: (u32, Arc<str>) = this_thread();
        }
        let (thread, task) = THREAD.with(Clone::clone);
        Line {
            program,
            shard,
            thread,
            task,
            time: Duration::from_nanos(time),
            suppressed,
            text: text.into(),
        }
    }
}

impl fmt::Display for Line {
    /// As `trace_pipe` shows it (trace_output.c: trace_print_context), in one line whatever the program printed:
    /// nobody can pretend to be another program, or steer a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>16}-{:<7} [{:03}] ..... {:>5}.{:06}: bpf_trace_printk: ",
            self.task,
            self.thread,
            self.shard,
            self.time.as_secs(),
            self.time.subsec_micros()
        )?;
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        for character in String::from_utf8_lossy(text).chars() {
            match character {
                '\t' => f.write_str("\t")?,
                _ if character.is_control() => write!(f, "{}", character.escape_default())?,
                _ => write!(f, "{character}")?,
            }
        }
        Ok(())
    }
}

/// The calling thread's number and name.
fn this_thread() -> (u32, Arc<str>) {
    // SAFETY: the call takes nothing.
    let number = unsafe { libc::gettid() };
    let current = std::thread::current();
    let name = current.name().unwrap_or("<...>");
    (number as u32, name.chars().take(15).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::new(7, 3, 1_234_567_890_123, 0, text.as_bytes())
    }

    #[test]
    fn a_line_looks_as_in_trace_pipe_and_stays_one_line() {
        let mut line = line("hello\n");
        line.task = "netkitd".into();
        line.thread = 42;
        assert_eq!(
            line.to_string(),
            "         netkitd-42      [003] .....  1234.567890: bpf_trace_printk: hello"
        );
        line.text = (*b"a\n\x1b[2Jb\xff").into();
        assert!(line.to_string().ends_with("a\\n\\u{1b}[2Jb\u{fffd}"));
    }

    #[test]
    fn readers_go_on_where_they_stopped_and_learn_what_they_missed() {
        let log = TraceLog::default();
        log.write(line("one"));
        log.write(line("two"));
        let batch = log.read_from(0);
        assert_eq!((batch.lines.len(), batch.next, batch.lost), (2, 2, 0));
        assert_eq!(log.end(), 2);
        for _ in 0..LINES_MAX {
            log.write(line(""));
        }
        let batch = log.read_from(1);
        assert_eq!((batch.lines.len(), batch.lost), (BATCH, 1));
        assert_eq!(batch.next, 2 + BATCH as u64);
        let behind = log.read_from(u64::MAX);
        assert_eq!((behind.lines.len(), behind.lost), (0, 0));
        assert_eq!(behind.next, log.end(), "a made-up number leads back to the end");
    }

    #[test]
    fn lines_that_were_suppressed_are_told() {
        let log = TraceLog::default();
        log.write(Line {
            suppressed: 9,
            ..line("")
        });
        assert_eq!(log.read_from(0).lost, 9);
    }

    #[test]
    fn the_log_does_not_grow_beyond_its_octets() {
        let log = TraceLog::default();
        let long = line(&"x".repeat(1023));
        for _ in 0..10_000 {
            log.write(long.clone());
        }
        let lines = log.lock();
        assert!(lines.octets <= OCTETS_MAX);
        assert_eq!(lines.first + lines.kept.len() as u64, 10_000);
        assert_eq!(lines.kept.len(), OCTETS_MAX / long.text.len());
    }
}
