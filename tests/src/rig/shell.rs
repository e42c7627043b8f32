//! What runs shell commands: a guest, or a guest nested in one.

use super::{Error, Result, time};
use std::time::Duration;

/// Runs shell commands in a guest.
pub trait Shell {
    /// The guest's name, for messages.
    fn name(&self) -> &str;

    /// Runs `command` (a script for `sh`), waiting at most `limit` for it to end.
    fn run_within(&self, command: &str, limit: Duration) -> Result<Output>;

    /// Runs `command` with the usual limit.
    fn run(&self, command: &str) -> Result<Output> {
        self.run_within(command, time::COMMAND)
    }

    /// Runs `command`, which must end with status 0, and gives its output.
    fn check(&self, command: &str) -> Result<String> {
        let output = self.run(command)?;
        match output.status {
            0 => Ok(output.stdout),
            status => Err(Error::CommandFailed {
                guest: self.name().into(),
                command: command.into(),
                status,
                output: output.stdout,
            }),
        }
    }

    /// Starts `command` in the background; gives the path, in the guest, of the log with its output.
    fn spawn(&self, command: &str) -> Result<String> {
        let spool = "mkdir -p /run/spawned; log=$(mktemp /run/spawned/XXXXXX)";
        let script = format!("{spool}\ncat >$log.sh <<'END-OF-COMMAND'\n{command}\nEND-OF-COMMAND\n");
        let start = "nohup setsid sh $log.sh </dev/null >$log 2>&1 &\necho $log";
        self.check(&format!("{script}{start}"))
            .map(|log| log.trim().to_string())
    }

    /// Gives `device` its addresses (with prefix length) and brings it up.
    fn set_up(&self, device: &str, addresses: &[&str]) -> Result<()> {
        let mut script = format!("set -e\nip link set {device} up\n");
        for address in addresses {
            // Duplicate address detection would keep an IPv6 address unusable for a second.
            let nodad = if address.contains(':') { "nodad" } else { "" };
            script += &format!("ip address replace {address} dev {device} {nodad}\n");
        }
        self.check(&script).map(drop)
    }
}

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status; 128 + n when signal n ended it.
    pub status: i32,
    /// Standard output and standard error, as they came.
    pub stdout: String,
}
