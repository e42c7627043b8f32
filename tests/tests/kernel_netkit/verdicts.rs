//! What becomes of a frame for each verdict, policy and state of the devices.

use netkit_api::{Mode, Policy};
use netkit_tests::kernel::scenario::{List, Scenario, Step};

use super::script::*;

const MODES: [Mode; 2] = [Mode::L2, Mode::L3];

/// Verdicts as programs return them; most are none of netkit's.
const CODES: [i32; 16] = [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, -2, 255, i32::MAX, i32::MIN];

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for mode in MODES {
        all.extend([
            codes(mode),
            second_program(mode),
            empty_list(mode),
            policy_under_list(mode),
        ]);
        all.extend([down(mode), down_with_program(mode), lengths(mode)]);
    }
    all
}

fn sent(mode: Mode, to: &str) -> Vec<u8> {
    match mode {
        Mode::L2 => frame(address(to)),
        Mode::L3 => packet(),
    }
}

fn codes(mode: Mode) -> Scenario {
    let mut script = Script::new(format!("verdicts: codes {mode:?}"))
        .pair("a", Pair::new(mode))
        .load("frames", "f")
        .attach("a0", List::Primary, "f.code", place())
        .attach("a0", List::Peer, "f.code", place());
    for code in CODES {
        script = script
            .give("f", &[code as u32])
            .send("a0", sent(mode, "a1"))
            .send("a1", sent(mode, "a0"));
    }
    script.order("f").end()
}

/// Every verdict of a program before another one.
fn second_program(mode: Mode) -> Scenario {
    let mut script = Script::new(format!("verdicts: list {mode:?}"))
        .pair("a", Pair::new(mode))
        .load("lists", "l");
    for program in ["l.tc1", "l.tc2", "l.tc3"] {
        script = script.attach("a0", List::Primary, program, place());
    }
    for verdict in [NEXT, PASS, DROP, REDIRECT, 2, 4] {
        for number in 1..=3 {
            script = script
                .give_at("l", number, verdict)
                .send_many("a0", sent(mode, "a1"), 2)
                .order("l")
                .give_at("l", number, NEXT);
        }
    }
    script.end()
}

fn empty_list(mode: Mode) -> Scenario {
    let mut script = Script::new(format!("verdicts: policy {mode:?}"));
    for (letter, primary, peer) in [
        ("a", Policy::Forward, Policy::Forward),
        ("b", Policy::Blackhole, Policy::Forward),
        ("c", Policy::Forward, Policy::Blackhole),
    ] {
        let (first, second) = (format!("{letter}0"), format!("{letter}1"));
        script = script
            .pair(letter, Pair::new(mode).policies(primary, peer))
            .send_many(&first, sent(mode, &second), 3)
            .send_many(&second, sent(mode, &first), 2);
    }
    script
        .change("a0", Some(Policy::Blackhole), None)
        .send("a0", sent(mode, "a1"))
        .send("a1", sent(mode, "a0"))
        .end()
}

/// A policy is of empty lists only, whatever the programs say.
fn policy_under_list(mode: Mode) -> Scenario {
    Script::new(format!("verdicts: policy under a list {mode:?}"))
        .pair(
            "a",
            Pair::new(mode).policies(Policy::Blackhole, Policy::Blackhole),
        )
        .load("lists", "l")
        .attach("a0", List::Primary, "l.tc1", place())
        .send("a0", sent(mode, "a1"))
        .send("a1", sent(mode, "a0"))
        .detach("a0", List::Primary, Some("l.tc1"), place())
        .send("a0", sent(mode, "a1"))
        .end()
}

fn down(mode: Mode) -> Scenario {
    Script::new(format!("verdicts: down {mode:?}"))
        .step(Step::Pair(Pair::new(mode).spec("a")))
        .send("a0", sent(mode, "a1"))
        .up("a0")
        .send("a0", sent(mode, "a1"))
        .send("a1", sent(mode, "a0"))
        .up("a1")
        .send("a0", sent(mode, "a1"))
        .send("a1", sent(mode, "a0"))
        .down("a0")
        .send("a0", sent(mode, "a1"))
        .send("a1", sent(mode, "a0"))
        .end()
}

/// Programs do not run towards a peer that is down, nor on a device that is.
fn down_with_program(mode: Mode) -> Scenario {
    Script::new(format!("verdicts: down with a program {mode:?}"))
        .pair("a", Pair::new(mode))
        .load("lists", "l")
        .attach("a0", List::Primary, "l.tc1", place())
        .down("a1")
        .send("a0", sent(mode, "a1"))
        .order("l")
        .up("a1")
        .down("a0")
        .send("a0", sent(mode, "a1"))
        .order("l")
        .up("a0")
        .send("a0", sent(mode, "a1"))
        .order("l")
        .end()
}

fn lengths(mode: Mode) -> Scenario {
    let mut script = Script::new(format!("verdicts: lengths {mode:?}")).pair("a", Pair::new(mode));
    if mode == Mode::L2 {
        for len in [15, 20, 59, 61, 1000, 1513, 1514] {
            script = script.send("a0", typed_frame(address("a1"), 0x88b5, len));
        }
        script = script
            .send("a0", frame(BROADCAST))
            .send("a1", frame([1, 0, 0x5e, 0, 0, 1]));
    } else {
        for _ in 0..3 {
            script = script.send("a1", packet());
        }
    }
    script.end()
}
