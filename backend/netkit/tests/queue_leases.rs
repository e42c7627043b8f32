//! The kernel's selftests of queue leases (nk_qlease.py), by their names, all 45 of them.
//!
//! What they call the physical device, of netdevsim, is an uplink here; what waits for a NAPI there has nothing to wait for.
//! Two do not have their like here: `veth_queue_create` asks a device that is virtual and makes no queues, which is an
//! uplink that is no NIC (a tap); and `bind_rx_leased_phys_queue` says that a memory provider wants a queue, without the
//! provider.

mod common;

use common::uplink::*;
use common::*;
use netkit::{Errno, Ifindex, LeaseRequest, Mode, QueueKind, QueueUse, UplinkRequest};

#[test]
fn remove_phys() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    let id = host.lease(guest, 1).unwrap();
    let lease = host.lessee(1).unwrap();
    assert_eq!((lease.ifindex, lease.queue), (guest, id));
    let deleted = host.model.remove_uplink(host.nic).unwrap();
    assert_eq!(deleted, [guest, primary]);
    assert!(!host.is_there(primary) && !host.is_there(guest) && !host.is_there(host.nic));
}

#[test]
fn double_lease() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(3);
    assert_eq!(host.lease(guest, 1), Ok(1));
    assert_eq!(host.lease(guest, 1), Err(Errno::EBUSY));
}

#[test]
fn virtual_lessor() {
    let mut host = Host::new(2);
    let (_, lessor) = host.pair(2);
    let (_, guest) = host.pair(2);
    assert_eq!(host.lease_from(lessor, guest, 0), Err(Errno::EINVAL));
}

#[test]
fn phys_lessee() {
    let mut host = Host::new(2);
    let other = host.model.create_uplink(&uplink("eth1", 2)).unwrap();
    assert_eq!(host.lease(other, 0), Err(Errno::EINVAL));
}

#[test]
fn different_lessors() {
    let mut host = Host::new(2);
    let other = host.model.create_uplink(&uplink("eth1", 2)).unwrap();
    let (_, guest) = host.pair(3);
    assert_eq!(host.lease(guest, 1), Ok(1));
    assert_eq!(host.lease_from(other, guest, 1), Err(Errno::EOPNOTSUPP));
}

#[test]
fn queue_out_of_range() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    assert_eq!(host.lease(guest, 2), Err(Errno::ERANGE));
}

#[test]
fn resize_leased() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert_eq!(host.channels(host.nic, 1), Err(Errno::EINVAL));
}

#[test]
fn self_lease() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    assert_eq!(host.lease_from(guest, guest, 0), Err(Errno::EINVAL));
}

#[test]
fn create_tx_type() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let request = LeaseRequest {
        kind: QueueKind::Tx,
        ..host.request(guest, host.nic, 1)
    };
    assert_eq!(errno(host.model.lease(&request)), Err(Errno::EINVAL));
}

#[test]
fn create_primary() {
    let mut host = Host::new(2);
    let (primary, _) = host.pair(2);
    assert_eq!(host.lease(primary, 1), Err(Errno::EOPNOTSUPP));
}

#[test]
fn create_limit() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(1);
    assert_eq!(host.lease(guest, 1), Err(Errno::EINVAL));
}

#[test]
fn link_flap_phys() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let id = host.lease(guest, 1).unwrap();
    for up in [false, true] {
        host.model.set_up(host.nic, up).unwrap();
    }
    assert_eq!(host.lessee(1).unwrap().queue, id);
}

#[test]
fn queue_get_virtual() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let id = host.lease(guest, 1).unwrap();
    let queue = host.queue(guest, id);
    assert_eq!((queue.queue, queue.ifindex, queue.lease), (id, guest, None));
    assert_eq!(host.queue(guest, 0).lease, None);
}

#[test]
fn remove_virt_first() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    assert_eq!(host.lease(guest, 1), Ok(1));
    assert_eq!(host.lessee(1).unwrap().queue, 1);
    host.model.delete(primary).unwrap();
    assert_eq!(host.lessee(1), None);
}

#[test]
fn multiple_leases() {
    let mut host = Host::new(3);
    let (_, guest) = host.pair(4);
    assert_eq!([host.lease(guest, 1), host.lease(guest, 2)], [Ok(1), Ok(2)]);
    for (queue, id) in [(1, 1), (2, 2)] {
        let lease = host.lessee(queue).unwrap();
        assert_eq!((lease.ifindex, lease.queue), (guest, id));
    }
}

#[test]
fn lease_queue_tx_type() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let request = LeaseRequest {
        queue_kind: QueueKind::Tx,
        ..host.request(guest, host.nic, 1)
    };
    assert_eq!(errno(host.model.lease(&request)), Err(Errno::EINVAL));
}

#[test]
fn invalid_netns() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let request = LeaseRequest {
        uplink_domain: Some("nowhere".into()),
        ..host.request(guest, host.nic, 0)
    };
    assert_eq!(errno(host.model.lease(&request)), Err(Errno::ENONET));
}

#[test]
fn invalid_phys_ifindex() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let request = LeaseRequest {
        uplink: Ifindex(99999),
        uplink_domain: Some("host".into()),
        ..host.request(guest, host.nic, 0)
    };
    assert_eq!(errno(host.model.lease(&request)), Err(Errno::ENODEV));
}

#[test]
fn multi_netkit_remove_phys() {
    let mut host = Host::new(3);
    let (a, guest_a) = host.pair(2);
    let (b, guest_b) = host.pair(2);
    host.lease(guest_a, 1).unwrap();
    host.lease(guest_b, 2).unwrap();
    host.model.remove_uplink(host.nic).unwrap();
    assert_eq!(
        [a, guest_a, b, guest_b].map(|device| host.is_there(device)),
        [false; 4]
    );
}

#[test]
fn single_remove_phys() {
    let mut host = Host::new(2);
    let single = host.single(2);
    host.lease(single, 1).unwrap();
    assert_eq!(host.model.remove_uplink(host.nic).unwrap(), [single]);
    assert!(!host.is_there(single));
}

#[test]
fn link_flap_virt() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let id = host.lease(guest, 1).unwrap();
    for up in [false, true] {
        host.model.set_up(guest, up).unwrap();
        assert_eq!(host.lessee(1).unwrap().queue, id);
    }
}

#[test]
fn phys_queue_no_lease() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert_eq!(host.lessee(0), None);
    assert!(host.lessee(1).is_some());
}

#[test]
fn same_ns_lease() {
    let mut host = Host::new(2);
    let single = host.single(2);
    assert_eq!(host.lease(single, 1), Ok(1));
    let lease = host.lessee(1).unwrap();
    assert_eq!((lease.ifindex, lease.queue, lease.domain), (single, 1, None));
}

#[test]
fn resize_after_unlease() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert_eq!(host.channels(host.nic, 1), Err(Errno::EINVAL));
    host.model.delete(primary).unwrap();
    assert_eq!(host.channels(host.nic, 1), Ok(()));
}

#[test]
fn lease_queue_zero() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    assert_eq!(host.lease(guest, 0), Ok(1));
    assert_eq!(host.lessee(0).unwrap().queue, 1);
}

#[test]
fn release_and_reuse() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert!(host.lessee(1).is_some());
    host.model.delete(primary).unwrap();
    assert_eq!(host.lessee(1), None);
    let (_, guest) = host.pair(2);
    assert_eq!(host.lease(guest, 1), Ok(1));
    let lease = host.lessee(1).unwrap();
    assert_eq!((lease.ifindex, lease.queue), (guest, 1));
}

#[test]
fn veth_queue_create() {
    let mut host = Host::new(2);
    let tap = UplinkRequest {
        domain: Some("guest".into()),
        leasable: false,
        ..uplink("veth1", 1)
    };
    let tap = host.model.create_uplink(&tap).unwrap();
    assert_eq!(host.lease(tap, 1), Err(Errno::EINVAL));
}

#[test]
fn two_netkits_same_queue() {
    let mut host = Host::new(2);
    let (_, guest_a) = host.pair(2);
    let (_, guest_b) = host.pair(2);
    assert_eq!(host.lease(guest_a, 1), Ok(1));
    assert_eq!(host.lease(guest_b, 1), Err(Errno::EBUSY));
}

#[test]
fn l3_mode_lease() {
    let mut host = Host::new(2);
    let guest = host.pair_in(Mode::L3, 2, "guest").peer.unwrap();
    assert_eq!(host.lease(guest, 1), Ok(1));
    let lease = host.lessee(1).unwrap();
    assert_eq!((lease.ifindex, lease.queue), (guest, 1));
}

#[test]
fn single_double_lease() {
    let mut host = Host::new(2);
    let single = host.single(3);
    assert_eq!(host.lease(single, 1), Ok(1));
    assert_eq!(host.lease(single, 1), Err(Errno::EBUSY));
}

#[test]
fn single_different_lessors() {
    let mut host = Host::new(2);
    let other = host.model.create_uplink(&uplink("eth1", 2)).unwrap();
    let single = host.single(3);
    assert_eq!(host.lease(single, 1), Ok(1));
    assert_eq!(host.lease_from(other, single, 1), Err(Errno::EOPNOTSUPP));
}

#[test]
fn cross_ns_netns_id() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert_eq!(host.lessee(1).unwrap().domain, Some(domain("guest")));
}

#[test]
fn delete_guest_netns() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert!(host.lessee(1).is_some());
    assert_eq!(
        host.model.delete_domain(&domain("guest")).unwrap(),
        [guest, primary]
    );
    assert_eq!(host.lessee(1), None);
    assert!(!host.is_there(primary));
}

#[test]
fn move_guest_netns() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let id = host.lease(guest, 1).unwrap();
    host.model.set_domain(guest, "elsewhere").unwrap();
    let lease = host.lessee(1).unwrap();
    assert_eq!((lease.queue, lease.domain), (id, Some(domain("elsewhere"))));
}

#[test]
fn resize_phys_no_reduction() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    assert_eq!(host.channels(host.nic, 2), Ok(()));
    assert!(host.lessee(1).is_some());
}

#[test]
fn delete_one_netkit_of_two() {
    let mut host = Host::new(3);
    let (a, guest_a) = host.pair(2);
    let (_, guest_b) = host.pair(2);
    host.lease(guest_a, 1).unwrap();
    host.lease(guest_b, 2).unwrap();
    assert!(host.lessee(1).is_some() && host.lessee(2).is_some());
    host.model.delete(a).unwrap();
    assert_eq!(host.lessee(1), None);
    assert_eq!(host.lessee(2).unwrap().ifindex, guest_b);
}

#[test]
fn bind_rx_leased_phys_queue() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    let bind = host.model.set_queue_use(host.nic, 1, QueueUse::MemoryProvider);
    assert_eq!(errno(bind), Err(Errno::EOPNOTSUPP));
    assert_eq!(host.queue(host.nic, 1).used_by, QueueUse::Free);
}

#[test]
fn resize_phys_shrink_past_leased() {
    let mut host = Host::new(4);
    let (_, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    for count in [3, 2] {
        assert_eq!(host.channels(host.nic, count), Ok(()));
        assert!(host.lessee(1).is_some());
    }
    assert_eq!(host.channels(host.nic, 1), Err(Errno::EINVAL));
}

#[test]
fn resize_virt_not_supported() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    host.lease(guest, 1).unwrap();
    for end in [primary, guest] {
        assert_eq!(host.channels(end, 1), Err(Errno::EOPNOTSUPP));
    }
    assert!(host.lessee(1).is_some());
}

#[test]
fn lease_devices_down() {
    let mut host = Host::new(2);
    let (primary, guest) = host.pair(2);
    let all = [host.nic, primary, guest];
    for device in all {
        host.model.set_up(device, false).unwrap();
    }
    assert_eq!(host.lease(guest, 1), Ok(1));
    for device in all {
        host.model.set_up(device, true).unwrap();
    }
    assert_eq!(host.lessee(1).unwrap().queue, 1);
}

#[test]
fn lease_capacity_exhaustion() {
    let mut host = Host::new(4);
    let (_, guest) = host.pair(3);
    assert_eq!([host.lease(guest, 1), host.lease(guest, 2)], [Ok(1), Ok(2)]);
    assert_eq!(host.lease(guest, 3), Err(Errno::EINVAL));
    assert!(host.lessee(1).is_some() && host.lessee(2).is_some());
    assert_eq!(host.lessee(3), None);
}

#[test]
fn resize_phys_up() {
    let mut host = Host::new(3);
    let (_, guest) = host.pair(2);
    assert_eq!(host.channels(host.nic, 2), Ok(()));
    host.lease(guest, 1).unwrap();
    assert_eq!(host.channels(host.nic, 3), Ok(()));
    assert!(host.lessee(1).is_some());
    assert_eq!(host.lessee(2), None);
}

#[test]
fn multi_ns_lease() {
    let mut host = Host::new(3);
    let guest_a = host.pair_in(Mode::L2, 2, "a").peer.unwrap();
    let guest_b = host.pair_in(Mode::L2, 2, "b").peer.unwrap();
    assert_eq!(host.lease(guest_a, 1), Ok(1));
    assert_eq!(host.lease(guest_b, 2), Ok(1));
    assert_eq!(host.lessee(1).unwrap().ifindex, guest_a);
    assert_eq!(host.lessee(2).unwrap().ifindex, guest_b);
}

#[test]
fn multi_ns_delete_one() {
    let mut host = Host::new(3);
    let guest_a = host.pair_in(Mode::L2, 2, "a").peer.unwrap();
    let pair_b = host.pair_in(Mode::L2, 2, "b");
    let guest_b = pair_b.peer.unwrap();
    host.lease(guest_a, 1).unwrap();
    host.lease(guest_b, 2).unwrap();
    host.model.delete_domain(&domain("b")).unwrap();
    assert_eq!(host.lessee(1).unwrap().ifindex, guest_a);
    assert_eq!(host.lessee(2), None);
    assert!(!host.is_there(pair_b.primary));
}

#[test]
fn move_phys_netns() {
    let mut host = Host::new(2);
    let (_, guest) = host.pair(2);
    let id = host.lease(guest, 1).unwrap();
    assert!(host.lessee(1).is_some());
    host.model.set_domain(host.nic, "elsewhere").unwrap();
    let lease = host.lessee(1).unwrap();
    assert_eq!((lease.ifindex, lease.queue), (guest, id));
}
