//! What a guest is made of, and the QEMU command line that says it.

use super::{GuestFile, Nic};
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A guest to be started.
#[derive(Debug, Clone)]
pub struct GuestConfig {
    /// Its name, for messages; unique addresses are derived from it.
    pub name: String,
    /// Which kernel it boots.
    pub kernel: Kernel,
    /// Its memory, which is shared with vhost-user backends.
    pub memory_mib: u32,
    /// Its virtual CPUs.
    pub cpus: u32,
    /// Its cards, `eth0` first.
    pub nics: Vec<Nic>,
    /// What executes its code.
    pub accel: Accel,
    /// Further QEMU arguments.
    pub extra_args: Vec<String>,
    /// Further words for the kernel's command line.
    pub kernel_args: String,
    /// Files to add to its file system.
    pub initrd_extra: Vec<GuestFile>,
    /// How many guests may be nested in it, each with an agent line to the host.
    pub nested: u32,
    /// Whether an IOMMU stands between its cards and its memory, so that it can give them to VFIO.
    pub iommu: bool,
}

/// The kernels of the guest image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The release's cloud kernel.
    Stable,
    /// The newest kernel of the release (backports): with netkit, KVM and VFIO.
    Host,
}

/// What executes the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// QEMU's translator: slow, but works everywhere.
    Tcg,
    /// The machine's /dev/kvm.
    Kvm,
}

impl Default for Accel {
    /// `NETKIT_GUEST_ACCEL=kvm` on a machine whose KVM boots stock kernels; the translator otherwise.
    fn default() -> Accel {
        if env::var_os("NETKIT_GUEST_ACCEL").is_some_and(|name| name == "kvm") {
            Accel::Kvm
        } else {
            Accel::Tcg
        }
    }
}

impl GuestConfig {
    /// A small guest without a card.
    pub fn new(name: impl Into<String>) -> GuestConfig {
        GuestConfig {
            name: name.into(),
            kernel: Kernel::Stable,
            memory_mib: 256,
            cpus: 1,
            nics: Vec::new(),
            accel: Accel::default(),
            extra_args: Vec::new(),
            kernel_args: String::new(),
            initrd_extra: Vec::new(),
            nested: 0,
            iommu: false,
        }
    }

    pub fn kernel(mut self, kernel: Kernel) -> GuestConfig {
        self.kernel = kernel;
        self
    }

    pub fn memory_mib(mut self, memory_mib: u32) -> GuestConfig {
        self.memory_mib = memory_mib;
        self
    }

    pub fn cpus(mut self, cpus: u32) -> GuestConfig {
        self.cpus = cpus;
        self
    }

    /// Adds a card.
    pub fn nic(mut self, nic: Nic) -> GuestConfig {
        self.nics.push(nic);
        self
    }

    /// Puts an IOMMU into the machine, which remaps interrupts, too: VFIO wants both.
    pub fn iommu(mut self) -> GuestConfig {
        self.iommu = true;
        self
    }

    /// Adds QEMU arguments.
    pub fn args<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> GuestConfig {
        self.extra_args.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds files to the guest.
    pub fn files(mut self, files: impl IntoIterator<Item = GuestFile>) -> GuestConfig {
        self.initrd_extra.extend(files);
        self
    }

    /// The PCI address of card `index`.
    pub fn pci_address(index: usize) -> String {
        format!("0000:00:{:02x}.0", FIRST_NIC_SLOT + index)
    }

    /// The address of card `index` unless it is given one.
    pub(super) fn mac(&self, index: usize) -> String {
        let hash = self.name.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let [_, a, b, c] = hash.to_be_bytes();
        format!("52:54:{a:02x}:{b:02x}:{c:02x}:{index:02x}")
    }

    /// QEMU's arguments, with the guest's files where `place` says.
    pub(super) fn arguments(&self, place: &Place) -> Vec<String> {
        let (memory, name) = (self.memory_mib, &self.name);
        let (accel, cpu) = match self.accel {
            Accel::Tcg => ("tcg,thread=multi", "max"),
            Accel::Kvm => ("kvm", "host"),
        };
        let iommu_args = if self.iommu { "intel_iommu=on " } else { "" };
        let kernel_args = &self.kernel_args;
        let pairs = [
            ("-name", name.clone()),
            (
                "-machine",
                "q35,memory-backend=memory,vmport=off,smbus=off,sata=off,usb=off,hpet=off,graphics=off"
                    .into(),
            ),
            ("-accel", accel.into()),
            ("-cpu", cpu.into()),
            ("-smp", self.cpus.to_string()),
            ("-m", memory.to_string()),
            (
                "-object",
                format!("memory-backend-memfd,id=memory,size={memory}M,share=on"),
            ),
            ("-kernel", place.kernel.display().to_string()),
            ("-initrd", place.initramfs.display().to_string()),
            (
                "-append",
                format!("console=ttyS0 {KERNEL_ARGS} {iommu_args}{kernel_args}"),
            ),
            ("-display", "none".into()),
            ("-serial", format!("file:{}", place.console().display())),
            ("-chardev", place.agent_chardev.clone()),
            ("-serial", "chardev:agent".into()),
            (
                "-qmp",
                format!("unix:{},server=on,wait=off", place.qmp().display()),
            ),
            (
                "-qmp",
                format!("unix:{},server=on,wait=off", place.second_qmp().display()),
            ),
        ];
        let mut arguments: Vec<String> = vec!["-nodefaults".into(), "-no-user-config".into()];
        arguments.extend(
            pairs
                .into_iter()
                .flat_map(|(option, value)| [option.into(), value]),
        );
        if self.iommu {
            // Before the cards, which look for it when they are made.
            arguments.extend(["-device".into(), "intel-iommu,intremap=on".into()]);
        }
        for (index, nic) in self.nics.iter().enumerate() {
            // Cards in slot order, so that the guest calls them eth0, eth1 and so on.
            let bus = format!("bus=pcie.0,addr={:#x}", FIRST_NIC_SLOT + index);
            arguments.extend(nic.arguments(&format!("net{index}"), &self.mac(index), &bus));
        }
        for (index, port) in HOTPLUG_PORTS.iter().enumerate() {
            let slot = FIRST_PORT_SLOT + index;
            arguments.extend([
                "-device".into(),
                format!("pcie-root-port,id={port},chassis={slot},addr={slot:#x}"),
            ]);
        }
        if self.nested > 0 {
            arguments.extend(["-device".into(), "virtio-serial-pci".into()]);
        }
        for index in 0..self.nested as usize {
            let path = place.nested_agent(index);
            let (id, path) = (format!("nested{index}"), path.display());
            arguments.extend([
                "-chardev".into(),
                format!("socket,id={id},path={path},server=on,wait=off"),
            ]);
            arguments.extend(["-device".into(), format!("virtconsole,chardev={id}")]);
        }
        arguments.extend(self.extra_args.iter().cloned());
        arguments
    }
}

/// Where one guest's files are: on the machine, or in the outer guest of a nested one.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub directory: PathBuf,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub agent_chardev: String,
}

impl Place {
    /// The log of the kernel.
    pub fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// QEMU's own messages.
    pub fn messages(&self) -> PathBuf {
        self.directory.join("qemu.log")
    }

    /// The rig's monitor.
    pub fn qmp(&self) -> PathBuf {
        self.directory.join("qmp.sock")
    }

    /// A monitor for whoever else wants to manage the guest; QEMU serves one client on each.
    pub fn second_qmp(&self) -> PathBuf {
        self.directory.join("qmp-second.sock")
    }

    /// The agent of the nested guest number `index`.
    pub fn nested_agent(&self, index: usize) -> PathBuf {
        self.directory.join(format!("nested{index}.sock"))
    }
}

/// Root ports that wait for a hot-plugged card.
pub(super) const HOTPLUG_PORTS: [&str; 2] = ["hot0", "hot1"];

const FIRST_NIC_SLOT: usize = 0x8;
const FIRST_PORT_SLOT: usize = 0x1c;

/// Shortens the boot: no delays for hardware, no defences against oneself.
pub(super) const KERNEL_ARGS: &str =
    "quiet nokaslr mitigations=off random.trust_cpu=on no_timer_check net.ifnames=0";

/// The QEMU that is used: `NETKIT_QEMU`, or the one in the path.
pub(super) fn qemu_program() -> PathBuf {
    env::var_os("NETKIT_QEMU").map_or_else(|| "qemu-system-x86_64".into(), PathBuf::from)
}

/// QEMU's version, 0.0 if it does not say.
pub(super) fn qemu_version() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let output = Command::new(qemu_program()).arg("--version").output();
        let text = output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        parse_version(&text).unwrap_or_default()
    })
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text
        .split("version ")
        .nth(1)?
        .split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_first_line() {
        assert_eq!(
            parse_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\n"),
            Some((10, 0))
        );
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn two_guests_have_different_addresses() {
        assert_ne!(GuestConfig::new("a").mac(0), GuestConfig::new("b").mac(0));
    }
}
