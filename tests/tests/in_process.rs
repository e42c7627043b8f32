//! Guests without virtual machines on a real daemon: what one sends is what the other gets, whatever each of them
//! negotiated.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use netkit_api::{AttachmentSpec, DeviceSet, Mode, NetkitChange, Policy, TapSpec};
use netkit_tests::driver::conversation::{self, Receiver, Sender, ping, transfer};
use netkit_tests::driver::header::{GSO_NONE, GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM};
use netkit_tests::driver::packet::{self, Carried, Host, carried, leave_segmentation};
use netkit_tests::driver::stack::serve;
use netkit_tests::driver::{
    End, Format, Header, NetDriver, Pair, PairConfig, Random, Received, Setup, Stack, feature, namespace,
};
use netkit_tests::in_both_formats;
use netkit_tests::netkitd::Netkitd;
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{IpAddress, IpCidr};
use std::time::Duration;

in_both_formats!(
    l2_guests_converse_over_ipv4,
    l2_guests_converse_over_ipv6,
    l3_guests_converse_over_ipv4,
    l3_guests_converse_over_ipv6,
    streams_pass_between_guests_of_all_combinations_of_features,
    large_frames_arrive_whole_or_in_right_segments,
    a_guest_and_the_host_exchange_datagrams_over_a_tap,
    a_guest_and_the_host_exchange_streams_over_a_tap,
    an_l3_guest_and_the_host_exchange_streams_over_a_tap,
    every_frame_is_counted_once,
);

const STREAM: usize = 3 << 20;

/// Addresses of the two guests of a pair, IPv4 or IPv6.
fn addresses(version: u8) -> [IpAddress; 2] {
    match version {
        4 => [IpAddress::v4(10, 1, 0, 1), IpAddress::v4(10, 1, 0, 2)],
        _ => [
            IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 1),
            IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        ],
    }
}

fn prefix(address: IpAddress) -> u8 {
    if matches!(address, IpAddress::Ipv4(_)) {
        24
    } else {
        64
    }
}

/// Guests with a stack on both ends of a pair.
fn guests(pair: &Pair, setups: [Setup; 2], version: u8) -> [Stack; 2] {
    let [first, second] = setups;
    let stack = |end: &End, setup: Setup, address: IpAddress| {
        let driver = end.connect(setup).unwrap();
        Stack::new(
            driver,
            end.guest_address(),
            &[IpCidr::new(address, prefix(address))],
        )
    };
    let [a, b] = addresses(version);
    [stack(&pair.a, first, a), stack(&pair.b, second, b)]
}

/// Every MTU and number of queues: an echo both ways, and a stream both ways.
fn converse(format: Format, mode: Mode, version: u8) {
    let daemon = Netkitd::start();
    let [from, to] = addresses(version);
    for (mtu, queues) in [(1500, 1), (9000, 1), (1500, 2), (9000, 2)] {
        let config = PairConfig { mode, mtu, queues };
        let pair = Pair::with(&daemon, &format!("m{mtu}q{queues}"), config);
        let setup = Setup {
            pairs: usize::from(queues),
            mtu: mtu as usize,
            ..format.linux()
        };
        let [mut a, mut b] = guests(&pair, [setup.clone(), setup], version);
        ping(&mut a, &mut b, from, to, 5);
        ping(&mut b, &mut a, to, from, 5);
        for flow in 0..2 * queues {
            transfer(&mut a, &mut b, to, (40000 + flow, 80), STREAM);
        }
        transfer(&mut b, &mut a, from, (41000, 81), STREAM);
        for (end, driver) in [(&pair.a, &a.driver), (&pair.b, &b.driver)] {
            assert_eq!(end.drops(), [], "{mode:?} IPv{version} MTU {mtu} queues {queues}");
            // All transmit queues were used, or the test did not test them. Where a flow arrives is the daemon's to choose.
            for queue in driver.queues.iter().skip(1).step_by(2) {
                assert_ne!(queue.ring.used_index(&driver.memory), 0, "a queue lay idle");
            }
        }
        daemon.client().delete(&pair.a.device).unwrap();
    }
}

fn l2_guests_converse_over_ipv4(format: Format) {
    converse(format, Mode::L2, 4);
}

fn l2_guests_converse_over_ipv6(format: Format) {
    converse(format, Mode::L2, 6);
}

fn l3_guests_converse_over_ipv4(format: Format) {
    converse(format, Mode::L3, 4);
}

fn l3_guests_converse_over_ipv6(format: Format) {
    converse(format, Mode::L3, 6);
}

/// One of the 32 combinations of what a driver may take.
fn combination(format: Format, bits: u32) -> Setup {
    let on = |bit: u32| bits & 1 << bit != 0;
    let mut features = feature::VERSION_1;
    if on(0) {
        features |= feature::CSUM | feature::GUEST_CSUM;
    }
    if on(0) && on(1) {
        features |= feature::HOST_OFFLOADS | feature::GUEST_OFFLOADS;
    }
    if on(2) {
        features |= feature::MRG_RXBUF;
    }
    if on(3) {
        features |= feature::EVENT_IDX;
    }
    if on(4) {
        features |= feature::INDIRECT;
    }
    Setup {
        // Layouts differ from combination to combination too: 12 is the header alone.
        transmit_cuts: [&[][..], &[12], &[5, 4, 30, 1], &[12, 14, 20]][(bits / 2 % 4) as usize],
        ..format.with(features)
    }
}

fn streams_pass_between_guests_of_all_combinations_of_features(format: Format) {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    for bits in 0..32u32 {
        // Every combination sends and receives, each time against another one.
        let setups = [
            combination(format, bits),
            combination(format, (bits * 11 + 5) % 32),
        ];
        let [mut a, mut b] = guests(&pair, setups, if bits % 2 == 0 { 4 } else { 6 });
        let [from, to] = addresses(if bits % 2 == 0 { 4 } else { 6 });
        println!("{bits} {:?} {:?}", pair.a.drops(), pair.b.drops());
        transfer(&mut a, &mut b, to, (40000, 80), 1 << 20);
        transfer(&mut b, &mut a, from, (40001, 81), 1 << 20);
    }
}

const A: Host = Host {
    mac: [2, 0, 0, 0, 0, 1],
    ip: std::net::IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)),
    port: 1000,
};
const B: Host = Host {
    mac: [2, 0, 0, 0, 0, 2],
    ip: std::net::IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)),
    port: 2000,
};

fn over_ipv6(host: Host) -> Host {
    let [.., last] = host.mac;
    Host {
        ip: std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)).into(),
        ..host
    }
}

/// A frame that stands for several: what its sender writes, and the feature with which a receiver takes it whole.
struct Large {
    name: &'static str,
    frame: Vec<u8>,
    header: Header,
    feature: u64,
}

const MSS: u16 = 1400;
const SEQUENCE: u32 = 0xffff_8000;

fn large_frames() -> Vec<Large> {
    let large = |name, mut frame: Vec<u8>, size, feature| {
        let header = leave_segmentation(&mut frame, size);
        Large {
            name,
            frame,
            header,
            feature,
        }
    };
    let payload = |len| Random::new(len as u64).octets(len);
    let (a6, b6) = (over_ipv6(A), over_ipv6(B));
    let largest = 65535 - 20 - 20;
    vec![
        large(
            "TSO4",
            packet::tcp(A, B, SEQUENCE, &payload(40_000)),
            MSS,
            feature::GUEST_TSO4,
        ),
        large(
            "TSO4, largest",
            packet::tcp(A, B, 1, &payload(largest)),
            MSS,
            feature::GUEST_TSO4,
        ),
        large(
            "TSO6",
            packet::tcp(a6, b6, SEQUENCE, &payload(40_001)),
            MSS,
            feature::GUEST_TSO6,
        ),
        large(
            "USO4",
            packet::udp(A, B, &payload(20_000)),
            MSS,
            feature::GUEST_USO,
        ),
        large(
            "USO6",
            packet::udp(a6, b6, &payload(4_345)),
            MSS,
            feature::GUEST_USO,
        ),
    ]
}

/// Receivers with every set of offloads and every kind of ring.
fn receivers(format: Format) -> Vec<Setup> {
    let offloads = [0, feature::GUEST_CSUM, feature::GUEST_OFFLOADS];
    let rings = [
        0,
        feature::MRG_RXBUF,
        feature::EVENT_IDX | feature::INDIRECT,
        feature::MRG_RXBUF | feature::INDIRECT,
    ];
    let mut all = Vec::new();
    for offload in offloads {
        all.extend(rings.map(|ring| format.with(feature::VERSION_1 | offload | ring)));
    }
    all
}

fn large_frames_arrive_whole_or_in_right_segments(format: Format) {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    let sender = Setup {
        transmit_cuts: &[12, 14, 1000, 7],
        ..format.linux()
    };
    let mut a = pair.a.connect(sender).unwrap();
    let mut frames = 0;
    for setup in receivers(format) {
        let mut b = pair.b.connect(setup.clone()).unwrap();
        for large in large_frames() {
            a.send(0, &large.header, &large.frame);
            frames += 1;

            if setup.features & large.feature == large.feature {
                arrives_whole(&large, &b.receive());
            } else {
                arrives_in_segments(&large, &mut b);
            }
            assert!(b.poll().is_none(), "{}: a frame too many", large.name);
        }
    }
    a.flush();
    let statistics = pair.a.statistics();
    assert_eq!((statistics.tx_packets, statistics.tx_dropped), (frames, 0));
}

fn arrives_whole(large: &Large, received: &Received) {
    let sent = carried(&large.header, &large.frame);
    let Carried { payload, headers, .. } = carried(&received.header, &received.frame);
    assert!(payload == sent.payload, "{}: the payload was changed", large.name);
    assert_eq!(received.frame, large.frame, "{}", large.name);
    let expected = Header {
        hdr_len: headers as u16,
        num_buffers: received.buffers.len() as u16,
        ..large.header
    };
    assert_eq!(received.header, expected, "{}", large.name);
}

fn arrives_in_segments(large: &Large, b: &mut NetDriver) {
    let sent = carried(&large.header, &large.frame);
    let count = sent.payload.len().div_ceil(usize::from(MSS));
    let mut payload = Vec::new();
    for index in 0..count {
        let received = b.receive();
        let offloaded = if b.has(feature::GUEST_CSUM) { NEEDS_CSUM } else { 0 };
        assert_eq!(
            (received.header.gso_type, received.header.flags),
            (GSO_NONE, offloaded),
            "{}",
            large.name
        );
        let part = carried(&received.header, &received.frame);
        let is_last = index + 1 == count;
        assert!(
            part.payload.len() == usize::from(MSS) || is_last,
            "{}: segment {index} has {} octets",
            large.name,
            part.payload.len()
        );
        if large.header.gso_type != GSO_UDP_L4 {
            let expected = sent.sequence.wrapping_add(payload.len() as u32);
            assert_eq!(part.sequence, expected, "{}: segment {index}", large.name);
            assert_eq!(part.push, is_last, "{}: segment {index}", large.name);
        }
        if matches!(large.header.gso_type, GSO_TCPV4) {
            assert_eq!(
                part.ident,
                sent.ident.wrapping_add(index as u16),
                "{}",
                large.name
            );
        }
        payload.extend(part.payload);
    }
    assert!(payload == sent.payload, "{}: the payload was changed", large.name);
}

/// A guest on one end of a pair, a tap of the host on the other, seen from inside the tap's namespace.
fn beside_a_tap(format: Format, mode: Mode, name: &str, inside: impl FnOnce(&mut Stack) + Send) {
    let daemon = Netkitd::start();
    let config = PairConfig {
        mode,
        ..PairConfig::default()
    };
    let pair = Pair::unattached(&daemon, "nk", config);
    pair.b.attach(netkit_api::SocketMode::Server, 1);
    let tap = AttachmentSpec::Tap(TapSpec {
        ifname: Some(format!(
            "{name}{}{}",
            &format!("{format:?}")[..1],
            std::process::id() % 100_000
        )),
        ..TapSpec::default()
    });
    daemon.client().attach(&pair.a.device, &tap).unwrap();
    let tap = pair.a.shown().attachment.ifname.unwrap();
    let driver = pair.b.connect(format.linux()).unwrap();
    let address = IpCidr::new(IpAddress::v4(10, 1, 0, 2), 24);
    let mut guest = Stack::new(driver, pair.b.guest_address(), &[address]);
    namespace::with_tap(&tap, || {
        namespace::ip(&format!("addr add 10.1.0.1/24 dev {tap}"));
        namespace::ip(&format!("link set {tap} up"));
        inside(&mut guest);
    });
    let (guest, host) = (pair.b.statistics(), pair.a.statistics());
    assert_ne!(guest.tx_packets, 0);
    assert_eq!(
        (guest.tx_packets, host.tx_packets),
        (host.rx_packets, guest.rx_packets)
    );
}

fn udp_echo(guest: &mut Stack) {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(7).unwrap();
    let handle = guest.add(socket);
    let host = UdpSocket::bind("10.1.0.1:0").unwrap();
    host.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for round in 0..20 {
        let data = Random::new(round).octets(1200);
        host.send_to(&data, "10.1.0.2:7").unwrap();
        serve(guest, |guest| guest.socket::<udp::Socket>(handle).can_recv());
        let socket = guest.socket::<udp::Socket>(handle);
        let (received, from) = socket.recv().map(|(data, from)| (data.to_vec(), from)).unwrap();
        assert!(received == data, "another datagram than the host sent");
        socket.send_slice(&received, from).unwrap();
        // The stack drops what it would send while it looks for its neighbour; the host's socket waits for one answer.
        let mut answer = [0; 1500];
        host.set_nonblocking(true).unwrap();
        let mut len = None;
        serve(guest, |_| {
            len = host.recv(&mut answer).ok();
            len.is_some()
        });
        assert!(
            answer[..len.unwrap()] == data,
            "another datagram than the guest sent"
        );
        host.set_nonblocking(false).unwrap();
    }
}

/// The host sends a stream to the guest, with segmentation left to the tap's other end, and the guest sends one back.
fn tcp_both_ways(guest: &mut Stack) {
    let listener = TcpListener::bind("10.1.0.1:9000").unwrap();
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = vec![0; STREAM];
        stream.read_exact(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
        octets
    });
    let handle = guest.add(conversation::tcp_socket());
    let (socket, context) = guest.socket_and_context::<tcp::Socket>(handle);
    socket
        .connect(context, (IpAddress::v4(10, 1, 0, 1), 9000), 40000)
        .unwrap();
    let mut sender = Sender::new(STREAM).kept_open();
    let mut receiver = Receiver::new(STREAM);
    serve(guest, |guest| {
        let socket = guest.socket::<tcp::Socket>(handle);
        sender.advance(socket);
        // The host closes when it has sent everything.
        socket.state() != tcp::State::SynSent && receiver.advance(socket)
    });
    host.join().unwrap();
}

fn a_guest_and_the_host_exchange_datagrams_over_a_tap(format: Format) {
    beside_a_tap(format, Mode::L2, "nku", udp_echo);
}

fn a_guest_and_the_host_exchange_streams_over_a_tap(format: Format) {
    beside_a_tap(format, Mode::L2, "nkt", tcp_both_ways);
}

fn an_l3_guest_and_the_host_exchange_streams_over_a_tap(format: Format) {
    beside_a_tap(format, Mode::L3, "nkv", tcp_both_ways);
}

/// What a sender's counters say: transmitted, dropped, and why.
fn counted(end: &End) -> (u64, u64, Vec<(String, u64)>) {
    let statistics = end.statistics();
    (statistics.tx_packets, statistics.tx_dropped, end.drops())
}

fn every_frame_is_counted_once(format: Format) {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    let small = Setup {
        size: 16,
        ..format.plain()
    };
    let mut a = pair.a.connect(format.plain()).unwrap();
    let mut sent = 0;
    let mut expected: Vec<(String, u64)> = Vec::new();
    let frame = packet::ethernet(A.mac, B.mac, &[7; 100]);
    let mut drops = |a: &mut NetDriver, reason: &str, count: u64, header: &Header, frame: &[u8]| {
        for _ in 0..count {
            a.send(0, header, frame);
        }
        a.flush();
        sent += count;
        if count > 0 && !reason.is_empty() {
            expected.push((reason.to_owned(), count));
        }
        let dropped: u64 = expected.iter().map(|(_, frames)| frames).sum();
        let mut reasons = expected.clone();
        let (tx, tx_dropped, mut found) = counted(&pair.a);
        reasons.sort();
        found.sort();
        assert_eq!((tx + tx_dropped, tx_dropped), (sent, dropped), "{reason}");
        assert_eq!(found, reasons, "{reason}");
    };
    let none = Header::default();

    drops(&mut a, "receiver_not_ready", 3, &none, &frame);
    let mut b = pair.b.connect(small).unwrap();
    drops(&mut a, "", 10, &none, &frame);
    for _ in 0..10 {
        assert_eq!(b.receive().frame, frame);
    }
    let set = |end: &End, up: bool| {
        end.set(&DeviceSet {
            up: Some(up),
            ..DeviceSet::default()
        });
    };
    set(&pair.b, false);
    drops(&mut a, "peer_down", 4, &none, &frame);
    set(&pair.b, true);
    set(&pair.a, false);
    drops(&mut a, "sender_down", 5, &none, &frame);
    set(&pair.a, true);
    let policy = |policy| NetkitChange {
        policy: Some(policy),
        ..NetkitChange::default()
    };
    daemon
        .client()
        .change(&pair.a.device, &policy(Policy::Blackhole))
        .unwrap();
    drops(&mut a, "policy_blackhole", 6, &none, &frame);
    daemon
        .client()
        .change(&pair.a.device, &policy(Policy::Forward))
        .unwrap();
    drops(&mut a, "runt", 2, &none, &frame[..13]);
    drops(
        &mut a,
        "frame_too_long",
        7,
        &none,
        &packet::ethernet(A.mac, B.mac, &[7; 3000]),
    );
    let mut udp = packet::udp(A, B, &[7; 64]);
    let unasked = packet::leave_checksum(&mut udp);
    drops(&mut a, "bad_offload_header", 8, &unasked, &udp);
    a.front_end.set_vring_enable(1, false).unwrap();
    drops(&mut a, "ring_disabled", 9, &none, &frame);
    a.front_end.set_vring_enable(1, true).unwrap();
    assert!(b.poll().is_none(), "a frame that counts as dropped arrived");

    // The receiver has 16 buffers and gives none back.
    drops(&mut a, "", 16, &none, &frame);
    drops(&mut a, "receiver_ring_full", 11, &none, &frame);
    for _ in 0..16 {
        assert_eq!(b.take(0).unwrap().frame, frame);
    }
    assert!(b.take(0).is_none());
    daemon.client().detach(&pair.b.device).unwrap();
    drops(&mut a, "no_receiver", 2, &none, &frame);
    let received = pair.b.statistics();
    assert_eq!(
        (received.rx_packets, received.rx_bytes),
        (26, 26 * frame.len() as u64)
    );
}
