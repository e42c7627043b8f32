//! cloud-hypervisor guests with netkitd as their host's daemon, all of it in an outer guest.

use netkit_tests::host::Host;
use netkit_tests::not_run;
use netkit_tests::rig::{Nested, Shell, cloud_hypervisor};
use std::env;
use std::path::Path;
use std::time::Instant;

#[test]
fn cloud_hypervisor_guests_talk_over_netkitd() {
    let Some(binary) = env::var_os("CLOUD_HYPERVISOR").filter(|path| !path.is_empty()) else {
        return not_run(
            "cloud_hypervisor_guests_talk_over_netkitd",
            "set CLOUD_HYPERVISOR to the path of a cloud-hypervisor binary",
        );
    };
    let directory = tempfile::tempdir().unwrap();
    let files = cloud_hypervisor::files(Path::new(&binary), directory.path()).unwrap();
    let host = Host::start(files).unwrap();

    let begun = Instant::now();
    let boot = |line, device| {
        let arguments = host.nkctl(&format!("vm args {device} cloud-hypervisor")).unwrap();
        print!("{device}: {arguments}");
        Nested::start_cloud_hypervisor(host.guest(), line, device, &arguments).unwrap()
    };
    let (a, b) = (boot(0, "nka"), boot(1, "nkb"));
    let vendor = a.check("cat /sys/class/dmi/id/sys_vendor").unwrap();
    assert_eq!(vendor.trim(), "Cloud Hypervisor");
    b.wait_ready().unwrap();
    println!("the nested guests booted in {:.0?}", begun.elapsed());
    host.assert_talk(&a, &b).unwrap();
}
