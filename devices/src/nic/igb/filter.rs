//! What frames a NIC receives, and at which queues (82576 datasheet, 7.1.1 and 7.10).

use super::driver::{Adapter, WIRE_FRAME};
use super::registers as r;
use crate::nic::Claim;
use crate::packet::MacAddress;

/// What is to be received where.
#[derive(Debug, Clone)]
pub struct Filter {
    /// What is for the queues that are not leased.
    pub claim: Claim,
    /// What is for one queue only, by queue.
    pub leases: Vec<Vec<MacAddress>>,
}

impl Filter {
    /// Frames for one address, at all queues.
    pub fn of(address: MacAddress, queues: usize) -> Filter {
        Filter {
            claim: Claim::Addresses(vec![address]),
            leases: vec![Vec::new(); queues],
        }
    }

    /// Whether a queue is leased.
    fn steers(&self) -> bool {
        self.leases.iter().any(|addresses| !addresses.is_empty())
    }

    /// How many addresses the NIC has to know for leases.
    pub fn leased(&self) -> usize {
        self.leases.iter().map(Vec::len).sum()
    }

    /// The addresses of the claim that the NIC is to look for; None if it is to take all frames, as there are too many.
    fn claimed(&self, room: usize) -> Option<&[MacAddress]> {
        match &self.claim {
            Claim::Addresses(addresses) if self.leased() + addresses.len() <= room => Some(addresses),
            _ => None,
        }
    }

    /// Has the NIC do so. While nothing is leased, frames are spread over all queues by flow. Otherwise each queue is a pool
    /// with addresses of its own, and what is for none of them goes to queue 0: the NIC cannot spread within a pool.
    pub fn apply(&self, adapter: &Adapter) {
        let registers = &adapter.registers;
        let claimed = self.claimed(adapter.model.addresses);
        self.set_mode(adapter, claimed.is_none());
        let leased = self
            .leases
            .iter()
            .enumerate()
            .flat_map(|(queue, addresses)| addresses.iter().map(move |address| (queue, address)));
        let all = leased.chain(claimed.unwrap_or_default().iter().map(|address| (0, address)));
        let mut entries = all.map(Some).chain(std::iter::repeat(None));
        for index in 0..adapter.model.addresses {
            let entry = entries.next().flatten();
            set_address(adapter, index, entry.map(|(queue, address)| (queue, *address)));
        }
        let promiscuous = if claimed.is_none() { r::RCTL_UPE } else { 0 };
        let always = r::RCTL_EN | r::RCTL_MPE | r::RCTL_BAM | r::RCTL_LPE | r::RCTL_SECRC;
        registers.write(r::RCTL, always | promiscuous);
    }

    /// Chooses between spreading and pools, during which nothing may be received.
    fn set_mode(&self, adapter: &Adapter, everything: bool) {
        let registers = &adapter.registers;
        let mode = match self.steers() {
            true => r::MRQC_VMDQ,
            false => r::MRQC_RSS | r::MRQC_FIELDS,
        };
        if adapter.model.pools {
            self.set_pools(adapter, everything);
        }
        if registers.read::<u32>(r::MRQC) != mode {
            let receive: u32 = registers.read(r::RCTL);
            registers.write(r::RCTL, receive & !r::RCTL_EN);
            registers.write(r::MRQC, mode);
        }
    }

    /// Pool 0 has what is for groups, for everyone, and for nobody that is known.
    fn set_pools(&self, adapter: &Adapter, everything: bool) {
        let registers = &adapter.registers;
        // All groups: pools have no other means. Without pools RCTL.MPE does it, and QEMU's model would take the table for
        // single stations' addresses, too.
        let groups = if self.steers() { u32::MAX } else { 0 };
        for word in 0..r::MTA_WORDS {
            registers.write(r::MTA + 4 * word, groups);
        }
        let length = (WIRE_FRAME as u32 + 4) | r::VMOLR_LPE | r::VMOLR_STRCRC | r::VMOLR_AUPE;
        for pool in 0..adapter.queues {
            let groups = match pool {
                0 => r::VMOLR_BAM | r::VMOLR_ROMPE,
                _ => 0,
            };
            registers.write(r::VMOLR + 4 * pool, length | groups);
        }
        let pools = (1u32 << adapter.queues) - 1;
        registers.write(r::VFRE, pools);
        registers.write(r::VFTE, pools);
        let default = match everything {
            true => 0,
            false => r::VT_CTL_NO_DEFAULT_POOL,
        };
        registers.write(r::VT_CTL, r::VT_CTL_REPLICATE | default);
    }
}

/// Sets an address that is received, and its pool, which counts only if queues are pools.
fn set_address(adapter: &Adapter, index: usize, entry: Option<(usize, MacAddress)>) {
    let registers = &adapter.registers;
    let (low, high) = r::address(index);
    // It is not valid while it changes.
    registers.write(high, 0u32);
    let Some((queue, MacAddress([a, b, c, d, e, f]))) = entry else {
        return;
    };
    let pool = match adapter.model.pools {
        true => 1 << (r::RAH_POOL_SHIFT as usize + queue),
        false => 0,
    };
    registers.write(low, u32::from_le_bytes([a, b, c, d]));
    registers.write(high, u32::from_le_bytes([e, f, 0, 0]) | pool | r::RAH_AV);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_do_not_fit_make_the_nic_take_everything() {
        let address = |last| MacAddress([2, 0, 0, 0, 0, last]);
        let mut filter = Filter::of(address(1), 4);
        assert_eq!(filter.claimed(24), Some(&[address(1)][..]));
        filter.claim = Claim::Addresses((0..24).map(address).collect());
        assert_eq!(filter.claimed(24).map(<[_]>::len), Some(24));
        filter.leases[2].push(address(99));
        assert_eq!((filter.claimed(24), filter.leased()), (None, 1));
        filter.claim = Claim::Everything;
        assert_eq!(filter.claimed(24), None);
    }
}
