//! Flow rules of a netdev: frames for an Ethernet address arrive at one queue.

use super::ethtool::{self, RxClassification, Words};
use super::{Netdev, NicError};
use crate::packet::MacAddress;

impl Netdev {
    /// `ethtool -N NAME flow-type ether dst ADDRESS action QUEUE`; where the rule is now.
    pub fn insert_rule(&self, address: MacAddress, queue: u32) -> Result<u32, NicError> {
        let step = format!("have frames for {address} arrive at queue {queue} of");
        let location = self.free_location(&step)?;
        let mut command = RxClassification::insert(address, queue, location);
        self.ethtool(&step, &mut command)?;
        Ok(command.rule.location)
    }

    /// `ethtool -N NAME delete LOCATION`.
    pub fn delete_rule(&self, location: u32) -> Result<(), NicError> {
        self.ethtool("delete a flow rule of", &mut RxClassification::delete(location))
    }

    /// Whether its driver has flow rules, on or off.
    pub fn has_rules(&self) -> bool {
        let mut count = RxClassification::new(ethtool::GET_RULE_COUNT);
        self.ethtool("count the flow rules of", &mut count).is_ok()
    }

    /// Any location if the driver chooses, else the last free one: the first ones win, and belong to the administrator.
    fn free_location(&self, step: &str) -> Result<u32, NicError> {
        let mut count = RxClassification::new(ethtool::GET_RULE_COUNT);
        self.ethtool(step, &mut count)?;
        if count.data & ethtool::LOCATION_SPECIAL != 0 {
            return Ok(ethtool::LOCATION_ANY);
        }
        let mut rules = Words::rules(count.rule_count);
        self.ethtool(step, &mut rules)?;
        let is_free = |location: &u32| !rules.rule_locations().contains(location);
        (0..rules.rules_max())
            .rev()
            .find(is_free)
            .ok_or_else(|| self.error(step, libc::ENOSPC, "delete flow rules with `ethtool -N`"))
    }
}
