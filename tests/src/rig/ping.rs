//! Pings from one guest to an address.

use super::{Error, Result, Shell};
use std::time::Duration;

/// How many echo requests went out and how many answers came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingResult {
    pub sent: u32,
    pub received: u32,
}

/// Sends `count` IPv4 echo requests, five a second. None answered is a result, not an error.
pub fn ping(guest: &impl Shell, address: &str, count: u32) -> Result<PingResult> {
    run(guest, "-4", address, count)
}

/// The same with IPv6; a link-local address carries its device, as in `fe80::1%eth0`.
pub fn ping6(guest: &impl Shell, address: &str, count: u32) -> Result<PingResult> {
    run(guest, "-6", address, count)
}

fn run(guest: &impl Shell, family: &str, address: &str, count: u32) -> Result<PingResult> {
    let command = format!("ping {family} -n -q -i 0.2 -W 2 -c {count} {address}");
    let limit = Duration::from_secs(20) + Duration::from_secs(2) * count;
    let output = guest.run_within(&command, limit)?;
    parse(&output.stdout).ok_or_else(|| Error::Unintelligible {
        guest: guest.name().into(),
        command,
        reason: "it has no line with the packets transmitted and received".into(),
        output: output.stdout,
    })
}

/// Reads `3 packets transmitted, 2 received, …`.
fn parse(text: &str) -> Option<PingResult> {
    let line = text.lines().find(|line| line.contains("packets transmitted"))?;
    let number = |word: &str| {
        line.split(", ")
            .find(|part| part.contains(word))?
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    Some(PingResult {
        sent: number("transmitted")?,
        received: number("received")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        let text = "\n--- 10.0.0.2 ping statistics ---\n3 packets transmitted, 2 received, +1 errors, 33% packet loss, time 2003ms\n";
        assert_eq!(parse(text), Some(PingResult { sent: 3, received: 2 }));
        assert_eq!(parse("ping: unknown host"), None);
    }
}
