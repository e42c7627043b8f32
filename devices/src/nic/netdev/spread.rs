//! Over which queues a netdev spreads what no rule is for: the indirection table of receive side scaling.

use super::ethtool::{self, Words};
use super::{Netdev, NicError};

impl Netdev {
    /// The table (`ethtool -x`).
    pub fn spread(&self) -> Result<Vec<u32>, NicError> {
        let step = "read the indirection table of";
        let mut empty = Words::spread(ethtool::GET_SPREAD, &[]);
        self.ethtool(step, &mut empty)?;
        let mut words = Words::spread(ethtool::GET_SPREAD, &vec![0; empty.spread_len()]);
        self.ethtool(step, &mut words)?;
        Ok(words.spread_table().to_vec())
    }

    /// Sets the table (`ethtool -X`); an empty one has the driver choose.
    pub fn set_spread(&self, table: &[u32]) -> Result<(), NicError> {
        let step = "set the indirection table of";
        self.ethtool(step, &mut Words::spread(ethtool::SET_SPREAD, table))
    }
}

/// A table of the same length that leaves some queues out. None if no other is left.
pub(super) fn without(table: &[u32], queues: u32, left_out: impl Fn(u32) -> bool) -> Option<Vec<u32>> {
    let used: Vec<u32> = (0..queues).filter(|queue| !left_out(*queue)).collect();
    let spread = used
        .iter()
        .copied()
        .cycle()
        .take(table.len())
        .collect::<Vec<u32>>();
    (!used.is_empty()).then_some(spread)
}

/// Whether a table is the one that drivers choose (linux/ethtool.h: `ethtool_rxfh_indir_default`).
pub(super) fn is_default(table: &[u32], queues: u32) -> bool {
    let expected = (0..queues.max(1)).cycle();
    table
        .iter()
        .zip(expected)
        .all(|(queue, expected)| *queue == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leased_queues_are_left_out_and_the_others_used_alike() {
        let found: Vec<u32> = (0..4).cycle().take(128).collect();
        assert!(is_default(&found, 4));
        let spread = without(&found, 4, |queue| queue == 1).unwrap();
        assert_eq!(spread.len(), 128);
        assert_eq!(spread[..6], [0, 2, 3, 0, 2, 3]);
        assert!(!is_default(&spread, 4));
        assert_eq!(without(&found, 4, |_| true), None);
        assert_eq!(without(&[], 4, |_| false), Some(vec![]));
    }
}
