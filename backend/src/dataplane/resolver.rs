//! The neighbours of an uplink that L3 devices share: who is asked for, and who has answered.
//!
//! What is learnt goes to the control thread, which puts it into the routing tables that workers read, and sends the frames
//! that have waited for it. So this lock is taken only for frames to a neighbour that is not known yet, and for ARP and
//! neighbour discovery.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devices::packet::{Frame, MacAddress};
use netkit::Ifindex;
use vmm_sys_util::eventfd::EventFd;

/// How long nobody asks again for the same address.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long an answer is waited for.
const MEMORY: Duration = Duration::from_secs(3);
/// The most addresses that are asked for at a time. Who sends to more waits.
const ASKED_MAX: usize = 1024;
/// The most that one device has asked for at a time, so that it keeps no other from asking.
const ASKED_BY_ONE_MAX: usize = 128;
/// Frames that wait for one neighbour.
const WAITING_MAX: usize = 16;
/// Frames that wait for all.
const WAITING_SUM_MAX: usize = 256;

/// What is asked for and learnt.
#[derive(Debug)]
pub struct Resolver {
    state: Mutex<State>,
    wake: Arc<EventFd>,
}

#[derive(Debug, Default)]
struct State {
    asked: BTreeMap<IpAddr, Asked>,
    learnt: Vec<Learnt>,
    /// Frames that wait for an answer, or to be sent after it.
    waiting: usize,
}

/// An address that was asked for.
#[derive(Debug)]
struct Asked {
    by: Ifindex,
    first: Instant,
    last: Instant,
    waiting: Vec<Frame>,
}

/// A neighbour that has answered, and the frames that waited for that.
#[derive(Debug)]
pub struct Learnt {
    /// Its address.
    pub address: IpAddr,
    /// Where it is.
    pub lladdr: MacAddress,
    /// In the order in which they are to be sent.
    pub waiting: Vec<Frame>,
}

impl Resolver {
    /// Knows nobody; `wake` is written to when there is something to take.
    pub fn new(wake: Arc<EventFd>) -> Resolver {
        Resolver {
            state: Mutex::default(),
            wake,
        }
    }

    /// Whether the network is to be asked for an address now, for the device `by`.
    pub fn ask(&self, by: Ifindex, address: IpAddr, now: Instant) -> bool {
        let mut state = self.lock();
        let State { asked, learnt, .. } = &mut *state;
        if let Some(asked) = asked.get_mut(&address) {
            let is_time = now.saturating_duration_since(asked.last) >= PATIENCE;
            if is_time {
                asked.last = now;
            }
            return is_time;
        }
        let is_room = asked.len() + learnt.len() < ASKED_MAX
            && asked.values().filter(|asked| asked.by == by).count() < ASKED_BY_ONE_MAX;
        if is_room {
            let entry = Asked {
                by,
                first: now,
                last: now,
                waiting: Vec::new(),
            };
            asked.insert(address, entry);
        }
        is_room
    }

    /// Keeps a copy of a frame for an address that is asked for. False if too many wait.
    pub fn hold(&self, address: IpAddr, frame: &Frame) -> bool {
        let mut state = self.lock();
        let State { asked, waiting, .. } = &mut *state;
        let Some(asked) = asked.get_mut(&address) else {
            return false;
        };
        if asked.waiting.len() >= WAITING_MAX || *waiting >= WAITING_SUM_MAX {
            return false;
        }
        let mut copy = Frame::new();
        copy.copy_from(frame);
        asked.waiting.push(copy);
        *waiting += 1;
        true
    }

    /// Gives up on addresses that nobody answers for, and says how many frames waited for them.
    pub fn give_up(&self, now: Instant) -> u64 {
        let mut state = self.lock();
        let mut lost = 0;
        state.asked.retain(|_, asked| {
            let is_over = now.saturating_duration_since(asked.first) >= MEMORY;
            lost += if is_over { asked.waiting.len() } else { 0 };
            !is_over
        });
        state.waiting -= lost;
        lost as u64
    }

    /// Takes note of where a neighbour says that it is, if it was asked for or is `known` to be elsewhere: nobody fills
    /// the tables by talking.
    pub fn hear(&self, address: IpAddr, lladdr: MacAddress, known: Option<MacAddress>) {
        if !lladdr.is_unicast() || known == Some(lladdr) {
            return;
        }
        let mut state = self.lock();
        let asked = state.asked.remove(&address);
        // Those that were asked for are bounded by that; a neighbour that moved says so again.
        if asked.is_some() || known.is_some() && state.learnt.len() < ASKED_MAX {
            let waiting = asked.map_or_else(Vec::new, |asked| asked.waiting);
            state.learnt.push(Learnt {
                address,
                lladdr,
                waiting,
            });
            let _ = self.wake.write(1);
        }
    }

    /// What was learnt since it was last taken.
    pub fn take(&self) -> Vec<Learnt> {
        let mut state = self.lock();
        let learnt = std::mem::take(&mut state.learnt);
        state.waiting -= learnt.iter().map(|it| it.waiting.len()).sum::<usize>();
        learnt
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    const DEVICE: Ifindex = Ifindex(7);

    fn resolver() -> Resolver {
        Resolver::new(Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()))
    }

    #[test]
    fn an_address_is_asked_for_once_in_a_while_and_its_answer_taken_once() {
        let (resolver, now) = (resolver(), Instant::now());
        let (address, lladdr) = (IpAddr::from([10, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 1]));
        assert!(resolver.ask(DEVICE, address, now));
        assert!(!resolver.ask(DEVICE, address, now));
        assert!(resolver.ask(DEVICE, address, now + PATIENCE));
        resolver.hear(address, lladdr, None);
        resolver.hear(address, lladdr, None);
        let learnt = resolver.take();
        assert_eq!(learnt.len(), 1);
        assert_eq!((learnt[0].address, learnt[0].lladdr), (address, lladdr));
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
        let asked = |by| {
            let is_asked =
                |number: &usize| resolver.ask(Ifindex(by), address(10_000 * by as usize + number), now);
            (0..2 * ASKED_MAX).filter(is_asked).count()
        };
        assert_eq!((asked(1), asked(2)), (ASKED_BY_ONE_MAX, ASKED_BY_ONE_MAX));
        assert_eq!(
            (3..30).map(asked).sum::<usize>(),
            ASKED_MAX - 2 * ASKED_BY_ONE_MAX
        );
        assert!(!resolver.ask(DEVICE, address(5000), now));
        assert_eq!(resolver.give_up(now + MEMORY), 0);
        assert!(resolver.ask(DEVICE, address(5000), now + MEMORY));
    }

    #[test]
    fn frames_wait_for_the_answer_and_are_counted_if_there_is_none() {
        let (resolver, now) = (resolver(), Instant::now());
        let [here, nowhere] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let frame = |octet| Frame::from_octets(&[octet; 60]);
        assert!(!resolver.hold(here, &frame(0)), "it was not asked for");
        for address in [here, nowhere] {
            resolver.ask(DEVICE, address, now);
            let held = (0..=WAITING_MAX).filter(|number| resolver.hold(address, &frame(*number as u8)));
            assert_eq!(held.count(), WAITING_MAX);
        }
        resolver.hear(here, MacAddress([2, 0, 0, 0, 0, 1]), None);
        let learnt = resolver.take();
        let order: Vec<u8> = learnt[0].waiting.iter().map(|it| it.head()[0]).collect();
        assert_eq!(order, (0..WAITING_MAX as u8).collect::<Vec<_>>());
        assert_eq!(resolver.give_up(now), 0);
        assert_eq!(resolver.give_up(now + MEMORY), WAITING_MAX as u64);
    }

    #[test]
    fn a_flood_of_answers_is_bounded_until_somebody_takes_them() {
        let (resolver, now) = (resolver(), Instant::now());
        let address = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        let [here, there] = [1, 2].map(|last| MacAddress([2, 0, 0, 0, 0, last]));
        let mut held = 0;
        for number in 0..2 * ASKED_MAX {
            resolver.ask(DEVICE, address(number), now);
            held += usize::from(resolver.hold(address(number), &Frame::from_octets(&[0; 60])));
            resolver.hear(address(number), here, None);
            resolver.hear(address(0), there, Some(here));
        }
        assert_eq!(held, WAITING_SUM_MAX);
        assert_eq!(resolver.take().len(), ASKED_MAX);
        assert!(resolver.ask(DEVICE, address(5000), now));
        assert!(resolver.hold(address(5000), &Frame::from_octets(&[0; 60])));
    }
}
