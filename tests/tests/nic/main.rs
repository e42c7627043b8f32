//! A PCI card that the daemon drives itself, in a machine with an IOMMU: guests reach the outside through it, every frame
//! on its wire is right, and neither a reset nor a death stops it.

mod bench;

use std::thread;
use std::time::{Duration, Instant};

use bench::{Bench, Card, IGB, VIRTIO, VIRTIO_PCI};
use netkit_tests::driver::conversation::{self, Exchange};
use netkit_tests::driver::stack::serve;
use netkit_tests::driver::{Header, Stack};
use netkit_tests::needs;
use netkit_tests::outside::{
    Checker, Forwarder, Impairment, Namespace, Watched, Wire, assert_segments, pcap, samples,
};
use netkit_tests::rig::{GuestConfig, Iperf, Nested, Result, Shell, ping};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::IpAddress;

const MTU: usize = 1500;
const STREAM: usize = 1 << 20;
/// The outside's address on both cards' wires.
const OUTSIDE: &str = "10.88.0.1";
const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x88];
const GUEST: &str = "10.88.0.2";
const PATIENCE: Duration = Duration::from_secs(60);

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn mac_octets(text: &str) -> [u8; 6] {
    let octets: Vec<u8> = text
        .split(':')
        .filter_map(|it| u8::from_str_radix(it, 16).ok())
        .collect();
    octets.try_into().expect("an Ethernet address")
}

/// A socket of the outside's that listens.
fn listen(outside: &mut Stack<Watched>, port: u16) -> SocketHandle {
    let handle = outside.add(conversation::tcp_socket());
    let socket = outside.socket::<tcp::Socket>(handle);
    socket.listen(port).expect("a free port");
    handle
}

#[test]
fn guests_reach_the_outside_through_cards_that_the_daemon_drives() {
    run(&[&IGB, &VIRTIO]).unwrap();
}

fn run(cards: &[&Card]) -> Result<()> {
    let bench = Bench::start(&[&IGB, &VIRTIO], true)?;
    refuses_what_is_no_card_of_its_own(&bench)?;
    for card in cards {
        let begun = Instant::now();
        bench.add_uplink(card)?;
        let shown = bench.host.nkctl(&format!("uplink show {}", card.uplink()))?;
        println!("{shown}");
        assert!(shown.contains(card.driver), "{shown}");

        let mut outside = bench.outside(card);
        maps_no_memory_of_guests(&bench, card, &mut outside)?;
        streams_pass_both_ways(&bench, card, &mut outside)?;
        frames_are_cut_summed_and_tagged_by_the_card(&bench, card, &mut outside)?;
        a_stream_survives_the_daemons_death(&bench, card, &mut outside)?;
        a_link_goes_and_comes_back(&bench, card, &mut outside)?;
        measures(&bench, card, &mut outside)?;
        if card.resets {
            a_stream_survives_the_cards_reset(&bench, card, &mut outside)?;
        }
        a_card_that_is_unplugged_is_used_again(&bench, card, &mut outside)?;
        println!("{}: {:?}", card.model, outside.driver.checker.tally());
        println!("{}: {:.0?} in all", card.model, begun.elapsed());
    }
    the_record_of_the_wire_is_right(&bench, cards)?;
    a_nested_guest_talks_to_a_real_host(&bench, cards[0])?;
    a_card_is_given_back_when_its_uplink_goes(&bench, cards)?;
    a_card_is_passed_to_a_guest_and_comes_back(&bench)
}

fn refuses_what_is_no_card_of_its_own(bench: &Bench) -> Result<()> {
    let used = VIRTIO.address();
    for (words, what) in [
        ("0000:00:15.0 bind", "No such device"),
        ("0000:00:00.0 bind", "0000:00:00.0"),
        (used.as_str(), "bind"),
    ] {
        let command = format!("nkctl uplink add wrong vfio {words}");
        let output = bench.host.guest().run(&command)?;
        println!("{command}\n{}", output.stdout);
        assert!(output.status != 0 && output.stdout.contains(what), "{output:?}");
    }
    // The host still has its card.
    assert_eq!(bench.driver(&VIRTIO)?, VIRTIO_PCI);
    Ok(())
}

/// The card can reach what the daemon has pinned for it, and a guest's memory is not among that.
fn maps_no_memory_of_guests(bench: &Bench, card: &Card, outside: &mut Stack<Watched>) -> Result<()> {
    let before = bench.pinned()?;
    let log = bench.begin(card, &format!("ping {OUTSIDE} 5"))?;
    let mut pinned = before;
    let mut next = Instant::now();
    bench.serve(outside, &log, |_| {
        if Instant::now() > next {
            next = Instant::now() + Duration::from_millis(300);
            pinned = pinned.max(bench.pinned().unwrap_or(u64::MAX));
        }
    })?;
    println!("{}: {before} kB are mapped for the card", card.model);
    assert!(before > 0, "nothing is mapped, so this asserts nothing");
    assert_eq!(
        pinned, before,
        "memory was mapped for the card while a guest was there"
    );
    Ok(())
}

fn streams_pass_both_ways(bench: &Bench, card: &Card, outside: &mut Stack<Watched>) -> Result<()> {
    let handle = listen(outside, 9001);
    let mut stream = Exchange::new(STREAM);
    let log = bench.begin(card, &format!("connect {OUTSIDE} 9001 {STREAM}"))?;
    let begun = Instant::now();
    let mut done = false;
    bench.serve(outside, &log, |outside| {
        done = done || stream.advance(outside.socket(handle));
    })?;
    println!("{}: a stream each way in {:.1?}", card.model, begun.elapsed());

    let handle = outside.add(conversation::tcp_socket());
    let mut stream = Exchange::new(STREAM);
    let log = bench.begin(card, &format!("listen 9002 {STREAM}"))?;
    thread::sleep(Duration::from_secs(1));
    let (socket, context) = outside.socket_and_context::<tcp::Socket>(handle);
    let to: IpAddress = GUEST.parse().expect("an address");
    socket.connect(context, (to, 9002), 40_000).expect("a way");
    let mut done = false;
    bench.serve(outside, &log, |outside| {
        done = done || stream.advance(outside.socket(handle));
    })?;
    Ok(())
}

/// The large segments and the sums are left to the card, and the wire has what it made of them.
fn frames_are_cut_summed_and_tagged_by_the_card(
    bench: &Bench,
    card: &Card,
    outside: &mut Stack<Watched>,
) -> Result<()> {
    let guest = mac_octets(&bench.guest_mac(card)?);
    let log = bench.begin(card, &format!("frames {}", mac_text(OUTSIDE_MAC)))?;
    let wire = &mut outside.driver;
    let mut came = Vec::new();
    let begun = Instant::now();
    // The tagged one is the last.
    let tagged = samples::tagged(guest, OUTSIDE_MAC);
    while came.last() != Some(&tagged) {
        assert!(begun.elapsed() < PATIENCE, "{} frames came", came.len());
        wire.wire.wait(Duration::from_millis(100));
        came.extend(wire.receive_checked().map(|(_, frame)| frame));
    }
    came.retain(|frame| is_sample(frame));
    for version in [4, 6] {
        let (header, large) = samples::large(version, guest, OUTSIDE_MAC);
        let cut = came.iter().filter(|it| is_tcp_of(it, version)).cloned();
        assert_segments(&header, &large, &cut.collect::<Vec<_>>());
    }
    assert_eq!(came.iter().filter(|it| is_udp(it)).count(), 2);

    let back = samples::tagged(OUTSIDE_MAC, guest);
    assert!(wire.wire.send(&Header::default(), &back));
    bench.serve(outside, &log, |_| ()).map(drop)
}

fn is_sample(frame: &[u8]) -> bool {
    let port = match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(34..36),
        Some([0x86, 0xdd]) => frame.get(54..56),
        _ => None,
    };
    port == Some(&samples::PORT.to_be_bytes()[..])
}

fn is_tcp_of(frame: &[u8], version: u8) -> bool {
    let protocol = if version == 4 { frame[23] } else { frame[20] };
    let is_v4 = frame[12..14] == [0x08, 0x00];
    is_v4 == (version == 4) && protocol == 6
}

fn is_udp(frame: &[u8]) -> bool {
    !is_tcp_of(frame, 4) && !is_tcp_of(frame, 6)
}

fn a_stream_survives_the_daemons_death(
    bench: &Bench,
    card: &Card,
    outside: &mut Stack<Watched>,
) -> Result<()> {
    let text = a_stream_survives(bench, card, outside, 9003, || {
        let died = Instant::now();
        bench
            .host
            .kill_daemon()
            .and_then(|()| bench.host.start_daemon())?;
        println!("{}: the daemon was back after {:.1?}", card.model, died.elapsed());
        Ok(())
    })?;
    assert!(text.contains("connected again"), "it had ended before: {text}");
    bench.await_state(card, "up")
}

/// Does something in the middle of a stream, which ends well; gives what the guest said.
fn a_stream_survives(
    bench: &Bench,
    card: &Card,
    outside: &mut Stack<Watched>,
    port: u16,
    disturb: impl FnOnce() -> Result<()> + Send,
) -> Result<String> {
    let handle = listen(outside, port);
    let mut stream = Exchange::new(4 * STREAM);
    let log = bench.begin(card, &format!("connect {OUTSIDE} {port} {}", 4 * STREAM))?;
    let begun = outside.driver.checker.tally().tcp_octets;
    let mut done = false;
    serve(outside, |outside| {
        stream.advance(outside.socket(handle));
        outside.driver.checker.tally().tcp_octets - begun > STREAM as u64
    });
    thread::scope(|scope| {
        let disturbed = scope.spawn(disturb);
        serve(outside, |outside| {
            stream.advance(outside.socket(handle));
            disturbed.is_finished()
        });
        disturbed.join().expect("the thread that disturbs")
    })?;
    bench.serve(outside, &log, |outside| {
        done = done || stream.advance(outside.socket(handle));
    })
}

fn a_link_goes_and_comes_back(bench: &Bench, card: &Card, outside: &mut Stack<Watched>) -> Result<()> {
    bench.host.guest().set_link(card.index, false)?;
    bench.await_state(card, "nocarrier")?;
    bench.host.guest().set_link(card.index, true)?;
    bench.await_state(card, "up")?;
    let log = bench.begin(card, &format!("ping {OUTSIDE} 3"))?;
    bench.serve(outside, &log, |_| ()).map(drop)
}

/// As somebody else's reset through sysfs, under the driver's feet.
fn a_stream_survives_the_cards_reset(bench: &Bench, card: &Card, outside: &mut Stack<Watched>) -> Result<()> {
    let reset = format!("echo 1 >/sys/bus/pci/devices/{}/reset", card.address());
    let begun = Instant::now();
    a_stream_survives(bench, card, outside, 9004, || {
        bench.host.guest().check(&reset).map(drop)
    })?;
    println!(
        "{}: a stream with a reset in it took {:.1?}",
        card.model,
        begun.elapsed()
    );
    Ok(())
}

/// The bus loses the card and finds it again, as with a card that is pulled and put back.
fn a_card_that_is_unplugged_is_used_again(
    bench: &Bench,
    card: &Card,
    outside: &mut Stack<Watched>,
) -> Result<()> {
    let host = bench.host.guest();
    host.check(&format!("echo 1 >/sys/bus/pci/devices/{}/remove", card.address()))?;
    bench.await_state(card, "missing")?;
    let log = bench.begin(card, "ping 10.88.0.1 1")?;
    host.check("echo 1 >/sys/bus/pci/rescan")?;
    bench.await_state(card, "up")?;
    bench.serve(outside, &log, |_| ()).map(drop)
}

/// The shortest frames, as many as there can be, and what that cost the daemon.
fn measures(bench: &Bench, card: &Card, outside: &mut Stack<Watched>) -> Result<()> {
    const SECONDS: u64 = 3;
    let stat = "awk '{print ($14 + $15) * 10}' /proc/$(pidof netkitd)/stat";
    let busy = || -> Result<f64> { Ok(bench.host.guest().check(stat)?.trim().parse().unwrap_or(0.0)) };
    let before = (outside.driver.checker.tally().frames, busy()?);
    let to = mac_text(OUTSIDE_MAC);
    let log = bench.begin(card, &format!("flood {to} {SECONDS}"))?;
    bench.serve(outside, &log, |_| ())?;
    let frames = outside.driver.checker.tally().frames - before.0;
    let seconds = (busy()? - before.1) / 1000.0;
    let rate = frames as f64 / seconds.max(0.01);
    println!(
        "{}: {frames} frames of 60 octets left in {SECONDS} s, {rate:.0} for each second of the daemon's processor time",
        card.model
    );
    assert!(frames > 1000, "{frames} frames");
    Ok(())
}

/// The record is QEMU's, not ours: what it has are the frames that the card sent and was sent.
fn the_record_of_the_wire_is_right(bench: &Bench, cards: &[&Card]) -> Result<()> {
    for card in cards {
        let tally = pcap::check(&card.pcap(bench.directory.path()), Checker::new(MTU)).unwrap();
        println!("{}: on record {tally:?}", card.model);
        assert!(tally.tcp_octets >= 12 * STREAM as u64, "{tally:?}");
        assert!(tally.tagged >= 2 && tally.udp >= 2, "{tally:?}");
    }
    Ok(())
}

/// A guest under KVM, with Linux' stack, and a real host outside.
fn a_nested_guest_talks_to_a_real_host(bench: &Bench, card: &Card) -> Result<()> {
    let test = "a_nested_guest_talks_to_a_real_host";
    if !(needs::root(test) && needs::taps(test) && needs::program(test, "iperf3")) {
        return Ok(());
    }
    let outside = Namespace::new("nic");
    let tap = outside.enter(|| Wire::tap("far0")).expect("a tap");
    outside.run(&format!(
        "ip address add {OUTSIDE}/24 dev far0; ip link set far0 up"
    ));
    let wires = [card.wire(bench.directory.path()), tap];
    let forwarder = Forwarder::join(wires, Impairment::default(), Checker::new(MTU));

    let (_, peer) = card.pair();
    let begun = Instant::now();
    let printed = bench.host.nkctl(&format!("vm args {peer} qemu memory none"))?;
    let arguments = printed
        .split_whitespace()
        .chain(["-global", "virtio-net-pci.romfile="]);
    let config = GuestConfig::new(&peer).args(arguments);
    let nested = Nested::start(bench.host.guest(), 0, config)?;
    nested.set_up("eth0", &[&format!("{GUEST}/24")])?;
    println!("the nested guest booted in {:.0?}", begun.elapsed());
    let pings = ping(&nested, OUTSIDE, 5)?;
    assert_eq!(pings.received, pings.sent, "{}", bench.host.log()?);
    for (what, iperf) in [("out", Iperf::tcp()), ("in", Iperf::tcp().reverse())] {
        let result = iperf.run(&nested, &outside, OUTSIDE)?;
        println!("{what}: {:.0} Mbit/s", result.bits_per_second / 1e6);
        assert!(result.bits_per_second > 1e6, "{what}: {result:?}");
    }
    bench.host.kill_daemon()?;
    bench.host.start_daemon()?;
    bench.await_state(card, "up")?;
    let again = Instant::now();
    while ping(&nested, OUTSIDE, 1)?.received == 0 {
        assert!(again.elapsed() < PATIENCE, "{}", bench.host.log()?);
    }
    let passed = forwarder.stop();
    println!("{passed:?}");
    assert_eq!(passed.faults, []);
    Ok(())
}

fn a_card_is_given_back_when_its_uplink_goes(bench: &Bench, cards: &[&Card]) -> Result<()> {
    for card in cards {
        bench.host.nkctl(&format!("uplink del {}", card.uplink()))?;
        assert_eq!(bench.driver(card)?, card.host_driver, "{}", card.model);
    }
    Ok(())
}

/// Whether a guest can use it is QEMU's to show; here, that the host lets it go and has it again.
fn a_card_is_passed_to_a_guest_and_comes_back(bench: &Bench) -> Result<()> {
    let address = VIRTIO.address();
    bench.host.nkctl(&format!("nic pass {address} dry-run"))?;
    assert_eq!(bench.driver(&VIRTIO)?, VIRTIO_PCI);
    let printed = bench.host.nkctl(&format!("nic pass {address}"))?;
    println!("nkctl nic pass {address}\n{printed}");
    assert!(
        printed.contains("vfio-pci") && printed.contains(&address),
        "{printed}"
    );
    assert_eq!(bench.driver(&VIRTIO)?, "vfio-pci");
    let taken = format!("nkctl uplink add wrong vfio {address}");
    assert_ne!(
        bench.host.guest().run(&taken)?.status,
        0,
        "it was passed to a guest"
    );
    bench.host.nkctl(&format!("nic return {address}"))?;
    assert_eq!(bench.driver(&VIRTIO)?, VIRTIO_PCI);
    Ok(())
}

#[test]
fn without_an_iommu_a_card_is_refused() {
    let bench = Bench::start(&[&IGB], false).unwrap();
    let command = format!("nkctl uplink add up0 vfio {} bind", IGB.address());
    let output = bench.host.guest().run(&command).unwrap();
    println!("{}", output.stdout);
    assert_ne!(output.status, 0);
    assert!(
        output.stdout.to_lowercase().contains("iommu"),
        "{}",
        output.stdout
    );
    let driver = format!("test ! -e /sys/bus/pci/devices/{}/driver", IGB.address());
    assert_eq!(
        bench.host.guest().run(&driver).unwrap().status,
        0,
        "it is still bound"
    );
}
