//! Printing what keeps coming, until an interrupt or a reader that has seen enough ends it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;

/// How long to wait when there was nothing.
const INTERVAL: Duration = Duration::from_millis(100);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// One thing that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Lines for a person.
    pub text: String,
    /// An element of the JSON array.
    pub json: Value,
}

/// Whether to go on after the first look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Until {
    #[default]
    Interrupted,
    Once,
}

/// Prints what `poll` returns.
pub fn follow(
    until: Until,
    options: Options,
    mut poll: impl FnMut() -> Result<Vec<Item>, Error>,
) -> Result<Output, Error> {
    if until == Until::Once {
        let (text, json): (Vec<_>, Vec<_>) = poll()?.into_iter().map(|item| (item.text, item.json)).unzip();
        return match options.json {
            true => Output::json(&json, options),
            false => Ok(Output::text(text.concat())),
        };
    }
    if options.json {
        catch_interrupts();
    }
    let mut printer = Printer {
        out: io::stdout().lock(),
        json: options.json,
        items: 0,
    };
    match printer.print_until(&INTERRUPTED, poll) {
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Output::nothing()),
        Err(error) => Err(error),
        Ok(()) => Ok(Output::nothing()),
    }
}

/// A signal only ends the loop, so that the JSON array is closed.
fn catch_interrupts() {
    extern "C" fn interrupt(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let handler = interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler stores to an atomic, which is allowed at any time.
        unsafe { libc::signal(signal, handler) };
    }
}

struct Printer<W> {
    out: W,
    json: bool,
    items: usize,
}

impl<W: Write> Printer<W> {
    fn print_until(
        &mut self,
        interrupted: &AtomicBool,
        mut poll: impl FnMut() -> Result<Vec<Item>, Error>,
    ) -> Result<(), Error> {
        if self.json {
            self.out.write_all(b"[").map_err(Error::Output)?;
        }
        let mut ended = Ok(());
        while ended.is_ok() && !interrupted.load(Ordering::Relaxed) {
            match poll() {
                Ok(items) if items.is_empty() => std::thread::sleep(INTERVAL),
                Ok(items) => self.print(&items)?,
                Err(error) => ended = Err(error),
            }
        }
        if self.json {
            self.out.write_all(b"]\n").map_err(Error::Output)?;
        }
        ended
    }

    fn print(&mut self, items: &[Item]) -> Result<(), Error> {
        for item in items {
            let text = match (self.json, self.items) {
                (false, _) => item.text.clone(),
                (true, 0) => item.json.to_string(),
                (true, _) => format!(",{}", item.json),
            };
            self.items += 1;
            self.out.write_all(text.as_bytes()).map_err(Error::Output)?;
        }
        self.out.flush().map_err(Error::Output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u32) -> Item {
        Item {
            text: format!("item {number}\n"),
            json: number.into(),
        }
    }

    /// Prints what comes until there is an interrupt after the fourth look.
    fn printed(json: bool) -> String {
        let interrupted = AtomicBool::new(false);
        let mut looks = 0;
        let poll = || {
            looks += 1;
            interrupted.store(looks == 4, Ordering::Relaxed);
            Ok(match looks {
                2 => vec![item(1), item(2)],
                4 => vec![item(3)],
                _ => vec![],
            })
        };
        let mut printer = Printer {
            out: Vec::new(),
            json,
            items: 0,
        };
        printer.print_until(&interrupted, poll).expect("it is written");
        String::from_utf8(printer.out).expect("text")
    }

    #[test]
    fn what_comes_is_printed_until_an_interrupt() {
        assert_eq!(printed(false), "item 1\nitem 2\nitem 3\n");
        assert_eq!(printed(true), "[1,2,3]\n");
    }

    #[test]
    fn an_array_is_closed_when_the_daemon_ends() {
        let mut printer = Printer {
            out: Vec::new(),
            json: true,
            items: 0,
        };
        let ended = printer.print_until(&AtomicBool::new(false), || Err(Error::NotPinned("m".into())));
        assert!(matches!(ended, Err(Error::NotPinned(_))));
        assert_eq!(printer.out, b"[]\n");
    }

    #[test]
    fn once_is_one_look() {
        let text = follow(Until::Once, Options::default(), || Ok(vec![item(1), item(2)]));
        assert_eq!(text.expect("printed").text, "item 1\nitem 2\n");
        let options = Options {
            json: true,
            ..Options::default()
        };
        let json = follow(Until::Once, options, || Ok(vec![item(1), item(2)]));
        assert_eq!(json.expect("printed").text, "[1,2]\n");
    }
}
