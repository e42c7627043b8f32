//! Whose frames arrive where.

use super::veth::Epoll;
use super::*;

#[test]
fn the_host_keeps_its_own_traffic() {
    with_cable("the host's traffic", "", |cable| {
        ip(&format!("addr add 10.9.0.1/24 dev {NEAR}"));
        let station = cable.far(|| {
            ip(&format!("addr add 10.9.0.2/24 dev {FAR}"));
            Station::at(FAR)
        });
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        station.send(&frame(GUEST, 1, 100)).unwrap();
        assert_eq!(wait(&nic, 0), Some(frame(GUEST, 1, 100)));
        let ping = run("ping", "-c 3 -i 0.2 -W 2 10.9.0.2");
        assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
        station.send(&frame(GUEST, 2, 100)).unwrap();
        assert_eq!(wait(&nic, 0), Some(frame(GUEST, 2, 100)));
    });
}

#[test]
fn frames_for_groups_reach_the_host_and_us_once() {
    with_cable("frames for groups", "", |cable| {
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        let (station, host) = (cable.station(), Station::at(NEAR));
        for group in [MacAddress::BROADCAST, MacAddress([0x33, 0x33, 0, 0, 0, 1])] {
            station.send(&frame(group, 3, 200)).unwrap();
            assert_eq!(wait(&nic, 0), Some(frame(group, 3, 200)));
            assert_eq!(host.receive(500), Some(frame(group, 3, 200)));
            assert_eq!((wait(&nic, 0), host.receive(0)), (None, None), "once");
        }
    });
}

#[test]
fn what_is_claimed_arrives_here_and_the_rest_at_the_host() {
    with_cable("claims", "", |cable| {
        let (station, host) = (cable.station(), Station::at(NEAR));
        let other = MacAddress([2, 0, 0, 0, 0, 8]);
        let mut nic = open(&config()).unwrap();
        let expect = |nic: &Nic, to: MacAddress, here: bool| {
            let octets = frame(to, 4, 64);
            station.send(&octets).unwrap();
            let (ours, hosts) = (wait(nic, 0).is_some(), host.receive(100).is_some());
            assert_eq!((ours, hosts), (here, !here), "{to}");
        };
        expect(&nic, GUEST, false);
        nic.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
        expect(&nic, GUEST, true);
        expect(&nic, other, false);
        nic.control.claim(&Claim::Addresses(vec![other])).unwrap();
        expect(&nic, GUEST, false);
        expect(&nic, other, true);
        nic.control.claim(&Claim::Everything).unwrap();
        expect(&nic, GUEST, true);
        expect(&nic, MacAddress::BROADCAST, true);
        nic.control.claim(&Claim::Addresses(vec![])).unwrap();
        expect(&nic, other, false);
        drop(nic);
        let nic = open_for(&Claim::Everything);
        expect(&nic, other, true);
        drop(nic);
        station.send(&frame(other, 5, 64)).unwrap();
        assert!(host.receive(500).is_some(), "the program is gone");
    });
}

#[test]
fn each_queue_has_its_frames() {
    with_cable("two queues", "numrxqueues 2 numtxqueues 2", |cable| {
        let mut nic = open(&XdpConfig {
            queues: 2,
            ..config()
        })
        .unwrap();
        nic.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
        assert_eq!((nic.port.queues(), nic.control.link().unwrap().rx_queues), (2, 2));
        assert!(!nic.control.steers());
        let station = cable.station();
        for queue in 0..2 {
            send(&nic, queue, &frame(GUEST, queue as u32, 80));
            assert_eq!(station.receive(500), Some(frame(GUEST, queue as u32, 80)));
        }
        for number in 0..64 {
            station.send(&frame(GUEST, number, 80)).unwrap();
        }
        let (mut found, end) = (0, Instant::now() + PATIENCE);
        while found < 64 {
            found += take(&nic, 0).len() + take(&nic, 1).len();
            assert!(Instant::now() < end, "{found} of 64");
        }
    });
}

#[test]
fn who_waits_is_woken_by_each_kind_of_frame() {
    with_cable("waking", "", |cable| {
        let nic = open_for(&Claim::Addresses(vec![GUEST]));
        let station = cable.station();
        let fd = nic.port.queue(0).receive().wake_fd().expect("a descriptor");
        let epoll = Epoll::new(&[fd]);
        for round in 0..20 {
            let to = if round % 2 == 0 {
                GUEST
            } else {
                MacAddress::BROADCAST
            };
            while !take(&nic, 0).is_empty() || !nic.port.queue(0).receive().arm() {}
            while epoll.wait(0) {}
            station.send(&frame(to, round, 64)).unwrap();
            assert!(epoll.wait(5000), "round {round}");
            assert!(!nic.port.queue(0).receive().arm(), "a frame is there");
            assert_eq!(wait(&nic, 0), Some(frame(to, round, 64)));
        }
    });
}
