//! Whose frames NICs are to give us, where they are to arrive, and for whom they are.

use std::collections::{BTreeMap, BTreeSet};

use devices::nic::Claim;
use devices::packet::MacAddress;
use netkit::{Ifindex, View};
use netkit_api::{MacvtapMode, NicSpec};

use super::Daemon;
use super::attachment::Attachment;
use super::uplinks::OpenNic;
use crate::dataplane::{SharedBy, Shares};

impl Daemon {
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
                shares.lease(slot, device.address);
            }
        }
        shares.sorted()
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
