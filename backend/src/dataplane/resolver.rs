//! The neighbours of an uplink that L3 devices share: who is asked for, and who has answered.
//!
//! What is learnt goes to the control thread, which puts it into the routing tables that workers read. So this lock is
//! taken only for frames to a neighbour that is not known yet, and for ARP and neighbour discovery.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devices::packet::MacAddress;
use vmm_sys_util::eventfd::EventFd;

/// How long nobody asks again for the same address.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long an answer is waited for.
const MEMORY: Duration = Duration::from_secs(3);
/// The most addresses that are asked for at a time. Who sends to more waits.
const ASKED_MAX: usize = 1024;

/// What is asked for and learnt.
#[derive(Debug)]
pub struct Resolver {
    state: Mutex<State>,
    wake: Arc<EventFd>,
}

#[derive(Debug, Default)]
struct State {
    asked: BTreeMap<IpAddr, Instant>,
    learnt: Vec<(IpAddr, MacAddress)>,
}

impl Resolver {
    /// Knows nobody; `wake` is written to when there is something to take.
    pub fn new(wake: Arc<EventFd>) -> Resolver {
        Resolver {
            state: Mutex::default(),
            wake,
        }
    }

    /// Whether the network is to be asked for an address now.
    pub fn ask(&self, address: IpAddr, now: Instant) -> bool {
        let asked = &mut self.lock().asked;
        if let Some(last) = asked.get(&address)
            && now.saturating_duration_since(*last) < PATIENCE
        {
            return false;
        }
        if asked.len() >= ASKED_MAX {
            asked.retain(|_, last| now.saturating_duration_since(*last) < MEMORY);
        }
        let is_room = asked.len() < ASKED_MAX || asked.contains_key(&address);
        if is_room {
            asked.insert(address, now);
        }
        is_room
    }

    /// Takes note of where a neighbour says that it is, if it was asked for or is `known` to be elsewhere: nobody fills
    /// the tables by talking.
    pub fn hear(&self, address: IpAddr, lladdr: MacAddress, known: Option<MacAddress>) {
        if !lladdr.is_unicast() || known == Some(lladdr) {
            return;
        }
        let mut state = self.lock();
        if state.asked.remove(&address).is_some() || known.is_some() {
            state.learnt.push((address, lladdr));
            let _ = self.wake.write(1);
        }
    }

    /// What was learnt since it was last taken.
    pub fn take(&self) -> Vec<(IpAddr, MacAddress)> {
        std::mem::take(&mut self.lock().learnt)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn resolver() -> Resolver {
        Resolver::new(Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()))
    }

    #[test]
    fn an_address_is_asked_for_once_in_a_while_and_its_answer_taken_once() {
        let (resolver, now) = (resolver(), Instant::now());
        let (address, lladdr) = (IpAddr::from([10, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 1]));
        assert!(resolver.ask(address, now));
        assert!(!resolver.ask(address, now));
        assert!(resolver.ask(address, now + PATIENCE));
        resolver.hear(address, lladdr, None);
        resolver.hear(address, lladdr, None);
        assert_eq!(resolver.take(), [(address, lladdr)]);
        assert!(resolver.take().is_empty());
        assert!(resolver.wake.read().is_ok());
    }

    #[test]
    fn what_nobody_asked_for_is_not_learnt_unless_a_neighbour_moved() {
        let resolver = resolver();
        let (address, lladdr) = (IpAddr::from([10, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 1]));
        resolver.hear(address, lladdr, None);
        resolver.hear(address, lladdr, Some(lladdr));
        assert!(resolver.take().is_empty());
        resolver.hear(address, lladdr, Some(MacAddress([2, 0, 0, 0, 0, 9])));
        assert_eq!(resolver.take().len(), 1);
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let (resolver, now) = (resolver(), Instant::now());
        let address = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        let asked = (0..2 * ASKED_MAX).filter(|number| resolver.ask(address(*number), now));
        assert_eq!(asked.count(), ASKED_MAX);
        assert!(resolver.ask(address(5000), now + MEMORY));
    }
}
