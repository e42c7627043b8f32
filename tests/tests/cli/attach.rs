//! `attach` and `detach`: what stands behind a device.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use netkit_api::{AttachmentKind, SocketMode};
use netkit_tests::netkitd::{AS_NOBODY, Netkitd, program};
use netkit_tests::{http, needs};
use serde_json::json;

use crate::{assert_has, device};

/// `a` and `b` are a pair.
fn daemon() -> Netkitd {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit peer name b");
    daemon
}

/// A netdev name that no other test of this process or another uses.
fn tap_name(which: &str) -> String {
    format!("nk{which}{}", std::process::id())
}

fn netdev(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
}

/// Waits until a device is connected to a front end, or no more.
fn wait_connected(daemon: &Netkitd, name: &str, connected: bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while daemon.client().device(name).unwrap().attachment.connected != connected {
        assert!(Instant::now() < deadline, "{name}: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_daemon_listens_for_a_guest() {
    let daemon = daemon();
    let socket = daemon.path("a.sock");
    let path = socket.display();
    for (words, queues) in [
        ("", 1),
        (" mode server", 1),
        (" queues 4", 4),
        (" queues 128 mode server", 128),
    ] {
        daemon.ok(&format!("attach a vhost-user path {path}{words}"));
        assert!(is_socket(&socket));
        let attachment = daemon.client().device("a").unwrap().attachment;
        assert_eq!(attachment.kind, AttachmentKind::VhostUser);
        assert_eq!(attachment.path.as_deref(), socket.to_str());
        assert_eq!(
            (attachment.mode, attachment.queues),
            (Some(SocketMode::Server), queues)
        );
        assert!(!attachment.connected && !attachment.running);
        let line = format!("    attachment vhost-user path {path} mode server queues {queues}\n");
        assert_has(&daemon.ok("-d link show a"), &[&line]);

        let front_end = http::connect(&socket);
        wait_connected(&daemon, "a", true);
        assert_has(&daemon.ok("-d link show a"), &[" connected\n"]);
        drop(front_end);
        wait_connected(&daemon, "a", false);

        daemon.ok("detach a");
        assert!(!socket.exists());
        assert_eq!(
            daemon.client().device("a").unwrap().attachment.kind,
            AttachmentKind::None
        );
    }
}

#[test]
fn the_daemon_connects_to_a_guest_as_soon_as_it_listens() {
    let daemon = daemon();
    let socket = daemon.path("vmm.sock");
    daemon.ok(&format!(
        "attach b vhost-user path {} mode client queues 2",
        socket.display()
    ));
    assert!(!socket.exists() && !daemon.client().device("b").unwrap().attachment.connected);
    for _ in 0..2 {
        let vmm = UnixListener::bind(&socket).unwrap();
        let (front_end, _) = vmm.accept().unwrap();
        wait_connected(&daemon, "b", true);
        fs::remove_file(&socket).unwrap();
        drop((vmm, front_end));
        wait_connected(&daemon, "b", false);
    }
    daemon.ok("detach b");
}

#[test]
fn a_relative_path_is_the_callers() {
    let daemon = daemon();
    let here = std::env::current_dir().unwrap();
    let depth = here.components().count() - 1;
    let relative = format!(
        "{}{}",
        "../".repeat(depth),
        &daemon.path("a.sock").display().to_string()[1..]
    );
    daemon.ok(&format!("attach a vhost-user path {relative}"));
    assert!(is_socket(&daemon.path("a.sock")));
}

#[test]
fn a_tap_is_made_and_goes_with_the_attachment() {
    if !needs::taps("cli: a tap is made and goes with the attachment") {
        return;
    }
    let daemon = daemon();
    let name = tap_name("t");
    daemon.ok(&format!("attach a tap ifname {name}"));
    assert!(netdev(&name));
    let shown = device(&daemon, "a")["attachment"].clone();
    let expected = json!({
        "kind": "tap", "path": null, "mode": null, "queues": 1, "ifname": name, "uplink": null,
        "connected": true, "running": true, "guest_address": null, "features": null,
    });
    assert_eq!(shown, expected);
    let line = format!("    attachment tap ifname {name} queues 1 connected running\n");
    assert_has(&daemon.ok("-d link show a"), &[&line]);

    let busy = daemon.fails(2, &format!("attach b tap ifname {name}"));
    assert_has(&busy, &[&name, "another program has it open", "(EBUSY: "]);
    daemon.ok("detach a");
    assert!(!netdev(&name));

    daemon.ok("attach b tap queues 2");
    let chosen = device(&daemon, "b")["attachment"]["ifname"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(chosen.starts_with("nktap") && netdev(&chosen), "{chosen}");
    daemon.ok("link del b");
    assert!(!netdev(&chosen));
}

#[test]
fn taps_that_cannot_be() {
    if !needs::taps("cli: taps that cannot be") {
        return;
    }
    let daemon = daemon();
    let rows: [(&str, &str, &[&str]); 7] = [
        ("ifname lo", "EINVAL", &["\"lo\"", "no tap"]),
        (
            "ifname sixteen-octets-x",
            "EINVAL",
            &["\"sixteen-octets-x\"", "at most 15 octets"],
        ),
        ("ifname a/b", "EINVAL", &["\"a/b\"", "no slash"]),
        ("queues 0", "EINVAL", &["1 to 16 queues, not 0"]),
        ("queues 17", "EINVAL", &["1 to 16 queues, not 17"]),
        ("fd 999", "EBADF", &["\"fd 999\""]),
        ("fd 0", "ENOTTY", &["tap"]),
    ];
    assert_refused(&daemon, "tap", &rows);
}

#[test]
fn sockets_that_cannot_be() {
    let daemon = daemon();
    fs::write(daemon.path("file"), "precious").unwrap();
    fs::create_dir(daemon.path("directory")).unwrap();
    std::os::unix::fs::symlink("nowhere", daemon.path("link")).unwrap();
    let theirs = UnixListener::bind(daemon.path("theirs")).unwrap();
    daemon.ok(&format!(
        "attach b vhost-user path {}",
        daemon.path("b.sock").display()
    ));
    let path = |name: &str| format!("path {}", daemon.path(name).display());
    let long = path(&"x".repeat(108));
    let rows: [(&str, &str, &[&str]); 14] = [
        (
            &path("theirs"),
            "EADDRINUSE",
            &["theirs\"", "another program", "choose another path"],
        ),
        (
            &path("api.sock"),
            "EADDRINUSE",
            &["api.sock\"", "choose another path"],
        ),
        (
            &path("b.sock"),
            "EADDRINUSE",
            &["b.sock\"", "belongs to b", "choose another path"],
        ),
        (&path("./b.sock"), "EADDRINUSE", &["belongs to b"]),
        (
            &format!("{} mode client", path("b.sock")),
            "EADDRINUSE",
            &["belongs to b"],
        ),
        (&long, "ENAMETOOLONG", &["xxx\"", "107"]),
        (&format!("{long} mode client"), "ENAMETOOLONG", &["xxx\"", "107"]),
        (
            &path("missing/a.sock"),
            "ENOENT",
            &["missing/a.sock\"", "create its directory"],
        ),
        (&path("file/a.sock"), "ENOTDIR", &["file/a.sock\""]),
        (
            &path("file"),
            "EEXIST",
            &["file\"", "not a socket", "choose another path"],
        ),
        (&path("directory"), "EEXIST", &["directory\"", "not a socket"]),
        (&path("link"), "EEXIST", &["link\"", "not a socket"]),
        (
            &format!("{} queues 0", path("a.sock")),
            "EINVAL",
            &["queue pairs cannot be 0", "1 to 128"],
        ),
        (
            &format!("{} queues 129", path("a.sock")),
            "EINVAL",
            &["queue pairs cannot be 129", "1 to 128"],
        ),
    ];
    assert_refused(&daemon, "vhost-user", &rows);
    assert_eq!(fs::read_to_string(daemon.path("file")).unwrap(), "precious");
    drop(theirs);
    // What its owner left behind is free.
    daemon.ok(&format!("attach a vhost-user {}", path("theirs")));
}

/// Asserts that `attach a KIND ...` is refused for every row of words, errno and parts of the text.
fn assert_refused(daemon: &Netkitd, kind: &str, rows: &[(&str, &str, &[&str])]) {
    let before = daemon.client().devices().unwrap();
    for (words, errno, parts) in rows {
        let text = daemon.fails(2, &format!("attach a {kind} {words}"));
        assert_has(&text, &[&format!("({errno}: ")]);
        assert_has(&text, parts);
        assert_eq!(daemon.client().devices().unwrap(), before, "{words}");
    }
}

#[test]
fn one_attachment_for_a_device() {
    let daemon = daemon();
    let socket = daemon.path("a.sock");
    let text = daemon.fails(2, "detach a");
    assert_has(&text, &["a", "nothing to detach", "(ENOENT: "]);
    daemon.ok(&format!("attach a vhost-user path {}", socket.display()));
    for words in [
        format!("vhost-user path {}", socket.display()),
        format!("vhost-user path {}", daemon.path("other.sock").display()),
        format!(
            "vhost-user path {} mode client",
            daemon.path("other.sock").display()
        ),
        "tap".to_owned(),
    ] {
        let text = daemon.fails(2, &format!("attach a {words}"));
        assert_has(&text, &["a is attached already", "detach it first", "(EBUSY: "]);
    }
    assert!(is_socket(&socket) && !daemon.path("other.sock").exists());
}

#[test]
fn a_daemon_without_rights_says_what_it_lacks() {
    if !needs::root("cli: a daemon without rights says what it lacks") {
        return;
    }
    let daemon = Netkitd::under(AS_NOBODY);
    daemon.ok("link add a type netkit peer name b");
    let roots = tempfile::tempdir().unwrap();
    let path = roots.path().join("a.sock");
    let text = daemon.fails(2, &format!("attach a vhost-user path {}", path.display()));
    assert_has(&text, &["a.sock\"", "netkitd's user may not", "(EACCES: "]);
    // Without the right to open /dev/net/tun, or, where everybody may open it, without the right to make a tap.
    let text = daemon.fails(2, &format!("attach a tap ifname {}", tap_name("u")));
    assert_has(&text, &["CAP_NET_ADMIN"]);
    assert!(text.contains("(EACCES: ") || text.contains("(EPERM: "), "{text}");
    // What it may do, it does.
    daemon.ok(&format!(
        "attach a vhost-user path {}",
        daemon.path("a.sock").display()
    ));
}

#[test]
fn a_directory_that_json_cannot_name_is_not_guessed() {
    let daemon = daemon();
    let dir = daemon.path("").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&dir).unwrap();
    let mut nkctl = Command::new(program("nkctl"));
    nkctl
        .arg("--api")
        .arg(daemon.api())
        .args(["attach", "a", "vhost-user", "path", "a.sock"]);
    let output = nkctl.current_dir(&dir).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert_has(
        &String::from_utf8(output.stderr).unwrap(),
        &["a.sock", "not UTF-8"],
    );
    assert_eq!(
        daemon.client().device("a").unwrap().attachment.kind,
        AttachmentKind::None
    );
}
