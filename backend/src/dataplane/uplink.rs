//! The way out through an uplink, and in from it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use devices::Refusal;
use devices::nic::{NicPort, send};
use devices::packet::{Frame, MacAddress};
use netkit::l3::{self, L3Input};
use netkit::{DropReason, Mode, Received, Slot, receive, receive_leased};

use super::path::{Path, drop_reason};
use super::plan::Port;
use super::resolver::Resolver;
use super::shares::{Destination, Shares};
use super::targets::Targets;

/// What stands behind an uplink: a NIC, if it is there, and the devices on this side.
#[derive(Debug, Clone)]
pub struct UplinkPort {
    /// None while it is missing or has no carrier.
    pub nic: Option<Arc<NicPort>>,
    /// The number of the NIC's first queue that is ours.
    pub first_queue: usize,
    /// The devices.
    pub shares: Arc<Shares>,
    /// Its neighbours.
    pub resolver: Arc<Resolver>,
}

/// Where a frame from a device that shares an uplink goes.
enum Next {
    /// To another device that the uplink is behind.
    Neighbour(Slot),
    /// Out.
    Outside,
    /// Nowhere, until it is known where its next hop is.
    Held,
}

impl Path {
    /// Gives a frame to a NIC.
    pub(super) fn emit<'p>(
        &mut self,
        receiver: Slot,
        uplink: &'p UplinkPort,
        queue: Option<u16>,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) -> Result<(), DropReason> {
        let nic = uplink.nic.as_deref().ok_or(DropReason::UplinkDown)?;
        let index = match queue {
            Some(queue) => usize::from(queue).wrapping_sub(uplink.first_queue),
            // Workers keep out of each other's way.
            None => self.shard,
        };
        let index = index % nic.queues();
        let sent = send(
            &mut **nic.queue(index).transmit(),
            &nic.capabilities,
            frame,
            &mut self.scratch,
        );
        targets.flush_later(receiver, nic, index);
        sent.map_err(nic_drop_reason)
    }

    /// Takes a frame from a device to the uplink behind it, or to another device that the uplink is behind, too.
    pub(super) fn leave<'p>(
        &mut self,
        device: Slot,
        uplink: Slot,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) -> Result<(), DropReason> {
        let plan = targets.plan;
        let Port::Uplink(port) = plan.port(uplink) else {
            return Err(DropReason::UplinkDown);
        };
        let next = match plan.view.device(device).mode {
            Mode::L2 => self.leave_l2(device, &port.shares, frame, targets),
            Mode::L3 => self.leave_l3(device, uplink, port, frame, targets)?,
        };
        match next {
            Next::Neighbour(neighbour) if neighbour != device => self.transmit(neighbour, frame, targets),
            Next::Neighbour(_) | Next::Outside => self.transmit(uplink, frame, targets),
            Next::Held => {}
        }
        Ok(())
    }

    /// Where a frame goes; those of a group get their copies here.
    fn leave_l2<'p>(
        &mut self,
        device: Slot,
        shares: &Shares,
        frame: &Frame,
        targets: &mut Targets<'p>,
    ) -> Next {
        match frame.destination().map(|address| shares.neighbour(address)) {
            Some(Destination::Device(neighbour)) => Next::Neighbour(neighbour),
            Some(Destination::Elsewhere) | None => Next::Outside,
            Some(Destination::Group) => {
                let others = shares.members().iter().copied().filter(|it| *it != device);
                self.flood(others, frame, targets, Path::transmit);
                Next::Outside
            }
        }
    }

    /// Where a packet goes; one for outside gets its Ethernet header.
    fn leave_l3<'p>(
        &mut self,
        device: Slot,
        uplink: Slot,
        port: &UplinkPort,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) -> Result<Next, DropReason> {
        let (source, destination) = l3::addresses(frame).ok_or(DropReason::NeighbourUnknown)?;
        if let Some(neighbour) = port.shares.host(destination) {
            return Ok(Next::Neighbour(neighbour));
        }
        let view = targets.plan.view.device(uplink);
        let lladdr = match l3::group(frame) {
            Some(group) => group,
            None => {
                let route = view.routing.route_on(destination, view.ifindex);
                // Without a route everybody is taken to be on the link.
                let next = route.and_then(|route| route.via).unwrap_or(destination);
                match view.routing.neighbour(view.ifindex, next) {
                    Some(lladdr) => lladdr,
                    None => {
                        // In another's name nobody asks: who hears the question would take the other to be here.
                        if port.shares.host(source) == Some(device) {
                            self.solicit(device, uplink, port, source, next, targets);
                        }
                        return match port.resolver.hold(next, frame) {
                            true => Ok(Next::Held),
                            false => Err(DropReason::NeighbourUnknown),
                        };
                    }
                }
            }
        };
        let header = frame.head_mut();
        header[..6].copy_from_slice(&lladdr.0);
        header[6..12].copy_from_slice(&view.address.0);
        Ok(Next::Outside)
    }

    /// Asks the network where a neighbour is, if nobody has just done so.
    #[cold]
    fn solicit<'p>(
        &mut self,
        device: Slot,
        uplink: Slot,
        port: &UplinkPort,
        source: IpAddr,
        wanted: IpAddr,
        targets: &mut Targets<'p>,
    ) {
        let mut question = [0; l3::REPLY_MAX];
        let view = &targets.plan.view;
        let (asker, address) = (view.device(device).ifindex, view.device(uplink).address);
        if port.resolver.ask(asker, wanted, Instant::now())
            && let Some(len) = l3::ask(source, wanted, address, &mut question)
        {
            self.answer(uplink, &question[..len], targets);
        }
    }

    /// Takes a frame that an uplink's NIC received.
    pub(super) fn arrive<'p>(
        &mut self,
        uplink: Slot,
        port: &'p UplinkPort,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) {
        let is_decided = self.follow(
            uplink,
            frame,
            targets,
            |view, frame, clones, shard| match receive(view, uplink, frame, clones, shard) {
                Received::Passed => None,
                Received::Outcome(outcome) => Some(outcome),
            },
        );
        if !is_decided {
            self.distribute(uplink, port, frame, targets);
        }
    }

    /// Sends a frame that an uplink received to the device that it is for.
    fn distribute<'p>(
        &mut self,
        uplink: Slot,
        port: &'p UplinkPort,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) {
        let shares = &port.shares;
        let Some(destination) = frame.destination() else {
            return targets.plan.view.count_unclaimed(uplink, self.shard);
        };
        if let Some(lessee) = shares.lessee(destination) {
            return self.receive_leased(uplink, lessee, frame, targets);
        }
        if destination.is_multicast() {
            self.flood(
                shares.lessees(),
                frame,
                targets,
                move |path, lessee, frame, targets| {
                    path.receive_leased(uplink, lessee, frame, targets);
                },
            );
        }
        match shares.destination(destination) {
            Destination::Device(device) => self.transmit(device, frame, targets),
            Destination::Group => {
                let members = shares.members().iter().copied();
                self.flood(members, frame, targets, Path::transmit);
                self.hear(uplink, port, frame, targets);
            }
            Destination::Elsewhere if shares.routes() => {
                self.distribute_packet(uplink, port, destination, frame, targets);
            }
            Destination::Elsewhere => targets.plan.view.count_unclaimed(uplink, self.shard),
        }
    }

    fn receive_leased<'p>(
        &mut self,
        uplink: Slot,
        lessee: Slot,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) {
        self.follow(uplink, frame, targets, |view, frame, clones, shard| {
            Some(receive_leased(view, uplink, lessee, frame, clones, shard))
        });
    }

    /// Sends a packet that an uplink received for its own address to the L3 device that has the packet's. What carries the
    /// tag of a VLAN is of another network.
    fn distribute_packet<'p>(
        &mut self,
        uplink: Slot,
        port: &'p UplinkPort,
        destination: MacAddress,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) {
        if self.hear(uplink, port, frame, targets) {
            return;
        }
        let is_ours = destination == targets.plan.view.device(uplink).address;
        let host = l3::addresses(frame).and_then(|(_, destination)| port.shares.host(destination));
        match host.filter(|_| is_ours && !is_of_vlan(frame)) {
            Some(device) => {
                frame.meta.vlan = None;
                frame.head_mut()[..12].fill(0);
                self.transmit(device, frame, targets);
            }
            None => targets.plan.view.count_unclaimed(uplink, self.shard),
        }
    }

    /// Learns from ARP and neighbour discovery, and answers for the L3 devices. Says whether the frame was such a message.
    fn hear<'p>(
        &mut self,
        uplink: Slot,
        port: &'p UplinkPort,
        frame: &mut Frame,
        targets: &mut Targets<'p>,
    ) -> bool {
        if !port.shares.routes() || is_of_vlan(frame) {
            return false;
        }
        let Some(message) = l3::neighbour_message(frame) else {
            return false;
        };
        let view = targets.plan.view.device(uplink);
        if let Some((address, lladdr)) = message.neighbour {
            let known = view.routing.neighbour(view.ifindex, address);
            port.resolver.hear(address, lladdr, known);
        }
        let mut reply = [0; l3::REPLY_MAX];
        if message
            .wanted
            .is_some_and(|wanted| port.shares.host(wanted).is_some())
            && let L3Input::Reply(len) = l3::from_guest(frame, view.address, &mut reply)
        {
            self.answer(uplink, &reply[..len], targets);
        }
        true
    }
}

/// Whether a frame carries the tag of a VLAN. One with number 0 says a priority only (IEEE 802.1Q, 9.6).
fn is_of_vlan(frame: &Frame) -> bool {
    const NUMBER: u16 = 0x0fff;
    frame.meta.vlan.is_some_and(|tag| tag.tci & NUMBER != 0)
}

/// Why a NIC did not take a frame.
pub(super) fn nic_drop_reason(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::Full => DropReason::UplinkFull,
        Refusal::NotReady => DropReason::UplinkDown,
        Refusal::Failed => DropReason::NicError,
        other => drop_reason(other),
    }
}
