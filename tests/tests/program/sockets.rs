//! Sockets of others are left alone, and those that nobody serves are taken over.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use netkit_tests::http;
use netkit_tests::netkitd::{Netkitd, run_to_end};

use crate::{assert_has, text};

#[test]
fn the_socket_of_a_daemon_that_lives_is_its_own() {
    let daemon = Netkitd::start();
    let before = daemon.client().daemon().unwrap();
    let other = daemon.path("other");
    let api = daemon.api();
    let second = || run_to_end(&["--api", text(&api), "--state-dir", text(&other)]);
    let (code, _, said) = second();
    assert_ne!(code, 0);
    assert_has(
        &said,
        &["api.sock\"", "another program listens", "end that program"],
    );
    // It lives also while it does not answer.
    daemon.process().signal(libc::SIGSTOP).unwrap();
    let (code, _, said) = second();
    daemon.process().signal(libc::SIGCONT).unwrap();
    assert_ne!(code, 0);
    assert_has(&said, &["another program listens"]);
    assert_eq!(daemon.client().daemon().unwrap(), before);
}

#[test]
fn a_socket_that_nobody_serves_is_taken_over() {
    let mut daemon = Netkitd::start();
    daemon.ok("link add a type netkit");
    let socket = daemon.path("a.sock");
    daemon.ok(&format!("attach a vhost-user path {}", socket.display()));
    daemon.kill();
    assert!(daemon.api().exists() && socket.exists());
    daemon.run();
    drop(http::connect(&socket));
    daemon.ok("detach a");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    daemon.ok(&format!("attach a vhost-user path {}", socket.display()));
    drop(http::connect(&socket));
}

#[test]
fn relative_paths_are_the_starters() {
    let daemon = Netkitd::under("exec \"$1\" --api ./api.sock --state-dir state");
    daemon.ok("link add a type netkit");
    assert!(daemon.path("state/state.json").exists());
}

#[test]
fn the_socket_of_a_busy_program_is_its_own() {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit");
    let socket = daemon.path("busy.sock");
    let busy = UnixListener::bind(&socket).unwrap();
    // SAFETY: plain system call on a descriptor of ours.
    let status = unsafe { libc::listen(busy.as_raw_fd(), 0) };
    assert_eq!(status, 0);
    let _waiting = http::connect(&socket);
    let text = daemon.fails(2, &format!("attach a vhost-user path {}", socket.display()));
    assert_has(&text, &["busy.sock\"", "another program", "(EADDRINUSE: "]);
    assert!(socket.exists());
}
