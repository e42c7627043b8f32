//! Ten frames on a pair, and what the counters say of them.

use devices::packet::{MacAddress, Metadata};
use netkit::{AttachType, DropReason, Ifindex, Mode, Statistics};

use super::{BOTH, ETH_P_IP, Pair, ethernet};

pub const LEN: u64 = 60;

/// Sends ten frames and says what came of them; all meet the same fate.
pub fn ten(pair: &mut Pair, sender: Ifindex) -> Result<Ifindex, DropReason> {
    let octets = ethernet(MacAddress([2, 0, 0, 0, 0, 7]), ETH_P_IP, LEN as usize);
    let results: Vec<_> = (0..10)
        .map(|_| pair.send(sender, &octets, Metadata::default()))
        .collect();
    assert!(results.iter().all(|result| *result == results[0]));
    results[0]
}

pub fn sent(packets: u64) -> Statistics {
    Statistics {
        tx_packets: packets,
        tx_bytes: packets * LEN,
        ..Default::default()
    }
}

pub fn received(packets: u64) -> Statistics {
    Statistics {
        rx_packets: packets,
        rx_bytes: packets * LEN,
        ..Default::default()
    }
}

pub fn dropped(packets: u64) -> Statistics {
    Statistics {
        tx_dropped: packets,
        ..Default::default()
    }
}

pub fn assert_passed(pair: &Pair, sender: Ifindex, receiver: Ifindex) {
    assert_eq!(
        (pair.statistics(sender), pair.statistics(receiver)),
        (sent(10), received(10))
    );
    assert_eq!(pair.model.drops(sender).unwrap(), []);
}

pub fn assert_dropped(pair: &Pair, sender: Ifindex, receiver: Ifindex, reason: DropReason) {
    assert_eq!(
        (pair.statistics(sender), pair.statistics(receiver)),
        (dropped(10), Statistics::default())
    );
    assert_eq!(pair.model.drops(sender).unwrap(), [(reason, 10)]);
}

/// A redirect that failed: counted as transmitted, dropped without a counter but the reason's.
pub fn assert_gone(pair: &Pair, sender: Ifindex, receiver: Ifindex, reason: DropReason) {
    assert_eq!(
        (pair.statistics(sender), pair.statistics(receiver)),
        (sent(10), Statistics::default())
    );
    assert_eq!(pair.model.drops(sender).unwrap(), [(reason, 10)]);
}

/// Runs a case on a pair of each mode, with the list that sees the sender's frames.
pub fn in_both_modes_and_directions(case: impl Fn(&mut Pair, AttachType, Ifindex, Ifindex)) {
    for mode in [Mode::L2, Mode::L3] {
        for list in BOTH {
            let mut pair = Pair::same_domain(mode);
            let (sender, receiver) = pair.ends(list);
            case(&mut pair, list, sender, receiver);
        }
    }
}
