//! Who calls, how many at once, and with what manners.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use netkit_api::DeviceCreate;
use netkit_tests::netkitd::{AS_NOBODY, Netkitd, program};
use netkit_tests::{http, needs};

/// `nkctl link show` as another user: its exit code and what it said.
fn show_as(daemon: &Netkitd, user: u32) -> (Option<i32>, String) {
    // That user may reach neither the directory nor the place where nkctl was built.
    let directory = daemon.path("");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o711)).unwrap();
    let nkctl = daemon.path("nkctl");
    // Not copied by this process: while another test's child has not begun yet, it has the file open for writing.
    let copied = Command::new("cp")
        .arg(program("nkctl"))
        .arg(&nkctl)
        .status()
        .unwrap();
    assert!(copied.success());
    let mut command = Command::new(nkctl);
    command.arg("--api").arg(daemon.api()).args(["link", "show"]);
    let output = command.uid(user).gid(user).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn mode(daemon: &Netkitd) -> u32 {
    let metadata = std::fs::symlink_metadata(daemon.api()).unwrap();
    assert!(metadata.file_type().is_socket());
    metadata.permissions().mode() & 0o777
}

#[test]
fn the_socket_is_its_owners() {
    assert_eq!(mode(&Netkitd::start()), 0o600);
    assert_eq!(mode(&Netkitd::under("umask 0; exec \"$@\"")), 0o600);
}

#[test]
fn another_user_may_not_call() {
    if !needs::root("api: another user may not call") {
        return;
    }
    let daemon = Netkitd::start();
    let (code, text) = show_as(&daemon, 65533);
    assert!(
        code == Some(1) && text.contains("no permission to connect"),
        "{code:?} {text}"
    );
    // Even if somebody has opened the socket to all, the kernel says who it is.
    std::fs::set_permissions(daemon.api(), PermissionsExt::from_mode(0o666)).unwrap();
    let (code, text) = show_as(&daemon, 65533);
    assert!(code == Some(2) && text.contains("(EPERM: "), "{code:?} {text}");
    assert!(
        text.contains("user 65533 may not") && text.contains("as root or as user 0"),
        "{text}"
    );
}

#[test]
fn the_daemons_own_user_and_root_may_call() {
    if !needs::root("api: the daemon's own user and root may call") {
        return;
    }
    let daemon = Netkitd::under(AS_NOBODY);
    daemon.ok("link add type netkit");
    assert_eq!(show_as(&daemon, 65534), (Some(0), String::new()));
    std::fs::set_permissions(daemon.api(), PermissionsExt::from_mode(0o666)).unwrap();
    let (code, text) = show_as(&daemon, 65533);
    assert!(
        code == Some(2) && text.contains("as root or as user 65534"),
        "{code:?} {text}"
    );
}

#[test]
fn many_call_at_once() {
    const CALLERS: usize = 16;
    const PAIRS: usize = 8;
    let daemon = Netkitd::start();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let client = daemon.client();
            scope.spawn(move || {
                for pair in 0..PAIRS {
                    let kept = DeviceCreate {
                        name: Some(format!("c{caller}p{pair}")),
                        ..DeviceCreate::default()
                    };
                    let kept = client.create(&kept).unwrap();
                    let passing = client.create(&DeviceCreate::default()).unwrap();
                    assert_eq!(client.device(&kept.primary).unwrap().peer_name, kept.peer);
                    assert!(client.devices().unwrap().len() >= 4);
                    client.delete(&passing.primary).unwrap();
                }
            });
        }
    });
    let devices = daemon.client().devices().unwrap();
    let names: BTreeSet<&str> = devices.iter().map(|it| it.name.as_str()).collect();
    let numbers: BTreeSet<u32> = devices.iter().map(|it| it.ifindex).collect();
    assert_eq!(
        (devices.len(), names.len(), numbers.len()),
        (2 * CALLERS * PAIRS, devices.len(), devices.len())
    );
    for caller in 0..CALLERS {
        assert!((0..PAIRS).all(|pair| names.contains(format!("c{caller}p{pair}").as_str())));
    }
}

#[test]
fn callers_without_manners_hold_nobody_up() {
    let daemon = Netkitd::start();
    for _ in 0..20 {
        daemon.ok("link add type netkit");
    }
    let begin = |octets: &[u8]| -> UnixStream {
        let mut stream = http::connect(&daemon.api());
        stream.set_nonblocking(true).unwrap();
        // What does not fit waits for a caller that reads.
        let _ = stream.write(octets);
        stream
    };
    let silent = (0..200).map(|_| begin(b""));
    let half_a_head = (0..50).map(|_| begin(b"GET /v1/devices HTTP/1.1\r\nhos"));
    let half_a_body =
        (0..50).map(|_| begin(b"POST /v1/devices HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"));
    let request = b"GET /v1/devices HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    let deaf = (0..20).map(|_| begin(&request));
    let held: Vec<UnixStream> = silent.chain(half_a_head).chain(half_a_body).chain(deaf).collect();
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(daemon.client().devices().unwrap().len(), 40);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    drop(held);
    daemon.ok("link add type netkit");
}

#[test]
fn what_is_not_http_does_the_daemon_no_harm() {
    let daemon = Netkitd::start();
    let before = daemon.client().daemon().unwrap();
    let get = "GET /v1/daemon HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = |length: &str, body: &str| {
        let head = "POST /v1/devices HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
        format!("{head}\r\n{length}\r\n\r\n{body}").into_bytes()
    };
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    for (octets, answer) in [
        (b"\0".as_slice(), "HTTP/1.1 400 "),
        (b"\xff\xfe\x16\x03\x01 garbage\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET /\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET http://[ HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (long.as_bytes(), "HTTP/1.1 414 "),
        (many.as_bytes(), "HTTP/1.1 431 "),
        (&post("content-length: -1", "{}"), "HTTP/1.1 400 "),
        (
            &post("content-length: 1\r\ncontent-length: 2", "{}"),
            "HTTP/1.1 400 ",
        ),
        (
            &post("content-length: 99999999999999999999", "{}"),
            "HTTP/1.1 400 ",
        ),
        (&post("transfer-encoding: chunked", "zz\r\n"), "HTTP/1.1 400 "),
    ] {
        let text = http::say(&daemon.api(), octets);
        assert!(text.starts_with(answer), "{octets:?}: {text:?}");
        assert_eq!(daemon.client().daemon().unwrap(), before);
    }
    // Two good requests and a bad one behind them, all at once: the good ones are answered.
    let text = http::say(
        &daemon.api(),
        format!("{get}{get}garbage\0\r\n\r\n{get}").as_bytes(),
    );
    let count = |status| text.matches(status).count();
    assert_eq!((count("HTTP/1.1 200 "), count("HTTP/1.1 400 ")), (2, 1), "{text}");
    // Gone before the answer.
    for _ in 0..100 {
        http::connect(&daemon.api()).write_all(get.as_bytes()).unwrap();
    }
    assert_eq!(daemon.client().daemon().unwrap(), before);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
