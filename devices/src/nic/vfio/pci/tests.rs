//! Looking at and binding devices of a host that is made up of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const NIC: &str = "0000:03:00.0";

/// A host with one NIC, `eth1` with driver igb, to which nothing objects.
struct Host {
    root: PathBuf,
    sysfs: Sysfs,
}

impl Host {
    fn new() -> Host {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("netkit-sysfs-{}-{number}", std::process::id()));
        let host = Host {
            sysfs: Sysfs::below(&root),
            root,
        };
        host.device(NIC, "0x020000", Some("igb"));
        host.file(&device(NIC, "reset_method"), "flr bus\n");
        host.file(&device(NIC, "net/eth1/mtu"), "1500\n");
        host.file("sys/class/net/eth1/flags", "0x1003\n");
        host.file("sys/bus/pci/drivers/vfio-pci/bind", "");
        host.file("sys/bus/pci/drivers_probe", "");
        host.group(7, &[NIC]);
        host.file("proc/net/route", "Iface\tDestination\tGateway\tFlags\n");
        host.file("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
        host.file(
            "proc/self/limits",
            "Max locked memory         unlimited  unlimited  bytes\n",
        );
        host
    }

    fn device(&self, address: &str, class: &str, driver: Option<&str>) {
        self.file(&device(address, "vendor"), "0x8086\n");
        self.file(&device(address, "device"), "0x10c9\n");
        self.file(&device(address, "class"), &format!("{class}\n"));
        self.file(&device(address, "driver_override"), "(null)\n");
        if let Some(driver) = driver {
            let directory = format!("sys/bus/pci/drivers/{driver}");
            for name in ["bind", "unbind"] {
                self.file(&format!("{directory}/{name}"), "");
            }
            self.link(&device(address, "driver"), &directory);
        }
    }

    fn group(&self, number: u32, addresses: &[&str]) {
        let group = format!("sys/kernel/iommu_groups/{number}");
        for address in addresses {
            self.file(&format!("{group}/devices/{address}/x"), "");
            self.link(&device(address, "iommu_group"), &group);
        }
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let _ = fs::remove_file(self.root.join(path));
        symlink(self.root.join(to), self.root.join(path)).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    fn remove(&self, path: &str) {
        let path = self.root.join(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    fn refusals(&self) -> Vec<Objection> {
        preflight(&self.sysfs, &nic(), &[]).refusals
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn nic() -> PciAddress {
    NIC.parse().unwrap()
}

fn device(address: &str, name: &str) -> String {
    format!("sys/bus/pci/devices/{address}/{name}")
}

#[test]
fn a_device_is_described() {
    let host = Host::new();
    let found = host.sysfs.device(&nic()).unwrap();
    assert_eq!(
        found,
        PciDevice {
            address: nic(),
            vendor: 0x8086,
            device: 0x10c9,
            class: 0x02_0000,
            driver: Some("igb".into()),
            netdevs: vec!["eth1".into()],
            iommu_group: Some(7),
            siblings: Vec::new(),
            reset_methods: vec!["flr".into(), "bus".into()],
        }
    );
    assert_eq!((found.id().as_str(), found.is_nic()), ("8086:10c9", true));
    host.device("0000:00:02.0", "0x030000", None);
    assert_eq!(host.sysfs.nics(), [found], "only NICs are listed");
}

#[test]
fn the_netdev_of_a_virtio_device_is_found_below_its_own_bus() {
    let host = Host::new();
    host.remove(&device(NIC, "net"));
    host.file(&device(NIC, "virtio3/net/eth1/mtu"), "1500\n");
    assert_eq!(host.sysfs.device(&nic()).unwrap().netdevs, ["eth1"]);
}

#[test]
fn a_nic_that_nobody_needs_may_be_taken_and_its_netdev_is_named() {
    let host = Host::new();
    let found = preflight(&host.sysfs, &nic(), &[("eth0", "up0")]);
    assert_eq!(found.refusals, []);
    assert_eq!(found.warnings, ["eth1 disappears from the host"]);
}

#[test]
fn what_is_not_there_or_no_nic_is_refused() {
    let host = Host::new();
    let other = "0000:09:00.0".parse().unwrap();
    assert_eq!(
        preflight(&host.sysfs, &other, &[]).refusals,
        [Objection::Missing(other)]
    );
    host.device("0000:09:00.0", "0x010802", None);
    let refusals = preflight(&host.sysfs, &other, &[]).refusals;
    assert_eq!(
        refusals,
        [Objection::NotANic {
            address: other,
            class: 0x01_0802
        }]
    );
}

#[test]
fn a_nic_without_an_iommu_is_refused() {
    let host = Host::new();
    host.remove(&device(NIC, "iommu_group"));
    assert_eq!(host.refusals(), [Objection::NoIommu(nic())]);
}

#[test]
fn siblings_with_drivers_of_the_hosts_are_refused_and_bridges_do_not_count() {
    let host = Host::new();
    host.device("0000:03:00.1", "0x020000", Some("e1000e"));
    host.device("0000:02:00.0", "0x060400", Some("pcieport"));
    host.device("0000:03:00.2", "0x020000", Some("vfio-pci"));
    host.device("0000:03:00.3", "0x020000", None);
    host.group(
        7,
        &[
            NIC,
            "0000:03:00.1",
            "0000:02:00.0",
            "0000:03:00.2",
            "0000:03:00.3",
        ],
    );
    let siblings = "0000:03:00.1 (driver e1000e)".to_owned();
    assert_eq!(
        host.refusals(),
        [Objection::Siblings {
            address: nic(),
            siblings
        }]
    );
}

#[test]
fn the_netdev_of_the_hosts_default_route_is_refused() {
    for (path, line) in [
        (
            "proc/net/route",
            "Iface Destination\neth1 00000000 0102000A 0003 0 0 0 00000000 0 0 0\n".to_owned(),
        ),
        (
            "proc/net/ipv6_route",
            format!(
                "{0} 00 {0} 00 fe80{1} 00000400 00000001 00000000 00450003     eth1\n",
                "0".repeat(32),
                "0".repeat(28)
            ),
        ),
    ] {
        let host = Host::new();
        host.file(path, &line);
        assert_eq!(
            host.refusals(),
            [Objection::DefaultRoute("eth1".into())],
            "{path}"
        );
        host.file("sys/class/net/eth1/flags", "0x1002\n");
        assert_eq!(host.refusals(), [], "it is down");
    }
}

#[test]
fn a_netdev_with_addresses_of_the_hosts_is_refused_unless_it_is_down() {
    for (path, line) in [
        (
            "proc/net/route",
            "Iface Destination\neth1 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
        ),
        (
            "proc/net/if_inet6",
            "20010db8000000000000000000000001 02 40 00 80     eth1\n",
        ),
    ] {
        let host = Host::new();
        host.file(path, line);
        assert_eq!(host.refusals(), [Objection::Addressed("eth1".into())], "{path}");
        host.file("sys/class/net/eth1/flags", "0x1002\n");
        assert_eq!(host.refusals(), [], "it is down");
    }
}

#[test]
fn link_local_addresses_and_those_of_other_netdevs_do_not_count() {
    let host = Host::new();
    let lines = "fe800000000000000000000000000001 02 40 20 80     eth1\n\
                 20010db8000000000000000000000001 03 40 00 80     eth10\n";
    host.file("proc/net/if_inet6", lines);
    host.file(
        "proc/net/route",
        "Iface Destination\neth10 00000000 0 0003 0 0 0 00000000\n",
    );
    assert_eq!(host.refusals(), []);
}

#[test]
fn a_netdev_that_others_are_built_on_is_refused() {
    let host = Host::new();
    host.file("sys/class/net/eth1/upper_br0/x", "");
    assert_eq!(
        host.refusals(),
        [Objection::Upper {
            netdev: "eth1".into(),
            upper: "br0".into()
        }]
    );
}

#[test]
fn the_netdev_of_another_uplink_is_refused() {
    let host = Host::new();
    assert_eq!(
        preflight(&host.sysfs, &nic(), &[("eth1", "up0")]).refusals,
        [Objection::Uplink {
            netdev: "eth1".into(),
            uplink: "up0".into()
        }]
    );
}

#[test]
fn a_host_without_vfio_pci_is_told_how_to_load_it() {
    let host = Host::new();
    host.remove("sys/bus/pci/drivers/vfio-pci");
    assert_eq!(host.refusals(), [Objection::NoVfio]);
    assert!(Objection::NoVfio.to_string().contains("modprobe vfio-pci"));
}

#[test]
fn too_low_a_limit_of_locked_memory_is_refused_unless_it_does_not_count() {
    let host = Host::new();
    let limits = "Limit  Soft  Hard  Units\nMax locked memory         8388608              8388608   bytes\n";
    host.file("proc/self/limits", limits);
    assert_eq!(host.refusals(), [Objection::LockedMemory { limit: 8388608 }]);
    host.file("proc/self/status", "CapEff:\t0000000000004000\n");
    assert_eq!(host.refusals(), [], "CAP_IPC_LOCK");
}

#[test]
fn what_can_be_lost_is_told() {
    let host = Host::new();
    host.remove(&device(NIC, "reset_method"));
    host.file(&device(NIC, "sriov_numvfs"), "2\n");
    let warnings = preflight(&host.sysfs, &nic(), &[]).warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[1].contains("cannot be reset") && warnings[2].contains("virtual functions"));
}

#[test]
fn a_device_that_vfio_pci_does_not_take_goes_back_to_its_driver() {
    let host = Host::new();
    let error = bind(&host.sysfs, &nic()).unwrap_err();
    assert_eq!(error.errno(), libc::ENODEV);
    assert_eq!(
        host.text("sys/bus/pci/drivers/igb/unbind"),
        NIC,
        "it was taken from igb"
    );
    assert_eq!(host.text("sys/bus/pci/drivers_probe"), NIC);
    // What the kernel would have, the files have not: a write starts at their beginning.
    assert!(
        host.text(&device(NIC, "driver_override")).starts_with('\n'),
        "cleared again"
    );
    // The made-up host never took igb away, so there was nothing to give back; with it away there is.
    host.remove(&device(NIC, "driver"));
    let binding = Binding {
        address: nic(),
        driver: Some("igb".into()),
    };
    binding.give_back(&host.sysfs).unwrap();
    assert_eq!(host.text("sys/bus/pci/drivers/igb/bind"), NIC);
}

#[test]
fn a_step_that_the_host_refuses_is_named_with_its_errno() {
    let host = Host::new();
    host.remove("sys/bus/pci/drivers_probe");
    let error = bind(&host.sysfs, &nic()).unwrap_err();
    assert_eq!(error.errno(), libc::ENOENT);
    assert!(error.to_string().contains("drivers_probe"), "{error}");
    let missing = "0000:09:00.0".parse().unwrap();
    assert_eq!(bind(&host.sysfs, &missing).unwrap_err().errno(), libc::ENODEV);
}

#[test]
fn a_device_that_is_bound_to_vfio_pci_stays_as_it_is() {
    let host = Host::new();
    host.file("sys/bus/pci/drivers/vfio-pci/unbind", "");
    host.link(&device(NIC, "driver"), "sys/bus/pci/drivers/vfio-pci");
    let binding = bind(&host.sysfs, &nic()).unwrap();
    assert_eq!(binding.driver.as_deref(), Some("vfio-pci"));
    binding.give_back(&host.sysfs).unwrap();
    assert_eq!(
        host.text(&device(NIC, "driver_override")),
        "(null)\n",
        "nothing was written"
    );
    assert_eq!(host.text("sys/bus/pci/drivers/vfio-pci/unbind"), "");
}
