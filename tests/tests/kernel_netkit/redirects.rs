//! Redirects and copies.

use netkit_api::{Mode, Policy, Scrub};
use netkit_tests::kernel::scenario::{List, Scenario};

use super::script::*;

pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        codes(),
        half(),
        to_itself(),
        to_down(),
        other_domain(),
        stale(),
        scrubbed(Scrub::Default),
        scrubbed(Scrub::None),
        redirect_and_clone(),
        redirect_and_redirected_clone(),
        clone_counts(),
        clone_fields(),
        to_blackhole(),
        between_modes(Mode::L2, Mode::L3),
        between_modes(Mode::L3, Mode::L2),
    ];
    for mode in [Mode::L2, Mode::L3] {
        all.extend([
            egress(mode),
            ingress(mode),
            peer(mode),
            neighbour(mode),
            neighbour_refused(mode),
            clones(mode),
            clones_refused(mode),
            clones_lost(mode),
        ]);
    }
    all.extend((1..=6).map(chain));
    all
}

fn sent(mode: Mode, to: &str) -> Vec<u8> {
    match mode {
        Mode::L2 => frame(address(to)),
        Mode::L3 => packet(),
    }
}

/// Programs run as if on the peer, so the redirecting pair's peer is in the domain of the targets.
fn start(name: &str, mode: Mode) -> Script {
    Script::new(format!("redirects: {name} {mode:?}"))
        .pair("a", Pair::new(mode).domains(GUEST, HOST))
        .pair("b", Pair::new(mode).domains(HOST, "other"))
        .load("frames", "f")
}

fn egress(mode: Mode) -> Scenario {
    start("egress", mode)
        .attach("a0", List::Primary, "f.redirect", place())
        .give("f", &[ifindex("b0"), 0])
        .send("a0", sent(mode, "b1"))
        .send_many("a0", sent(mode, "a1"), 3)
        .notes("f", &[(0, "code")])
        .send("a1", sent(mode, "a0"))
        .end()
}

fn ingress(mode: Mode) -> Scenario {
    start("ingress", mode)
        .attach("a0", List::Primary, "f.redirect", place())
        .give("f", &[ifindex("b0"), BPF_F_INGRESS])
        .send("a0", sent(mode, "b0"))
        .send_many("a0", sent(mode, "a1"), 3)
        .give("f", &[ifindex("a1"), BPF_F_INGRESS])
        .send("a0", sent(mode, "a1"))
        .notes("f", &[(0, "code")])
        .end()
}

fn peer(mode: Mode) -> Scenario {
    start("redirect_peer", mode)
        .attach("a0", List::Primary, "f.redirect_peer", place())
        .give("f", &[ifindex("b0"), 0])
        .send_many("a0", sent(mode, "b1"), 2)
        .notes("f", &[(0, "code")])
        .give("f", &[ifindex("b0"), 1])
        .send("a0", sent(mode, "b1"))
        .notes("f", &[(0, "code")])
        .end()
}

/// A packet goes to where nobody knows a way.
fn neighbour(mode: Mode) -> Scenario {
    start("redirect_neigh without a route", mode)
        .attach("a0", List::Primary, "f.redirect_neigh", place())
        .give("f", &[ifindex("b0"), 0])
        .send("a0", datagram([0; 6], address("b1")))
        .notes("f", &[(0, "code")])
        .end()
}

/// Nothing is sent anywhere.
fn neighbour_refused(mode: Mode) -> Scenario {
    let mut script =
        start("redirect_neigh refused", mode).attach("a0", List::Primary, "f.redirect_neigh", place());
    for (target, flags) in [(ifindex("b0"), 1), (9999, 0)] {
        script = script
            .give("f", &[target, flags])
            .send("a0", datagram([0; 6], address("b1")))
            .notes("f", &[(0, "code")]);
    }
    if mode == Mode::L2 {
        script = script
            .give("f", &[ifindex("b0"), 0])
            .send("a0", frame(address("b1")));
    }
    script.end()
}

/// Flags that a redirect does not know, and devices that there are not.
fn codes() -> Scenario {
    let mut script = start("refused", Mode::L2).attach("a0", List::Primary, "f.redirect", place());
    for (target, flags) in [
        (ifindex("b0"), 2),
        (ifindex("b0"), 4),
        (ifindex("b0"), 0x80),
        (0, 0),
        (9999, 0),
        (9999, 1),
    ] {
        script = script
            .give("f", &[target, flags])
            .send("a0", frame(address("b1")))
            .notes("f", &[(0, "code")]);
    }
    script.end()
}

/// A redirect that is asked for, and another verdict; or the verdict alone.
fn half() -> Scenario {
    let mut script = start("half", Mode::L2)
        .load("lists", "l")
        .attach("a0", List::Primary, "f.half_redirect", place())
        .attach("a0", List::Primary, "l.tc1", place())
        .give("f", &[ifindex("b0"), 0]);
    for (own, following) in [
        (NEXT, NEXT),
        (NEXT, PASS),
        (NEXT, REDIRECT),
        (PASS, NEXT),
        (DROP, NEXT),
        (REDIRECT, DROP),
    ] {
        script = script
            .give_at("f", 2, own)
            .give_at("l", 1, following)
            .send("a0", frame(address("b1")));
    }
    script.end()
}

/// What one frame's program asked for is not the next one's.
fn stale() -> Scenario {
    start("stale", Mode::L2)
        .load("lists", "l")
        .attach("a0", List::Primary, "f.half_redirect", place())
        .give("f", &[ifindex("b0"), 0])
        .give_at("f", 2, PASS)
        .send("a0", frame(address("b1")))
        .attach("a0", List::Primary, "l.tc1", replace("f.half_redirect"))
        .give_at("l", 1, REDIRECT)
        .send("a0", frame(address("b1")))
        .end()
}

fn to_itself() -> Scenario {
    start("to itself", Mode::L2)
        .attach("a0", List::Peer, "f.redirect", place())
        // The program runs as if on a0, in the domain of the guest.
        .give("f", &[ifindex("a0"), 0])
        .send("a1", frame(address("a0")))
        .give("f", &[ifindex("a0"), BPF_F_INGRESS])
        .send("a1", frame(address("a0")))
        // And back and forth until the limit.
        .load("frames", "g")
        .attach("a0", List::Primary, "g.redirect", place())
        .give("f", &[ifindex("a0"), 0])
        .give("g", &[ifindex("a1"), 0])
        .send("a1", frame(address("a0")))
        .send("a0", frame(address("a1")))
        .end()
}

fn to_down() -> Scenario {
    start("to a device that is down", Mode::L2)
        .attach("a0", List::Primary, "f.redirect", place())
        .down("b0")
        .give("f", &[ifindex("b0"), 0])
        .send("a0", frame(address("b1")))
        .give("f", &[ifindex("b0"), BPF_F_INGRESS])
        .send("a0", frame(address("b1")))
        .up("b0")
        .down("b1")
        .give("f", &[ifindex("b0"), 0])
        .send("a0", frame(address("b1")))
        .give("f", &[ifindex("b0"), BPF_F_INGRESS])
        .send("a0", frame(address("b1")))
        .end()
}

/// Targets are looked for in the receiver's domain.
fn other_domain() -> Scenario {
    start("to another domain", Mode::L2)
        .attach("a0", List::Primary, "f.redirect", place())
        .attach("a0", List::Peer, "f.redirect", place())
        .give("f", &[ifindex("b1"), 0])
        .send("a0", frame(address("b0")))
        .send("a1", frame(address("b0")))
        .give("f", &[ifindex("b0"), 0])
        .send("a0", frame(address("b1")))
        .send("a1", frame(address("b1")))
        .give("f", &[ifindex("b0"), BPF_F_INGRESS])
        .send("a1", frame(address("b1")))
        .end()
}

/// A chain of so many redirects.
fn chain(length: u32) -> Scenario {
    let mut script = Script::new(format!("redirects: chain of {length}")).load("frames", "last");
    let pairs: Vec<String> = ('a'..).take(length as usize + 1).map(String::from).collect();
    for (index, letter) in pairs.iter().enumerate() {
        script = script.pair(letter, Pair::l2().together());
        let first = format!("{letter}0");
        script = match pairs.get(index + 1) {
            Some(next) => script
                .load("frames", letter)
                .give(letter, &[ifindex(&format!("{next}0")), 0])
                .attach(&first, List::Primary, &format!("{letter}.redirect"), place()),
            None => script.attach(&first, List::Primary, "last.fields", place()),
        };
    }
    script
        .send_many("a0", frame(address("a1")), 2)
        .notes(
            "last",
            &[
                (0, "runs"),
                (1, "len"),
                (2, "pkt_type"),
                (10, "ingress_ifindex"),
                (11, "ifindex"),
            ],
        )
        .end()
}

/// Mark, priority and the rest over a redirect between pairs, each of which crosses domains.
fn scrubbed(scrub: Scrub) -> Scenario {
    Script::new(format!("redirects: scrub {scrub:?}"))
        .pair("a", Pair::l2().domains(GUEST, HOST).scrubs(scrub, scrub))
        .pair("b", Pair::l2().domains(HOST, "other").scrubs(scrub, scrub))
        .pair("c", Pair::l2().domains(HOST, HOST).scrubs(scrub, scrub))
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.stamp", place())
        .attach("a0", List::Primary, "f.redirect", place())
        .attach("b0", List::Primary, "g.fields", place())
        .attach("c0", List::Primary, "g.fields", place())
        // The number of the target is the mark, too, and the flags are the priority.
        .give("f", &[ifindex("b0"), 0, 3, 4, 5, 6, 7, 8, 9, 10])
        .send("a0", frame(address("b1")))
        .notes("g", super::fields::KEPT)
        .give("f", &[ifindex("c0"), 0])
        .send("a0", frame(address("c1")))
        .notes("g", super::fields::KEPT)
        .end()
}

fn clones(mode: Mode) -> Scenario {
    let mut script = start("clone_redirect", mode).attach("a0", List::Primary, "f.clone", place());
    for verdict in [NEXT, DROP, REDIRECT] {
        for flags in [0, BPF_F_INGRESS] {
            script = script
                .give("f", &[ifindex("b0"), flags, verdict])
                .send("a0", sent(mode, "a1"))
                .notes("f", &[(0, "returned")]);
        }
    }
    script.end()
}

fn clones_refused(mode: Mode) -> Scenario {
    let mut script = start("clone_redirect refused", mode).attach("a0", List::Primary, "f.clone", place());
    for (target, flags) in [(9999, 0), (0, 0), (ifindex("b1"), 0), (ifindex("b0"), 2)] {
        script = script
            .give("f", &[target, flags])
            .send("a0", sent(mode, "a1"))
            .notes("f", &[(0, "returned")]);
    }
    script.end()
}

/// The copy is dropped on its way.
fn clones_lost(mode: Mode) -> Scenario {
    let mut script = start("clone_redirect lost", mode)
        .attach("a0", List::Primary, "f.clone", place())
        .down("b1");
    for flags in [0, BPF_F_INGRESS] {
        script = script
            .give("f", &[ifindex("b0"), flags])
            .send("a0", sent(mode, "a1"))
            .notes("f", &[(0, "returned")]);
    }
    script = script.down("b0");
    for flags in [0, BPF_F_INGRESS] {
        script = script
            .give("f", &[ifindex("b0"), flags])
            .send("a0", sent(mode, "a1"))
            .notes("f", &[(0, "returned")]);
    }
    script.end()
}

/// Copies to a pair that copies in turn, and back to the first one, until the limit.
fn clone_counts() -> Scenario {
    Script::new("redirects: copies of copies")
        .pair("a", Pair::l2().together())
        .pair("b", Pair::l2().together())
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.clone", place())
        .attach("b0", List::Primary, "g.clone", place())
        .give("f", &[ifindex("b0"), 0])
        .give("g", &[ifindex("b0"), BPF_F_INGRESS])
        .send("a0", frame(address("a1")))
        .give("g", &[ifindex("a0"), 0])
        .send("a0", frame(address("a1")))
        .end()
}

/// The copy's own transmission comes between a redirect that is asked for and its execution.
fn redirect_and_clone() -> Scenario {
    Script::new("redirects: redirect and clone")
        .pair("a", Pair::l2().together())
        .pair("b", Pair::l2().together())
        .pair("c", Pair::l2().together())
        .load("frames", "f")
        .attach("a0", List::Primary, "f.redirect_and_clone", place())
        .give("f", &[ifindex("b0"), 0, ifindex("c0"), 0])
        .send("a0", frame(address("a1")))
        .give("f", &[ifindex("b0"), 0, ifindex("c0"), BPF_F_INGRESS])
        .send("a0", frame(address("a1")))
        .end()
}

/// The copy is redirected on its way.
fn redirect_and_redirected_clone() -> Scenario {
    Script::new("redirects: redirect and a copy that is redirected")
        .pair("a", Pair::l2().together())
        .pair("b", Pair::l2().together())
        .pair("c", Pair::l2().together())
        .load("frames", "f")
        .attach("a0", List::Primary, "f.redirect_and_clone", place())
        .load("frames", "g")
        .attach("c0", List::Primary, "g.redirect", place())
        .give("g", &[ifindex("a1"), BPF_F_INGRESS])
        .give("f", &[ifindex("b0"), 0, ifindex("c0"), 0])
        .send("a0", frame(address("a1")))
        .end()
}

/// What a copy takes along, within a domain.
fn clone_fields() -> Scenario {
    Script::new("redirects: fields of a copy")
        .pair("a", Pair::l2().together())
        .pair("b", Pair::l2().together())
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.stamp", place())
        .attach("a0", List::Primary, "f.clone", place())
        .attach("a0", List::Primary, "f.fields", place())
        .attach("b0", List::Primary, "g.fields", place())
        // The number of the target is the mark, too, and the flags are the priority.
        .give("f", &[ifindex("b0"), 0, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        .send("a0", frame(address("a1")))
        .notes("f", super::fields::KEPT)
        .notes("g", super::fields::KEPT)
        .end()
}

/// The policy of the target is heeded, and its programs are run.
fn to_blackhole() -> Scenario {
    Script::new("redirects: to a blackhole")
        .pair("a", Pair::l2().together())
        .pair(
            "b",
            Pair::l2().together().policies(Policy::Blackhole, Policy::Forward),
        )
        .load("frames", "f")
        .load("frames", "g")
        .load("lists", "l")
        .attach("a0", List::Primary, "f.redirect", place())
        .give("f", &[ifindex("b0"), 0])
        .send("a0", frame(address("b1")))
        .give("f", &[ifindex("b1"), 0])
        .send("a0", frame(address("b0")))
        .give("f", &[ifindex("b0"), BPF_F_INGRESS])
        .send("a0", frame(address("b0")))
        .attach("b0", List::Primary, "l.tc1", place())
        .give("f", &[ifindex("b0"), 0])
        .send("a0", frame(address("b1")))
        .give_at("l", 1, DROP)
        .send("a0", frame(address("b1")))
        .order("l")
        .end()
}

/// From a pair in one mode to a pair in the other.
fn between_modes(from: Mode, to: Mode) -> Scenario {
    let mut script = Script::new(format!("redirects: from {from:?} to {to:?}"))
        .pair("a", Pair::new(from).domains(GUEST, HOST))
        .pair("b", Pair::new(to).domains(HOST, "other"))
        .load("frames", "f")
        .load("frames", "g")
        .attach("a0", List::Primary, "f.redirect", place())
        .attach("b0", List::Primary, "g.fields", place());
    for flags in [0, BPF_F_INGRESS] {
        let sent = match from {
            Mode::L2 => datagram(address("a0"), address("b1")),
            Mode::L3 => packet(),
        };
        script = script
            .give("f", &[ifindex("b0"), flags])
            .send("a0", sent)
            .notes("g", super::fields::KEPT);
    }
    script.end()
}
