//! cloud-hypervisor in an outer guest: its files there, and the command that boots a nested guest.

use super::config::{KERNEL_ARGS, Place};
use super::nested::agent_line;
use super::{GuestFile, Kernel, Result, image, outer};
use std::path::Path;

/// Where it is in the outer guest.
const PROGRAM: &str = "/usr/bin/cloud-hypervisor";

/// A machine of cloud-hypervisor has one serial port only: the agent gets the virtio console for its second one.
const BOOT_SCRIPT: &str = "modprobe -q virtio_console\nln -sf hvc0 /dev/ttyS1\n";

/// `binary` with its libraries, and an initramfs for its guests, which is made in `directory`.
pub fn files(binary: &Path, directory: &Path) -> Result<Vec<GuestFile>> {
    let script = GuestFile::bytes(BOOT_SCRIPT, "/boot.sh", 0o644);
    let initramfs = image::initramfs_with(Kernel::Stable, &[script], directory)?;
    let mut files = outer::files_of_binary_as(binary, PROGRAM)?;
    files.push(GuestFile::new(initramfs, outer::INITRAMFS, 0o644));
    Ok(files)
}

/// The shell command of a guest whose memory and cards are what `vm_args` say, quoted for a shell already.
///
/// The serial port is the kernel's log, the virtio console is the agent's line.
pub(super) fn command(place: &Place, line: usize, vm_args: &str) -> String {
    let (kernel, initramfs) = (place.kernel.display(), place.initramfs.display());
    let (console, messages) = (place.console(), place.messages());
    let (console, messages) = (console.display(), messages.display());
    let agent = agent_line(line);
    format!(
        "{PROGRAM} --kernel {kernel} --initramfs {initramfs} --cmdline 'console=ttyS0 {KERNEL_ARGS}' \
         --serial file={console} --console tty {} <{agent} >{agent} 2>{messages}",
        vm_args.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_boots_the_nested_image_with_the_given_card() {
        let place = Place {
            directory: "/run/nested1".into(),
            kernel: "/guest/vmlinuz".into(),
            initramfs: "/guest/initramfs.cpio".into(),
            agent_chardev: String::new(),
        };
        let command = command(
            &place,
            1,
            "--memory size=512M,shared=on --net 'socket=/run/a b'\n",
        );
        let (machine, net) = command.split_once(" --memory ").unwrap();
        assert_eq!(
            machine,
            format!(
                "/usr/bin/cloud-hypervisor --kernel /guest/vmlinuz --initramfs /guest/initramfs.cpio \
                 --cmdline 'console=ttyS0 {KERNEL_ARGS}' --serial file=/run/nested1/console.log --console tty"
            )
        );
        assert_eq!(
            net,
            "size=512M,shared=on --net 'socket=/run/a b' </dev/hvc1 >/dev/hvc1 2>/run/nested1/qemu.log"
        );
    }
}
