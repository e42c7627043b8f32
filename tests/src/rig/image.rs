//! Where the guest's kernel and initramfs are, and how a test adds files to them.

use super::newc::{self, Newc};
use super::{Error, Kernel, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// A file that a test puts into its guest.
#[derive(Debug, Clone)]
pub struct GuestFile {
    source: Source,
    path: String,
    mode: u32,
}

#[derive(Debug, Clone)]
enum Source {
    Host(PathBuf),
    Bytes(Vec<u8>),
}

impl GuestFile {
    /// The host's file `host` (symbolic links followed) as `path` in the guest, with permissions `mode`.
    pub fn new(host: impl Into<PathBuf>, path: impl Into<String>, mode: u32) -> GuestFile {
        GuestFile {
            source: Source::Host(host.into()),
            path: path.into(),
            mode,
        }
    }

    /// The host's file under the same path and with the same permissions.
    pub fn same(host: impl Into<PathBuf>) -> Result<GuestFile> {
        let host = host.into();
        let mode = fs::metadata(&host)
            .map_err(Error::io("look at", &host))?
            .permissions()
            .mode();
        let path = host.display().to_string();
        Ok(GuestFile::new(host, path, mode))
    }

    /// A file made of `bytes`. `/boot.sh` is run by the guest before it is ready.
    pub fn bytes(bytes: impl Into<Vec<u8>>, path: impl Into<String>, mode: u32) -> GuestFile {
        GuestFile {
            source: Source::Bytes(bytes.into()),
            path: path.into(),
            mode,
        }
    }

    /// Where it is in the guest.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The directory of the guest image: `NETKIT_GUEST_DIR`, or `build/guest` in the workspace.
pub fn directory() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/guest");
    env::var_os("NETKIT_GUEST_DIR").map_or_else(built, PathBuf::from)
}

/// The kernel's file.
pub fn kernel(kernel: Kernel) -> Result<PathBuf> {
    find(match kernel {
        Kernel::Stable => "vmlinuz",
        Kernel::Host => "vmlinuz-host",
    })
}

/// The kernel's initramfs, without any test's files.
pub fn initramfs(kernel: Kernel) -> Result<PathBuf> {
    find(match kernel {
        Kernel::Stable => "initramfs.cpio",
        Kernel::Host => "initramfs-host.cpio",
    })
}

/// The initramfs of one boot: the image's own, or a new one in `directory` when there are files to add.
pub fn initramfs_with(kernel: Kernel, extra: &[GuestFile], directory: &Path) -> Result<PathBuf> {
    let base = initramfs(kernel)?;
    if extra.is_empty() {
        return Ok(base);
    }
    // The kernel unpacks archives that follow one another, each over what the earlier ones left.
    let mut bytes = fs::read(&base).map_err(Error::io("read", &base))?;
    newc::pad(&mut bytes);
    bytes.extend(archive(extra)?);
    let path = directory.join("initramfs.cpio");
    fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    Ok(path)
}

/// A cpio archive of the files; of several with one path, as libraries of several binaries are, the last.
pub fn archive(files: &[GuestFile]) -> Result<Vec<u8>> {
    let by_path: BTreeMap<&str, &GuestFile> = files.iter().map(|file| (file.path(), file)).collect();
    let mut archive = Newc::default();
    for file in by_path.into_values() {
        match &file.source {
            Source::Bytes(bytes) => archive.file(&file.path, file.mode, bytes),
            Source::Host(host) => {
                let bytes = fs::read(host).map_err(Error::io("read", host))?;
                archive.file(&file.path, file.mode, &bytes);
            }
        }
    }
    Ok(archive.finish())
}

fn find(name: &str) -> Result<PathBuf> {
    let path = directory().join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(Error::NoImage(path))
    }
}
