//! A guest that plays the host: netkit, KVM and VFIO in its kernel, VMM and daemon among its files.

use super::libraries::libraries;
use super::{Accel, Guest, GuestConfig, GuestFile, Kernel, Result, Shell, image};
use std::path::{Path, PathBuf};

/// Where the nested guests' kernel and initramfs are in the outer guest.
pub const KERNEL: &str = "/guest/vmlinuz";
pub const INITRAMFS: &str = "/guest/initramfs.cpio";

/// Where the VMM and its firmware are in the outer guest.
pub const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const FIRMWARE: [&str; 4] = ["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin", "qboot.rom"];
const FIRMWARE_DIRECTORIES: [&str; 3] = ["/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu"];

/// A host for nested guests: add files and cards to it, then start it.
pub fn config(name: impl Into<String>) -> Result<GuestConfig> {
    let mut config = GuestConfig::new(name)
        .kernel(Kernel::Host)
        .memory_mib(3072)
        .cpus(2)
        .files(nested_qemu_files()?);
    // Only the translator's processor offers the guest virtualization everywhere.
    config.accel = Accel::Tcg;
    config.nested = 2;
    Ok(config)
}

/// Starts it, and loads KVM once it has booted.
pub fn start(config: GuestConfig) -> Result<Guest> {
    let guest = Guest::start(config)?;
    guest.check("modprobe kvm_amd && test -c /dev/kvm")?;
    Ok(guest)
}

/// A binary under the same path, with all libraries that it needs.
pub fn files_of_binary(binary: impl AsRef<Path>) -> Result<Vec<GuestFile>> {
    let path = binary.as_ref().display().to_string();
    files_of_binary_as(binary, &path)
}

/// A binary under another path, with all libraries that it needs.
pub fn files_of_binary_as(binary: impl AsRef<Path>, path: &str) -> Result<Vec<GuestFile>> {
    let binary = binary.as_ref();
    let mut files = vec![GuestFile::new(binary, path, 0o755)];
    for library in libraries(binary)? {
        files.push(GuestFile::new(&library, library.display().to_string(), 0o755));
    }
    Ok(files)
}

/// QEMU with its libraries and firmware, and the kernel and initramfs for the nested guests.
pub fn nested_qemu_files() -> Result<Vec<GuestFile>> {
    let mut files = files_of_binary(QEMU)?;
    for name in FIRMWARE {
        // Versions of QEMU differ in what they ship.
        if let Some(path) = find_firmware(name) {
            files.push(GuestFile::new(path, format!("/usr/share/qemu/{name}"), 0o644));
        }
    }
    files.push(GuestFile::new(image::kernel(Kernel::Stable)?, KERNEL, 0o644));
    files.push(GuestFile::new(
        image::initramfs(Kernel::Stable)?,
        INITRAMFS,
        0o644,
    ));
    Ok(files)
}

fn find_firmware(name: &str) -> Option<PathBuf> {
    FIRMWARE_DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}
