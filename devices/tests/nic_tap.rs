//! Taps and macvtaps as NICs.

mod nic_namespace;

use std::fs;

use devices::nic::tap::{MacvlanMode, open_macvtap, open_tap};
use devices::nic::{Claim, Nic};
use devices::packet::{Frame, GsoType, MacAddress};
use nic_namespace::frames::{GUEST, OTHER, THERE, packet, plain, tcp};
use nic_namespace::{
    comes_true, drain, in_namespace, ip, ip_says, not_run, open, own_sysfs, receive, send, veth,
};

/// Whether frames go between two NICs in both directions.
fn check_both_ways(near: &Nic, far: &Nic) {
    for (from, to) in [(near, far), (far, near)] {
        let frames: Vec<Frame> = (0..100)
            .map(|n| plain(MacAddress::BROADCAST, 60 + 14 * usize::from(n), n))
            .collect();
        send(from, &frames);
        let received = receive(to, 0, frames.len());
        let octets: Vec<Vec<u8>> = received.into_iter().map(|received| received.octets).collect();
        let expected: Vec<Vec<u8>> = frames.iter().map(Frame::to_vec).collect();
        assert_eq!(octets, expected);
    }
    let sent = packet(&[], 6, 5000, 50_000);
    send(near, &[tcp(&sent, 0, 1448)]);
    let received = receive(far, 0, 1).remove(0);
    assert!(received.octets == sent);
    assert_eq!(
        (received.offload.gso_type, received.offload.gso_size),
        (GsoType::TcpV4, 1448)
    );
}

#[test]
fn a_tap_takes_and_gives_frames_with_what_is_left_to_do() {
    in_namespace("a_tap_takes_and_gives_frames_with_what_is_left_to_do", || {
        let tap = open_tap("nkkt", 1).unwrap();
        fs::write("/proc/sys/net/ipv6/conf/nkkt/disable_ipv6", "1").unwrap();
        ip("link set nkkt up");
        let host = open("nkkt", 1);
        check_both_ways(&tap, &host);
        let sent = packet(&[], 6, 5000, 50_000);
        send(&host, &[tcp(&sent, 0, 1448)]);
        let received = receive(&tap, 0, 1).remove(0);
        assert_eq!(
            (received.octets.len(), received.offload.gso_size),
            (sent.len(), 1448)
        );
    });
}

#[test]
fn a_tap_has_queues_and_a_link_and_is_missed_when_it_is_deleted() {
    in_namespace(
        "a_tap_has_queues_and_a_link_and_is_missed_when_it_is_deleted",
        || {
            let mut tap = open_tap("nkkt", 3).unwrap();
            assert_eq!((tap.port.queues(), tap.control.driver().as_str()), (3, "tap"));
            assert!(!tap.control.link().unwrap().running);
            ip("link set nkkt up mtu 2000");
            assert!(comes_true(|| tap.control.link().unwrap().running));
            assert_eq!(tap.control.link().unwrap().mtu, 2000);
            tap.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
            assert!(tap.port.queue(0).receive().arm());
            ip("link del nkkt");
            assert_eq!(tap.control.link().unwrap_err().errno(), libc::ENODEV);
            assert!(
                tap.port
                    .queue(1)
                    .transmit()
                    .transmit(&plain(THERE, 60, 0))
                    .is_err()
            );
            drain(&tap, 2);
        },
    );
}

#[test]
fn what_is_no_tap_is_said() {
    in_namespace("what_is_no_tap_is_said", || {
        veth(1500, 1);
        for (name, queues) in [("nkk0", 1), ("nkkt", 0), ("a/b", 1)] {
            let error = open_tap(name, queues).unwrap_err();
            assert_eq!(error.errno(), libc::EINVAL, "{error}");
        }
        for (name, lower, errno) in [
            ("nkk0", None, libc::EINVAL),
            ("nkknone", None, libc::ENODEV),
            ("nkkm", Some(("nkknone", MacvlanMode::Bridge)), libc::ENODEV),
        ] {
            let error = open_macvtap(name, lower, 1).unwrap_err();
            assert_eq!(error.errno(), errno, "{error}");
        }
    });
}

/// Runs `inside` with a veth pair, if the kernel has macvtaps, and with the namespace's own /sys.
fn with_macvtaps(test: &str, inside: impl FnOnce() + Send) {
    in_namespace(test, || {
        veth(1500, 1);
        own_sysfs();
        match open_macvtap("nkkprobe", Some(("nkk0", MacvlanMode::Bridge)), 1) {
            Err(error) if error.errno() == libc::EOPNOTSUPP => not_run(test, "the kernel has no macvtap"),
            Err(error) => panic!("{error}"),
            Ok(probe) => {
                drop(probe);
                inside();
            }
        }
    });
}

#[test]
fn a_macvtap_is_made_gives_frames_and_goes() {
    with_macvtaps("a_macvtap_is_made_gives_frames_and_goes", || {
        let modes = [
            MacvlanMode::Bridge,
            MacvlanMode::Vepa,
            MacvlanMode::Private,
            MacvlanMode::Passthru,
        ];
        for mode in modes {
            let mut macvtap = open_macvtap("nkkm", Some(("nkk0", mode)), 2).unwrap();
            assert!(ip_says(
                "-d link show nkkm",
                &format!("mode {mode:?}").to_lowercase()
            ));
            assert_eq!(
                (macvtap.port.queues(), macvtap.control.driver().as_str()),
                (2, "macvtap")
            );
            assert!(comes_true(|| macvtap.control.link().unwrap().running));
            drop(macvtap);
            assert!(!ip_says("link show", "nkkm"), "{mode:?}");
            // With one queue, so that it is known where frames arrive.
            let macvtap = open_macvtap("nkkm", Some(("nkk0", mode)), 1).unwrap();
            fs::write("/proc/sys/net/ipv6/conf/nkkm/disable_ipv6", "1").unwrap();
            drain(&macvtap, 0);
            let far = open("nkk1", 1);
            drain(&far, 0);
            check_both_ways(&macvtap, &far);
        }
    });
}

#[test]
fn a_macvtap_receives_for_what_is_claimed() {
    with_macvtaps("a_macvtap_receives_for_what_is_claimed", || {
        let far = open("nkk1", 1);
        // A group that only a guest is a member of.
        let group = MacAddress([0x33, 0x33, 0xff, 1, 2, 3]);
        // Which of four frames arrive. The kernel passes those for everyone and for groups on a little later.
        let arriving = |nic: &Nic, expected: &[u8]| -> Vec<u8> {
            let to = [GUEST, OTHER, MacAddress::BROADCAST, group];
            let frames: Vec<Frame> = (1..).zip(to).map(|(number, to)| plain(to, 60, number)).collect();
            send(&far, &frames);
            let received = [receive(nic, 0, expected.len()), drain(nic, 0)].concat();
            let mut numbers: Vec<u8> = received.iter().map(|frame| frame.octets[20]).collect();
            numbers.sort_unstable();
            numbers
        };
        let both = Claim::Addresses(vec![GUEST, OTHER]);
        let mut bridge = open_macvtap("nkkm", Some(("nkk0", MacvlanMode::Bridge)), 1).unwrap();
        fs::write("/proc/sys/net/ipv6/conf/nkkm/disable_ipv6", "1").unwrap();
        drain(&bridge, 0);
        bridge.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
        assert_eq!(arriving(&bridge, &[1, 3, 4]), [1, 3, 4]);
        assert_eq!(bridge.control.link().unwrap().address, GUEST);
        let error = bridge.control.claim(&both).unwrap_err();
        assert_eq!(error.errno(), libc::EOPNOTSUPP);
        drop(bridge);

        let mut passthru = open_macvtap("nkkm", Some(("nkk0", MacvlanMode::Passthru)), 1).unwrap();
        fs::write("/proc/sys/net/ipv6/conf/nkkm/disable_ipv6", "1").unwrap();
        drain(&passthru, 0);
        for claim in [both, Claim::Everything] {
            passthru.control.claim(&claim).unwrap();
            assert_eq!(arriving(&passthru, &[1, 2, 3, 4]), [1, 2, 3, 4], "{claim:?}");
        }
    });
}

#[test]
fn a_macvtap_that_was_there_is_given_back_as_it_was() {
    with_macvtaps("a_macvtap_that_was_there_is_given_back_as_it_was", || {
        ip("link add link nkk0 name nkkm address 02:00:00:00:07:07 type macvtap mode bridge");
        ip("link set nkkm up");
        let mut macvtap = open_macvtap("nkkm", None, 1).unwrap();
        macvtap.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
        assert!(ip_says("link show nkkm", "02:00:00:00:09:01"));
        assert!(ip_says("-d link show nkkm", "allmulti 1"));
        drop(macvtap);
        assert!(ip_says("-d link show nkkm", "allmulti 0"));
        assert!(ip_says("link show nkkm", "02:00:00:00:07:07"));
        let mut macvtap = open_macvtap("nkkm", None, 1).unwrap();
        ip("link del nkkm");
        assert_eq!(macvtap.control.link().unwrap_err().errno(), libc::ENODEV);
        // The kernel takes the frame and says nothing.
        let _ = macvtap.port.queue(0).transmit().transmit(&plain(THERE, 60, 0));
        assert!(drain(&macvtap, 0).is_empty());
    });
}
