//! What speaks against taking a PCI NIC from the host, looked at before anything is changed.

use std::fs::OpenOptions;
use std::io;

use super::sysfs::{list, read};
use super::{PciAddress, PciDevice, Sysfs, VFIO_DRIVER};

/// Memory that is locked for a NIC with eight queues, in octets.
const LOCKED_MEMORY: u64 = 16 << 20;
/// `CAP_IPC_LOCK`, for whose holders the limit does not count.
const CAP_IPC_LOCK: u32 = 14;
/// `RTF_UP` of `linux/route.h`.
const ROUTE_UP: u32 = 1;

/// What is known before a NIC is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// What forbids it.
    pub refusals: Vec<Objection>,
    /// What is good to know.
    pub warnings: Vec<String>,
}

/// Why a NIC is not to be taken, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Nothing is there.
    #[error("there is no PCI device {0}; lspci -D lists what there is")]
    Missing(PciAddress),
    /// It is something else.
    #[error("{address} is not a network controller (class {class:#08x}); lspci -D -d ::02xx lists those")]
    NotANic {
        /// The device.
        address: PciAddress,
        /// Its class.
        class: u32,
    },
    /// Nothing keeps it out of the host's memory.
    #[error(
        "{0} has no IOMMU in front of it; turn it on in the firmware (VT-d, AMD-Vi) and with intel_iommu=on or \
         amd_iommu=on on the kernel's command line"
    )]
    NoIommu(PciAddress),
    /// Others of its group belong to the host.
    #[error(
        "{address} cannot be kept apart from {siblings}; bind all of them to vfio-pci, or put the NIC into another slot"
    )]
    Siblings {
        /// The device.
        address: PciAddress,
        /// The others, with their drivers.
        siblings: String,
    },
    /// The host would lose its way out.
    #[error("{0} holds the host's default route; take another NIC, or move the route first")]
    DefaultRoute(String),
    /// The host would lose addresses.
    #[error("{0} is up and has addresses or routes of the host's; take it down first: ip link set {0} down")]
    Addressed(String),
    /// Other netdevs are built on it.
    #[error("{upper} is built on {netdev}; take {netdev} out of it first")]
    Upper {
        /// The NIC's netdev.
        netdev: String,
        /// The netdev above.
        upper: String,
    },
    /// This daemon uses it another way.
    #[error("{netdev} is the NIC of uplink {uplink}; delete that one first")]
    Uplink {
        /// The NIC's netdev.
        netdev: String,
        /// The uplink.
        uplink: String,
    },
    /// The kernel's side is missing.
    #[error("the host's driver vfio-pci is not loaded: modprobe vfio-pci")]
    NoVfio,
    /// Memory cannot be locked.
    #[error(
        "{limit} octets of memory may be locked, {LOCKED_MEMORY} are needed; set LimitMEMLOCK=infinity in netkitd's \
         unit, or ulimit -l"
    )]
    LockedMemory {
        /// The limit.
        limit: u64,
    },
    /// Someone else drives it.
    #[error("{0} is driven by another program over VFIO; stop that one first")]
    InUse(PciAddress),
}

/// Looks at a NIC that is to be taken. `uplinks` are the netdevs that this daemon uses already, each with its uplink's name.
pub fn preflight(sysfs: &Sysfs, address: &PciAddress, uplinks: &[(&str, &str)]) -> Preflight {
    let mut found = Preflight::default();
    let Some(device) = sysfs.device(address) else {
        found.refusals.push(Objection::Missing(*address));
        return found;
    };
    if !device.is_nic() {
        found.refusals.push(Objection::NotANic {
            address: *address,
            class: device.class,
        });
        return found;
    }
    group(sysfs, &device, &mut found);
    for netdev in &device.netdevs {
        on_netdev(sysfs, netdev, uplinks, &mut found);
    }
    if !sysfs.path(format!("sys/bus/pci/drivers/{VFIO_DRIVER}")).exists() {
        found.refusals.push(Objection::NoVfio);
    }
    found.refusals.extend(locked_memory(sysfs));
    warnings(sysfs, &device, &mut found);
    found
}

fn group(sysfs: &Sysfs, device: &PciDevice, found: &mut Preflight) {
    let Some(group) = device.iommu_group else {
        found.refusals.push(Objection::NoIommu(device.address));
        return;
    };
    let siblings: Vec<String> = device
        .siblings
        .iter()
        .filter_map(|sibling| Some((sibling, sysfs.device(sibling)?.driver?)))
        .filter(|(_, driver)| driver != VFIO_DRIVER && driver != "pci-stub")
        .map(|(sibling, driver)| format!("{sibling} (driver {driver})"))
        .collect();
    if !siblings.is_empty() {
        found.refusals.push(Objection::Siblings {
            address: device.address,
            siblings: siblings.join(", "),
        });
    }
    if device.driver.as_deref() == Some(VFIO_DRIVER) {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(sysfs.path(format!("dev/vfio/{group}")));
        found
            .refusals
            .extend(in_use(device.address, opened.err().as_ref()));
    }
}

/// A group can be open once only.
fn in_use(address: PciAddress, error: Option<&io::Error>) -> Option<Objection> {
    (error?.raw_os_error() == Some(libc::EBUSY)).then_some(Objection::InUse(address))
}

fn on_netdev(sysfs: &Sysfs, netdev: &str, uplinks: &[(&str, &str)], found: &mut Preflight) {
    let directory = sysfs.path("sys/class/net").join(netdev);
    if let Some((_, uplink)) = uplinks.iter().find(|(name, _)| *name == netdev) {
        found.refusals.push(Objection::Uplink {
            netdev: netdev.to_owned(),
            uplink: (*uplink).to_owned(),
        });
    }
    for name in list(&directory) {
        if let Some(upper) = name.strip_prefix("upper_") {
            found.refusals.push(Objection::Upper {
                netdev: netdev.to_owned(),
                upper: upper.to_owned(),
            });
        }
    }
    let is_up = read(directory.join("flags"))
        .and_then(|flags| u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok())
        .is_none_or(|flags| flags & libc::IFF_UP as u32 != 0);
    if !is_up {
        return;
    }
    if routes(sysfs, netdev).any(|is_default| is_default) {
        found.refusals.push(Objection::DefaultRoute(netdev.to_owned()));
    } else if routes(sysfs, netdev).next().is_some() || has_ipv6_address(sysfs, netdev) {
        found.refusals.push(Objection::Addressed(netdev.to_owned()));
    } else {
        found.warnings.push(format!("{netdev} disappears from the host"));
    }
}

/// The host's routes through a netdev, each with whether it is a default route; those of an address are among them.
fn routes(sysfs: &Sysfs, netdev: &str) -> impl Iterator<Item = bool> {
    // Interface, destination, gateway, flags, reference count, use, metric, mask; after a line of names.
    let ipv4 = fields(sysfs, "proc/net/route")
        .into_iter()
        .skip(1)
        .filter_map(|line| {
            let is_up = u32::from_str_radix(line.get(3)?, 16).ok()? & ROUTE_UP != 0;
            let is_default = line.get(1)? == "00000000" && line.get(7)? == "00000000";
            is_up.then(|| (line.first().cloned().unwrap_or_default(), is_default))
        });
    // Destination, its length, source, its length, next hop, metric, reference count, use, flags, interface.
    let ipv6 = fields(sysfs, "proc/net/ipv6_route")
        .into_iter()
        .filter_map(|line| {
            let is_default = line.get(1)? == "00" && line.first()?.bytes().all(|digit| digit == b'0');
            // Every netdev has routes for link-local addresses and groups.
            is_default.then(|| (line.last().cloned().unwrap_or_default(), true))
        });
    let netdev = netdev.to_owned();
    ipv4.chain(ipv6)
        .filter(move |(name, _)| *name == netdev)
        .map(|(_, is_default)| is_default)
}

/// Whether a netdev has an IPv6 address that others than its neighbours know (scope 0: global).
fn has_ipv6_address(sysfs: &Sysfs, netdev: &str) -> bool {
    // Address, ifindex, length of the prefix, scope, flags, interface.
    fields(sysfs, "proc/net/if_inet6").iter().any(|line| {
        line.get(3).is_some_and(|scope| scope == "00") && line.last().is_some_and(|name| name == netdev)
    })
}

fn fields(sysfs: &Sysfs, path: &str) -> Vec<Vec<String>> {
    let text = read(sysfs.path(path)).unwrap_or_default();
    text.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// The limit of locked memory, if it counts for us and is too low.
fn locked_memory(sysfs: &Sysfs) -> Option<Objection> {
    let status = fields(sysfs, "proc/self/status");
    let capabilities = status
        .iter()
        .find(|line| line.first().is_some_and(|name| name == "CapEff:"))?;
    let capabilities = u64::from_str_radix(capabilities.get(1)?, 16).ok()?;
    if capabilities & 1 << CAP_IPC_LOCK != 0 {
        return None;
    }
    // "Max locked memory", soft limit, hard limit, unit.
    let limits = read(sysfs.path("proc/self/limits"))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    let limit = line.split_whitespace().next()?.parse().ok()?; // "unlimited" is none.
    (limit < LOCKED_MEMORY).then_some(Objection::LockedMemory { limit })
}

fn warnings(sysfs: &Sysfs, device: &PciDevice, found: &mut Preflight) {
    if device.reset_methods.is_empty() {
        found.warnings.push(format!(
            "{} cannot be reset by the host: what is in its registers stays there",
            device.address
        ));
    }
    let functions = read(sysfs.directory(&device.address).join("sriov_numvfs"));
    if functions.is_some_and(|count| count != "0") {
        found.warnings.push(format!(
            "the virtual functions of {} disappear with its driver",
            device.address
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_open_is_in_use() {
        let address = "03:00.0".parse().unwrap();
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        assert_eq!(in_use(address, Some(&busy)), Some(Objection::InUse(address)));
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(in_use(address, Some(&denied)), None);
        assert_eq!(in_use(address, None), None);
    }
}
