//! Queues of a netdev that were given away: each gets the frames for its addresses, and no others.

use std::collections::BTreeMap;

use super::spread::{is_default, without};
use super::{Netdev, NicError};
use crate::packet::MacAddress;

/// What was changed on a netdev to give queues away, to be undone when this is dropped.
#[derive(Debug)]
pub struct Steering {
    netdev: Netdev,
    /// Where the rules of each queue are.
    rules: BTreeMap<u32, Vec<u32>>,
    found: Option<Found>,
}

/// How the netdev was found before the first queue was given away.
#[derive(Debug)]
struct Found {
    ntuple: bool,
    /// The indirection table; none if the device has one queue, or always goes by its rules alone.
    spread: Option<Vec<u32>>,
    queues: u32,
}

impl Steering {
    /// Nothing is changed yet.
    pub fn new(name: &str) -> Result<Steering, NicError> {
        Ok(Steering {
            netdev: Netdev::open(name)?,
            rules: BTreeMap::new(),
            found: None,
        })
    }

    /// Whether the driver has flow rules at all, as far as it tells without being asked for one.
    pub fn is_possible(&self) -> bool {
        self.netdev.has_rules() && self.netdev.rx_queues().is_ok_and(|queues| queues > 1)
    }

    /// Has frames for these addresses arrive at one queue, and no others there; an empty list undoes that.
    ///
    /// # Errors
    /// Nothing is given to this queue then.
    pub fn steer(&mut self, queue: u32, addresses: &[MacAddress]) -> Result<(), NicError> {
        self.delete_rules(queue);
        if addresses.is_empty() {
            return self.restore();
        }
        let done = self.add(queue, addresses);
        if done.is_err() {
            self.delete_rules(queue);
            // The first error is the one that matters.
            let _ = self.restore();
        }
        done
    }

    fn add(&mut self, queue: u32, addresses: &[MacAddress]) -> Result<(), NicError> {
        if self.found.is_none() {
            self.found = Some(self.look()?);
        }
        self.rules.insert(queue, Vec::new());
        // First, so that nobody else's frame comes after the addresses' first one.
        self.spread_over_others()?;
        for address in addresses {
            let location = self.netdev.insert_rule(*address, queue)?;
            self.rules.entry(queue).or_default().push(location);
        }
        Ok(())
    }

    /// Turns flow rules on, and keeps what is to be changed.
    fn look(&self) -> Result<Found, NicError> {
        let queues = self.netdev.rx_queues()?;
        let spread = match self.netdev.spread() {
            Ok(table) => Some(table).filter(|table| !table.is_empty()),
            Err(error) if error.errno() == libc::EOPNOTSUPP => None,
            Err(error) => return Err(error),
        };
        let ntuple = self.netdev.set_ntuple(true)?;
        Ok(Found {
            ntuple,
            spread,
            queues,
        })
    }

    fn spread_over_others(&self) -> Result<(), NicError> {
        let Some(Found {
            spread: Some(table),
            queues,
            ..
        }) = &self.found
        else {
            return Ok(());
        };
        let table = without(table, *queues, |queue| self.rules.contains_key(&queue)).ok_or_else(|| {
            let hint = "one queue at least must be left for frames that no rule is for; see `ethtool -L`";
            self.netdev
                .error("give away the last queue of", libc::EINVAL, hint)
        })?;
        self.netdev.set_spread(&table)
    }

    /// What cannot be deleted is gone already, or the netdev is.
    fn delete_rules(&mut self, queue: u32) {
        for location in self.rules.remove(&queue).unwrap_or_default() {
            let _ = self.netdev.delete_rule(location);
        }
    }

    /// Spreads other frames over all queues that are not given away, as they were found if there is none.
    fn restore(&mut self) -> Result<(), NicError> {
        if !self.rules.is_empty() {
            return self.spread_over_others();
        }
        let Some(found) = self.found.take() else {
            return Ok(());
        };
        let spread = match &found.spread {
            // A table that was the driver's choice is given back as such: another keeps the queues from getting fewer.
            Some(table) if is_default(table, found.queues) => self.netdev.set_spread(&[]),
            Some(table) => self.netdev.set_spread(table),
            None => Ok(()),
        };
        let ntuple = self.netdev.set_ntuple(found.ntuple);
        spread.and(ntuple).map(|_| ())
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        for queue in self.rules.keys().copied().collect::<Vec<u32>>() {
            self.delete_rules(queue);
        }
        // Nobody is left to be told.
        let _ = self.restore();
    }
}
