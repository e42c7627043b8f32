//! Busy polling: the NIC's interrupts stay off while a worker asks for frames by itself.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::socket::Socket;

// asm-generic/socket.h; not all are in the libc crate.
const SO_BUSY_POLL: i32 = 46;
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;
/// What Documentation/networking/af_xdp.rst and napi.rst propose.
const SETTINGS: [(&str, &str); 2] = [("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "200000")];
const POLL_MICROSECONDS: i32 = 20;
const BUDGET: i32 = 64;

/// What was changed on a netdev; changed back when this is dropped.
#[derive(Debug)]
pub struct BusyPoll {
    /// Files and what was in them.
    found: Vec<(PathBuf, String)>,
}

impl BusyPoll {
    /// Has a netdev put its interrupts off for as long as it is polled.
    pub fn new(ifname: &str) -> io::Result<BusyPoll> {
        let mut changed = BusyPoll { found: Vec::new() };
        for (name, value) in SETTINGS {
            let path = PathBuf::from(format!("/sys/class/net/{ifname}/{name}"));
            let found = fs::read_to_string(&path)?;
            fs::write(&path, value)?;
            changed.found.push((path, found));
        }
        Ok(changed)
    }

    /// Has system calls on a socket do the polling.
    pub fn enable(socket: &Socket) -> io::Result<()> {
        socket.set(libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
        socket.set(libc::SOL_SOCKET, SO_BUSY_POLL, POLL_MICROSECONDS)?;
        socket.set(libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, BUDGET)
    }
}

impl Drop for BusyPoll {
    fn drop(&mut self) {
        for (path, found) in self.found.iter().rev() {
            // The netdev may be gone, and nobody is left to be told.
            let _ = fs::write(path, found.trim());
        }
    }
}
