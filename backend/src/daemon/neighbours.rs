//! The neighbours outside of uplinks that L3 devices share: what the workers have learnt of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use netkit::{DropReason, Followed, Ifindex, Neighbour};

use super::Daemon;

impl Daemon {
    /// Hears that the workers have learnt something.
    pub(super) fn hear_learnt(&mut self) {
        let _ = self.learnt.read();
        self.learning.want();
        self.take_learnt();
    }

    /// Takes what the workers have learnt of the neighbours outside, if that is due.
    pub(super) fn take_learnt(&mut self) {
        if !self.learning.take(Instant::now()) {
            return;
        }
        let mut news = Vec::new();
        for (ifindex, uplink) in &mut self.uplinks {
            for learnt in uplink.resolver.take() {
                news.push((*ifindex, learnt));
            }
        }
        if news.is_empty() {
            return;
        }
        for (ifindex, learnt) in &news {
            if let Some(uplink) = self.uplinks.get_mut(ifindex) {
                uplink.learn(learnt.address, learnt.lladdr);
            }
        }
        let changed: BTreeSet<Ifindex> = news.iter().map(|(ifindex, _)| *ifindex).collect();
        for ifindex in changed {
            self.put_followed(ifindex, self.followed_of(ifindex));
        }
        self.publish();
        let plan = self.workers.plan().clone();
        for (ifindex, learnt) in news {
            let Some(slot) = plan.view.slot(ifindex) else {
                continue;
            };
            for mut frame in learnt.waiting {
                self.forwarder.release(&plan, slot, learnt.lladdr, &mut frame);
            }
        }
    }

    /// Counts the frames whose next hop has not answered.
    pub(super) fn give_up_waiting(&mut self) {
        let (now, plan) = (Instant::now(), self.workers.plan().clone());
        for (ifindex, uplink) in &self.uplinks {
            let lost = uplink.resolver.give_up(now);
            if let Some(slot) = plan.view.slot(*ifindex) {
                let reason = DropReason::NeighbourUnknown;
                plan.view.count_lost(slot, reason, lost, self.workers.count());
            }
        }
    }

    /// Has the model route by what the host has, and by what has been learnt.
    pub(super) fn put_followed(&mut self, ifindex: Ifindex, mut followed: Followed) {
        if let Some(uplink) = self.uplinks.get(&ifindex) {
            let is_known = |followed: &Followed, address: &IpAddr| {
                followed.neighbours.iter().any(|it| it.address == *address)
            };
            for (address, (lladdr, _)) in &uplink.learnt {
                if !is_known(&followed, address) {
                    followed.neighbours.push(Neighbour {
                        address: *address,
                        device: ifindex,
                        lladdr: *lladdr,
                    });
                }
            }
        }
        let _ = self.model.follow(ifindex, followed);
    }
}
