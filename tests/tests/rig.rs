//! The rig itself: a guest boots, takes commands, reboots and talks to another guest, all without netkitd.

use netkit_tests::rig::{Error, Guest, GuestConfig, Iperf, Nic, Shell, ping, ping6};
use serde_json::json;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Guests are too heavy to boot for two tests at once.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_guest_boots_and_runs_commands() {
    let _alone = alone();
    let begun = Instant::now();
    let guest = Guest::start(GuestConfig::new("solo").nic(Nic::netdev("user"))).unwrap();
    guest.wait_ready().unwrap();
    println!("ready after {:?}", begun.elapsed());

    let release = guest.check("uname -r").unwrap();
    assert!(release.trim().ends_with("amd64"), "{release}");
    assert_eq!(guest.run("false").unwrap().status, 1);
    assert_eq!(guest.run("exit 42").unwrap().status, 42);

    let special = "tab\there 'single' \"double\" \\ $HOME `date` %s ümlaut \u{1F980}\n\n  two lines";
    let printed = guest.check(&format!("cat <<'END'\n{special}\nEND")).unwrap();
    assert_eq!(printed, format!("{special}\n"));
    assert_eq!(guest.check("printf 'a\\r\\nb'").unwrap(), "a\r\nb");
    assert_eq!(
        guest
            .check("seq 20000 | wc -l; seq 20000")
            .unwrap()
            .lines()
            .count(),
        20001
    );
    assert_eq!(
        guest
            .check(&format!("echo {}", "x".repeat(20_000)))
            .unwrap()
            .len(),
        20_001
    );

    let error = guest
        .check("echo gone wrong >&2; exit 3")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("status 3") && error.contains("gone wrong"),
        "{error}"
    );
    assert_eq!(guest.run("syntax ( error").unwrap().status, 2);

    let late = guest
        .run_within("echo begun; sleep 30", Duration::from_secs(2))
        .unwrap_err();
    assert!(
        matches!(&late, Error::CommandTimeout { output, .. } if output.contains("begun")),
        "{late}"
    );
    assert_eq!(guest.check("echo alive").unwrap(), "alive\n");

    let log = guest.spawn("echo \"it's\" started; sleep 1; echo ended").unwrap();
    guest
        .check(&format!("until grep -q ended {log}; do sleep 0.2; done"))
        .unwrap();
    assert_eq!(
        guest.check(&format!("cat {log}")).unwrap(),
        "it's started\nended\n"
    );

    assert_eq!(
        guest.qmp("query-status", &json!({})).unwrap()["status"],
        "running"
    );
    guest.set_up("eth0", &["10.0.2.15/24"]).unwrap();
    assert_eq!(ping(&guest, "10.0.2.2", 2).unwrap().received, 2);
}

#[test]
fn a_guest_reboots() {
    let _alone = alone();
    let guest = Guest::start(GuestConfig::new("phoenix")).unwrap();
    guest.check("touch /root/before").unwrap();
    guest.reboot().unwrap();
    assert_eq!(guest.run("test -e /root/before").unwrap().status, 1);
    guest.check("touch /root/before").unwrap();
    guest.reset().unwrap();
    assert_eq!(guest.run("test -e /root/before").unwrap().status, 1);
}

#[test]
fn a_card_is_plugged_and_unplugged() {
    let _alone = alone();
    let guest = Guest::start(GuestConfig::new("hot")).unwrap();
    guest.wait_ready().unwrap();
    let nic = Nic::netdev("user").mac("52:54:00:12:34:56");
    guest.plug(0, &nic).unwrap();
    guest
        .check("until grep -q 52:54:00:12:34:56 /sys/class/net/eth0/address; do sleep 0.1; done")
        .unwrap();
    guest.unplug(0).unwrap();
    assert_eq!(guest.run("test -e /sys/class/net/eth0").unwrap().status, 1);
}

#[test]
fn a_panic_is_told() {
    let _alone = alone();
    let guest = Guest::start(GuestConfig::new("doomed")).unwrap();
    guest.wait_ready().unwrap();
    let error = guest
        .run_within("echo c >/proc/sysrq-trigger", Duration::from_secs(1))
        .unwrap_err();
    assert!(
        matches!(&error, Error::Panic { console, .. } if console.contains("sysrq")),
        "{error}"
    );
}

#[test]
fn a_wrong_argument_is_told() {
    let _alone = alone();
    let guest = Guest::start(GuestConfig::new("wrong").args(["-no-such-option"])).unwrap();
    let error = guest.wait_ready().unwrap_err().to_string();
    assert!(error.contains("no-such-option"), "{error}");
}

#[test]
fn two_guests_talk_to_each_other() {
    let _alone = alone();
    let wire = tempfile::tempdir().unwrap();
    let nic = |here: &str, there: &str| Nic::dgram(&wire.path().join(here), &wire.path().join(there));
    let a = Guest::start(GuestConfig::new("a").nic(nic("a", "b"))).unwrap();
    let b = Guest::start(GuestConfig::new("b").nic(nic("b", "a"))).unwrap();
    a.set_up("eth0", &["10.0.0.1/24", "fd00::1/64"]).unwrap();
    b.set_up("eth0", &["10.0.0.2/24", "fd00::2/64"]).unwrap();

    assert_eq!(ping(&a, "10.0.0.2", 3).unwrap().received, 3);
    assert_eq!(ping6(&b, "fd00::1", 3).unwrap().received, 3);
    assert_eq!(ping(&a, "10.0.0.3", 1).unwrap().received, 0);

    let tcp = Iperf::tcp().seconds(2).run(&a, &b, "10.0.0.2").unwrap();
    let back = Iperf::tcp().seconds(2).reverse().run(&a, &b, "10.0.0.2").unwrap();
    let udp = Iperf::udp("5M").seconds(2).run(&a, &b, "fd00::2").unwrap();
    println!("{tcp:?}\n{back:?}\n{udp:?}");
    assert!(tcp.bits_per_second > 1e6 && back.bits_per_second > 1e6);
    assert!(udp.packets > 100 && udp.lost < udp.packets);
}
