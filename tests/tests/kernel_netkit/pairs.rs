//! Pairs: creation, change, up and down, moving, deletion.

use netkit_api::{Mode, Policy, Scrub};
use netkit_tests::kernel::scenario::{List, Scenario, Step};

use super::script::*;

pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        defaults(),
        refused_creations(),
        carrier(),
        addresses(),
        moving(),
        moving_keeps_up(),
        names(),
    ];
    for mode in [Mode::L2, Mode::L3] {
        all.push(shown(mode));
        all.push(changes(mode));
    }
    all
}

fn both(script: Script, letter: &str) -> Script {
    script.show(&format!("{letter}0")).show(&format!("{letter}1"))
}

fn defaults() -> Scenario {
    let pair = Pair {
        mode: None,
        ..Pair::l3()
    };
    both(
        Script::new("pair: defaults").step(Step::Pair(pair.spec("a"))),
        "a",
    )
    .end()
}

fn shown(mode: Mode) -> Scenario {
    let mut script = Script::new(format!("pair: shown {mode:?}"));
    for (letter, policies, scrubs) in [
        (
            "a",
            (Policy::Forward, Policy::Blackhole),
            (Scrub::None, Scrub::Default),
        ),
        (
            "b",
            (Policy::Blackhole, Policy::Forward),
            (Scrub::Default, Scrub::None),
        ),
    ] {
        let pair = Pair::new(mode)
            .policies(policies.0, policies.1)
            .scrubs(scrubs.0, scrubs.1);
        script = both(script.pair(letter, pair), letter);
    }
    script.end()
}

fn refused_creations() -> Scenario {
    let mut with_address = Pair::l3().spec("a");
    with_address.primary.address = Some(address("a0"));
    let mut with_peer_address = Pair::l3().spec("a");
    with_peer_address.peer.address = Some(address("a1"));
    let mut multicast = Pair::l2().spec("a");
    multicast.primary.address = Some([1, 0, 0, 0, 0, 1]);
    let mut zero = Pair::l2().spec("a");
    zero.peer.address = Some([0; 6]);
    let mut same_name = Pair::l2().together().spec("a");
    same_name.peer.name = same_name.primary.name.clone();
    let mut number_in_use = Pair::l2().together().spec("c");
    number_in_use.primary.ifindex = ifindex("b0");
    Script::new("pair: refused creations")
        .step(Step::Pair(with_address))
        .step(Step::Pair(with_peer_address))
        .step(Step::Pair(multicast))
        .step(Step::Pair(zero))
        .step(Step::Pair(same_name))
        .pair("b", Pair::l2().together())
        .step(Step::Pair(Pair::l2().together().spec("b")))
        .step(Step::Pair(number_in_use))
        .end()
}

fn carrier() -> Scenario {
    let mut script = Script::new("pair: carrier").step(Step::Pair(Pair::l2().spec("a")));
    for (device, up) in [
        ("a0", true),
        ("a1", true),
        ("a0", false),
        ("a0", true),
        ("a1", false),
        ("a1", false),
        ("a0", false),
    ] {
        script = script.step(Step::Up {
            device: device.into(),
            up,
        });
        script = both(script, "a");
    }
    script.end()
}

fn changes(mode: Mode) -> Scenario {
    use Policy::{Blackhole, Forward};
    let script = Script::new(format!("pair: changes {mode:?}")).pair("a", Pair::new(mode));
    let script = both(script.change("a0", Some(Blackhole), None), "a");
    let script = both(script.change("a0", None, Some(Blackhole)), "a");
    let script = both(script.change("a0", Some(Forward), Some(Forward)), "a");
    // Only by the primary.
    let script = both(script.change("a1", Some(Blackhole), None), "a");
    both(script.change("a1", None, Some(Blackhole)), "a").end()
}

fn addresses() -> Scenario {
    let script = Script::new("pair: addresses")
        .pair("a", Pair::l2())
        .pair("b", Pair::l3());
    let script = script
        .address("a0", [2, 1, 1, 1, 1, 1])
        .address("a1", [1, 0, 0, 0, 0, 0])
        .address("b0", [2, 1, 1, 1, 1, 1]);
    both(both(script, "a"), "b").end()
}

fn moving() -> Scenario {
    Script::new("pair: moving")
        .pair("a", Pair::l2().together())
        .load("frames", "f")
        .attach("a0", List::Primary, "f.stamp", place())
        .attach("a0", List::Primary, "f.fields", place())
        .give("f", &[42, 43])
        .send("a0", frame(address("a1")))
        .move_to("a1", GUEST)
        .up("a1")
        .show("a0")
        .show("a1")
        .query("a0", List::Primary)
        .send("a0", frame(address("a1")))
        .notes("f", &[(0, "runs"), (3, "mark"), (9, "priority"), (11, "ifindex")])
        .move_to("a0", "other")
        .up("a0")
        .query("a0", List::Primary)
        .send("a1", frame(address("a0")))
        .end()
}

fn moving_keeps_up() -> Scenario {
    Script::new("pair: moving keeps a device up")
        .pair("a", Pair::l2().together())
        .move_to("a1", GUEST)
        .show("a0")
        .show("a1")
        .send("a0", frame(address("a1")))
        .end()
}

fn names() -> Scenario {
    Script::new("pair: deletion by either end")
        .pair("a", Pair::l2())
        .delete("a0")
        .show("a1")
        .pair("b", Pair::l2())
        .delete("b1")
        .show("b0")
        .end()
}
