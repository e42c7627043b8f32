//! Netdevs of the host: what is known of them, and what can be changed.

mod nic_namespace;

use devices::nic::netdev::{Netdev, Steering};
use nic_namespace::frames::GUEST;
use nic_namespace::{in_namespace, ip, ip_says, veth};

#[test]
fn queues_are_counted_and_set_within_what_the_driver_can() {
    in_namespace("queues_are_counted_and_set_within_what_the_driver_can", || {
        veth(1500, 4);
        let netdev = Netdev::open("nkk0").unwrap();
        assert_eq!(netdev.rx_queues().unwrap(), 4);
        netdev.set_rx_queues(2).unwrap();
        assert_eq!(
            (netdev.rx_queues().unwrap(), netdev.link().unwrap().rx_queues),
            (2, 2)
        );
        for queues in [0, 5, u32::MAX] {
            let error = netdev.set_rx_queues(queues).unwrap_err();
            assert_eq!(error.errno(), libc::EINVAL);
            assert!(error.to_string().contains("1 to 4"), "{error}");
        }
        assert_eq!(
            Netdev::open("lo").unwrap().rx_queues().unwrap(),
            1,
            "a driver that does not say"
        );
    });
}

#[test]
fn a_driver_without_rules_gives_no_queue_away_and_says_so() {
    in_namespace("a_driver_without_rules_gives_no_queue_away_and_says_so", || {
        veth(1500, 4);
        let mut steering = Steering::new("nkk0").unwrap();
        assert!(!steering.is_possible());
        let error = steering.steer(1, &[GUEST]).unwrap_err();
        assert_eq!(error.errno(), libc::EOPNOTSUPP, "{error}");
        steering.steer(1, &[]).unwrap();
    });
}

#[test]
fn a_netdev_is_itself_under_another_name_and_not_another_of_its_name() {
    in_namespace(
        "a_netdev_is_itself_under_another_name_and_not_another_of_its_name",
        || {
            veth(1500, 1);
            let netdev = Netdev::open("nkk0").unwrap();
            ip("link set nkk0 down");
            ip("link set nkk0 name nkkother");
            assert!(!netdev.is_up().unwrap());
            ip("link add nkk0 type bridge");
            ip("link set nkk0 up mtu 999");
            assert!(!netdev.is_up().unwrap() && netdev.mtu().unwrap() == 1500);
            assert!(ip_says("link show nkk0", "mtu 999"));
            assert_ne!(Netdev::open("nkk0").unwrap().ifindex(), netdev.ifindex());
            ip("link del nkkother");
            assert_eq!(netdev.link().unwrap_err().errno(), libc::ENODEV);
            assert_eq!(netdev.speed(), None);
            assert_eq!(netdev.driver(), None);
        },
    );
}
