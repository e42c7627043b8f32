use crate::nic::Claim;
use crate::nic::igb::driver::Adapter;
use crate::nic::igb::filter::Filter;
use crate::nic::igb::registers as r;
use crate::packet::MacAddress;

fn address(last: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, last])
}

/// The addresses that the NIC looks for, by their last octets, each with its pools.
fn known(adapter: &Adapter) -> Vec<(u8, u32)> {
    (0..24)
        .filter_map(|index| {
            let high: u32 = adapter.registers.read(r::address(index).1);
            let valid = high & r::RAH_AV != 0;
            valid.then_some(((high >> 8) as u8, high >> r::RAH_POOL_SHIFT & 0xff))
        })
        .collect()
}

#[test]
fn frames_are_spread_until_a_queue_is_leased_and_again_afterwards() {
    let adapter = Adapter::without_device(4);
    let read = |register: usize| adapter.registers.read::<u32>(register);
    let mut filter = Filter::of(address(1), 4);
    filter.apply(&adapter);
    assert_eq!(read(r::MRQC) & 7, r::MRQC_RSS);
    assert_eq!(known(&adapter), [(1, 1)]);
    assert_eq!(read(r::MTA), 0);

    filter.leases[2] = vec![address(9)];
    filter.apply(&adapter);
    assert_eq!(read(r::MRQC) & 7, r::MRQC_VMDQ);
    assert_eq!(known(&adapter), [(9, 4), (1, 1)]);
    // What is for groups and everyone goes to queue 0 only.
    let all = r::VMOLR_BAM | r::VMOLR_ROMPE;
    assert_eq!((read(r::VMOLR) & all, read(r::VMOLR + 8) & all), (all, 0));
    assert_eq!(read(r::MTA + 4 * 127), u32::MAX);
    assert_eq!((read(r::VFRE), read(r::VFTE)), (0xf, 0xf));
    assert!(read(r::VT_CTL) & r::VT_CTL_NO_DEFAULT_POOL != 0, "nobody else's");

    filter.leases[2].clear();
    filter.apply(&adapter);
    assert_eq!(read(r::MRQC) & 7, r::MRQC_RSS);
    assert_eq!((known(&adapter), read(r::MTA)), (vec![(1, 1)], 0));
}

#[test]
fn addresses_that_are_claimed_no_more_are_forgotten() {
    let adapter = Adapter::without_device(1);
    let mut filter = Filter::of(address(1), 1);
    filter.claim = Claim::Addresses(vec![address(1), address(2), address(3)]);
    filter.apply(&adapter);
    assert_eq!(known(&adapter), [(1, 1), (2, 1), (3, 1)]);
    filter.claim = Claim::Addresses(vec![address(2)]);
    filter.apply(&adapter);
    assert_eq!(known(&adapter), [(2, 1)]);
}

#[test]
fn more_addresses_than_the_nic_knows_make_it_take_everything() {
    let adapter = Adapter::without_device(1);
    let promiscuous = || adapter.registers.read::<u32>(r::RCTL) & r::RCTL_UPE != 0;
    let mut filter = Filter::of(address(1), 1);
    for (count, everything) in [(24, false), (25, true), (1, false)] {
        filter.claim = Claim::Addresses((0..count).map(address).collect());
        filter.apply(&adapter);
        assert_eq!(promiscuous(), everything, "{count}");
    }
    filter.claim = Claim::Everything;
    filter.apply(&adapter);
    assert!(promiscuous());
}
