//! What a back end costs whose guests do nothing: all of its threads together.

use std::time::Duration;

use serde_json::json;

use super::generator::Generator;
use super::peers::Peer;
use super::share::{Habit, Share, threads, usage};
use super::works::{Figure, Measured};
use super::{Error, Result};
use crate::driver::Pair;
use crate::rig::Process;

const GUESTS: usize = 64;
/// The guests connect, and the daemon falls asleep.
const SETTLE: Duration = Duration::from_secs(2);
const LENGTH: Duration = Duration::from_secs(10);
/// Seconds for which guests stay, if they are not told to go before.
const PRESENCE: u64 = 60;

/// Measures one with guests of its own: 64 behind netkitd; two behind the others, which poll however many there are.
pub fn measure(peer: &Peer, generator: &Generator) -> Result<Measured> {
    if !peer.kind.is_ours() {
        let [a, b] = &peer.sockets;
        let guests = [generator.guests_that_wait([a, b], peer.connects, PRESENCE)?];
        return measure_process(peer.process().id(), &guests);
    }
    let daemon = super::peers::daemon();
    let pairs: Vec<Pair> = (0..GUESTS / 2)
        .map(|number| Pair::new(&daemon, &format!("g{number}-")))
        .collect();
    let guests = pairs
        .iter()
        .map(|pair| generator.guests_that_wait([&pair.a.socket, &pair.b.socket], false, PRESENCE));
    let guests = guests.collect::<Result<Vec<_>>>()?;
    measure_process(daemon.process().id(), &guests)
}

fn measure_process(process: u32, guests: &[Process]) -> Result<Measured> {
    std::thread::sleep(SETTLE);
    let threads = threads(process, "")?;
    let before = usage(&threads);
    std::thread::sleep(LENGTH);
    let after = usage(&threads);
    let gone = guests
        .iter()
        .filter(|it| it.status().ok().flatten().is_some())
        .count();
    if gone > 0 {
        return Err(Error::Missing(format!(
            "{gone} of {} pairs of guests went away",
            guests.len()
        )));
    }
    let share = Share {
        usage: after.since(before),
        wall: LENGTH.as_nanos() as u64,
        habit: Habit::Sleeps,
    };
    Ok(Measured {
        figures: vec![(Figure::PercentOfACore, share.percent_of_a_core())],
        generator: None,
        back_end: Some(share),
        raw: json!({ "guests": 2 * guests.len(), "seconds": LENGTH.as_secs(), "usage": share.usage }),
    })
}
