//! What programs see of a frame, what they write, and how long it lasts.

use netkit_api::{Mode, Scrub};
use netkit_tests::kernel::scenario::{List, Scenario};

use super::script::*;

/// Words of the program `fields`.
const ALL: &[(u32, &str)] = &[
    (0, "runs"),
    (1, "len"),
    (2, "pkt_type"),
    (3, "mark"),
    (4, "queue_mapping"),
    (5, "protocol"),
    (6, "vlan_present"),
    (7, "vlan_tci"),
    (8, "vlan_proto"),
    (9, "priority"),
    (10, "ingress_ifindex"),
    (11, "ifindex"),
    (12, "tc_index"),
    (13, "cb[0]"),
    (14, "cb[1]"),
    (15, "cb[2]"),
    (16, "cb[3]"),
    (17, "cb[4]"),
    (18, "hash"),
    (19, "tc_classid"),
    (20, "linear"),
    (21, "meta"),
    (22, "napi_id"),
    (23, "tstamp"),
    (24, "wire_len"),
    (25, "gso_segs"),
    (26, "gso_size"),
    (27, "cgroup_classid"),
    (28, "route_realm"),
];

/// Those that a redirect might keep.
pub const KEPT: &[(u32, &str)] = &[
    (0, "runs"),
    (2, "pkt_type"),
    (3, "mark"),
    (4, "queue_mapping"),
    (9, "priority"),
    (10, "ingress_ifindex"),
    (11, "ifindex"),
    (12, "tc_index"),
    (13, "cb[0]"),
    (14, "cb[1]"),
    (15, "cb[2]"),
    (16, "cb[3]"),
    (17, "cb[4]"),
    (18, "hash"),
    (19, "tc_classid"),
    (23, "tstamp"),
];

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for mode in [Mode::L2, Mode::L3] {
        all.extend([fields(mode), lists(mode), changed(mode)]);
        for scrub in [Scrub::None, Scrub::Default] {
            all.push(chain(mode, scrub));
        }
    }
    all.extend([
        packet_types(),
        tags(),
        hash_and_time(),
        wire_len(),
        cut(),
        lengths(),
    ]);
    all
}

fn sent(mode: Mode, to: &str) -> Vec<u8> {
    match mode {
        Mode::L2 => datagram(address("a0"), address(to)),
        Mode::L3 => packet(),
    }
}

fn fields(mode: Mode) -> Scenario {
    Script::new(format!("fields: as they come {mode:?}"))
        .pair("a", Pair::new(mode))
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.fields", place())
        .attach("a0", List::Peer, "g.fields", place())
        .send("a0", sent(mode, "a1"))
        .notes("f", ALL)
        .send("a1", sent(mode, "a0"))
        .notes("g", ALL)
        .end()
}

/// What a program writes is seen by the next one of the list.
fn lists(mode: Mode) -> Scenario {
    Script::new(format!("fields: over a list {mode:?}"))
        .pair("a", Pair::new(mode))
        .load("frames", "f")
        .attach("a0", List::Primary, "f.stamp", place())
        .attach("a0", List::Primary, "f.fields", place())
        .give("f", &[0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        .send("a0", sent(mode, "a1"))
        .notes("f", ALL)
        .end()
}

/// And by those of a pair that the frame is redirected to, within a domain or across.
fn chain(mode: Mode, scrub: Scrub) -> Scenario {
    let mut script = Script::new(format!("fields: over a redirect {mode:?} {scrub:?}"))
        .pair("a", Pair::new(mode).together().scrubs(scrub, scrub))
        .pair("b", Pair::new(mode).together().scrubs(scrub, scrub))
        .pair("c", Pair::new(mode).scrubs(scrub, scrub))
        .load("frames", "f")
        .load("frames", "r")
        .load("frames", "b")
        .load("frames", "c")
        .attach("a0", List::Primary, "f.stamp", place())
        .attach("a0", List::Primary, "r.redirect", place())
        .attach("b0", List::Primary, "b.fields", place())
        .attach("c0", List::Primary, "c.fields", place())
        .give("f", &[41, 42, 3, 44, 45, 46, 47, 48, 49, 50]);
    for target in ["b", "c"] {
        script = script
            .give("r", &[ifindex(&format!("{target}0")), 0])
            .send("a0", sent(mode, "b1"))
            .notes(target, ALL);
    }
    script.end()
}

fn packet_types() -> Scenario {
    let mut script = Script::new("fields: pkt_type")
        .pair("a", Pair::l2())
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.fields", place());
    for to in [
        address("a1"),
        address("a0"),
        BROADCAST,
        [1, 0, 0x5e, 0, 0, 1],
        [0; 6],
    ] {
        script = script
            .send("a0", frame(to))
            .notes("f", &[(2, "pkt_type"), (5, "protocol")]);
    }
    for ether_type in [0x0800, 0x86dd, 0x0806, 0x0600, 0x8100, 0x88a8] {
        script = script
            .send("a0", typed_frame(address("a1"), ether_type, 80))
            .notes("f", &[(1, "len"), (2, "pkt_type"), (5, "protocol")]);
    }
    script = script.attach("a0", List::Primary, "g.change_type", first());
    for kind in [0, 1, 2, 3, 4, 7] {
        script = script
            .give("g", &[kind])
            .send("a0", frame(address("a1")))
            .notes("g", &[(0, "returned")])
            .notes("f", &[(2, "pkt_type")]);
    }
    script.end()
}

fn tags() -> Scenario {
    let seen: &[(u32, &str)] = &[
        (1, "len"),
        (5, "protocol"),
        (6, "present"),
        (7, "tci"),
        (8, "proto"),
        (20, "linear"),
    ];
    let mut script = Script::new("fields: VLAN tags")
        .pair("a", Pair::l2())
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.push_tag", place())
        .attach("a0", List::Primary, "g.fields", place());
    for (protocol, tci) in [(0x8100, 5), (0x88a8, 0x2005), (0, 7), (0x0800, 9)] {
        script = script
            .give("f", &[protocol, tci])
            .send("a0", frame(address("a1")))
            .notes("f", &[(0, "returned")])
            .notes("g", seen);
    }
    // Two tags, and off again.
    script = script
        .load("frames", "h")
        .attach("a0", List::Primary, "h.push_tag", first())
        .give("f", &[0x8100, 5])
        .give("h", &[0x8100, 6])
        .send("a0", frame(address("a1")))
        .notes("g", seen)
        .attach("a0", List::Primary, "g.pop_tag", before("g.fields"))
        .send("a0", frame(address("a1")))
        .notes("g", seen);
    let mut tagged = frame(address("a1"));
    tagged.splice(12..12, [0x81, 0, 0, 9]);
    script
        .detach("a0", List::Primary, Some("f.push_tag"), place())
        .detach("a0", List::Primary, Some("h.push_tag"), place())
        .send("a0", tagged)
        .notes("g", seen)
        .send("a0", frame(address("a1")))
        .notes("g", seen)
        .end()
}

fn hash_and_time() -> Scenario {
    Script::new("fields: hash and tstamp")
        .pair("a", Pair::l2().together())
        .pair("b", Pair::l2().together())
        .pair("c", Pair::l2())
        .load("frames", "f")
        .load("frames", "r")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.stamp", place())
        .attach("a0", List::Primary, "r.fields", place())
        .attach("a0", List::Primary, "r.redirect", place())
        .attach("b0", List::Primary, "g.fields", place())
        .attach("c0", List::Primary, "g.fields", place())
        .give_at("f", 10, 77)
        .give_at("f", 11, 78)
        .give("r", &[ifindex("b0"), 0])
        .send("a0", frame(address("b1")))
        .notes("g", KEPT)
        .give("r", &[ifindex("c0"), 0])
        .send("a0", frame(address("c1")))
        .notes("r", &[(18, "hash"), (23, "tstamp")])
        .notes("g", KEPT)
        .end()
}

/// Below 0x600 the type of an Ethernet frame is the length of an 802.3 frame.
fn lengths() -> Scenario {
    let mut script = Script::new("fields: lengths for EtherTypes")
        .pair("a", Pair::l2())
        .load("frames", "f")
        .attach("a0", List::Primary, "f.fields", place());
    for length in [0x05ff, 0x0040] {
        script = script
            .send("a0", typed_frame(address("a1"), length, 80))
            .notes("f", &[(1, "len"), (5, "protocol")]);
    }
    script.end()
}

fn cut() -> Scenario {
    Script::new("fields: cut below the transport header")
        .pair("a", Pair::l2())
        .load("frames", "f")
        .attach("a0", List::Primary, "f.change_tail", place())
        .give("f", &[14])
        .send("a0", sent(Mode::L2, "a1"))
        .notes("f", &[(0, "returned")])
        .end()
}

fn wire_len() -> Scenario {
    Script::new("fields: wire_len")
        .pair("a", Pair::l2())
        .load("frames", "f")
        .attach("a0", List::Primary, "f.change_tail", place())
        .attach("a0", List::Primary, "f.fields", place())
        .give("f", &[100])
        .send("a0", frame(address("a1")))
        .notes("f", &[(1, "len"), (24, "wire_len")])
        .end()
}

/// Programs that change the length of a frame.
fn changed(mode: Mode) -> Scenario {
    let seen: &[(u32, &str)] = &[(1, "len"), (20, "linear")];
    let mut script = Script::new(format!("fields: length {mode:?}"))
        .pair("a", Pair::new(mode))
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.change_tail", place())
        .attach("a0", List::Primary, "g.fields", place());
    for len in [40, 200, 1514, 1515, 9999, 10, 0] {
        script = script
            .give("f", &[len])
            .send("a0", sent(mode, "a1"))
            .notes("f", &[(0, "returned")])
            .notes("g", seen);
    }
    script = script.attach("a0", List::Primary, "f.change_head", replace("f.change_tail"));
    for len in [0, 14, 100, 9999] {
        script = script
            .give("f", &[len])
            .send("a0", sent(mode, "a1"))
            .notes("f", &[(0, "returned")])
            .notes("g", seen);
    }
    script.end()
}
