//! The host's end of the command agent that every guest runs on its second serial port.

use super::wire::Wire;
use super::{Error, Output, Result, time};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A connection to one guest's agent.
#[derive(Debug)]
pub struct Agent {
    guest: String,
    path: PathBuf,
    wire: Wire,
}

impl Agent {
    /// Connects to the agent's socket.
    pub fn connect(guest: &str, path: &Path) -> Result<Agent> {
        let wire = Wire::connect(path).map_err(Error::io("connect to", path))?;
        Ok(Agent {
            guest: guest.into(),
            path: path.into(),
            wire,
        })
    }

    /// Waits until the agent answers. Requests sent before it listens are lost, so they are repeated.
    pub fn greet(&mut self, deadline: Instant) -> Result<()> {
        let started = Instant::now();
        while Instant::now() < deadline {
            match self.run(":", Duration::from_secs(2)) {
                Err(Error::CommandTimeout { .. }) => continue,
                other => return other.map(drop),
            }
        }
        let console = "(the kernel booted, but the command agent does not answer)".into();
        Err(Error::BootTimeout {
            guest: self.guest.clone(),
            waited: started.elapsed(),
            console,
        })
    }

    /// Runs one command.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Output> {
        let token = new_token();
        let limit = time::scaled(limit);
        let started = Instant::now();
        let deadline = started + limit;
        self.request(&token, command, limit)?;
        // The guest kills a late command, which still answers; the extra time is for that answer.
        let grace = Duration::from_secs(3);
        // Unlike the request, which a terminal may echo.
        let mark = format!("\n={token} ");
        let Some(output) = self.receive(mark.as_bytes(), deadline + grace)? else {
            return Err(self.timeout(command, started, self.wire.ahead()));
        };
        let status = self.receive(b"\n", deadline + grace)?.unwrap_or_default();
        if started.elapsed() >= limit {
            return Err(self.timeout(command, started, &output));
        }
        let stdout = text(&output);
        match text(&status).trim().parse() {
            Ok(status) => Ok(Output { status, stdout }),
            Err(_) => Err(Error::Unintelligible {
                guest: self.guest.clone(),
                command: command.into(),
                reason: format!("the agent gave {:?} as exit status", text(&status)),
                output: stdout,
            }),
        }
    }

    /// Sends one command and forgets it: for those that no answer can follow, such as a reboot.
    pub fn send(&mut self, command: &str) -> Result<()> {
        self.request(&new_token(), command, time::COMMAND)
    }

    fn request(&mut self, token: &str, command: &str, limit: Duration) -> Result<()> {
        // The line break in front ends whatever a boot left half-sent.
        let seconds = limit.as_secs().max(1);
        let line = format!("\n{token} {seconds} {}\n", base64(command.as_bytes()));
        self.wire.send(line.as_bytes()).map_err(self.broken())
    }

    fn receive(&mut self, mark: &[u8], deadline: Instant) -> Result<Option<Vec<u8>>> {
        self.wire.receive_until(mark, deadline).map_err(self.broken())
    }

    fn broken(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io("talk to the guest's agent on", &self.path)
    }

    fn timeout(&self, command: &str, started: Instant, output: &[u8]) -> Error {
        Error::CommandTimeout {
            guest: self.guest.clone(),
            command: command.into(),
            waited: started.elapsed(),
            output: text(output),
        }
    }
}

/// A word that no command prints by chance and no earlier request used.
fn new_token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("netkit-agent-{:08x}-{count:06x}", std::process::id())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Base64 (RFC 4648, with padding), which carries any script in one line.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0, |group, i| group << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        for digit in 0..4 {
            let value = (group >> (18 - 6 * digit)) as usize % 64;
            out.push(if digit <= chunk.len() {
                char::from(DIGITS[value])
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_the_rfc_examples() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, coded) in examples {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
