//! QEMU's monitor: commands and events, each a line of JSON.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hot_plug::{Patience, PlugError, Vmm};
use super::{PassedNic, qemu};

/// The longest message that is read, in octets; those that are expected have some hundred.
const MESSAGE_LIMIT: u64 = 1 << 20;

/// How much of an unexpected message is shown.
const SHOWN: usize = 80;

/// A monitor that takes commands.
#[derive(Debug)]
pub struct Qmp {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    patience: Patience,
    /// What came before the answer to a command.
    events: Vec<Value>,
}

impl Qmp {
    /// Waits for the greeting, and leaves the mode in which only capabilities are negotiated.
    pub fn connect(socket: &Path, patience: Patience) -> Result<Qmp, PlugError> {
        let stream = UnixStream::connect(socket).map_err(|source| PlugError::Connect {
            vmm: Vmm::Qemu,
            socket: socket.to_owned(),
            source,
        })?;
        let mut qmp = Qmp {
            socket: socket.to_owned(),
            stream: BufReader::new(stream),
            patience,
            events: Vec::new(),
        };
        let greeting = qmp.message("the greeting", patience.vmm, Instant::now() + patience.vmm)?;
        if greeting.get("QMP").is_none() {
            return Err(qmp.not_qmp(&greeting.to_string()));
        }
        qmp.execute("qmp_capabilities", &json!({"execute": "qmp_capabilities"}))?;
        Ok(qmp)
    }

    pub fn plug(&mut self, nic: &PassedNic) -> Result<(), PlugError> {
        self.execute("device_add", &qemu::device_add(nic))
    }

    /// `device_del` only asks the guest; an event says what came of it.
    pub fn unplug(&mut self, id: &str) -> Result<(), PlugError> {
        match self.execute("device_del", &qemu::device_del(id)) {
            // Asked before, and still waited for.
            Err(PlugError::Refused { reason, .. }) if reason.contains("already in the process of unplug") => {
            }
            asked => asked?,
        }
        let after = self.patience.guest;
        let deadline = Instant::now() + after;
        loop {
            for event in std::mem::take(&mut self.events) {
                if event["data"]["device"] == id {
                    match event["event"].as_str() {
                        Some("DEVICE_DELETED") => return Ok(()),
                        Some("DEVICE_UNPLUG_GUEST_ERROR") => {
                            return Err(PlugError::GuestRefused { id: id.to_owned() });
                        }
                        _ => {}
                    }
                }
            }
            match self.message("device_del", after, deadline) {
                Ok(event) => self.events.push(event),
                Err(PlugError::Timeout { .. }) => {
                    return Err(PlugError::Kept {
                        id: id.to_owned(),
                        after,
                    });
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn execute(&mut self, command: &'static str, request: &Value) -> Result<(), PlugError> {
        let line = format!("{request}\n");
        let written = self.stream.get_mut().write_all(line.as_bytes());
        written.map_err(|error| broken(command, error))?;
        let deadline = Instant::now() + self.patience.vmm;
        loop {
            let message = self.message(command, self.patience.vmm, deadline)?;
            if message.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = message.get("error") {
                return Err(refused(command, error));
            }
            self.events.push(message);
        }
    }

    fn message(
        &mut self,
        command: &'static str,
        after: Duration,
        deadline: Instant,
    ) -> Result<Value, PlugError> {
        let timed_out = |socket: &Path| PlugError::Timeout {
            vmm: Vmm::Qemu,
            socket: socket.to_owned(),
            command,
            after,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out(&self.socket));
        }
        let mut line = Vec::new();
        let read = self.stream.get_ref().set_read_timeout(Some(left)).and_then(|()| {
            (&mut self.stream)
                .take(MESSAGE_LIMIT)
                .read_until(b'\n', &mut line)
        });
        match read {
            Ok(0) => Err(broken(command, io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_slice(&line).map_err(|_| self.not_qmp(&String::from_utf8_lossy(&line))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(timed_out(&self.socket))
            }
            Err(error) => Err(broken(command, error)),
        }
    }

    fn not_qmp(&self, said: &str) -> PlugError {
        PlugError::NotThisVmm {
            vmm: Vmm::Qemu,
            socket: self.socket.clone(),
            said: said.trim().chars().take(SHOWN).collect(),
        }
    }
}

fn broken(command: &'static str, source: io::Error) -> PlugError {
    PlugError::Broken {
        vmm: Vmm::Qemu,
        command,
        source: source.into(),
    }
}

fn refused(command: &'static str, error: &Value) -> PlugError {
    let mut reason = match error["desc"].as_str() {
        Some(text) => text.to_owned(),
        None => error.to_string(),
    };
    if reason.contains("does not support hotplugging") {
        // q35's root bus.
        reason += "; name a free pcie-root-port of the guest with \"bus ID\"";
    } else if error["class"] == "DeviceNotFound" {
        reason += "; name it with \"id ID\", or leave the socket out if the guest has let it go";
    }
    PlugError::Refused {
        vmm: Vmm::Qemu,
        command,
        reason,
    }
}
