//! NICs that the host's kernel drives: links that come and go, what is claimed and given back, and what wakes.

mod nic_namespace;

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use devices::Refusal;
use devices::nic::{Claim, Nic, kernel};
use devices::packet::MacAddress;
use nic_namespace::frames::{OTHER, THERE, packet, plain, tcp};
use nic_namespace::{comes_true, drain, in_namespace, ip, ip_says, pair, receive, send, veth};

#[test]
fn the_netdev_receives_for_others_as_long_as_that_is_claimed() {
    in_namespace(
        "the_netdev_receives_for_others_as_long_as_that_is_claimed",
        || {
            veth(1500, 1);
            let is_promiscuous = || ip_says("-d link show nkk0", "promiscuity 1");
            let mut nic = kernel::open("nkk0", 1).unwrap();
            assert!(!is_promiscuous());
            nic.control.claim(&Claim::Everything).unwrap();
            nic.control.claim(&Claim::Everything).unwrap();
            assert!(is_promiscuous());
            // For an address, a netdev without filters such as this one would receive all as well.
            nic.control.claim(&Claim::Addresses(vec![])).unwrap();
            assert!(!is_promiscuous() && ip_says("-d link show nkk0", "allmulti 1"));
            nic.control.claim(&Claim::Everything).unwrap();
            drop(nic);
            assert!(!is_promiscuous());
        },
    );
}

#[test]
fn a_netdev_that_is_set_down_comes_back() {
    in_namespace("a_netdev_that_is_set_down_comes_back", || {
        veth(1500, 2);
        for queues in [1, 2] {
            let (mut here, there) = pair(queues);
            assert!(comes_true(|| here.control.link().unwrap().running));
            ip("link set nkk0 down");
            assert!(!here.control.link().unwrap().running);
            {
                let mut queue = here.port.queue(0).transmit();
                (0..3).for_each(|n| queue.transmit(&plain(THERE, 60, n)).unwrap());
                queue.flush();
                assert_eq!(queue.refused(), Some((Refusal::NotReady, 3)));
            }
            ip("link set nkk0 up");
            assert!(comes_true(|| here.control.link().unwrap().running));
            send(&here, &[plain(THERE, 60, 9)]);
            send(&there, &[plain(THERE, 60, 8)]);
            let count = |nic: &Nic| {
                (0..queues)
                    .map(|queue| drain(nic, queue.into()).len())
                    .sum::<usize>()
            };
            assert_eq!((count(&there), count(&here)), (1, 1));
        }
        ip("link set nkk0 down");
        let error = kernel::open("nkk0", 2).unwrap_err();
        assert_eq!(error.errno(), libc::ENETDOWN);
        kernel::open("nkk0", 1).unwrap();
    });
}

#[test]
fn a_netdev_that_is_deleted_under_load_is_missed() {
    in_namespace("a_netdev_that_is_deleted_under_load_is_missed", || {
        veth(1500, 1);
        let (mut here, mut there) = pair(1);
        let end = Instant::now() + Duration::from_secs(20);
        let mut refused = None;
        std::thread::scope(|scope| {
            // A thread has the namespace of the one that made it.
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                ip("link del nkk0");
            });
            while refused.is_none() && Instant::now() < end {
                let mut queue = here.port.queue(0).transmit();
                for n in 0..100 {
                    queue.transmit(&plain(THERE, 200, n)).unwrap();
                }
                queue.flush();
                refused = queue.refused().filter(|(why, _)| *why == Refusal::NotReady);
                drop(queue);
                receive(&there, 0, 1);
            }
        });
        assert!(refused.is_some());
        let big = packet(&[], 6, 5000, 30_000);
        assert_eq!(
            here.port.queue(0).transmit().transmit(&tcp(&big, 0, 1448)),
            Err(Refusal::NotReady)
        );
        drain(&there, 0);
        // Others of these names are not taken for them.
        veth(1500, 1);
        for nic in [&mut here, &mut there] {
            let error = nic.control.link().unwrap_err();
            assert_eq!(error.errno(), libc::ENODEV);
            assert!(error.to_string().contains("nkk"), "{error}");
        }
        assert_eq!(
            here.control
                .claim(&Claim::Addresses(vec![OTHER]))
                .unwrap_err()
                .errno(),
            libc::ENODEV
        );
    });
}

#[test]
fn the_link_is_what_the_host_says() {
    in_namespace("the_link_is_what_the_host_says", || {
        veth(1400, 4);
        let (mut here, _there) = pair(1);
        let link = here.control.link().unwrap();
        assert_eq!(
            (link.address, link.mtu, link.running),
            (MacAddress([2, 0, 0, 0, 1, 0]), 1400, true)
        );
        assert_eq!((link.speed, link.rx_queues), (Some(10_000), 4));
        assert_eq!(here.control.driver(), "kernel (veth)");
        assert!(here.control.netdev().is_some() && !here.control.steers());
        ip("link set nkk0 down");
        ip("link set nkk0 name nkkother");
        ip("link set nkkother mtu 1300");
        assert_eq!(here.control.link().unwrap().mtu, 1300, "a new name is found out");
    });
}

#[test]
fn a_worker_is_woken_by_what_arrives_after_it_armed() {
    in_namespace("a_worker_is_woken_by_what_arrives_after_it_armed", || {
        veth(1500, 1);
        let (here, there) = pair(1);
        let mut queue = there.port.queue(0).receive();
        let fd = queue.wake_fd().unwrap();
        // SAFETY: plain system call; the descriptor is leaked to the end of the test.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 0,
        };
        // SAFETY: the event outlives the call.
        let added = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) };
        assert_eq!(added, 0);
        // SAFETY: the event outlives the call.
        let mut woken = |wait| unsafe { libc::epoll_wait(epoll, &mut event, 1, wait) } == 1;
        assert!(queue.arm() && !woken(0));
        for n in 0..3 {
            // The descriptor is never read to its end, so it is an edge that wakes.
            send(&here, &[plain(THERE, 60, n)]);
            assert!(woken(2000), "frame {n}");
            assert!(!queue.arm(), "a frame is there");
            assert!(!woken(0));
        }
    });
}

#[test]
fn what_cannot_be_opened_is_said_with_what_to_do() {
    in_namespace("what_cannot_be_opened_is_said_with_what_to_do", || {
        veth(1500, 1);
        for (name, queues, errno) in [
            ("nkknone", 1, libc::ENODEV),
            ("", 1, libc::EINVAL),
            ("a-name-that-is-too-long", 1, libc::EINVAL),
            ("nkk0", 0, libc::EINVAL),
            ("nkk0", 17, libc::EINVAL),
        ] {
            let error = kernel::open(name, queues).unwrap_err();
            assert_eq!(error.errno(), errno, "{error}");
        }
        // SAFETY: plain system call; past the C library, it concerns this thread only, which ends here.
        let status = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(status, 0);
        let error = kernel::open("nkk0", 1).unwrap_err();
        assert_eq!(error.errno(), libc::EPERM);
        assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
    });
}
