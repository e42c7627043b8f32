//! Features of a netdev that can be turned on and off (`ethtool -K`).

use super::ethtool::{self, Value};
use super::{Netdev, NicError};

/// A netdev that leaves VLAN tags in the frames that it receives, until this is dropped.
#[derive(Debug)]
pub struct TagsInFrames {
    netdev: Netdev,
    /// Whether it took them out.
    was_stripping: bool,
}

impl Netdev {
    /// Turns flow rules on or off; whether they were on.
    pub fn set_ntuple(&self, on: bool) -> Result<bool, NicError> {
        self.set_feature(ethtool::FLAG_NTUPLE, on, "turn ntuple filters on or off on")
    }

    /// Turns a feature on or off; whether it was on.
    fn set_feature(&self, feature: u32, on: bool, step: &str) -> Result<bool, NicError> {
        let mut flags = Value {
            command: ethtool::GET_FLAGS,
            data: 0,
        };
        self.ethtool("ask for the features of", &mut flags)?;
        let was = flags.data & feature != 0;
        if was != on {
            flags.command = ethtool::SET_FLAGS;
            flags.data ^= feature;
            self.ethtool(step, &mut flags)?;
        }
        Ok(was)
    }

    fn strip_tags(&self, on: bool) -> Result<bool, NicError> {
        let step = "turn the stripping of VLAN tags on or off on";
        self.set_feature(ethtool::FLAG_RX_VLAN, on, step)
    }
}

impl TagsInFrames {
    /// Has it leave them, if its driver can be told to.
    pub fn on(name: &str) -> Result<TagsInFrames, NicError> {
        let netdev = Netdev::open(name)?;
        Ok(TagsInFrames {
            was_stripping: netdev.strip_tags(false).unwrap_or(false),
            netdev,
        })
    }
}

impl Drop for TagsInFrames {
    fn drop(&mut self) {
        if self.was_stripping {
            // The netdev may be gone, and nobody is left to be told.
            let _ = self.netdev.strip_tags(true);
        }
    }
}
