//! DPDK's virtio-user as the generator: testpmd's flowgen on two ports, so that figures do not rest on ours alone.

use serde_json::json;
use std::time::Duration;

use super::peers::Peer;
use super::share::{Habit, Share, Watch, threads};
use super::testpmd::{Config, Testpmd};
use super::works::{Figure, Measured, Timing};
use super::{Error, GENERATOR_CPU, Result};

const SHOW: &str = "show port stats all";
/// The last line about a port.
const END_OF_PORT: &str = "Tx-pps:";

/// Sends frames of `size` octets both ways through a peer.
pub fn measure(peer: &Peer, packed: bool, size: u16, huge_pages: bool, timing: Timing) -> Result<Measured> {
    let directory = tempfile::tempdir().map_err(Error::io("make", "a temporary directory"))?;
    let device = |(index, socket): (usize, &std::path::PathBuf)| {
        format!(
            "net_virtio_user{index},path={},queues=1,queue_size=1024,packed_vq={}{}",
            socket.display(),
            u8::from(packed),
            if peer.connects { ",server=1" } else { "" }
        )
    };
    let txpkts = format!("--txpkts={size}");
    let config = Config {
        name: "generator",
        cpu: GENERATOR_CPU,
        devices: peer.sockets.iter().enumerate().map(device).collect(),
        options: &[
            "--forward-mode=flowgen",
            "--txd=1024",
            "--rxd=1024",
            "--flowgen-clones=16",
            &txpkts,
        ],
        huge_pages,
    };
    let mut testpmd = Testpmd::start(&config, directory.path())?;
    std::thread::sleep(Duration::from_secs_f64(timing.warm_up));
    let length = Duration::from_secs_f64(timing.seconds);
    let own = threads(testpmd.process().id(), "rte-worker")?;
    let (generator, back_end) = (
        Watch::start(own, Habit::Polls),
        Watch::start(peer.forwarding_threads()?, peer.habit),
    );
    testpmd.ask(SHOW, END_OF_PORT, 2)?;
    std::thread::sleep(length);
    let shown = testpmd.ask(SHOW, END_OF_PORT, 2)?;
    let (generator, back_end) = (generator.finish(length), back_end.finish(length));
    read(&shown, size, generator, back_end)
}

fn read(shown: &str, size: u16, generator: Option<Share>, back_end: Option<Share>) -> Result<Measured> {
    let received = values(shown, "Rx-pps:");
    let frames: f64 = received.iter().sum();
    if received.len() != 2 || frames == 0.0 {
        return Err(Error::Unreadable {
            program: "testpmd".to_owned(),
            wanted: "rate of frames received on two ports",
            printed: Error::tail(shown),
        });
    }
    Ok(Measured {
        figures: vec![
            (Figure::FramesPerSecond, frames),
            (Figure::OctetsPerSecond, frames * f64::from(size)),
        ],
        generator: generator.map(|share| share.part()),
        back_end,
        raw: json!({
            "received_per_second": received,
            "sent_per_second": values(shown, "Tx-pps:"),
            "size": size,
        }),
    })
}

/// The numbers behind a word.
fn values(text: &str, word: &str) -> Vec<f64> {
    text.split(word)
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "  Throughput (since last show)
  Rx-pps:       339477          Rx-bps:    162949400
  Tx-pps:       339446          Tx-bps:    162934160
  ####
  Rx-pps:       316704          Rx-bps:    152018168
  Tx-pps:       316720          Tx-bps:    152025800";

    #[test]
    fn what_both_ports_received_is_added() {
        let measured = read(SHOWN, 64, None, None).unwrap();
        assert_eq!(measured.figure(Figure::FramesPerSecond), Some(656_181.0));
    }

    #[test]
    fn one_port_is_not_enough() {
        assert!(read(SHOWN.split("####").next().unwrap(), 64, None, None).is_err());
    }
}
