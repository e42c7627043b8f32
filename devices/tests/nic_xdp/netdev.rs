//! A netdev that cannot be had, goes away, or is unlike others.

use super::veth::{is_readable, own_sysfs};
use super::*;

#[test]
fn a_queue_or_netdev_that_cannot_be_had_is_told_with_what_to_do() {
    with_cable("queues that are taken", "numrxqueues 2 numtxqueues 2", |_| {
        let refusal = |config: &XdpConfig| {
            let error = open(config).map(drop).expect_err("refused");
            (error.errno(), error.to_string())
        };
        let nothing = refusal(&XdpConfig {
            ifname: "nkxnone".to_owned(),
            ..config()
        });
        assert_eq!(nothing.0, libc::ENODEV, "{}", nothing.1);
        let beyond = refusal(&XdpConfig {
            first_queue: 1,
            queues: 2,
            ..config()
        });
        assert_eq!(beyond.0, libc::EINVAL);
        assert!(beyond.1.contains("it has 2, counted from 0"), "{}", beyond.1);
        let none = refusal(&XdpConfig {
            queues: 0,
            ..config()
        });
        assert_eq!(none.0, libc::EINVAL, "{}", none.1);
        let zero_copy = refusal(&XdpConfig {
            mode: Mode::ZeroCopy,
            ..config()
        });
        assert_eq!(zero_copy.0, libc::EOPNOTSUPP, "{}", zero_copy.1);
        assert!(zero_copy.1.contains("no zero-copy AF_XDP"), "{}", zero_copy.1);

        let nic = open_for(&Claim::Everything);
        assert_eq!(nic.control.driver(), "af_xdp (copy)");
        let taken = refusal(&config());
        assert_eq!(taken.0, libc::EBUSY);
        assert!(taken.1.contains("queue 0 of nkx0"), "{}", taken.1);
        let program = refusal(&XdpConfig {
            first_queue: 1,
            ..config()
        });
        assert_eq!(program.0, libc::EBUSY);
        assert!(
            program.1.contains("`ip link set dev nkx0 xdp off`"),
            "{}",
            program.1
        );
        drop(nic);
        drop(open(&config()).expect("the queue is free again"));
    });
}

#[test]
fn a_frame_that_the_other_end_refuses_does_not_stop_the_queue() {
    with_cable("too long frames", "", |cable| {
        ip(&format!("link set dev {NEAR} mtu 9000"));
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        let station = cable.station();
        let mut transmit = nic.port.queue(0).transmit();
        for round in 0..100 {
            for len in [9000, 64, 5000, 1514] {
                transmit
                    .transmit(&Frame::from_octets(&frame(GUEST, round, len)))
                    .expect("room");
            }
            transmit.flush();
            assert_eq!(station.receive(500), Some(frame(GUEST, round, 64)));
            assert_eq!(station.receive(500), Some(frame(GUEST, round, 1514)));
        }
        assert_eq!(transmit.refused(), Some((Refusal::Failed, 200)));
        assert_eq!(transmit.refused(), None);
        let longer = Frame::from_octets(&frame(GUEST, 0, 9000 + 19));
        assert_eq!(transmit.transmit(&longer), Err(Refusal::TooLong));
        assert!(transmit.transmit(&Frame::from_octets(&[0; 13])).is_err());
    });
}

#[test]
fn a_netdev_that_is_deleted_under_load_is_told_and_nothing_hangs() {
    with_cable("deletion", "", |cable| {
        let mut nic = open_for(&Claim::Addresses(vec![GUEST]));
        let station = cable.station();
        echo(&nic, &station, 500, |_| 300);
        let octets = Frame::from_octets(&frame(GUEST, 0, 300));
        let start = Instant::now();
        let mut refusal = None;
        while refusal.is_none() && start.elapsed() < PATIENCE {
            let _ = station.send(&frame(GUEST, 0, 300));
            if start.elapsed() > Duration::from_millis(100) && nic.control.link().is_ok() {
                ip(&format!("link del dev {NEAR}"));
            }
            take(&nic, 0);
            let mut transmit = nic.port.queue(0).transmit();
            refusal = transmit.transmit(&octets).err();
            transmit.flush();
        }
        assert_eq!(refusal, Some(Refusal::NotReady));
        assert_eq!(nic.control.link().expect_err("gone").errno(), libc::ENODEV);
        let claim = nic
            .control
            .claim(&Claim::Addresses(vec![GUEST, MacAddress([2; 6])]));
        assert!(claim.is_err(), "{claim:?}");
        assert!(take(&nic, 0).is_empty());
        nic.port.queue(0).receive().arm();
    });
}

#[test]
fn a_netdev_that_goes_down_and_up_again_is_used_again() {
    with_cable("down and up", "numrxqueues 2 numtxqueues 2", |cable| {
        let config = XdpConfig {
            queues: 2,
            ..config()
        };
        let mut nic = open(&config).unwrap();
        nic.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
        let station = cable.station();
        let octets = Frame::from_octets(&frame(GUEST, 0, 64));
        for who_has_it_sent in ["the next frame", "who waits"] {
            ip(&format!("link set dev {NEAR} down"));
            assert!(!nic.control.link().unwrap().running);
            let fd = nic.port.queue(1).receive().wake_fd().unwrap();
            let mut transmit = nic.port.queue(1).transmit();
            let mut burst = || {
                let result = transmit.transmit(&octets);
                transmit.flush();
                result
            };
            assert_eq!((burst(), burst()), (Ok(()), Err(Refusal::NotReady)));
            ip(&format!("link set dev {NEAR} up"));
            let end = Instant::now() + PATIENCE;
            while !nic.control.link().unwrap().running {
                assert!(Instant::now() < end);
            }
            if who_has_it_sent == "who waits" {
                nic.port.queue(1).receive().arm();
                is_readable(fd, 0);
                assert!(station.receive(500).is_some(), "the one that waited");
                assert_eq!(burst(), Ok(()));
                assert!(station.receive(500).is_some(), "the new one");
            } else {
                assert_eq!(burst(), Ok(()));
                assert!(
                    station.receive(500).is_some() && station.receive(500).is_some(),
                    "both"
                );
            }
            assert!(station.receive(100).is_none());
        }
    });
}

#[test]
fn a_netdev_whose_driver_runs_no_programs_is_served_too() {
    with_cable("generic XDP", "", |cable| {
        ip("link add nkxbr type bridge");
        ip(&format!("link set dev {NEAR} master nkxbr"));
        ip("link set dev nkxbr up");
        let config = XdpConfig {
            ifname: "nkxbr".to_owned(),
            ..config()
        };
        let mut nic = open(&config).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(nic.control.driver(), "af_xdp (copy, generic)");
        nic.control.claim(&Claim::Everything).unwrap();
        echo(&nic, &cable.station(), 2000, |number| {
            random_len(number, 18, 1514)
        });
    });
}

#[test]
fn a_netdev_that_is_polled_does_not_interrupt_and_is_given_back_as_it_was() {
    with_cable("busy polling", "", |cable| {
        let config = XdpConfig {
            busy_poll: true,
            ..config()
        };
        let elsewhere = open(&config).map(drop).expect_err("another namespace's settings");
        assert!(
            elsewhere.to_string().contains("not under /sys/class/net"),
            "{elsewhere}"
        );
        own_sysfs();
        let settings = || {
            ["napi_defer_hard_irqs", "gro_flush_timeout"]
                .map(|name| std::fs::read_to_string(format!("/sys/class/net/{NEAR}/{name}")).unwrap())
        };
        let found = settings();
        let mut nic = open(&config).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings(), ["2\n", "200000\n"]);
        nic.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
        echo(&nic, &cable.station(), 5000, |number| {
            random_len(number, 18, 1514)
        });
        assert!(nic.port.queue(0).receive().wake_fd().is_some());
        drop(nic);
        assert_eq!(settings(), found);
    });
}

#[test]
fn vlan_tags_stay_in_frames_for_as_long_as_a_netdev_is_used() {
    with_cable("VLAN tags", "", |_| {
        let strips = || {
            let features = run("ethtool", &format!("-k {NEAR}")).stdout;
            let features = String::from_utf8_lossy(&features).into_owned();
            features.contains("rx-vlan-offload: on")
        };
        assert!(strips());
        let nic = open(&config()).unwrap_or_else(|error| panic!("{error}"));
        assert!(!strips());
        drop(nic);
        assert!(strips());
    });
}

#[test]
fn who_may_not_use_a_netdev_is_told_what_is_missing() {
    with_cable("capabilities", "", |_| {
        drop_capabilities();
        let error = open(&config()).map(drop).expect_err("refused");
        assert_eq!(error.errno(), libc::EPERM, "{error}");
        assert!(
            error
                .to_string()
                .contains("needs CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW"),
            "{error}"
        );
    });
}

/// Takes all capabilities from the calling thread.
fn drop_capabilities() {
    // linux/capability.h: _LINUX_CAPABILITY_VERSION_3, this thread; nothing in each of three sets of 64
    let (header, data) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    // SAFETY: plain system call with the version's lengths; it concerns the calling thread only.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0);
}
