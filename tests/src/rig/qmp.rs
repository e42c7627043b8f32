//! A client of QEMU's machine protocol.

use super::wire::Wire;
use super::{Error, Result, time};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// A monitor connection, with the events that came in between.
#[derive(Debug)]
pub struct Qmp {
    wire: Wire,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub fn connect(path: &Path) -> Result<Qmp> {
        let wire = Wire::connect(path).map_err(Error::io("connect to", path))?;
        let mut qmp = Qmp {
            wire,
            events: VecDeque::new(),
        };
        qmp.message("its greeting", time::QMP)?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        self.wire.send(line.as_bytes()).map_err(broken(command))?;
        loop {
            let mut message = self.message(command, time::QMP)?;
            if let Some(error) = message.get("error") {
                let reason = format!(
                    "{} (arguments {arguments})",
                    error["desc"].as_str().unwrap_or("no reason given")
                );
                return Err(Error::Qmp {
                    command: command.into(),
                    reason,
                });
            }
            match message.get_mut("return") {
                Some(value) => return Ok(value.take()),
                None => self.events.push_back(message),
            }
        }
    }

    /// Waits for the event `name`, or takes one that has come already; gives its data.
    pub fn event(&mut self, name: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return Ok(self
                    .events
                    .remove(at)
                    .map_or(Value::Null, |mut event| event["data"].take()));
            }
            let message = self.message(name, deadline.saturating_duration_since(Instant::now()))?;
            self.events.push_back(message);
        }
    }

    fn message(&mut self, awaited: &str, limit: Duration) -> Result<Value> {
        let line = self
            .wire
            .receive_until(b"\n", time::deadline(limit))
            .map_err(broken(awaited))?;
        let line = line.ok_or_else(|| Error::QmpTimeout {
            awaited: awaited.into(),
            waited: limit,
        })?;
        serde_json::from_slice(&line).map_err(|error| Error::Qmp {
            command: awaited.into(),
            reason: format!("unreadable reply: {error}"),
        })
    }
}

fn broken(command: &str) -> impl FnOnce(std::io::Error) -> Error {
    let command = command.to_string();
    move |source| Error::Io {
        action: "talk to QEMU's monitor about",
        object: command,
        source,
    }
}
