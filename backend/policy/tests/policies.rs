//! The policies that come with the daemon keep the promises of their headers. Their objects are those in the repository.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::frames::*;
use common::sides::Ours;
use policy::context::SkBuff;
use policy::object::Object;

const NEXT: u32 = u32::MAX;
const PASS_ON: u32 = NEXT;
const DROP: u32 = 2;
const NAMES: [&str; 6] = [
    "allow_list",
    "anti_spoof",
    "firewall",
    "mirror",
    "rate_limit",
    "snat",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

fn octets(name: &str) -> Vec<u8> {
    std::fs::read(directory().join(format!("{name}.o"))).unwrap()
}

/// The policy in both engines, one after the other.
fn each(name: &str, mut test: impl FnMut(&Ours)) {
    for interpreter in [true, false] {
        test(&Ours::new(&octets(name), interpreter));
    }
}

fn verdict(ours: &Ours, program: &str, frame: &[u8]) -> u32 {
    verdict_on(ours, program, frame, 7)
}

fn verdict_on(ours: &Ours, program: &str, frame: &[u8], ifindex: u32) -> u32 {
    ran(ours, program, frame, ifindex).0
}

fn ran(ours: &Ours, program: &str, frame: &[u8], ifindex: u32) -> (u32, Vec<u8>) {
    let context = SkBuff {
        ifindex,
        ..SkBuff::default()
    };
    let ran = ours
        .run(program, frame, &context)
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    (ran.result, ran.frame)
}

/// A word of a value, of a per-CPU map the sum over all.
fn counter(ours: &Ours, map: &str, key: &[u8], word: usize) -> u64 {
    let value = ours.get(map, key).unwrap_or_default();
    let each = ours.map(map).map.definition().value_size.next_multiple_of(8) as usize;
    value
        .chunks(each)
        .map(|value| u64::from_ne_bytes(value[8 * word..][..8].try_into().unwrap()))
        .sum()
}

fn mapped(address: [u8; 4]) -> [u8; 16] {
    let mut mapped = [0; 16];
    mapped[10..12].fill(0xff);
    mapped[12..].copy_from_slice(&address);
    mapped
}

fn zero() -> [u8; 4] {
    0u32.to_ne_bytes()
}

fn ends() -> Ends<'static> {
    Ends::new(&GUEST, 5000, &REMOTE, 80)
}

fn ends6() -> Ends<'static> {
    Ends::new(&GUEST6, 5000, &REMOTE6, 80)
}

/// Every way to cut a frame short of its headers.
fn cut(frame: &[u8], headers: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    (14..headers).map(|len| frame[..len].to_vec())
}

#[test]
fn objects_are_what_the_sources_make() {
    if !Command::new("clang-14")
        .arg("--version")
        .output()
        .is_ok_and(|it| it.status.success())
    {
        return common::not_run(
            "objects_are_what_the_sources_make",
            "there is no clang 14 to build them with",
        );
    }
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "o") {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let made = Command::new("make").arg("-C").arg(copy.path()).output();
    let made = made.expect("there is make");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for name in NAMES {
        let built = std::fs::read(copy.path().join(format!("{name}.o"))).unwrap();
        let (built, kept) = (
            Object::parse(&built).unwrap(),
            Object::parse(&octets(name)).unwrap(),
        );
        assert_eq!(built.programs.len(), kept.programs.len(), "{name}");
        for (built, kept) in built.programs.iter().zip(&kept.programs) {
            assert_eq!(
                (&built.name, &built.section),
                (&kept.name, &kept.section),
                "{name}"
            );
            assert_eq!(built.instructions, kept.instructions, "{name}: {}", kept.name);
        }
        assert_eq!(built.maps.len(), kept.maps.len(), "{name}");
        for (mut built, mut kept) in built.maps.into_iter().zip(kept.maps) {
            (built.types, kept.types) = (None, None);
            assert_eq!(built, kept, "{name}");
        }
    }
}

/// Key and value of `allowed`.
fn rule(prefix: u32, address: [u8; 16], ports: (u16, u16), protocol: u8) -> (Vec<u8>, Vec<u8>) {
    let mut key = prefix.to_ne_bytes().to_vec();
    key.extend(address);
    let mut value = ports.0.to_ne_bytes().to_vec();
    value.extend(ports.1.to_ne_bytes());
    value.extend([protocol, 0, 0, 0]);
    value.extend([0; 16]);
    (key, value)
}

fn add(ours: &Ours, map: &str, (key, value): (Vec<u8>, Vec<u8>)) {
    ours.set(map, &key, &value);
}

#[test]
fn allow_list_lets_through_what_it_allows_and_counts() {
    each("allow_list", |ours| {
        let frame = udp_frame(ends(), b"query");
        assert_eq!(verdict(ours, "allow_guest", &frame), DROP);
        assert_eq!(counter(ours, "rejected", &zero(), 0), 1);
        assert_eq!(counter(ours, "rejected", &zero(), 1), frame.len() as u64);
        let net = rule(96 + 24, mapped([192, 0, 2, 0]), (80, 90), 0);
        add(ours, "allowed", net.clone());
        assert_eq!(verdict(ours, "allow_guest", &frame), PASS_ON);
        assert_eq!(counter(ours, "allowed", &net.0, 1), 1);
        assert_eq!(counter(ours, "allowed", &net.0, 2), frame.len() as u64);
        assert_eq!(verdict(ours, "allow_guest", &tcp_frame(ends(), SYN)), PASS_ON);
        for (port, expected) in [(79, DROP), (80, PASS_ON), (90, PASS_ON), (91, DROP)] {
            let ends = Ends::new(&GUEST, 1, &REMOTE, port);
            assert_eq!(
                verdict(ours, "allow_guest", &udp_frame(ends, b"")),
                expected,
                "{port}"
            );
        }
        // The answer comes from where the question went.
        assert_eq!(
            verdict(ours, "allow_host", &udp_frame(ends().back(), b"")),
            PASS_ON
        );
        assert_eq!(verdict(ours, "allow_host", &udp_frame(ends(), b"")), DROP);
    });
}

#[test]
fn allow_list_follows_the_most_specific_network() {
    each("allow_list", |ours| {
        add(ours, "allowed", rule(96, mapped([0; 4]), (0, 65535), 0));
        add(ours, "allowed", rule(96 + 32, mapped(REMOTE), (443, 443), TCP));
        assert_eq!(verdict(ours, "allow_guest", &tcp_frame(ends(), SYN)), DROP);
        let https = Ends::new(&GUEST, 1, &REMOTE, 443);
        assert_eq!(verdict(ours, "allow_guest", &tcp_frame(https, SYN)), PASS_ON);
        assert_eq!(verdict(ours, "allow_guest", &udp_frame(https, b"")), DROP);
        let elsewhere = Ends::new(&GUEST, 1, &[8, 8, 8, 8], 53);
        assert_eq!(verdict(ours, "allow_guest", &udp_frame(elsewhere, b"")), PASS_ON);
        // A rule for all of IPv4 is none for IPv6.
        assert_eq!(verdict(ours, "allow_guest", &udp_frame(ends6(), b"")), DROP);
        add(ours, "allowed", rule(64, REMOTE6, (0, 65535), UDP));
        assert_eq!(verdict(ours, "allow_guest", &udp_frame(ends6(), b"")), PASS_ON);
        assert_eq!(verdict(ours, "allow_guest", &tcp_frame(ends6(), SYN)), DROP);
    });
}

#[test]
fn allow_list_always_passes_address_resolution_and_nothing_unreadable() {
    each("allow_list", |ours| {
        assert_eq!(
            verdict(ours, "allow_guest", &arp(GUEST_MAC, GUEST, REMOTE)),
            PASS_ON
        );
        for kind in [132, 133, 135, 136, 137, 138] {
            let expected = if (133..=137).contains(&kind) {
                PASS_ON
            } else {
                DROP
            };
            let message = icmpv6(&GUEST6, &REMOTE6, kind, 1);
            let frame = frame_of(ends6(), ICMPV6, &message);
            assert_eq!(verdict(ours, "allow_guest", &frame), expected, "{kind}");
            assert_eq!(verdict(ours, "allow_host", &frame), expected, "{kind}");
        }
        add(ours, "allowed", rule(0, [0; 16], (0, 65535), 0));
        // Of UDP the ports must be there, of TCP the flags, too.
        for (frame, looked_at) in [
            (udp_frame(ends(), b""), 38),
            (tcp_frame(ends(), SYN), 48),
            (udp_frame(ends6(), b""), 58),
        ] {
            assert_eq!(verdict(ours, "allow_guest", &frame), PASS_ON);
            for frame in cut(&frame, looked_at) {
                assert_eq!(verdict(ours, "allow_guest", &frame), DROP, "{}", frame.len());
            }
        }
        // What is neither IP nor ARP: another protocol, and a tag that was not taken off.
        let other = ethernet(GUEST_MAC, HOST_MAC, 0x88b5, &[0; 60]);
        assert_eq!(verdict(ours, "allow_guest", &other), DROP);
        let mut tagged = udp_frame(ends(), b"");
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(verdict(ours, "allow_guest", &tagged), DROP);
        // A header that is shorter than a header can be.
        let mut short = udp_frame(ends(), b"");
        short[14] = 0x44;
        assert_eq!(verdict(ours, "allow_guest", &short), DROP);
    });
}

#[test]
fn allow_list_asks_fragments_for_ports_that_they_have() {
    each("allow_list", |ours| {
        add(ours, "allowed", rule(128, mapped(REMOTE), (80, 80), UDP));
        let segment = udp(ends(), b"some payload");
        let first = ipv4(GUEST, REMOTE, UDP, 0x2000, &segment);
        let later = ipv4(GUEST, REMOTE, UDP, 0x0002, &segment);
        let frame = |packet: &[u8]| ethernet(GUEST_MAC, HOST_MAC, 0x0800, packet);
        assert_eq!(verdict(ours, "allow_guest", &frame(&first)), PASS_ON);
        // Later fragments have no ports, so only a rule from port 0 on lets them through.
        assert_eq!(verdict(ours, "allow_guest", &frame(&later)), DROP);
        add(ours, "allowed", rule(128, mapped(REMOTE), (0, 80), UDP));
        assert_eq!(verdict(ours, "allow_guest", &frame(&later)), PASS_ON);
    });
}

fn own_addresses(ours: &Ours) {
    let mut mac = GUEST_MAC.to_vec();
    mac.extend([0, 0]);
    ours.set("macs", &mac, &[0; 8]);
    ours.set("addresses", &mapped(GUEST), &[0; 8]);
    ours.set("addresses", &GUEST6, &[0; 8]);
}

#[test]
fn anti_spoof_passes_own_addresses_only() {
    each("anti_spoof", |ours| {
        own_addresses(ours);
        let check = |frame: &[u8]| verdict(ours, "anti_spoof", frame);
        let spoofed = |reason: u32| counter(ours, "spoofed", &reason.to_ne_bytes(), 0);
        assert_eq!(check(&udp_frame(ends(), b"")), NEXT);
        assert_eq!(check(&tcp_frame(ends6(), SYN)), NEXT);
        assert_eq!(counter(ours, "addresses", &mapped(GUEST), 0), 1);
        assert_eq!(counter(ours, "addresses", &GUEST6, 0), 1);
        assert_eq!([0, 1, 2, 3].map(spoofed), [0; 4]);
        let mut other_mac = udp_frame(ends(), b"");
        other_mac[6..12].copy_from_slice(&HOST_MAC);
        assert_eq!(check(&other_mac), DROP);
        assert_eq!(
            check(&udp_frame(Ends::new(&[10, 0, 0, 2], 1, &REMOTE, 2), b"")),
            DROP
        );
        assert_eq!(check(&udp_frame(ends6().back(), b"")), DROP);
        assert_eq!(check(&ethernet(GUEST_MAC, HOST_MAC, 0x88b5, &[0; 60])), DROP);
        assert_eq!([0, 1, 2, 3].map(spoofed), [1, 3, 0, 0]);
        let mut expected = 0;
        for (frame, looked_at) in [(udp_frame(ends(), b""), 38), (udp_frame(ends6(), b""), 58)] {
            for frame in cut(&frame, looked_at) {
                assert_eq!(check(&frame), DROP, "{}", frame.len());
                expected += 1;
            }
        }
        assert_eq!([0, 1, 2, 3].map(spoofed), [1, 3, 0, expected]);
    });
}

#[test]
fn anti_spoof_looks_into_arp() {
    each("anti_spoof", |ours| {
        own_addresses(ours);
        let check = |frame: &[u8]| verdict(ours, "anti_spoof", frame);
        assert_eq!(check(&arp(GUEST_MAC, GUEST, REMOTE)), NEXT);
        assert_eq!(check(&arp(GUEST_MAC, [0; 4], GUEST)), NEXT);
        assert_eq!(check(&arp(GUEST_MAC, REMOTE, GUEST)), DROP);
        let mut other_sender = arp(GUEST_MAC, GUEST, REMOTE);
        other_sender[22..28].copy_from_slice(&HOST_MAC);
        assert_eq!(check(&other_sender), DROP);
        assert_eq!(counter(ours, "spoofed", &2u32.to_ne_bytes(), 0), 2);
        for frame in cut(&arp(GUEST_MAC, GUEST, REMOTE), 42) {
            assert_eq!(check(&frame), DROP, "{}", frame.len());
        }
        assert_eq!(counter(ours, "spoofed", &3u32.to_ne_bytes(), 0), 28);
    });
}

#[test]
fn anti_spoof_passes_what_neighbour_discovery_needs() {
    each("anti_spoof", |ours| {
        own_addresses(ours);
        let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let site_local = [0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for (source, expected) in [([0; 16], NEXT), (link_local, NEXT), (site_local, DROP)] {
            let ends = Ends::new(&source, 0, &REMOTE6, 0);
            let frame = frame_of(ends, ICMPV6, &icmpv6(&source, &REMOTE6, 135, 0));
            assert_eq!(verdict(ours, "anti_spoof", &frame), expected);
        }
        // An IPv4 packet from nobody is not neighbour discovery.
        let frame = udp_frame(Ends::new(&[0; 4], 1, &REMOTE, 2), b"");
        assert_eq!(verdict(ours, "anti_spoof", &frame), DROP);
    });
}

#[test]
fn anti_spoof_need_not_look_at_ethernet_addresses() {
    for interpreter in [true, false] {
        let mut object = Object::parse(&octets("anti_spoof")).unwrap();
        let constants = object.maps.iter_mut().find(|map| map.name == ".rodata").unwrap();
        constants.contents = Some(vec![0; constants.value_size as usize]);
        let ours = Ours::of(object, interpreter);
        ours.set("addresses", &mapped(GUEST), &[0; 8]);
        assert_eq!(verdict(&ours, "anti_spoof", &udp_frame(ends(), b"")), NEXT);
        assert_eq!(verdict(&ours, "anti_spoof", &udp_frame(ends().back(), b"")), DROP);
    }
}

#[test]
fn firewall_lets_only_those_answer_who_were_asked() {
    each("firewall", |ours| {
        let from_guest = |frame: &[u8]| verdict(ours, "firewall_guest", frame);
        let to_guest = |frame: &[u8]| verdict(ours, "firewall_host", frame);
        for ends in [ends(), ends6()] {
            for frame in [udp_frame, |ends: Ends<'_>, _: &[u8]| tcp_frame(ends, SYN)] {
                assert_eq!(to_guest(&frame(ends.back(), b"")), DROP);
                assert_eq!(from_guest(&frame(ends, b"")), NEXT);
                assert_eq!(to_guest(&frame(ends.back(), b"")), NEXT);
                let mut other = ends.back();
                other.source_port += 1;
                assert_eq!(to_guest(&frame(other, b"")), DROP);
                other = ends.back();
                other.destination_port += 1;
                assert_eq!(to_guest(&frame(other, b"")), DROP);
            }
        }
        assert_eq!(counter(ours, "refused", &zero(), 0), 12);
    });
}

#[test]
fn firewall_takes_an_echo_for_a_flow_and_passes_errors() {
    each("firewall", |ours| {
        let echo = |ends, kind, identifier| frame_of(ends, ICMP, &icmp(kind, identifier));
        assert_eq!(verdict(ours, "firewall_host", &echo(ends().back(), 8, 7)), DROP);
        assert_eq!(verdict(ours, "firewall_host", &echo(ends().back(), 0, 7)), DROP);
        assert_eq!(verdict(ours, "firewall_guest", &echo(ends(), 8, 7)), NEXT);
        assert_eq!(verdict(ours, "firewall_host", &echo(ends().back(), 0, 7)), NEXT);
        assert_eq!(verdict(ours, "firewall_host", &echo(ends().back(), 0, 8)), DROP);
        // Destination unreachable, time exceeded.
        assert_eq!(verdict(ours, "firewall_host", &echo(ends().back(), 3, 0)), NEXT);
        assert_eq!(verdict(ours, "firewall_host", &echo(ends().back(), 11, 0)), NEXT);
        let echo6 = |ends: Ends<'_>, kind, identifier| {
            frame_of(
                ends,
                ICMPV6,
                &icmpv6(ends.source, ends.destination, kind, identifier),
            )
        };
        assert_eq!(
            verdict(ours, "firewall_host", &echo6(ends6().back(), 129, 7)),
            DROP
        );
        assert_eq!(verdict(ours, "firewall_guest", &echo6(ends6(), 128, 7)), NEXT);
        assert_eq!(
            verdict(ours, "firewall_host", &echo6(ends6().back(), 129, 7)),
            NEXT
        );
        for kind in [1, 2, 135, 136] {
            assert_eq!(
                verdict(ours, "firewall_host", &echo6(ends6().back(), kind, 0)),
                NEXT
            );
        }
        assert_eq!(
            verdict(ours, "firewall_host", &arp(HOST_MAC, REMOTE, GUEST)),
            NEXT
        );
    });
}

#[test]
fn firewall_opens_ports_and_counts() {
    each("firewall", |ours| {
        let service = [22u16.to_ne_bytes(), [TCP, 0]].concat();
        ours.set("open", &service, &[0; 8]);
        let to_ssh = Ends::new(&REMOTE, 999, &GUEST, 22);
        assert_eq!(verdict(ours, "firewall_host", &udp_frame(to_ssh, b"")), DROP);
        assert_eq!(verdict(ours, "firewall_host", &tcp_frame(to_ssh, SYN)), NEXT);
        assert_eq!(verdict(ours, "firewall_host", &tcp_frame(to_ssh, ACK)), NEXT);
        assert_eq!(counter(ours, "open", &service, 0), 1);
        assert_eq!(
            verdict(ours, "firewall_guest", &tcp_frame(to_ssh.back(), ACK)),
            NEXT
        );
        let flows = ours.contents("flows");
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].1[8..16], 3u64.to_ne_bytes());
        assert_eq!(flows[0].1[16..18], [0, 0]);
        assert_eq!(
            verdict(ours, "firewall_guest", &tcp_frame(to_ssh.back(), FIN | ACK)),
            NEXT
        );
        assert_eq!(ours.contents("flows")[0].1[16..18], [1, 0]);
        assert_eq!(
            verdict(ours, "firewall_host", &tcp_frame(to_ssh, FIN | ACK)),
            NEXT
        );
        assert_eq!(ours.contents("flows")[0].1[16..18], [1, 1]);
        assert_eq!(
            verdict(ours, "firewall_guest", &tcp_frame(to_ssh.back(), SYN)),
            NEXT
        );
        assert_eq!(ours.contents("flows")[0].1[16..18], [0, 0]);
        assert_eq!(verdict(ours, "firewall_host", &tcp_frame(to_ssh, RST)), NEXT);
        assert_eq!(ours.contents("flows")[0].1[16..18], [1, 1]);
    });
}

#[test]
fn firewall_forgets_idle_flows() {
    each("firewall", |ours| {
        let now = || {
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: the place for the time is there.
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        let age = |seconds: u64| {
            for (key, mut value) in ours.contents("flows") {
                let seen = now().saturating_sub(seconds * 1_000_000_000);
                value[..8].copy_from_slice(&seen.to_ne_bytes());
                ours.set("flows", &key, &value);
            }
        };
        if now() < 8_000_000_000_000 {
            // The machine has not been up for long enough: a flow cannot be older than the clock.
            let key = |ours: &Ours| ours.contents("flows").len();
            assert_eq!(verdict(ours, "firewall_guest", &udp_frame(ends(), b"")), NEXT);
            assert_eq!(key(ours), 1);
        }
        let uptime = now() / 1_000_000_000;
        for (frame, limit) in [
            (udp_frame as fn(Ends<'_>, &[u8]) -> Vec<u8>, 120),
            (|ends, _| tcp_frame(ends, ACK), 7440),
            (|ends, _| tcp_frame(ends, FIN), 60),
        ] {
            assert_eq!(verdict(ours, "firewall_guest", &frame(ends(), b"")), NEXT);
            assert_eq!(verdict(ours, "firewall_guest", &frame(ends(), b"")), NEXT);
            if uptime > limit + 10 {
                age(limit - 5);
                assert_eq!(
                    verdict(ours, "firewall_host", &frame(ends().back(), b"")),
                    NEXT,
                    "{limit}"
                );
                age(limit + 5);
                assert_eq!(
                    verdict(ours, "firewall_host", &frame(ends().back(), b"")),
                    DROP,
                    "{limit}"
                );
            }
        }
    });
}

#[test]
fn firewall_passes_later_fragments_and_refuses_what_is_cut_short() {
    each("firewall", |ours| {
        let segment = udp(ends().back(), b"payload");
        let frame = |fragment| {
            let packet = ipv4(REMOTE, GUEST, UDP, fragment, &segment);
            ethernet(HOST_MAC, GUEST_MAC, 0x0800, &packet)
        };
        assert_eq!(verdict(ours, "firewall_host", &frame(0x2000)), DROP);
        assert_eq!(verdict(ours, "firewall_host", &frame(5)), NEXT);
        for frame in cut(&tcp_frame(ends(), SYN), 48) {
            assert_eq!(verdict(ours, "firewall_guest", &frame), DROP, "{}", frame.len());
        }
        for frame in cut(&frame_of(ends(), ICMP, &icmp(8, 1)), 40) {
            assert_eq!(verdict(ours, "firewall_guest", &frame), DROP, "{}", frame.len());
        }
        let other = ethernet(HOST_MAC, GUEST_MAC, 0x88b5, &[0; 60]);
        assert_eq!(verdict(ours, "firewall_host", &other), DROP);
    });
}

#[test]
fn mirror_copies_the_start_of_every_frame() {
    each("mirror", |ours| {
        let small = udp_frame(ends(), b"small");
        let mut large = udp_frame(ends(), &[7; 1000]);
        large.truncate(1000);
        assert_eq!(verdict_on(ours, "mirror_guest", &small, 3), NEXT);
        assert_eq!(verdict_on(ours, "mirror_host", &large, 4), NEXT);
        let mut records = Vec::new();
        ours.map("frames")
            .map
            .events(&mut |event| records.push(event.data));
        assert_eq!(records.len(), 2);
        for (record, (frame, ifindex)) in records.iter().zip([(&small, 3u32), (&large, 4)]) {
            let captured = frame.len().min(256);
            assert_eq!(record.len(), 8 + 16 + 256);
            assert_eq!(record[8..12], ifindex.to_ne_bytes());
            assert_eq!(record[12..16], (frame.len() as u32).to_ne_bytes());
            assert_eq!(record[16..20], (captured as u32).to_ne_bytes());
            assert_eq!(record[24..24 + captured], frame[..captured]);
        }
    });
}

#[test]
fn mirror_loses_records_and_no_frames_when_nobody_reads() {
    each("mirror", |ours| {
        for _ in 0..5000 {
            assert_eq!(verdict(ours, "mirror_guest", &udp_frame(ends(), b"")), NEXT);
        }
        let missed = counter(ours, ".bss", &zero(), 0);
        let read = ours.map("frames").map.events(&mut |_| ());
        assert_eq!(missed + read as u64, 5000);
        assert!(missed > 0);
    });
}

/// Sets the limit of a device.
fn limit(ours: &Ours, ifindex: u32, rate: u64, burst: u64) {
    let value = [rate.to_ne_bytes(), burst.to_ne_bytes()].concat();
    ours.set("limits", &ifindex.to_ne_bytes(), &value);
}

#[test]
fn rate_limit_passes_a_burst_and_then_drops() {
    each("rate_limit", |ours| {
        let frame = udp_frame(ends(), &[0; 958]);
        assert_eq!(frame.len(), 1000);
        assert_eq!(verdict_on(ours, "rate_limit_guest", &frame, 5), NEXT);
        limit(ours, 5, 1, 3500);
        let verdicts = [0; 5].map(|_| verdict_on(ours, "rate_limit_guest", &frame, 5));
        assert_eq!(verdicts, [NEXT, NEXT, NEXT, DROP, DROP]);
        assert_eq!(counter(ours, "buckets", &5u32.to_ne_bytes(), 3), 3);
        assert_eq!(counter(ours, "buckets", &5u32.to_ne_bytes(), 4), 2);
        // Other devices have their own, or the limit for all others.
        assert_eq!(verdict_on(ours, "rate_limit_host", &frame, 6), NEXT);
        limit(ours, 0, 1, 1500);
        let verdicts = [0; 2].map(|_| verdict_on(ours, "rate_limit_host", &frame, 6));
        assert_eq!(verdicts, [NEXT, DROP]);
        assert_eq!(verdict_on(ours, "rate_limit_guest", &frame, 5), DROP);
    });
}

/// What a bucket holds: a lock, tokens, a time.
fn bucket(ours: &Ours, ifindex: u32) -> (u64, u64) {
    let tokens = counter(ours, "buckets", &ifindex.to_ne_bytes(), 1);
    (tokens, counter(ours, "buckets", &ifindex.to_ne_bytes(), 2))
}

/// Empties a bucket as if it was looked at so many nanoseconds ago.
fn empty_bucket(ours: &Ours, ifindex: u32, ago: u64) {
    let key = ifindex.to_ne_bytes();
    let mut value = ours.get("buckets", &key).unwrap();
    let (_, time) = bucket(ours, ifindex);
    value[8..16].fill(0);
    value[16..24].copy_from_slice(&time.saturating_sub(ago).to_ne_bytes());
    ours.set("buckets", &key, &value);
}

#[test]
fn rate_limit_is_exact_from_a_kilobyte_to_a_hundred_gigabytes_a_second() {
    each("rate_limit", |ours| {
        let frame = udp_frame(ends(), &[0; 18]);
        let len = frame.len() as u64;
        for rate in [
            1_000,
            1_023,
            1_500,
            125_000,
            1_000_000_000,
            12_500_000_000,
            100_000_000_000,
        ] {
            for ago in [0, 999, 1_000_000, 999_999_999, 2_500_000_000] {
                limit(ours, 9, rate, u64::MAX);
                verdict_on(ours, "rate_limit_guest", &frame, 9);
                empty_bucket(ours, 9, ago);
                let (_, from) = bucket(ours, 9);
                let verdict = verdict_on(ours, "rate_limit_guest", &frame, 9);
                let (tokens, to) = bucket(ours, 9);
                let filled = tokens + if verdict == NEXT { len } else { 0 };
                let expected = (u128::from(to - from) * u128::from(rate) / 1_000_000_000) as u64;
                let difference = filled.abs_diff(expected);
                assert!(
                    difference <= 1,
                    "rate {rate}, {} ns: {filled} tokens, not {expected}",
                    to - from
                );
            }
        }
    });
}

#[test]
fn rate_limit_fills_no_bucket_fuller_than_the_burst() {
    each("rate_limit", |ours| {
        let frame = udp_frame(ends(), &[0; 18]);
        for (rate, burst) in [
            (1_000, 5_000),
            (100_000_000_000, 1 << 20),
            (u64::MAX, 1 << 40),
            (0, 100),
        ] {
            limit(ours, 9, rate, burst);
            verdict_on(ours, "rate_limit_guest", &frame, 9);
            let key = 9u32.to_ne_bytes();
            let mut value = ours.get("buckets", &key).unwrap();
            // Since the machine started, long ago.
            value[4..8].fill(0);
            value[8..24].fill(0);
            ours.set("buckets", &key, &value);
            let verdict = verdict_on(ours, "rate_limit_guest", &frame, 9);
            let (tokens, _) = bucket(ours, 9);
            match rate {
                0 => assert_eq!((verdict, tokens), (DROP, 0)),
                _ => assert_eq!((verdict, tokens), (NEXT, burst - 60), "{rate}"),
            }
            // A burst that was made smaller counts from then on.
            limit(ours, 9, 1, 70);
            verdict_on(ours, "rate_limit_guest", &frame, 9);
            assert!(bucket(ours, 9).0 <= 70);
        }
    });
}

#[test]
fn rate_limit_does_not_turn_back_time() {
    each("rate_limit", |ours| {
        let frame = udp_frame(ends(), &[0; 18]);
        limit(ours, 9, 1_000_000_000, 100_000_000_000);
        verdict_on(ours, "rate_limit_guest", &frame, 9);
        let key = 9u32.to_ne_bytes();
        let mut value = ours.get("buckets", &key).unwrap();
        let later = bucket(ours, 9).1 + 1_000_000_000_000;
        value[16..24].copy_from_slice(&later.to_ne_bytes());
        ours.set("buckets", &key, &value);
        let (tokens, _) = bucket(ours, 9);
        verdict_on(ours, "rate_limit_guest", &frame, 9);
        assert_eq!(bucket(ours, 9), (tokens - 60, later));
    });
}

#[test]
fn rate_limit_loses_no_tokens_to_frequent_frames() {
    each("rate_limit", |ours| {
        let frame = udp_frame(ends(), &[0; 18]);
        // A frame arrives far more often than there is a token for one octet.
        limit(ours, 9, 1_000, 1_000_000);
        verdict_on(ours, "rate_limit_guest", &frame, 9);
        empty_bucket(ours, 9, 0);
        let (_, from) = bucket(ours, 9);
        let passed = || counter(ours, "buckets", &9u32.to_ne_bytes(), 3);
        let before = passed();
        // By the bucket's own clock: the last frame comes a little before any other.
        while bucket(ours, 9).1 - from < 50_000_000 {
            verdict_on(ours, "rate_limit_guest", &frame, 9);
        }
        let (tokens, to) = bucket(ours, 9);
        // What has not made a whole token yet is kept.
        let expected = (to - from) * 1_000 / 1_000_000_000;
        assert!(expected >= 50);
        let given = tokens + frame.len() as u64 * (passed() - before);
        assert!(given.abs_diff(expected) <= 1, "{given} tokens, not {expected}");
    });
}

fn snat(ours: &Ours, first: u16, last: u16) {
    let mut value = [198, 51, 100, 1].to_vec();
    value.extend(first.to_ne_bytes());
    value.extend(last.to_ne_bytes());
    ours.set("outside", &zero(), &value);
}

const OUTSIDE: [u8; 4] = [198, 51, 100, 1];

fn ports(frame: &[u8]) -> (u16, u16) {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (port(34), port(36))
}

#[test]
fn snat_changes_nothing_while_it_is_off() {
    each("snat", |ours| {
        let frame = udp_frame(ends(), b"");
        assert_eq!(ran(ours, "snat_guest", &frame, 1), (NEXT, frame.clone()));
        assert_eq!(ran(ours, "snat_host", &frame, 1), (NEXT, frame.clone()));
    });
}

#[test]
fn snat_rewrites_both_ways_and_keeps_checksums_right() {
    each("snat", |ours| {
        snat(ours, 1000, 60000);
        for make in [udp_frame, |ends: Ends<'_>, _: &[u8]| tcp_frame(ends, SYN)] {
            let (result, out) = ran(ours, "snat_guest", &make(ends(), b"question"), 1);
            assert_eq!(result, NEXT);
            assert_eq!(out[26..30], OUTSIDE);
            // The port was free.
            assert_eq!(ports(&out), (5000, 80));
            assert!(has_right_checksums(&out));
            let answer = make(Ends::new(&REMOTE, 80, &OUTSIDE, 5000), b"answer");
            let (result, back) = ran(ours, "snat_host", &answer, 1);
            assert_eq!(result, NEXT);
            assert_eq!(back[30..34], GUEST);
            assert_eq!(ports(&back), (80, 5000));
            assert!(has_right_checksums(&back));
            // Nobody asked this one.
            let other = make(Ends::new(&[9, 9, 9, 9], 80, &OUTSIDE, 5000), b"");
            assert_eq!(ran(ours, "snat_host", &other, 1), (NEXT, other.clone()));
        }
        let echo = frame_of(ends(), ICMP, &icmp(8, 4242));
        let (result, out) = ran(ours, "snat_guest", &echo, 1);
        assert_eq!(
            (result, &out[26..30], &out[38..40]),
            (NEXT, &OUTSIDE[..], &4242u16.to_be_bytes()[..])
        );
        assert!(has_right_checksums(&out));
        let reply = frame_of(Ends::new(&REMOTE, 0, &OUTSIDE, 0), ICMP, &icmp(0, 4242));
        let (result, back) = ran(ours, "snat_host", &reply, 1);
        assert_eq!((result, &back[30..34]), (NEXT, &GUEST[..]));
        assert!(has_right_checksums(&back));
    });
}

#[test]
fn snat_lets_datagrams_without_checksum_have_none() {
    each("snat", |ours| {
        snat(ours, 1000, 60000);
        let mut frame = udp_frame(ends(), b"question");
        frame[40..42].fill(0);
        let (_, out) = ran(ours, "snat_guest", &frame, 1);
        assert_eq!(out[26..30], OUTSIDE);
        assert_eq!(out[40..42], [0, 0]);
    });
}

#[test]
fn snat_gives_flows_to_one_remote_different_ports() {
    each("snat", |ours| {
        snat(ours, 5000, 5003);
        let mut given = Vec::new();
        for guest in 1..=4 {
            let source = [10, 0, 0, guest];
            let ends = Ends::new(&source, 5000, &REMOTE, 80);
            let (result, out) = ran(ours, "snat_guest", &udp_frame(ends, b""), 1);
            if result == NEXT {
                assert!(has_right_checksums(&out));
                given.push((source, ports(&out).0));
                // The same flow has the same port again.
                let (_, again) = ran(ours, "snat_guest", &udp_frame(ends, b""), 1);
                assert_eq!(ports(&again), ports(&out));
            }
        }
        let mut distinct: Vec<u16> = given.iter().map(|(_, port)| *port).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), given.len());
        assert!(distinct.iter().all(|port| (5000..=5003).contains(port)));
        for (source, port) in given {
            let answer = udp_frame(Ends::new(&REMOTE, 80, &OUTSIDE, port), b"");
            assert_eq!(ran(ours, "snat_host", &answer, 1).1[30..34], source);
        }
    });
}

#[test]
fn snat_drops_and_counts_where_no_port_is_free() {
    each("snat", |ours| {
        snat(ours, 7000, 7000);
        assert_eq!(verdict(ours, "snat_guest", &udp_frame(ends(), b"")), NEXT);
        let second = Ends::new(&GUEST, 5001, &REMOTE, 80);
        assert_eq!(verdict(ours, "snat_guest", &udp_frame(second, b"")), DROP);
        assert_eq!(counter(ours, "failed", &zero(), 0), 1);
        // To another remote the port is free.
        let elsewhere = Ends::new(&GUEST, 5001, &[9, 9, 9, 9], 80);
        assert_eq!(verdict(ours, "snat_guest", &udp_frame(elsewhere, b"")), NEXT);
        // All ports at once: as many as there are numbers.
        snat(ours, 0, 65535);
        let third = Ends::new(&GUEST, 5002, &REMOTE, 80);
        assert_eq!(verdict(ours, "snat_guest", &udp_frame(third, b"")), NEXT);
        // No ports at all.
        snat(ours, 9, 8);
        let fourth = Ends::new(&GUEST, 5003, &REMOTE, 80);
        assert_eq!(verdict(ours, "snat_guest", &udp_frame(fourth, b"")), DROP);
    });
}

#[test]
fn snat_passes_what_it_does_not_translate() {
    each("snat", |ours| {
        snat(ours, 1000, 60000);
        let later = ipv4(GUEST, REMOTE, UDP, 5, &udp(ends(), b""));
        for frame in [
            arp(GUEST_MAC, GUEST, REMOTE),
            udp_frame(ends6(), b""),
            frame_of(ends(), ICMP, &icmp(3, 0)),
            frame_of(ends(), 47, &[0; 20]),
            ethernet(GUEST_MAC, HOST_MAC, 0x0800, &later),
            udp_frame(ends(), b"")[..37].to_vec(),
        ] {
            assert_eq!(ran(ours, "snat_guest", &frame, 1), (NEXT, frame.clone()));
        }
    });
}
