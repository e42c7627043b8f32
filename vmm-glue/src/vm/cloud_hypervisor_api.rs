//! cloud-hypervisor's REST API, as much of it as hot-plugs devices.

use std::path::{Path, PathBuf};
use std::time::Instant;

use hyper::Method;
use serde_json::Value;

use super::hot_plug::{Patience, PlugError, Vmm};
use super::{PassedNic, cloud_hypervisor};
use crate::http::{Fault, exchange};

/// How often to look whether the guest has let a device go.
const INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// A VMM that has answered.
#[derive(Debug)]
pub struct Api {
    socket: PathBuf,
    patience: Patience,
}

impl Api {
    pub fn open(socket: &Path, patience: Patience) -> Result<Api, PlugError> {
        let api = Api {
            socket: socket.to_owned(),
            patience,
        };
        match api.call(&Method::GET, "vmm.ping", None) {
            Err(PlugError::Refused { reason, .. }) => Err(PlugError::NotThisVmm {
                vmm: Vmm::CloudHypervisor,
                socket: socket.to_owned(),
                said: reason,
            }),
            Err(error) => Err(error),
            Ok(_) => Ok(api),
        }
    }

    pub fn plug(&self, nic: &PassedNic) -> Result<(), PlugError> {
        let body = cloud_hypervisor::add_device(nic);
        self.call(&Method::PUT, "vm.add-device", Some(&body)).map(drop)
    }

    /// `vm.remove-device` only asks the guest; the device leaves the device tree when the guest has ejected it.
    pub fn unplug(&self, id: &str) -> Result<(), PlugError> {
        let body = cloud_hypervisor::remove_device(id);
        self.call(&Method::PUT, "vm.remove-device", Some(&body))?;
        let deadline = Instant::now() + self.patience.guest;
        loop {
            let info = self.call(&Method::GET, "vm.info", None)?;
            if info["device_tree"].get(id).is_none() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PlugError::Kept {
                    id: id.to_owned(),
                    after: self.patience.guest,
                });
            }
            std::thread::sleep(INTERVAL);
        }
    }

    fn call(&self, method: &Method, command: &'static str, body: Option<&Value>) -> Result<Value, PlugError> {
        let path = format!("/api/v1/{command}");
        let body = body.map_or(String::new(), Value::to_string);
        let answer = exchange(&self.socket, method, &path, body.as_bytes(), self.patience.vmm);
        let (status, body) = answer.map_err(|fault| self.fault(command, fault))?;
        if !status.is_success() {
            return Err(PlugError::Refused {
                vmm: Vmm::CloudHypervisor,
                command,
                reason: format!("{} ({status})", reason(&body)),
            });
        }
        // Some commands answer with nothing.
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    fn fault(&self, command: &'static str, fault: Fault) -> PlugError {
        let (vmm, socket) = (Vmm::CloudHypervisor, self.socket.clone());
        let source = match fault {
            Fault::Connect(source) => {
                return PlugError::Connect { vmm, socket, source };
            }
            Fault::Timeout => {
                return PlugError::Timeout {
                    vmm,
                    socket,
                    command,
                    after: self.patience.vmm,
                };
            }
            Fault::Runtime(source) => source.into(),
            Fault::Request(source) => source.into(),
            Fault::Broken(source) => source.into(),
        };
        PlugError::Broken { vmm, command, source }
    }
}

/// A list of messages, each the cause of the one before it, or plain text.
fn reason(body: &[u8]) -> String {
    match serde_json::from_slice::<Vec<String>>(body) {
        Ok(messages) => messages.join(": "),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}
