use std::sync::Arc;

use crate::nic::igb::control::IgbControl;
use crate::nic::igb::driver::Adapter;
use crate::nic::igb::registers as r;
use crate::nic::vfio::Events;
use crate::nic::{Control, NicError};
use crate::packet::MacAddress;

fn control() -> (Arc<Adapter>, IgbControl) {
    let adapter = Adapter::without_device(4);
    let events = Events::new(&adapter.device).unwrap();
    let control = IgbControl::new(Arc::clone(&adapter), events, MacAddress([2, 0, 0, 0, 0, 1]));
    (adapter, control)
}

fn errno(result: Result<impl Sized, NicError>) -> Option<i32> {
    result.err().map(|error| error.errno())
}

#[test]
fn the_link_is_what_the_status_register_says() {
    let (adapter, mut control) = control();
    for (status, running, speed) in [
        (0, false, None),
        (r::STATUS_LU | 2 << 6, true, Some(1000)),
        (r::STATUS_LU | 1 << 6, true, Some(100)),
        (r::STATUS_LU, true, Some(10)),
    ] {
        adapter.registers.write(r::STATUS, status);
        let link = control.link().unwrap();
        assert_eq!((link.running, link.speed, link.rx_queues), (running, speed, 4));
    }
}

#[test]
fn a_nic_that_is_gone_or_was_reset_by_others_is_noticed() {
    let (adapter, mut control) = control();
    assert_eq!(errno(control.link()), None);
    let receive: u32 = adapter.registers.read(r::RCTL);
    adapter.registers.write(r::RCTL, 0u32);
    assert_eq!(errno(control.link()), Some(libc::EIO));
    adapter.registers.write(r::RCTL, receive);
    adapter.registers.write(r::STATUS, u32::MAX);
    assert_eq!(errno(control.link()), Some(libc::ENODEV));
}

#[test]
fn queue_0_and_queues_that_are_not_there_are_not_leased() {
    let (_, mut control) = control();
    let address = MacAddress([2, 0, 0, 0, 0, 9]);
    assert!(control.steers());
    assert_eq!(errno(control.steer(0, &[address])), Some(libc::EINVAL));
    assert_eq!(errno(control.steer(4, &[address])), Some(libc::EINVAL));
    assert_eq!(errno(control.steer(3, &[address; 25])), Some(libc::ENOSPC));
    assert_eq!(errno(control.steer(3, &[address; 24])), None);
    assert_eq!(errno(control.steer(3, &[])), None);
}
