//! The desired state on disk: one file, replaced whole, under a lock that keeps a second daemon away.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use netkit::{Ifindex, SavedModel};
use netkit_api::{AttachmentSpec, NicSpec};
use policy::engine::SavedEngine;
use serde::{Deserialize, Serialize};

const SCHEMA: u32 = 1;
const FILE: &str = "state.json";
const LOCK: &str = "lock";
const OBJECTS: &str = "objects";

/// The state directory of this daemon.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    // Holds the lock for as long as the daemon lives, however it ends.
    _lock: File,
}

/// Everything that outlives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedState {
    /// Version of this format.
    pub schema: u32,
    /// The devices.
    pub model: SavedModel,
    /// The uplinks' NICs.
    #[serde(default)]
    pub uplinks: Vec<SavedUplink>,
    /// PCI devices that are to be given back one day.
    #[serde(default)]
    pub bindings: Vec<SavedBinding>,
    /// What stands behind them.
    pub attachments: Vec<SavedAttachment>,
    /// The loaded programs and their maps.
    #[serde(default)]
    pub programs: SavedEngine,
}

/// An uplink's NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUplink {
    /// The uplink.
    pub ifindex: Ifindex,
    /// Its NIC.
    pub nic: NicSpec,
}

/// A PCI device that was taken from the host's driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBinding {
    /// The device.
    pub address: String,
    /// The driver that it had.
    pub driver: Option<String>,
    /// It is for a guest; else for an uplink.
    pub passed: bool,
}

/// What stands behind a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedAttachment {
    /// The device.
    pub ifindex: Ifindex,
    /// What was asked for.
    pub spec: AttachmentSpec,
    /// The address that was given to the guest.
    pub guest_address: String,
    /// The virtio features that were offered: a running guest must find them again.
    pub features: u64,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {step} \"{path}\": {source}; {hint}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Another daemon uses it.
    #[error(
        "another netkitd uses the state directory \"{0}\"; end it, or give --state-dir another directory"
    )]
    Locked(PathBuf),
    /// The file is not what this daemon wrote.
    #[error(
        "the state in \"{path}\" is damaged: {reason}; restore a copy, or move the file away to start with no devices"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// Written by another version.
    #[error(
        "the state in \"{path}\" has schema version {found}, this netkitd knows {SCHEMA}; use the version that wrote it"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl StoreError {
    /// The errno of the refusal.
    pub fn errno(&self) -> i32 {
        match self {
            StoreError::Io { source, .. } if is_full(source) => libc::ENOSPC,
            _ => libc::EIO,
        }
    }
}

impl Store {
    /// Opens a state directory, making it if it does not exist.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| failed("create", dir, source))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.map_err(|source| failed("open", &path, source))?;
        // SAFETY: plain system call on a descriptor that we own.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => StoreError::Locked(dir.to_owned()),
                source => failed("lock", &path, source),
            });
        }
        Ok(Store {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// What was saved; an empty state if nothing was.
    pub fn load(&self) -> Result<SavedState, StoreError> {
        let path = self.dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SavedState::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StoreError::Corrupt {
                    path,
                    reason: error.to_string(),
                });
            }
            Err(source) => return Err(failed("read", &path, source)),
        };
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let corrupt = |error: serde_json::Error| StoreError::Corrupt {
            path: path.clone(),
            reason: error.to_string(),
        };
        let Version { schema } = serde_json::from_str(&text).map_err(corrupt)?;
        if schema != SCHEMA {
            return Err(StoreError::Schema { path, found: schema });
        }
        serde_json::from_str(&text).map_err(corrupt)
    }

    /// Replaces what was saved. A crash leaves the old state or the new one, never a mixture.
    pub fn save(&self, mut state: SavedState) -> Result<(), StoreError> {
        state.schema = SCHEMA;
        let (path, next) = (self.dir.join(FILE), self.dir.join("state.json.next"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&next)?;
            file.write_all(&serde_json::to_vec(&state)?)?;
            file.sync_all()?;
            std::fs::rename(&next, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| failed("write", &path, source))
    }

    /// Keeps an object file under the name that the state knows it by.
    pub fn save_object(&self, name: &str, octets: &[u8]) -> Result<(), StoreError> {
        let dir = self.dir.join(OBJECTS);
        let path = dir.join(name);
        if path.exists() {
            return Ok(());
        }
        let next = dir.join("next");
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&dir)?;
            let mut file = File::create(&next)?;
            file.write_all(octets)?;
            file.sync_all()?;
            std::fs::rename(&next, &path)?;
            File::open(&dir)?.sync_all()
        };
        write().map_err(|source| failed("write", &path, source))
    }

    /// An object file.
    pub fn load_object(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.dir.join(OBJECTS).join(name);
        std::fs::read(&path).map_err(|source| failed("read", &path, source))
    }

    /// Removes the object files that the state does not refer to.
    pub fn keep_objects(&self, wanted: &BTreeSet<String>) {
        let Ok(entries) = std::fs::read_dir(self.dir.join(OBJECTS)) else {
            return;
        };
        for entry in entries.flatten() {
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| wanted.contains(name))
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The error for a state that parses but makes no sense.
    pub fn corrupt(&self, reason: &dyn std::fmt::Display) -> StoreError {
        StoreError::Corrupt {
            path: self.dir.join(FILE),
            reason: reason.to_string(),
        }
    }
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> StoreError {
    let hint = match source.kind() {
        io::ErrorKind::PermissionDenied => "let netkitd's user read and write there",
        _ if is_full(&source) => "make room there; the next change that is saved saves this one too",
        _ => "see whether --state-dir names the right directory",
    };
    StoreError::Io {
        step,
        path: path.to_owned(),
        source,
        hint,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_a_second_daemon_is_kept_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.load().unwrap(), SavedState::default());
        let mut state = SavedState::default();
        state.model.last_ifindex = 7;
        store.save(state).unwrap();
        assert_eq!(store.load().unwrap().model.last_ifindex, 7);
        assert!(matches!(Store::open(dir.path()), Err(StoreError::Locked(_))));
        drop(store);
        assert!(Store::open(dir.path()).is_ok());
    }

    #[test]
    fn damaged_and_foreign_state_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for text in ["", "{", "[]", "{\"schema\":1}", "\u{fffd}"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(
                matches!(store.load(), Err(StoreError::Corrupt { .. })),
                "{text:?}"
            );
        }
        std::fs::write(dir.path().join(FILE), [0xff, 0xfe]).unwrap();
        assert!(store.load().unwrap_err().to_string().contains("damaged"));
        std::fs::write(dir.path().join(FILE), "{\"schema\":99}").unwrap();
        assert!(matches!(store.load(), Err(StoreError::Schema { found: 99, .. })));
    }
}
