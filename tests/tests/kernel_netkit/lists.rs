//! Program lists: order, places, revisions, links, and every refusal.

use netkit_tests::kernel::scenario::{Anchor, List, Place, Scenario};

use super::script::*;

const BOTH: [(List, &str); 2] = [(List::Primary, "primary"), (List::Peer, "peer")];

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (list, word) in BOTH {
        all.extend([
            order(list, word, false),
            order(list, word, true),
            places(list, word),
            refusals(list, word),
            replaced(list, word),
            revisions(list, word),
            detached(list, word),
            links(list, word),
            mixed(list, word),
            full(list, word),
        ]);
    }
    all.extend([
        by_peer(),
        defunct_links(),
        defunct_by_deletion(),
        one_program_everywhere(),
    ]);
    all
}

fn start(name: &str, word: &str) -> Script {
    Script::new(format!("lists: {name} {word}"))
        .pair("a", Pair::l2())
        .load("lists", "l")
}

/// Sends a frame over the list, and looks at what ran.
fn ran(script: Script, list: List) -> Script {
    let (from, to) = match list {
        List::Primary => ("a0", "a1"),
        List::Peer => ("a1", "a0"),
    };
    script.query("a0", list).send(from, frame(address(to))).order("l")
}

fn order(list: List, word: &str, linked: bool) -> Scenario {
    let kind = if linked { "links" } else { "programs" };
    let mut script = start(&format!("order of {kind}"), word);
    for (program, place) in [
        ("l.tc1", place()),
        ("l.tc2", first()),
        ("l.tc3", last()),
        ("l.tc4", place()),
    ] {
        script = match linked {
            true => script.link("a0", list, program, &program.replace("tc", "link"), place),
            false => script.attach("a0", list, program, place),
        };
        script = ran(script, list);
    }
    script.end()
}

fn places(list: List, word: &str) -> Scenario {
    let mut script = start("places", word).attach("a0", list, "l.tc1", place());
    for (program, place) in [
        ("l.tc2", before("l.tc1")),
        ("l.tc3", after("l.tc2")),
        ("l.tc4", by_id(before("l.tc3"))),
        ("l.tc5", by_id(after("l.tc1"))),
    ] {
        script = ran(script.attach("a0", list, program, place), list);
    }
    script.end()
}

fn between(program: &str, other: &str) -> Place {
    Place {
        before: Some(Anchor::Program(program.into())),
        after: Some(Anchor::Program(other.into())),
        ..place()
    }
}

fn refusals(list: List, word: &str) -> Scenario {
    let mut script = start("refusals", word)
        // Of an empty list.
        .attach("a0", list, "l.tc1", before("l.tc2"))
        .attach("a0", list, "l.tc1", after("l.tc2"))
        .attach("a0", list, "l.tc1", replace("l.tc2"))
        .attach("a0", list, "l.tc1", revision(2))
        .detach("a0", list, Some("l.tc1"), place())
        .detach("a0", list, None, place())
        .detach("a0", list, None, first())
        .query("a0", list)
        // Of a list with two programs.
        .attach("a0", list, "l.tc1", revision(1))
        .attach("a0", list, "l.tc2", place());
    for place in [
        place(),
        first(),
        last(),
        before("l.tc1"),
        before("l.tc3"),
        after("l.tc2"),
        revision(1),
    ] {
        script = script.attach("a0", list, "l.tc1", place);
    }
    for place in [
        before("l.tc4"),
        after("l.tc4"),
        replace("l.tc4"),
        before("l.tc3"),
        revision(2),
        at_revision(before("l.tc1"), 7),
        between("l.tc1", "l.tc1"),
        Place {
            before: Some(Anchor::End),
            after: Some(Anchor::End),
            ..place()
        },
        Place {
            before: Some(Anchor::Program("l.tc1".into())),
            ..replace("l.tc1")
        },
        Place {
            after: Some(Anchor::Program("l.tc2".into())),
            ..replace("l.tc1")
        },
        Place {
            before: Some(Anchor::End),
            ..replace("l.tc2")
        },
    ] {
        script = script.attach("a0", list, "l.tc3", place).query("a0", list);
        script = script
            .link("a0", list, "l.tc5", "k", Place::default())
            .close_link("k");
    }
    ran(script, list).end()
}

fn replaced(list: List, word: &str) -> Scenario {
    let mut script = start("replaced", word)
        .attach("a0", list, "l.tc1", place())
        .attach("a0", list, "l.tc2", place())
        .attach("a0", list, "l.tc3", place());
    for (program, place) in [
        ("l.tc4", replace("l.tc2")),
        ("l.tc5", replace("l.tc2")),
        ("l.tc4", replace("l.tc4")),
        ("l.tc1", replace("l.tc4")),
        ("l.tc5", at_revision(replace("l.tc1"), 5)),
        ("l.tc1", at_revision(replace("l.tc5"), 5)),
    ] {
        script = ran(script.attach("a0", list, program, place), list);
    }
    script.link("a0", list, "l.tc2", "k", replace("l.tc4")).end()
}

fn revisions(list: List, word: &str) -> Scenario {
    let script = start("revisions", word)
        .query("a0", list)
        .attach("a0", list, "l.tc1", revision(1))
        .attach("a0", list, "l.tc2", revision(1))
        .attach("a0", list, "l.tc2", revision(2))
        .link("a0", list, "l.tc3", "k", revision(2))
        .link("a0", list, "l.tc3", "k", revision(3))
        .detach("a0", list, Some("l.tc1"), revision(3))
        .detach("a0", list, Some("l.tc1"), revision(4))
        .query("a0", list)
        .close_link("k")
        .query("a0", list)
        .detach("a0", list, Some("l.tc2"), revision(6))
        .query("a0", list)
        .attach("a0", list, "l.tc1", revision(6))
        .attach("a0", list, "l.tc1", revision(7))
        .query("a0", list);
    script.end()
}

fn detached(list: List, word: &str) -> Scenario {
    let mut script = start("detached", word);
    for program in ["l.tc1", "l.tc2", "l.tc3", "l.tc4", "l.tc5"] {
        script = script.attach("a0", list, program, place());
    }
    for (program, place) in [
        (Some("l.tc1"), after("l.tc2")),
        (Some("l.tc2"), before("l.tc1")),
        (None, before("l.tc2")),
        (None, after("l.tc5")),
        (None, after("l.tc3")),
        (Some("l.tc2"), first()),
        (Some("l.tc3"), first()),
        (None, first()),
        (None, last()),
        (None, place()),
        (Some("l.tc3"), place()),
        (Some("l.tc4"), replace("l.tc2")),
        (None, before("l.tc1")),
    ] {
        // Only attaching replaces.
        if place.replace.is_none() {
            script = ran(script.detach("a0", list, program, place), list);
        }
    }
    script.end()
}

fn links(list: List, word: &str) -> Scenario {
    let script = start("links", word)
        .link("a0", list, "l.tc1", "k1", place())
        .link("a0", list, "l.tc2", "k2", before_link("k1"))
        .link("a0", list, "l.tc3", "k3", by_id(after_link("k2")))
        .link("a0", list, "l.tc1", "k4", place())
        .link("a0", list, "l.tc4", "k4", before("l.tc1"))
        .link("a0", list, "l.tc5", "k5", replace("l.tc1"));
    let script = ran(script, list)
        .show_link("k1")
        .show_link("k3")
        .update_link("k1", "l.tc4", None)
        .update_link("k1", "l.tc5", Some("l.tc2"))
        .update_link("k1", "l.tc5", Some("l.tc1"))
        .update_link("k1", "l.tc5", None)
        .update_link("k1", "l.tc2", None)
        .update_link("k1", "l.tc5", Some("l.tc5"));
    let script = ran(script, list)
        .show_link("k1")
        .detach("a0", list, Some("l.tc5"), place())
        .detach("a0", list, Some("l.tc2"), place())
        .attach("a0", list, "l.tc1", replace("l.tc5"))
        .attach("a0", list, "l.tc2", place())
        .detach("a0", list, None, first())
        .detach("a0", list, None, place());
    ran(script, list)
        .close_link("k2")
        .query("a0", list)
        .close_link("k1")
        .close_link("k3")
        .query("a0", list)
        .end()
}

fn mixed(list: List, word: &str) -> Scenario {
    let script = start("mixed", word)
        .attach("a0", list, "l.tc1", place())
        .link("a0", list, "l.tc2", "k2", before("l.tc1"))
        .attach("a0", list, "l.tc3", before_link("k2"))
        .attach("a0", list, "l.tc4", before("l.tc2"))
        .attach("a0", list, "l.tc5", after("l.tc2"))
        .attach("a0", list, "l.tc2", replace("l.tc1"))
        .link("a0", list, "l.tc1", "k1", place());
    ran(script, list)
        .detach("a0", list, None, after("l.tc3"))
        .detach("a0", list, Some("l.tc1"), after_link("k2"))
        .query("a0", list)
        .close_link("k2")
        .query("a0", list)
        .end()
}

/// `BPF_MPROG_MAX` programs, and one more.
fn full(list: List, word: &str) -> Scenario {
    let mut script = start("full", word);
    for index in 0..14 {
        let name = format!("m{index}");
        script = script.load("lists", &name);
        for number in 1..=5 {
            script = script.attach("a0", list, &format!("{name}.tc{number}"), place());
        }
    }
    script
        .query("a0", list)
        .attach("a0", list, "l.tc1", replace("m0.tc1"))
        .attach("a0", list, "l.tc2", place())
        .link("a0", list, "l.tc2", "k", place())
        .end()
}

fn by_peer() -> Scenario {
    let mut script = start("by the peer", "").attach("a0", List::Primary, "l.tc1", place());
    for (list, _) in BOTH {
        script = script
            .attach("a1", list, "l.tc2", place())
            .link("a1", list, "l.tc2", "k", place())
            .detach("a1", list, Some("l.tc1"), place())
            .detach("a1", list, None, place())
            .query("a1", list);
    }
    script.query("a0", List::Primary).query("a0", List::Peer).end()
}

fn defunct_links() -> Scenario {
    let script = start("detached links", "")
        .link("a0", List::Primary, "l.tc1", "k1", place())
        .link("a0", List::Primary, "l.tc2", "k2", place())
        .detach_link("k1")
        .show_link("k1")
        .query("a0", List::Primary)
        .detach_link("k1")
        .update_link("k1", "l.tc3", None)
        .update_link("k1", "l.tc1", None)
        // What a defunct link holds can be attached again.
        .link("a0", List::Primary, "l.tc1", "k3", place())
        .attach("a0", List::Primary, "l.tc3", before_link("k1"));
    ran(script, List::Primary)
        .close_link("k1")
        .query("a0", List::Primary)
        .end()
}

fn defunct_by_deletion() -> Scenario {
    let mut script = start("links of a deleted pair", "")
        .link("a0", List::Primary, "l.tc1", "k1", place())
        .link("a0", List::Peer, "l.tc2", "k2", place())
        .attach("a0", List::Peer, "l.tc3", place())
        .show_link("k1")
        .show_link("k2")
        .delete("a1");
    for link in ["k1", "k2"] {
        script = script
            .show_link(link)
            .detach_link(link)
            .update_link(link, "l.tc4", None)
            .close_link(link);
    }
    script.query("a0", List::Primary).end()
}

fn one_program_everywhere() -> Scenario {
    Script::new("lists: one program in four lists")
        .pair("a", Pair::l2())
        .pair("b", Pair::l2().domains("other", "elsewhere"))
        .load("lists", "l")
        .attach("a0", List::Primary, "l.tc1", place())
        .attach("a0", List::Peer, "l.tc1", place())
        .link("b0", List::Primary, "l.tc1", "k1", place())
        .link("b0", List::Peer, "l.tc1", "k2", place())
        .send("a0", frame(address("a1")))
        .send("a1", frame(address("a0")))
        .send("b0", frame(address("b1")))
        .send_many("b1", frame(address("b0")), 2)
        .order("l")
        .end()
}
