//! What tests do in a network namespace, and what they say if they cannot.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Output};

/// Runs ip(8) with these words in the namespace of the calling thread.
pub fn ip(words: &str) {
    let output = run("ip", words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {errors}");
}

/// Runs a program with these words in the namespace of the calling thread.
pub fn run(program: &str, words: &str) -> Output {
    let output = Command::new(program).args(words.split_whitespace()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Has this thread see the settings of its namespace's netdevs under /sys.
pub fn own_sysfs() {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let null = std::ptr::null;
    // SAFETY: plain system calls; they concern the calling thread only.
    unsafe {
        assert_eq!(
            libc::unshare(libc::CLONE_NEWNS),
            0,
            "{}",
            io::Error::last_os_error()
        );
        let private = libc::mount(null(), c"/".as_ptr(), null(), flags, std::ptr::null());
        assert_eq!(private, 0, "{}", io::Error::last_os_error());
        let mounted = libc::mount(
            c"sysfs".as_ptr(),
            c"/sys".as_ptr(),
            c"sysfs".as_ptr(),
            0,
            std::ptr::null(),
        );
        assert_eq!(mounted, 0, "{}", io::Error::last_os_error());
    }
}

/// Says that a test was not run, and why.
pub fn not_run(test: &str, why: &str) {
    let line = format!("NOT RUN: {test}: {why}\n");
    // Not with eprintln, whose output cargo shows of failed tests only.
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("NETKIT_NOT_RUN") {
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the file of NETKIT_NOT_RUN can be written");
    }
}
