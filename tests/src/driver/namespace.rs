//! A network namespace of its own for a test that needs the host's network stack.

use std::io;
use std::process::Command;
use std::sync::mpsc::channel;

/// Runs `inside` on a thread in a fresh namespace, after the netdev `tap` of this one was moved there.
///
/// # Panics
/// If `inside` does, or the namespace cannot be made: that takes root.
pub fn with_tap<T: Send>(tap: &str, inside: impl FnOnce() -> T + Send) -> T {
    let (identify, identified) = channel();
    let (release, released) = channel();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            unshare().expect("a network namespace; tests with a tap need root");
            // SAFETY: plain system call.
            identify.send(unsafe { libc::gettid() }).expect("a listener");
            released.recv().expect("the tap");
            inside()
        });
        let thread_id: i32 = identified.recv().expect("the namespace's thread");
        ip(&format!("link set dev {tap} netns {thread_id}"));
        release.send(()).expect("the namespace's thread");
        thread.join().expect("the test in the namespace")
    })
}

/// Runs ip(8) with these words in the namespace of the calling thread.
///
/// # Panics
/// If it fails.
pub fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .expect("ip(8)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {errors}");
}

fn unshare() -> io::Result<()> {
    // SAFETY: plain system call; it concerns the calling thread only.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
