//! Plugging a whole NIC into a guest that runs, and getting it back, through its VMM's socket.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PassedNic;
use super::cloud_hypervisor_api::Api;
use super::qmp::Qmp;

/// A VMM that hot-plugs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vmm {
    /// By QMP.
    Qemu,
    /// By its REST API.
    CloudHypervisor,
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the VMM to answer. QEMU maps and pins all of the guest's memory before it answers `device_add`.
    pub vmm: Duration,
    /// For the guest to let a device go.
    pub guest: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            vmm: Duration::from_secs(60),
            guest: Duration::from_secs(30),
        }
    }
}

/// A VMM that has answered on its socket.
#[derive(Debug)]
pub struct HotPlug(Connection);

#[derive(Debug)]
enum Connection {
    Qemu(Qmp),
    CloudHypervisor(Api),
}

impl HotPlug {
    /// Makes sure that the VMM is there; its guest does not notice.
    pub fn open(vmm: Vmm, socket: &Path, patience: Patience) -> Result<HotPlug, PlugError> {
        Ok(HotPlug(match vmm {
            Vmm::Qemu => Connection::Qemu(Qmp::connect(socket, patience)?),
            Vmm::CloudHypervisor => Connection::CloudHypervisor(Api::open(socket, patience)?),
        }))
    }

    /// Gives the NIC to the guest.
    pub fn plug(&mut self, nic: &PassedNic) -> Result<(), PlugError> {
        match &mut self.0 {
            Connection::Qemu(qmp) => qmp.plug(nic),
            Connection::CloudHypervisor(api) => api.plug(nic),
        }
    }

    /// Asks the guest for the device of this id, and returns when the VMM has let it go.
    pub fn unplug(&mut self, id: &str) -> Result<(), PlugError> {
        match &mut self.0 {
            Connection::Qemu(qmp) => qmp.unplug(id),
            Connection::CloudHypervisor(api) => api.unplug(id),
        }
    }
}

/// Why a NIC was not plugged in, or did not come back.
#[derive(Debug, thiserror::Error)]
pub enum PlugError {
    /// There is no VMM.
    #[error(
        "cannot connect to {vmm} at {socket:?}: {source}; is it running, and is this its {} socket?",
        .vmm.interface()
    )]
    Connect {
        /// Which.
        vmm: Vmm,
        /// Its socket.
        socket: PathBuf,
        /// What connect(2) said.
        source: io::Error,
    },
    /// What answers is something else.
    #[error(
        "what answers at {socket:?} is not {vmm}: {said:?}; give the path of its {} socket",
        .vmm.interface()
    )]
    NotThisVmm {
        /// Which was expected.
        vmm: Vmm,
        /// The socket.
        socket: PathBuf,
        /// The beginning of what it said.
        said: String,
    },
    /// The VMM said no; nothing has changed.
    #[error("{vmm} refuses {command}: {reason}")]
    Refused {
        /// Which.
        vmm: Vmm,
        /// What it was asked.
        command: &'static str,
        /// In its words.
        reason: String,
    },
    /// Whether the VMM did what it was asked is unknown.
    #[error(
        "{vmm} at {socket:?} did not answer {command} within {after:?}: is it stopped, or is another client connected?"
    )]
    Timeout {
        /// Which.
        vmm: Vmm,
        /// Its socket.
        socket: PathBuf,
        /// What it was asked.
        command: &'static str,
        /// The limit.
        after: Duration,
    },
    /// Whether the VMM did what it was asked is unknown.
    #[error("the connection to {vmm} broke during {command}: {source}")]
    Broken {
        /// Which.
        vmm: Vmm,
        /// What it was asked.
        command: &'static str,
        /// What the connection said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The guest keeps the device.
    #[error(
        "the guest has not released {id} within {after:?}: if its system is up and can hot-unplug, try again; else \
         end the guest"
    )]
    Kept {
        /// The device.
        id: String,
        /// The limit.
        after: Duration,
    },
    /// The guest refused to give the device back.
    #[error("the guest refuses to release {id}: end what uses the NIC there, then try again")]
    GuestRefused {
        /// The device.
        id: String,
    },
}

impl PlugError {
    /// Whether the VMM said no.
    pub fn is_refusal(&self) -> bool {
        matches!(self, PlugError::Refused { .. })
    }

    /// Whether it is certain that the VMM did not take the device.
    pub fn left_nothing(&self) -> bool {
        self.is_refusal() || matches!(self, PlugError::Connect { .. } | PlugError::NotThisVmm { .. })
    }
}

impl Vmm {
    fn interface(self) -> &'static str {
        match self {
            Vmm::Qemu => "QMP",
            Vmm::CloudHypervisor => "API",
        }
    }
}

impl std::fmt::Display for Vmm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Vmm::Qemu => "QEMU",
            Vmm::CloudHypervisor => "cloud-hypervisor",
        })
    }
}
