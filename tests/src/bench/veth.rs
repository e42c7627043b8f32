//! A pair of veth netdevs that back ends send through as if each end were a NIC.

use std::process::Command;

use super::{Error, Result};

/// The pair; it is gone when this is dropped.
#[derive(Debug)]
pub struct Veth {
    /// Both ends.
    pub ends: [String; 2],
}

impl Veth {
    /// Makes a pair that is up, and on which the host says nothing of its own.
    pub fn new(name: &str) -> Result<Veth> {
        let ends = ["0", "1"].map(|end| format!("{name}{end}"));
        let [a, b] = &ends;
        // One that a run before left behind.
        let _ = ip(&["link", "del", a]);
        ip(&["link", "add", a, "type", "veth", "peer", "name", b])?;
        let veth = Veth { ends };
        for end in &veth.ends {
            // No address is made from the netdev's own, so there is nothing to announce.
            ip(&["link", "set", end, "addrgenmode", "none"])?;
            ip(&["link", "set", end, "arp", "off", "up"])?;
        }
        Ok(veth)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.ends[0]]);
    }
}

/// Runs ip(8).
pub fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .map_err(Error::io("run", "ip"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Missing(format!(
            "ip {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}
