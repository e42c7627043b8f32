//! The cases of the kernel's selftest `tc_netkit.c` by name, with frames in place of pings.

use netkit_api::{Mode, Scrub};
use netkit_tests::kernel::scenario::{List, Scenario};

use super::script::*;

const BOTH: [List; 2] = [List::Primary, List::Peer];
const SEEN: &[(u32, &str)] = &[(0, "tc1"), (1, "eth"), (2, "host"), (3, "stored"), (4, "changed")];

pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![basic(), device()];
    for mode in [Mode::L2, Mode::L3] {
        for list in BOTH {
            all.extend([multi_links(mode, list), multi_opts(mode, list)]);
        }
        all.extend([neigh_links(mode), pkt_type(mode)]);
        all.extend([Scrub::Default, Scrub::None].map(|it| scrub(mode, it)));
    }
    all
}

/// A ping from one end.
fn ping(script: Script, mode: Mode, list: List) -> Script {
    let (from, to) = match list {
        List::Primary => ("a0", "a1"),
        List::Peer => ("a1", "a0"),
    };
    script.send(
        from,
        match mode {
            Mode::L2 => datagram(address(from), address(to)),
            Mode::L3 => packet(),
        },
    )
}

fn basic() -> Scenario {
    let script = Script::new("tc_netkit: basic")
        .pair("a", Pair::l2())
        .load("lists", "l")
        .query("a0", List::Primary)
        .query("a0", List::Peer)
        .link("a0", List::Primary, "l.tc1", "k1", place())
        .query("a0", List::Primary)
        .query("a0", List::Peer);
    let script = ping(script, Mode::L2, List::Primary).order("l");
    let script = ping(script, Mode::L2, List::Peer)
        .order("l")
        .link("a0", List::Peer, "l.tc2", "k2", place())
        .query("a0", List::Peer);
    let script = ping(script, Mode::L2, List::Primary).order("l");
    ping(script, Mode::L2, List::Peer)
        .order("l")
        .close_link("k1")
        .close_link("k2")
        .query("a0", List::Primary)
        .query("a0", List::Peer)
        .end()
}

fn multi_links(mode: Mode, list: List) -> Scenario {
    let script = Script::new(format!("tc_netkit: multi_links {mode:?} {list:?}"))
        .pair("a", Pair::new(mode))
        .load("frames", "f")
        .load("lists", "l")
        .link("a0", list, "f.seen", "k1", place())
        .query("a0", list);
    let script = ping(script, mode, list)
        .notes("f", SEEN)
        .link("a0", list, "l.tc2", "k2", before("f.seen"))
        .query("a0", list);
    ping(script, mode, list)
        .notes("f", SEEN)
        .order("l")
        .close_link("k2")
        .close_link("k1")
        .query("a0", list)
        .end()
}

fn multi_opts(mode: Mode, list: List) -> Scenario {
    let script = Script::new(format!("tc_netkit: multi_opts {mode:?} {list:?}"))
        .pair("a", Pair::new(mode))
        .load("frames", "f")
        .load("lists", "l")
        .attach("a0", list, "f.seen", place())
        .query("a0", list);
    let script = ping(script, mode, list)
        .notes("f", SEEN)
        .attach("a0", list, "l.tc2", before("f.seen"))
        .query("a0", list);
    ping(script, mode, list)
        .notes("f", SEEN)
        .order("l")
        .detach("a0", list, Some("l.tc2"), place())
        .query("a0", list)
        .detach("a0", list, Some("f.seen"), place())
        .query("a0", list)
        .end()
}

fn device() -> Scenario {
    let mut script = Script::new("tc_netkit: device")
        .pair("a", Pair::l3().together())
        .load("lists", "l")
        .link("a0", List::Primary, "l.tc1", "k1", place());
    script = ping(script, Mode::L3, List::Primary).order("l");
    for list in BOTH {
        script = script
            .query("a1", list)
            .link("a1", list, "l.tc2", "k2", place())
            .link("a1", list, "l.tc3", "k3", place());
    }
    script.query("a0", List::Primary).query("a0", List::Peer).end()
}

/// In L2 mode a host looks for a missing neighbour with ARP, in L3 mode it just sends.
fn neigh_links(mode: Mode) -> Scenario {
    let script = Script::new(format!("tc_netkit: neigh_links {mode:?}"))
        .pair("a", Pair::new(mode))
        .load("frames", "f")
        .link("a0", List::Primary, "f.seen", "k1", place())
        .query("a0", List::Primary);
    let sent = match mode {
        Mode::L2 => typed_frame(BROADCAST, 0x0806, 42),
        Mode::L3 => packet(),
    };
    script.send("a0", sent).notes("f", SEEN).end()
}

fn pkt_type(mode: Mode) -> Scenario {
    let script = Script::new(format!("tc_netkit: pkt_type {mode:?}"))
        .pair("a", Pair::new(mode).together())
        .load("frames", "f")
        .load("frames", "g")
        .link("a0", List::Primary, "f.seen", "k1", place())
        .link("a0", List::Primary, "g.fields", "k2", place())
        .give("f", &[1])
        .move_to("a1", GUEST)
        .up("a1");
    ping(script, mode, List::Primary)
        .notes("f", SEEN)
        .notes("g", &[(2, "pkt_type"), (5, "protocol")])
        .end()
}

/// A program of another pair stamps the frame, as a socket does in the selftest.
fn scrub(mode: Mode, scrub: Scrub) -> Scenario {
    Script::new(format!("tc_netkit: scrub {mode:?} {scrub:?}"))
        .pair("b", Pair::new(mode).together().scrubs(Scrub::None, Scrub::None))
        .pair("a", Pair::new(mode).scrubs(scrub, scrub))
        .load("frames", "f")
        .load("frames", "r")
        .load("frames", "g")
        .attach("b0", List::Primary, "f.stamp", place())
        .attach("b0", List::Primary, "r.redirect", place())
        .link("a0", List::Primary, "g.fields", "k", place())
        .give("f", &[42, 0xeb9f])
        .give("r", &[ifindex("a0"), 0])
        .send(
            "b0",
            if mode == Mode::L2 {
                frame(address("a1"))
            } else {
                packet()
            },
        )
        .notes("g", &[(3, "mark"), (9, "priority")])
        .end()
}
