//! A network namespace with a name, for programs and threads of a test.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::rig::{self, Process, Shell};

/// The namespace; it is removed when dropped, with the netdevs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, its loopback device up, without IPv6 addresses that nobody gave: a quiet wire.
    ///
    /// # Panics
    /// If it cannot be made; that takes root.
    pub fn new(purpose: &str) -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nkr-{}-{count}-{purpose}", std::process::id());
        sh(&format!("ip netns add {name}"));
        let namespace = Namespace { name };
        namespace.run("ip link set lo up");
        namespace.run(
            "sysctl -qw net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.default.router_solicitations=0",
        );
        namespace
    }

    /// Its name, as ip(8) knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a shell command in it, which must succeed, and gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, command: &str) -> String {
        sh_output(&self.inside(command), command)
    }

    /// Runs a shell command in it.
    pub fn attempt(&self, command: &str) -> Output {
        self.command(command).output().expect("sh")
    }

    /// Starts a program in it, killed when the result is dropped.
    pub fn spawn(&self, command: &str) -> Process {
        Process::spawn(self.command(&format!("exec {command}"))).expect("sh")
    }

    /// Runs `inside` on a thread that is in it.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.join().expect("the namespace");
                inside()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into it, for good.
    pub fn join(&self) -> io::Result<()> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        // SAFETY: plain system call on a descriptor that is open.
        match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// For [`crate::netkitd::Netkitd::under`]: the daemon runs in it.
    pub fn script(&self) -> String {
        format!("exec ip netns exec {} \"$@\"", self.name)
    }

    fn command(&self, command: &str) -> Command {
        let mut words = Command::new("sh");
        words.args(["-c", &self.inside(command)]);
        words
    }

    fn inside(&self, command: &str) -> String {
        format!(
            "exec ip netns exec {} sh -c '{}'",
            self.name,
            command.replace('\'', r"'\''")
        )
    }
}

/// As a guest without a machine of its own: what measures between guests measures between a guest and a namespace.
impl Shell for Namespace {
    fn name(&self) -> &str {
        &self.name
    }

    fn run_within(&self, command: &str, limit: Duration) -> rig::Result<rig::Output> {
        let seconds = limit.as_secs();
        let command = format!(
            "exec 2>&1; timeout -s KILL {seconds} sh -c '{}'",
            command.replace('\'', r"'\''")
        );
        let output = self.attempt(&command);
        Ok(rig::Output {
            status: output.status.code().unwrap_or(128 + libc::SIGKILL),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A test that failed already needs no second failure.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn sh(command: &str) {
    sh_output(command, command);
}

fn sh_output(command: &str, told: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}: {text}{errors}");
    text
}
