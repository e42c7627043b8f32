//! Uplinks: their NICs are opened, watched, given up when they go, and opened again when they are back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::nic::vfio::pci::Binding;
use devices::nic::{Claim, Control, Link, Nic, NicError, NicPort};
use devices::packet::MacAddress;
use netkit::{DeviceKind, DropReason, Followed, Ifindex, Neighbour, NicState, QueueUse, View};
use netkit_api::{MacvtapMode, NicSpec, VfioNic};

use super::attachment::Attachment;
use super::store::SavedUplink;
use super::{Daemon, DaemonError, Reactor};
use super::{nic, nics};
use crate::dataplane::{Resolver, SharedBy, Shares, Token, UplinkPort};

/// How often NICs are asked what they are like, and those that are missing are looked for.
pub const LOOK: Duration = Duration::from_secs(1);
/// The most neighbours that are learnt behind one uplink.
const LEARNT_MAX: usize = 4096;

/// An uplink.
#[derive(Debug)]
pub struct Uplink {
    /// The NIC that is wanted.
    pub spec: NicSpec,
    /// It was taken from the host's driver.
    pub binding: Option<Binding>,
    /// Which PCI device it was that was last taken: one that is plugged in again is another.
    taken: Option<u64>,
    /// The NIC, if it is there.
    pub nic: Result<OpenNic, Missing>,
    resolver: Arc<Resolver>,
    /// Neighbours that answered.
    learnt: BTreeMap<IpAddr, MacAddress>,
}

/// A NIC that is there.
#[derive(Debug)]
pub struct OpenNic {
    pub port: Arc<NicPort>,
    pub control: Box<dyn Control>,
    pub link: Link,
    /// What it was last told to take.
    claim: Option<Claim>,
    /// Queues that it was told to keep for addresses.
    pub steered: BTreeMap<u32, Vec<MacAddress>>,
    event_fd: Option<RawFd>,
}

/// Why a NIC is not there.
#[derive(Debug, Clone)]
pub struct Missing {
    pub why: String,
}

impl Uplink {
    /// As workers see it.
    pub fn port(&self, shares: Shares, up: bool) -> UplinkPort {
        let nic = self.nic.as_ref().ok().filter(|nic| up && nic.link.running);
        UplinkPort {
            nic: nic.map(|nic| nic.port.clone()),
            first_queue: nic::first_queue(&self.spec) as usize,
            shares: Arc::new(shares),
            resolver: self.resolver.clone(),
        }
    }

    /// Whether frames can leave.
    pub fn is_running(&self) -> bool {
        self.nic.as_ref().is_ok_and(|nic| nic.link.running)
    }

    /// The host's netdev, by its number there.
    pub fn netdev(&self) -> Option<u32> {
        self.nic.as_ref().ok()?.control.netdev()
    }
}

impl Daemon {
    /// Takes up the uplinks that were saved. A NIC that is not there is looked for from then on.
    pub(super) fn restore_uplinks(&mut self, saved: Vec<SavedUplink>) {
        for SavedUplink { ifindex, nic } in saved {
            let device = self.model.device(ifindex);
            if device.is_ok_and(|it| it.kind() == DeviceKind::Uplink) {
                self.insert_uplink(ifindex, nic);
            }
        }
    }

    /// Takes up an uplink that the model has. Its NIC is missing as yet.
    pub(super) fn insert_uplink(&mut self, ifindex: Ifindex, spec: NicSpec) {
        let uplink = Uplink {
            spec,
            binding: None,
            taken: None,
            nic: Err(Missing { why: String::new() }),
            resolver: Arc::new(Resolver::new(self.learnt.clone())),
            learnt: BTreeMap::new(),
        };
        self.uplinks.insert(ifindex, uplink);
    }

    /// Puts a NIC behind an uplink.
    pub(super) fn install(
        &mut self,
        ifindex: Ifindex,
        nic: Nic,
        reactor: &mut Reactor,
    ) -> Result<(), NicError> {
        let Nic { port, mut control } = nic;
        let link = control.link()?;
        let event_fd = control.event_fd();
        let open = OpenNic {
            port: Arc::new(port),
            control,
            link,
            claim: None,
            steered: BTreeMap::new(),
            event_fd,
        };
        let port = open.port.clone();
        let Some(uplink) = self.uplinks.get_mut(&ifindex) else {
            return Ok(());
        };
        uplink.nic = Ok(open);
        if let Some(fd) = event_fd {
            reactor.watch_nic(fd, ifindex);
        }
        self.note_link(ifindex);
        self.follow_uplink(ifindex, reactor);
        // The workers must know the uplink before its first frame reaches them.
        self.publish();
        self.watch_nic(ifindex, &port);
        Ok(())
    }

    fn watch_nic(&mut self, ifindex: Ifindex, port: &NicPort) {
        for index in 0..port.queues() {
            let token = Token::new(ifindex, index);
            let wake_fd = port.queue(index).receive().wake_fd();
            match wake_fd.map(|fd| self.workers.watch(token, fd)) {
                None => {}
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::error!("ifindex {ifindex}: cannot wait for frames of queue {index}: {error}");
                }
            }
            self.workers.poke(token);
        }
    }

    /// Gives up a NIC that is gone or not wanted any more.
    pub(super) fn uninstall(&mut self, ifindex: Ifindex, why: String, reactor: &mut Reactor) {
        let Some(uplink) = self.uplinks.get_mut(&ifindex) else {
            return;
        };
        let Ok(open) = std::mem::replace(&mut uplink.nic, Err(Missing { why })) else {
            return;
        };
        if let Some(fd) = open.event_fd {
            reactor.forget(fd);
        }
        self.note_link(ifindex);
        self.unfollow(ifindex, reactor);
        self.publish();
        self.workers.release(ifindex);
        // Workers let go of a source in their own time, and one that sleeps holds nothing.
        drop(open);
    }

    /// Asks a NIC what it is like, after it has said that something may have changed.
    pub(super) fn check_uplink(&mut self, ifindex: Ifindex, reactor: &mut Reactor) {
        let Some(uplink) = self.uplinks.get_mut(&ifindex) else {
            return;
        };
        let Ok(open) = &mut uplink.nic else {
            return self.retry_uplink(ifindex, reactor);
        };
        match open.control.link() {
            Ok(link) if link == open.link => {}
            Ok(link) => {
                tracing::info!(
                    "ifindex {ifindex}: its NIC is {}",
                    if link.running { "up" } else { "without a carrier" }
                );
                open.link = link;
                let port = open.port.clone();
                self.note_link(ifindex);
                self.publish();
                for index in 0..port.queues() {
                    self.workers.poke(Token::new(ifindex, index));
                }
            }
            Err(error) => {
                tracing::warn!("ifindex {ifindex}: {error}");
                self.uninstall(ifindex, error.to_string(), reactor);
            }
        }
    }

    /// Asks every NIC whose netdev may have changed.
    pub(super) fn check_netdevs(&mut self, reactor: &mut Reactor) {
        let netdevs: Vec<Ifindex> = self
            .uplinks
            .iter()
            .filter(|(_, uplink)| uplink.netdev().is_some())
            .map(|(ifindex, _)| *ifindex)
            .collect();
        for ifindex in netdevs {
            self.check_uplink(ifindex, reactor);
        }
    }

    /// Looks after all uplinks: not every NIC says when it is gone, and one that is missing says nothing.
    pub(super) fn check_uplinks(&mut self, reactor: &mut Reactor) {
        let uplinks: Vec<Ifindex> = self.uplinks.keys().copied().collect();
        for ifindex in uplinks {
            self.check_uplink(ifindex, reactor);
        }
    }

    fn retry_uplink(&mut self, ifindex: Ifindex, reactor: &mut Reactor) {
        let Some(uplink) = self.uplinks.get_mut(&ifindex) else {
            return;
        };
        let spec = uplink.spec.clone();
        let result = self.open_nic(ifindex, &spec, reactor);
        let Some(uplink) = self.uplinks.get_mut(&ifindex) else {
            return;
        };
        match (result, &mut uplink.nic) {
            (Ok(()), _) => tracing::info!("ifindex {ifindex}: its NIC is there"),
            // A reason is logged once, however often it is met.
            (Err(error), Err(missing)) if missing.why != error.to_string() => {
                tracing::warn!("ifindex {ifindex}: its NIC is missing, will try again: {error}");
                missing.why = error.to_string();
            }
            (Err(_), _) => {}
        }
    }

    /// Opens the NIC of an uplink.
    pub(super) fn open_nic(
        &mut self,
        ifindex: Ifindex,
        spec: &NicSpec,
        reactor: &mut Reactor,
    ) -> Result<(), DaemonError> {
        if let NicSpec::Vfio(spec) = spec {
            self.take_uplink_nic(ifindex, spec)?;
        }
        let nic = nic::open(spec, self.workers.count())?;
        Ok(self.install(ifindex, nic, reactor)?)
    }

    /// Takes a PCI NIC from the host's driver, if it is there anew: one that somebody took from us is not taken back.
    fn take_uplink_nic(&mut self, ifindex: Ifindex, spec: &VfioNic) -> Result<(), DaemonError> {
        let there = nics::identity(spec);
        let taken = self.uplinks.get(&ifindex).and_then(|uplink| uplink.taken);
        if there.is_some() && there == taken {
            return Ok(());
        }
        let binding = self.take_nic(spec)?;
        if let Some(uplink) = self.uplinks.get_mut(&ifindex) {
            uplink.taken = there;
            uplink.binding = binding.or(uplink.binding.take());
        }
        Ok(())
    }

    /// Tells the model what the NIC is like.
    pub(super) fn note_link(&mut self, ifindex: Ifindex) {
        let Some(uplink) = self.uplinks.get(&ifindex) else {
            return;
        };
        let state = match &uplink.nic {
            Ok(open) => NicState {
                address: open.link.address,
                mtu: open.link.mtu,
                rx_queues: rx_queues(&uplink.spec, open),
                running: open.link.running,
                present: true,
            },
            Err(_) => {
                let Ok(device) = self.model.device(ifindex) else {
                    return;
                };
                NicState {
                    address: device.address,
                    mtu: device.mtu,
                    rx_queues: device.num_rx_queues,
                    running: false,
                    present: false,
                }
            }
        };
        // Queues below the first one that is ours are the host's.
        let others = 0..nic::first_queue(&uplink.spec);
        let noted = self.model.set_nic(ifindex, state).and_then(|()| {
            others
                .into_iter()
                .try_for_each(|queue| self.model.set_queue_use(ifindex, queue, QueueUse::AfXdp))
        });
        if let Err(error) = noted {
            tracing::error!("ifindex {ifindex}: cannot take note of its NIC: {error}");
        }
    }

    /// Who is behind an uplink.
    pub(super) fn shares(&self, uplink: Ifindex, view: &View) -> Shares {
        let mut shares = Shares::default();
        for (ifindex, attachment) in &self.attachments {
            if let Attachment::Uplink(it) = attachment
                && it.uplink == uplink
                && let Some(slot) = view.slot(*ifindex)
            {
                shares.add(slot, &self.shared_by(*ifindex, &it.by));
            }
        }
        for (slot, device) in view.iter() {
            if let Some(lease) = &device.lease
                && view.device(lease.uplink).ifindex == uplink
            {
                for queue in &lease.queues {
                    let is_kept = self.is_steered(uplink, *queue);
                    shares.lease(*queue as usize, is_kept, slot, device.address);
                }
            }
        }
        shares
    }

    /// By what a device's frames are known: unless addresses were given, by the one of its other end.
    pub(super) fn shared_by(&self, device: Ifindex, by: &SharedBy) -> SharedBy {
        match by {
            SharedBy::Addresses(addresses) if addresses.is_empty() => {
                SharedBy::Addresses(self.address_behind(device).into_iter().collect())
            }
            by => by.clone(),
        }
    }

    /// The address of a device's other end: what a guest there has.
    fn address_behind(&self, device: Ifindex) -> Option<MacAddress> {
        let peer = self.model.device(device).ok()?.peer?;
        Some(self.model.device(peer).ok()?.address)
    }

    /// Tells the NICs whose frames they are to give us, and where they are to arrive.
    pub(super) fn claim(&mut self, view: &View) {
        let uplinks: Vec<Ifindex> = self.uplinks.keys().copied().collect();
        for ifindex in uplinks {
            let wanted = self.wanted_claim(ifindex, view);
            let steering = steering(ifindex, view);
            let Some(Ok(open)) = self.uplinks.get_mut(&ifindex).map(|uplink| &mut uplink.nic) else {
                continue;
            };
            if open.claim.as_ref() != Some(&wanted) {
                if let Err(error) = open.control.claim(&wanted) {
                    tracing::warn!("ifindex {ifindex}: {error}");
                }
                open.claim = Some(wanted);
            }
            open.steer(ifindex, &steering);
        }
    }

    fn wanted_claim(&self, uplink: Ifindex, view: &View) -> Claim {
        let spec = self.uplinks.get(&uplink).map(|uplink| &uplink.spec);
        let is_macvtap = matches!(spec, Some(NicSpec::Macvtap(nic)) if nic.mode != MacvtapMode::Passthru);
        let mut addresses = BTreeSet::new();
        let mut is_shared = false;
        for (ifindex, attachment) in &self.attachments {
            let Attachment::Uplink(it) = attachment else {
                continue;
            };
            if it.uplink != uplink {
                continue;
            }
            is_shared = true;
            match self.shared_by(*ifindex, &it.by) {
                // A macvtap has one address, and gets nothing but what is for that.
                SharedBy::Nothing if is_macvtap => addresses.extend(self.address_behind(*ifindex)),
                SharedBy::Nothing => return Claim::Everything,
                SharedBy::Addresses(list) => addresses.extend(list),
                SharedBy::Prefixes(_) => addresses.extend(self.model.device(uplink).map(|it| it.address)),
            }
        }
        for (_, device) in view.iter() {
            if let Some(lease) = &device.lease
                && view.device(lease.uplink).ifindex == uplink
            {
                is_shared = true;
                addresses.insert(device.address);
            }
        }
        let has_programs = view.slot(uplink).is_some_and(|slot| {
            let uplink = &view.device(slot).uplink;
            uplink.as_ref().is_some_and(|uplink| !uplink.ingress.is_empty())
        });
        match is_shared || !has_programs {
            true => Claim::Addresses(addresses.into_iter().filter(|it| it.is_unicast()).collect()),
            // Whom frames are for is the programs' to say then.
            false => Claim::Everything,
        }
    }

    /// Takes what the workers have learnt of the neighbours outside.
    pub(super) fn take_learnt(&mut self) {
        let _ = self.learnt.read();
        let mut news = Vec::new();
        for (ifindex, uplink) in &mut self.uplinks {
            for learnt in uplink.resolver.take() {
                if uplink.learnt.len() < LEARNT_MAX || uplink.learnt.contains_key(&learnt.address) {
                    uplink.learnt.insert(learnt.address, learnt.lladdr);
                }
                news.push((*ifindex, learnt));
            }
        }
        if news.is_empty() {
            return;
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
            for (address, lladdr) in &uplink.learnt {
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

impl OpenNic {
    /// Makes the NIC's flow rules those that are wanted.
    fn steer(&mut self, ifindex: Ifindex, wanted: &BTreeMap<u32, Vec<MacAddress>>) {
        if !self.control.steers() {
            return;
        }
        let gone: Vec<u32> = self
            .steered
            .keys()
            .filter(|queue| !wanted.contains_key(queue))
            .copied()
            .collect();
        let changes = gone.iter().map(|queue| (*queue, Vec::new())).chain(
            wanted
                .iter()
                .filter(|(queue, addresses)| self.steered.get(queue) != Some(*addresses))
                .map(|(queue, addresses)| (*queue, addresses.clone())),
        );
        for (queue, addresses) in changes.collect::<Vec<_>>() {
            match self.control.steer(queue, &addresses) {
                Ok(()) if addresses.is_empty() => drop(self.steered.remove(&queue)),
                Ok(()) => drop(self.steered.insert(queue, addresses)),
                Err(error) => tracing::warn!("ifindex {ifindex}: {error}"),
            }
        }
    }
}

/// Which addresses' frames are to arrive at the queues that are leased.
fn steering(uplink: Ifindex, view: &View) -> BTreeMap<u32, Vec<MacAddress>> {
    let mut steering = BTreeMap::new();
    for (_, device) in view.iter() {
        if let Some(lease) = &device.lease
            && view.device(lease.uplink).ifindex == uplink
            && device.address.is_unicast()
            && let Some(queue) = lease.queues.first()
        {
            steering.insert(*queue, vec![device.address]);
        }
    }
    steering
}

/// Receive queues that can be named: those of the hardware up to the last one that is ours.
fn rx_queues(spec: &NicSpec, open: &OpenNic) -> u32 {
    match spec {
        NicSpec::AfXdp(_) => nic::first_queue(spec) + open.port.queues() as u32,
        NicSpec::Vfio(_) => open.port.queues() as u32,
        _ => open.link.rx_queues,
    }
}
