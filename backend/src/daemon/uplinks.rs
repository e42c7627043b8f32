//! Uplinks: their NICs are opened, watched, given up when they go, and opened again when they are back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use devices::nic::vfio::pci::Binding;
use devices::nic::{Claim, Control, Link, Nic, NicError, NicPort};
use devices::packet::MacAddress;
use netkit::{DeviceKind, Ifindex, NicState, QueueUse};
use netkit_api::{NicSpec, VfioNic};

use super::store::SavedUplink;
use super::{Daemon, DaemonError, Reactor};
use super::{nic, nics};
use crate::dataplane::{Resolver, Shares, Token, UplinkPort};

/// How often NICs are asked what they are like, and those that are missing are looked for.
pub const LOOK: Duration = Duration::from_secs(1);
/// The least time between two looks at what was learnt: who talks a lot must not keep the daemon busy.
pub const LEARN: Duration = Duration::from_millis(20);
/// The most neighbours that are learnt behind one uplink. For another one the one is forgotten that was learnt first.
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
    pub resolver: Arc<Resolver>,
    /// Neighbours that answered, each with the number of its answer.
    pub learnt: BTreeMap<IpAddr, (MacAddress, u64)>,
    /// Answers that were ever taken.
    answers: u64,
}

/// A NIC that is there.
#[derive(Debug)]
pub struct OpenNic {
    pub port: Arc<NicPort>,
    pub control: Box<dyn Control>,
    pub link: Link,
    /// What it was last told to take.
    pub claim: Option<Claim>,
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

    /// Takes note of where a neighbour is.
    pub fn learn(&mut self, address: IpAddr, lladdr: MacAddress) {
        if self.learnt.len() >= LEARNT_MAX && !self.learnt.contains_key(&address) {
            let first = self.learnt.iter().min_by_key(|(_, (_, answer))| *answer);
            if let Some(first) = first.map(|(address, _)| *address) {
                self.learnt.remove(&first);
            }
        }
        self.answers += 1;
        self.learnt.insert(address, (lladdr, self.answers));
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
            answers: 0,
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
                self.note_link(ifindex);
                self.publish();
                self.poke_nic(ifindex);
            }
            Err(error) => {
                tracing::warn!("ifindex {ifindex}: {error}");
                self.uninstall(ifindex, error.to_string(), reactor);
            }
        }
    }

    /// Has the workers look at what a NIC has received while they did not: nothing wakes them for that again.
    pub(super) fn poke_nic(&mut self, ifindex: Ifindex) {
        for queue in 0..self.queues_of(ifindex) {
            self.workers.poke(Token::new(ifindex, queue));
        }
    }

    /// How many queues of an uplink's NIC are ours; none while it is missing, or if the device is none.
    pub(super) fn queues_of(&self, ifindex: Ifindex) -> usize {
        let nic = self
            .uplinks
            .get(&ifindex)
            .and_then(|uplink| uplink.nic.as_ref().ok());
        nic.map_or(0, |nic| nic.port.queues())
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
        let is_taken = binding.is_some();
        if let Some(uplink) = self.uplinks.get_mut(&ifindex) {
            uplink.taken = there;
            uplink.binding = binding.or(uplink.binding.take());
        }
        // Whoever comes after us, if we are killed now, is to know whose it was.
        if is_taken { self.save() } else { Ok(()) }
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
}

/// Receive queues that can be named: those of the hardware up to the last one that is ours.
fn rx_queues(spec: &NicSpec, open: &OpenNic) -> u32 {
    match spec {
        NicSpec::AfXdp(_) => nic::first_queue(spec) + open.port.queues() as u32,
        NicSpec::Vfio(_) => open.port.queues() as u32,
        _ => open.link.rx_queues,
    }
}
