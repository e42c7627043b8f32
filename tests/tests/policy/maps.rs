//! Maps while programs run: what the outside reads, and what it writes.

use std::time::{Duration, Instant};

use netkit_api::MapRequest;
use netkit_tests::driver::conversation::{connect, ping};
use netkit_tests::driver::{End as DeviceEnd, NetDriver, Pair, PairConfig, Setup, Stack, packet};
use netkit_tests::netkitd::Netkitd;
use netkit_tests::programs::{self, Programs, from_hex};
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpCidr};
use vmm_glue::client::End;

use crate::{A, B, Host, assert_nothing, daemon_with, dropped, frame};

#[test]
fn counters_agree_with_the_frames() {
    let Some((daemon, programs)) = daemon_with("maps", &["--workers", "2"]) else {
        return;
    };
    let config = PairConfig {
        queues: 2,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    let setup = Setup {
        pairs: 2,
        ..Setup::default()
    };
    let (mut a, mut b) = pair.connect(&setup).unwrap();
    programs.attach(&pair.a.device, End::Primary, "count");
    let mut octets = 0;
    for round in 0..300 {
        let frame = frame(&vec![1; round]);
        a.send(round % 2, &Default::default(), &frame);
        octets += frame.len() as u64;
        b.receive();
    }
    assert_eq!(programs.read_u64("counts", 0), 300);
    assert_eq!(programs.read_u64("counts", 1), octets);
    assert_eq!(pair.a.statistics().tx_bytes, octets);
    assert_eq!(programs.runs("count"), 300);
    // Each worker counts for itself; the last shard is for test runs.
    let values = programs.read("per_cpu", &[0; 4]);
    assert_eq!(programs.read_u64("per_cpu", 0), 300);
    assert_eq!(
        values.len(),
        daemon.client().map("per_cpu").unwrap().shards.unwrap() as usize
    );
    assert!(
        values
            .iter()
            .filter(|value| value.iter().any(|octet| *octet != 0))
            .count()
            >= 1
    );
    // The same through a dump, and by name, id and pin.
    let map = daemon.client().map("counts").unwrap();
    assert_eq!(map.pinned.as_deref(), Some("counts"));
    let dumped = daemon.client().entries(&map.id.to_string(), None).unwrap();
    let values: Vec<_> = dumped
        .entries
        .iter()
        .filter_map(|entry| entry.value.clone())
        .collect();
    assert_eq!(
        values,
        [
            programs::hex(&300u64.to_ne_bytes()),
            programs::hex(&octets.to_ne_bytes())
        ]
    );
    // A write is seen by the next frame.
    programs.write("counts", &0u32.to_ne_bytes(), &1000u64.to_ne_bytes());
    a.send_frame(&frame(b"one more"));
    b.receive();
    assert_eq!(programs.read_u64("counts", 0), 1001);
}

#[test]
fn an_entry_changes_verdicts() {
    let Some((daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "judge");
    let key = u32::from(b'x').to_ne_bytes();
    for round in 1..20u64 {
        programs.write("judgements", &key, &2i32.to_ne_bytes());
        a.send_frame(&frame(b"x"));
        a.send_frame(&frame(b"y"));
        assert_eq!(b.receive().frame, frame(b"y"));
        assert_eq!(dropped(&pair.a, "program_drop"), round);
        let request = MapRequest {
            key: Some(programs::hex(&key)),
            ..MapRequest::default()
        };
        daemon.client().delete_entry("judgements", &request).unwrap();
        a.send_frame(&frame(b"x"));
        assert_eq!(b.receive().frame, frame(b"x"));
    }
}

#[test]
fn a_program_array_decides_where_a_tail_call_leads() {
    let Some((daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "step");
    let set = |program: Option<&str>| {
        let request = MapRequest {
            key: Some("00000000".to_owned()),
            value: program.map(str::to_owned),
            flags: None,
        };
        match program {
            Some(_) => daemon.client().update("next_step", &request).unwrap(),
            None => daemon.client().delete_entry("next_step", &request).unwrap(),
        }
    };
    for _ in 0..10 {
        for (program, octet) in [("left", b'l'), ("right", b'r')] {
            set(Some(program));
            a.send_frame(&frame(b"?"));
            assert_eq!(b.receive().frame[14], octet);
        }
    }
    set(None);
    a.send_frame(&frame(b"?"));
    assert_nothing(&mut b);
    assert_eq!(dropped(&pair.a, "program_drop"), 1);
}

#[test]
fn mirrored_frames_arrive_as_events() {
    let daemon = Netkitd::start();
    let programs = Programs(daemon.client());
    programs.load(&programs::policy("mirror"));
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "mirror_host");
    programs.attach(&pair.a.device, End::Peer, "mirror_guest");
    let mut seen = Vec::new();
    let mut sent = Vec::new();
    for round in 0..2000usize {
        let payload = [&round.to_be_bytes()[..], &vec![0xcc; round % 600]].concat();
        let frame = frame(&payload);
        a.send_frame(&frame);
        assert_eq!(b.receive().frame, frame);
        sent.push(frame);
        // Events stay until they are fetched, as long as there is room.
        if round % 500 == 499 {
            seen.extend(daemon.client().events("frames").unwrap());
        }
    }
    assert_eq!(seen.len(), sent.len());
    let receiver = pair.b.shown().ifindex;
    for (event, frame) in seen.iter().zip(&sent) {
        let octets = from_hex(&event.data);
        let word = |at: usize| u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap());
        let captured = frame.len().min(256);
        assert_eq!(
            (event.lost, word(8), word(12), word(16)),
            (0, receiver, frame.len() as u32, captured as u32)
        );
        assert_eq!(octets[24..24 + captured], frame[..captured]);
    }
    b.send_frame(&frame(b"back"));
    a.receive();
    let events = daemon.client().events("frames").unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(
        from_hex(&events[0].data)[8..12],
        pair.a.shown().ifindex.to_ne_bytes()
    );
    assert!(daemon.client().events("frames").unwrap().is_empty());
    // The same through nkctl.
    a.send_frame(&frame(b"once more"));
    b.receive();
    let printed = daemon.ok("map event_pipe frames once");
    assert!(printed.contains("02 00 00 00 00 02"), "{printed}");
}

/// Stacks on both ends of a pair, the second one behind the firewall.
fn behind_a_firewall(daemon: &Netkitd, pair: &Pair) -> [Stack; 2] {
    let programs = Programs(daemon.client());
    programs.load(&programs::policy("firewall"));
    programs.attach(&pair.a.device, End::Primary, "firewall_host");
    programs.attach(&pair.a.device, End::Peer, "firewall_guest");
    let stack = |end: &DeviceEnd, last: u8| {
        let driver = end.connect(Setup::default()).unwrap();
        let address = IpCidr::new(IpAddress::v4(10, 1, 0, last), 24);
        Stack::new(driver, end.guest_address(), &[address])
    };
    [stack(&pair.a, 1), stack(&pair.b, 2)]
}

/// Sends without a stack in between.
fn send(driver: &mut NetDriver, frame: &[u8]) {
    driver.send_frame(frame);
    driver.flush();
}

#[test]
fn a_firewall_lets_in_what_was_asked_for() {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    let [mut host, mut guest] = behind_a_firewall(&daemon, &pair);
    let [host_ip, guest_ip] = [IpAddress::v4(10, 1, 0, 1), IpAddress::v4(10, 1, 0, 2)];
    let programs = Programs(daemon.client());

    // The guest asks, and is answered.
    ping(&mut guest, &mut host, guest_ip, host_ip, 3);
    let (client, server) = connect(&mut guest, &mut host, host_ip, (40000, 80));
    assert!(guest.socket::<tcp::Socket>(client).may_send());
    assert!(host.socket::<tcp::Socket>(server).may_recv());
    assert_eq!(dropped(&pair.a, "program_drop"), 0);
    let flows = daemon.client().entries("flows", None).unwrap().entries;
    assert!(flows.len() == 2, "{flows:?}");

    // Nobody asked for this.
    let from = |port| Host { port, ..A };
    let to = |port| Host { port, ..B };
    for port in [22, 80, 443] {
        send(
            &mut host.driver,
            &packet::tcp(from(5000), to(port), 1, b"let me in"),
        );
        send(&mut host.driver, &packet::udp(from(5000), to(port), b"let me in"));
    }
    assert_eq!(dropped(&pair.a, "program_drop"), 6);
    assert_eq!(programs.read_u64("refused", 0), 6);

    // Until the port is opened.
    let service = [&80u16.to_ne_bytes()[..], &[6, 0]].concat();
    programs.write("open", &service, &0u64.to_ne_bytes());
    let (client, server) = connect(&mut host, &mut guest, guest_ip, (41000, 80));
    assert!(host.socket::<tcp::Socket>(client).may_send());
    assert!(guest.socket::<tcp::Socket>(server).may_recv());
    assert_eq!(programs.read("open", &service), [1u64.to_ne_bytes()]);
    assert_eq!(dropped(&pair.a, "program_drop"), 6);

    // A flow that the outside deletes is no flow.
    for entry in daemon.client().entries("flows", None).unwrap().entries {
        let request = MapRequest {
            key: entry.key,
            ..MapRequest::default()
        };
        daemon.client().delete_entry("flows", &request).unwrap();
    }
    send(
        &mut host.driver,
        &packet::tcp(from(80), to(40000), 1, b"an old answer"),
    );
    assert_eq!(dropped(&pair.a, "program_drop"), 7);
}

#[test]
fn counters_are_read_while_frames_flow() {
    let Some((daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "count");
    let end = Instant::now() + Duration::from_secs(1);
    let (mut sent, mut reads, mut last) = (0u64, 0, 0);
    while Instant::now() < end {
        for _ in 0..32 {
            a.send_frame(&frame(b"counted"));
        }
        // Frames that wait in the ring may be judged at any moment.
        let read = programs.read_u64("counts", 0);
        assert!(
            (last..=sent + 32).contains(&read) && read >= sent,
            "{read} of {sent}"
        );
        (last, reads) = (read, reads + 1);
        for _ in 0..32 {
            b.receive();
        }
        sent += 32;
        assert_eq!(programs.read_u64("counts", 0), sent);
    }
    assert!(reads > 3);
}

#[test]
fn what_programs_print_is_in_the_log() {
    let Some((daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "speak");
    let before = daemon.client().trace_lines(0).unwrap();
    assert_eq!(before.lines, Vec::<String>::new());
    for len in [100, 200, 300] {
        a.send_frame(&frame(&vec![1; len]));
        b.receive();
    }
    let printed = daemon.client().trace_lines(before.next).unwrap();
    assert_eq!((printed.lines.len(), printed.lost), (3, 0));
    for (line, len) in printed.lines.iter().zip([114, 214, 314]) {
        assert!(
            line.ends_with(&format!("a frame of {len} octets, protocol 88b5")),
            "{line}"
        );
    }
    assert_eq!(daemon.ok("prog tracelog once").lines().count(), 3);
    assert_eq!(
        daemon.client().trace_lines(printed.next).unwrap().lines,
        Vec::<String>::new()
    );
}
