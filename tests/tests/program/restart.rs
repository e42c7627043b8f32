//! The daemon's end, whoever brings it about, and its next start.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use netkit_api::{AttachmentKind, AttachmentSpec, Device, DeviceCreate, SocketMode, VhostUserSpec};
use netkit_tests::netkitd::{Netkitd, ends};
use netkit_tests::{http, needs};

use crate::assert_has;

fn tap_name(which: &str) -> String {
    format!("nk{which}{}", std::process::id())
}

fn wait(daemon: &Netkitd, what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !what() {
        assert!(Instant::now() < deadline, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn told_to_end_it_ends_at_once_and_well() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let daemon = Netkitd::start();
        daemon.process().signal(signal).unwrap();
        let begun = Instant::now();
        assert_eq!(ends(daemon.process()).code(), Some(0), "{}", daemon.log());
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn told_to_end_it_waits_for_nobody() {
    let mut daemon = Netkitd::with(&["--workers", "4"]);
    let vmm = UnixListener::bind(daemon.path("vmm.sock")).unwrap();
    for (name, words) in [
        (
            "a",
            format!("vhost-user path {} queues 8", daemon.path("a.sock").display()),
        ),
        (
            "b",
            format!(
                "vhost-user path {} mode client",
                daemon.path("vmm.sock").display()
            ),
        ),
        (
            "c",
            format!(
                "vhost-user path {} mode client",
                daemon.path("nobody.sock").display()
            ),
        ),
    ] {
        daemon.ok(&format!("link add {name} up type netkit peer up"));
        daemon.ok(&format!("attach {name} {words}"));
    }
    if needs::taps("program: told to end while a tap is attached") {
        daemon.ok("link add d up type netkit peer up");
        daemon.ok(&format!("attach d tap ifname {}", tap_name("e")));
    }
    // Half a message, a connection without one, and callers of the API who say nothing or half of it.
    let mut half = http::connect(&daemon.path("a.sock"));
    std::io::Write::write_all(&mut half, &[1, 0, 0]).unwrap();
    let (silent, _) = vmm.accept().unwrap();
    let callers: Vec<UnixStream> = (0..10).map(|_| http::connect(&daemon.api())).collect();
    std::io::Write::write_all(&mut &callers[0], b"GET /v1/").unwrap();
    wait(&daemon, || {
        daemon.client().device("a").unwrap().attachment.connected
    });
    let begun = Instant::now();
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop((half, silent, callers));
}

/// Pairs in both modes, a single, and every kind of attachment that this machine allows.
fn populate(daemon: &Netkitd, test: &str) {
    for line in [
        "link add gone type netkit",
        "link add a address 02:00:00:00:00:0a mtu 9000 numrxqueues 4 type netkit mode l2 blackhole scrub none headroom 32 \
         tailroom 8 peer blackhole scrub none name b mtu 1400 domain red",
        "link add c type netkit peer name d",
        "link add e type netkit mode l2 peer name f",
        "link add s index 1000 type netkit single mode l2",
        "link set a up",
        "link set b up mtu 1280",
        "link set c up",
        "link set a address 02:00:00:00:00:aa domain blue",
        "link change a type netkit forward",
        "link set f name renamed",
        "link set s up",
        "link del gone",
    ] {
        daemon.ok(line);
    }
    daemon.ok(&format!(
        "attach b vhost-user path {} queues 4",
        daemon.path("b.sock").display()
    ));
    daemon.ok(&format!(
        "attach c vhost-user path {}",
        daemon.path("c.sock").display()
    ));
    daemon.ok(&format!(
        "attach d vhost-user path {} mode client",
        daemon.path("d.sock").display()
    ));
    daemon.ok(&format!(
        "attach e vhost-user path {}",
        daemon.path("e.sock").display()
    ));
    daemon.ok("detach e");
    if needs::taps(test) {
        daemon.ok(&format!("attach a tap ifname {} queues 2", tap_name("r")));
    }
}

#[test]
fn killed_and_started_again_it_is_as_before() {
    let test = "program: a tap is there again after a restart";
    let mut daemon = Netkitd::start();
    populate(&daemon, test);
    let before = daemon.client().devices().unwrap();
    assert_eq!(before.len(), 7);
    for _ in 0..2 {
        daemon.kill();
        daemon.run();
        assert_eq!(daemon.client().devices().unwrap(), before);
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.run();
    assert_eq!(daemon.client().devices().unwrap(), before);
    if before.iter().any(|it| it.attachment.kind == AttachmentKind::Tap) {
        assert!(Path::new("/sys/class/net").join(tap_name("r")).exists());
    }
    // The sockets are served again, and ifindexes are still not given twice.
    for name in ["b", "c"] {
        let _front_end = http::connect(&daemon.path(&format!("{name}.sock")));
        wait(&daemon, || {
            daemon.client().device(name).unwrap().attachment.connected
        });
    }
    assert!(!daemon.path("e.sock").exists());
    daemon.ok("link add new type netkit peer name newp");
    let highest = before
        .iter()
        .filter(|it| it.name != "s")
        .map(|it| it.ifindex)
        .max();
    assert_eq!(
        Some(daemon.client().device("newp").unwrap().ifindex),
        highest.map(|it| it + 1)
    );
}

#[test]
fn a_vmm_that_listens_is_connected_again() {
    let mut daemon = Netkitd::start();
    let vmm = UnixListener::bind(daemon.path("vmm.sock")).unwrap();
    daemon.ok("link add a type netkit");
    daemon.ok(&format!(
        "attach a vhost-user path {} mode client",
        daemon.path("vmm.sock").display()
    ));
    for _ in 0..3 {
        let (front_end, _) = vmm.accept().unwrap();
        wait(&daemon, || {
            daemon.client().device("a").unwrap().attachment.connected
        });
        daemon.kill();
        drop(front_end);
        daemon.run();
    }
}

#[test]
fn an_attachment_that_cannot_be_yet_waits() {
    let mut daemon = Netkitd::start();
    let (there, away) = (daemon.path("there"), daemon.path("away"));
    std::fs::create_dir(&there).unwrap();
    daemon.ok("link add a type netkit");
    daemon.ok(&format!(
        "attach a vhost-user path {} queues 3",
        there.join("a.sock").display()
    ));
    let before = daemon.client().devices().unwrap();
    daemon.kill();
    std::fs::rename(&there, &away).unwrap();
    daemon.run();
    // It is not forgotten, and the daemon works.
    assert_eq!(daemon.client().devices().unwrap(), before);
    let complaint = "cannot attach it as before, will try again: ";
    assert_has(&daemon.log(), &[complaint, "create its directory first"]);
    // It tries every second, and says so once.
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(daemon.log().matches(complaint).count(), 1, "{}", daemon.log());
    daemon.ok("link set a up");
    let text = daemon.fails(
        2,
        &format!("attach a vhost-user path {}", daemon.path("other.sock").display()),
    );
    assert_has(&text, &["attached already", "(EBUSY: "]);
    daemon.kill();
    daemon.run();
    std::fs::rename(&away, &there).unwrap();
    std::fs::remove_file(there.join("a.sock")).unwrap();
    let connect = || UnixStream::connect(there.join("a.sock"));
    wait(&daemon, || connect().is_ok());
    let _front_end = connect();
    wait(&daemon, || {
        daemon.client().device("a").unwrap().attachment.connected
    });
}

#[test]
fn an_attachment_that_waits_can_be_given_up() {
    let mut daemon = Netkitd::start();
    let dir = daemon.path("there");
    std::fs::create_dir(&dir).unwrap();
    daemon.ok("link add a type netkit peer name b");
    for name in ["a", "b"] {
        daemon.ok(&format!(
            "attach {name} vhost-user path {}",
            dir.join(name).display()
        ));
    }
    daemon.kill();
    std::fs::remove_dir_all(&dir).unwrap();
    daemon.run();
    daemon.ok("detach a");
    assert_eq!(
        daemon.client().device("a").unwrap().attachment.kind,
        AttachmentKind::None
    );
    daemon.ok(&format!(
        "attach a vhost-user path {}",
        daemon.path("a.sock").display()
    ));
    daemon.ok("link del b");
    assert_eq!(daemon.client().devices().unwrap(), []);
    daemon.kill();
    daemon.run();
    assert_eq!(daemon.client().devices().unwrap(), []);
}

#[test]
fn what_was_acknowledged_outlives_any_kill() {
    let mut daemon = Netkitd::start();
    let mut expected: Vec<String> = Vec::new();
    for round in 0..8 {
        let client = daemon.client();
        let attach = daemon.path("");
        let changes = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let name = format!("r{round}n{number}");
                let device = DeviceCreate {
                    name: Some(name.clone()),
                    ..DeviceCreate::default()
                };
                if client.create(&device).is_err() {
                    break;
                }
                acknowledged.push(name.clone());
                let path = attach.join(&name).display().to_string();
                let spec = AttachmentSpec::VhostUser(VhostUserSpec {
                    path,
                    mode: SocketMode::Server,
                    queues: 1,
                });
                if client.attach(&name, &spec).is_err() {
                    break;
                }
                acknowledged.push(format!("{name} attached"));
            }
            acknowledged
        });
        std::thread::sleep(Duration::from_millis(10 + 7 * round));
        daemon.kill();
        expected.extend(changes.join().unwrap());
        daemon.run();
        let devices = daemon.client().devices().unwrap();
        for wanted in &expected {
            let found = |device: &Device| match wanted.strip_suffix(" attached") {
                Some(name) => device.name == name && device.attachment.kind == AttachmentKind::VhostUser,
                None => device.name == *wanted,
            };
            assert!(devices.iter().any(found), "{wanted} is lost");
        }
    }
    assert!(expected.len() > 8, "{expected:?}");
}

#[test]
fn stopped_and_continued_it_goes_on() {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit");
    for _ in 0..3 {
        daemon.process().signal(libc::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        daemon.process().signal(libc::SIGCONT).unwrap();
        assert_eq!(daemon.client().devices().unwrap().len(), 2);
    }
}
