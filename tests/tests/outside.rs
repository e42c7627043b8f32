//! The tests' own outside: namespaces, wires, stations and captures do what the tests of uplinks take for granted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::thread;
use std::time::Duration;

use netkit_tests::driver::conversation::{self, Receiver, Sender};
use netkit_tests::driver::stack::{Elsewhere, serve};
use netkit_tests::needs;
use netkit_tests::outside::{FAR, Impairment, Lab, LabConfig, NIC, Namespace, Wire, station, wire::Sight};
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpCidr};

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PATIENCE: Duration = Duration::from_secs(20);
const STREAM: usize = 2 << 20;

/// A lab whose inside has the host's own stack on the NIC. None without root.
fn lab(test: &str, config: LabConfig) -> Option<Lab> {
    let lab = needs::root(test).then(|| Lab::new(config))?;
    lab.inside.run(&format!("ip address add {INSIDE}/24 dev {NIC}"));
    Some(lab)
}

/// The outside sends a stream to the inside, which sends it back.
fn stream_both_ways(lab: &Lab) {
    let listener = lab
        .inside
        .enter(|| std::net::TcpListener::bind((INSIDE, 9000)))
        .unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
    });
    let mut stream = lab.connect(INSIDE, 9000, PATIENCE);
    let sent = conversation::stream(STREAM);
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    echo.join().unwrap();
    assert!(sent == received, "the stream was changed");
}

#[test]
fn a_wire_without_offloads_carries_complete_frames_that_fit_its_mtu() {
    for mtu in [1500, 9000] {
        let config = LabConfig {
            mtu,
            ..LabConfig::default()
        };
        let Some(lab) = lab("a_wire_without_offloads", config) else {
            return;
        };
        let capture = lab.capture();
        stream_both_ways(&lab);
        let tally = capture.all_right();
        assert_eq!(tally.unfinished, 0);
        assert_eq!(tally.longest, 14 + mtu as usize);
        assert!(tally.tcp_octets >= 2 * STREAM as u64, "{tally:?}");
    }
}

#[test]
fn a_wire_with_offloads_leaves_work_to_the_receiver() {
    let config = LabConfig {
        offloads: true,
        ..LabConfig::default()
    };
    let Some(lab) = lab("a_wire_with_offloads", config) else {
        return;
    };
    let capture = lab.capture();
    stream_both_ways(&lab);
    let tally = capture.all_right();
    assert!(tally.unfinished > 0 && tally.longest > 14 + 1500, "{tally:?}");

    // What a checker of a real wire would have to say.
    let checker = netkit_tests::outside::Checker::new(1500);
    let capture = netkit_tests::outside::Capture::start(&lab.outside, FAR, checker).unwrap();
    stream_both_ways(&lab);
    assert!(!capture.stop().1.is_empty());
}

#[test]
fn a_bad_wire_loses_and_reorders_and_tcp_completes() {
    let config = LabConfig {
        impairment: Some(Impairment { loss: 10, reorder: 5 }),
        ..LabConfig::default()
    };
    let Some(mut lab) = lab("a_bad_wire", config) else {
        return;
    };
    stream_both_ways(&lab);
    let passed = lab.take_forwarder().unwrap().stop();
    println!("{passed:?}");
    assert!(passed.lost > 0 && passed.reordered > 0);
    assert!(passed.tally.repeats > 0, "nothing was sent again");
    assert_eq!((passed.faults, passed.tally.unfinished), (vec![], 0));
}

#[test]
fn a_wire_is_cut_removed_and_made_again() {
    let Some(mut lab) = lab("a_wire_is_cut", LabConfig::default()) else {
        return;
    };
    let ping = |lab: &Lab| {
        let output = lab.outside.attempt(&format!("ping -q -c 1 -W 1 {INSIDE}"));
        output.status.success()
    };
    let carrier = |lab: &Lab| {
        let path = format!("cat /sys/class/net/{NIC}/carrier");
        lab.inside.run(&path).trim() == "1"
    };
    assert!(ping(&lab) && carrier(&lab));
    lab.set_carrier(false);
    assert!(!carrier(&lab) && !ping(&lab));
    lab.set_carrier(true);
    assert!(carrier(&lab) && !lab.outside.run(&format!("ip -br link show {FAR}")).is_empty());
    lab.remove_wire();
    assert!(
        !lab.inside
            .attempt(&format!("ip link show {NIC}"))
            .status
            .success()
    );
    lab.make_wire();
    lab.inside.run(&format!("ip address add {INSIDE}/24 dev {NIC}"));
    assert!(ping(&lab));
}

#[test]
fn a_station_on_a_wire_talks_to_a_kernel() {
    let Some(lab) = lab("a_station_on_a_wire", LabConfig::default()) else {
        return;
    };
    let wire = lab.inside.enter(|| Wire::packet(NIC, Sight::Arriving)).unwrap();
    // The kernel's own stack must not answer for the station.
    lab.inside.run(&format!("ip address flush dev {NIC}"));
    let address = IpAddress::v4(10, 77, 0, 3);
    let outside = IpAddress::from(Lab::OUTSIDE);
    let mut station = station(wire, lab.checker(), [2, 0, 0, 0, 0, 3], IpCidr::new(address, 24));
    conversation::ping(&mut station, &mut Elsewhere, address, outside, 3);

    let listener = lab.listen(9000);
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = vec![0; STREAM];
        stream.read_exact(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
    });
    let handle = station.add(conversation::tcp_socket());
    let (socket, context) = station.socket_and_context::<tcp::Socket>(handle);
    socket.connect(context, (outside, 9000), 40000).unwrap();
    let mut sender = Sender::new(STREAM).kept_open();
    let mut receiver = Receiver::new(STREAM);
    serve(&mut station, |station| {
        let socket = station.socket::<tcp::Socket>(handle);
        sender.advance(socket);
        socket.state() != tcp::State::SynSent && receiver.advance(socket)
    });
    echo.join().unwrap();
    let tally = station.driver.checker.tally();
    assert!(
        tally.tcp_octets >= 2 * STREAM as u64 && tally.icmp >= 6,
        "{tally:?}"
    );
}

#[test]
fn a_namespace_is_gone_when_it_is_dropped() {
    if !needs::root("a_namespace_is_gone") {
        return;
    }
    let namespace = Namespace::new("test");
    let path = format!("/run/netns/{}", namespace.name());
    let sleeper = namespace.spawn("sleep 60");
    assert_eq!(
        namespace
            .run(&format!("ip netns identify {}", sleeper.id()))
            .trim(),
        namespace.name()
    );
    assert!(std::path::Path::new(&path).exists());
    drop(sleeper);
    drop(namespace);
    assert!(!std::path::Path::new(&path).exists());
}
