//! What a list of programs makes of a frame, and how lists are changed.

use netkit_api::{NetkitChange, Policy, ProgramAttach, ProgramDetach};
use netkit_tests::driver::{NetDriver, Pair, Setup};
use netkit_tests::netkitd::Netkitd;
use vmm_glue::ClientError;
use vmm_glue::client::End;

use crate::{assert_nothing, daemon_with, dropped, frame, number};

#[test]
fn each_verdict_has_its_fate_and_each_drop_its_reason() {
    let Some((daemon, programs)) = daemon_with("verdicts", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    let frame = frame(b"a frame");
    let (mut sent, mut dropped_so_far) = (0, 0);
    for (program, reason) in [
        ("next", None),
        ("pass", None),
        ("drop", Some("program_drop")),
        ("unknown", Some("unknown_verdict")),
        ("redirect_nowhere", Some("redirect_failed")),
        ("redirect_unsaid", Some("redirect_failed")),
        ("fault", Some("program_fault")),
    ] {
        programs.set_list(&pair.a.device, End::Primary, &[program]);
        let before = reason.map_or(0, |reason| dropped(&pair.a, reason));
        for _ in 0..3 {
            a.send_frame(&frame);
        }
        a.flush();
        sent += 3;
        match reason {
            None => (0..3).for_each(|_| assert_eq!(b.receive().frame, frame, "{program}")),
            Some(reason) => {
                assert_eq!(
                    dropped(&pair.a, reason),
                    before + 3,
                    "{program}: {:?}",
                    pair.a.drops()
                );
                // A redirect counts as transmitted before it is tried (netkit.c: `netkit_xmit`).
                dropped_so_far += if reason == "redirect_failed" { 0 } else { 3 };
            }
        }
        assert_nothing(&mut b);
        assert_eq!(programs.runs(program), 3, "{program}");
        let statistics = pair.a.statistics();
        assert_eq!(
            (
                statistics.tx_packets + statistics.tx_dropped,
                statistics.tx_dropped
            ),
            (sent, dropped_so_far),
            "{program}"
        );
    }
    let fault = daemon.client().program("fault").unwrap();
    assert_eq!((fault.faults, fault.quarantined), (3, false));
    let text = fault.last_fault.unwrap();
    assert!(
        text.contains("(fault), instruction") && text.contains("null guard"),
        "{text}"
    );
}

#[test]
fn the_policy_is_for_empty_lists_only() {
    let Some((daemon, programs)) = daemon_with("verdicts", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    let blackhole = NetkitChange {
        policy: Some(Policy::Blackhole),
        peer_policy: Some(Policy::Blackhole),
        ..NetkitChange::default()
    };
    daemon.client().change(&pair.a.device, &blackhole).unwrap();
    a.send_frame(&frame(b"1"));
    assert_nothing(&mut b);
    assert_eq!(dropped(&pair.a, "policy_blackhole"), 1);
    // After the last program, NEXT is PASS whatever the policy.
    programs.attach(&pair.a.device, End::Primary, "next");
    a.send_frame(&frame(b"2"));
    assert_eq!(b.receive().frame, frame(b"2"));
    // The other direction has a list of its own.
    b.send_frame(&frame(b"3"));
    assert_nothing(&mut a);
    assert_eq!(dropped(&pair.b, "policy_blackhole"), 1);
    programs.attach(&pair.a.device, End::Peer, "next");
    b.send_frame(&frame(b"4"));
    assert_eq!(a.receive().frame, frame(b"4"));
    programs.detach(&pair.a.device, End::Primary, "next");
    a.send_frame(&frame(b"5"));
    assert_nothing(&mut b);
    assert_eq!(dropped(&pair.a, "policy_blackhole"), 2);
}

/// What the programs of the list wrote into the next frame: a hexadecimal digit each.
fn digits(from: &mut NetDriver, to: &mut NetDriver) -> String {
    from.send_frame(&frame(&[0xee; 40]));
    format!("{:x}", number(&to.receive().frame, 14))
}

fn revision(daemon: &Netkitd, device: &str) -> u64 {
    daemon.client().lists(Some(device)).unwrap()[0].revision
}

#[test]
fn programs_run_in_the_order_of_the_list() {
    let Some((daemon, programs)) = daemon_with("verdicts", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    let device = pair.a.device.as_str();
    programs.attach(device, End::Primary, "show");
    assert_eq!(digits(&mut a, &mut b), "0");

    let word = |text: &str| Some(text.to_owned());
    let attach = |request: ProgramAttach| {
        let before = revision(&daemon, device);
        let attached = daemon
            .client()
            .attach_program(device, End::Primary, &request)
            .unwrap();
        assert_eq!(attached.revision, before + 1);
        assert_eq!(revision(&daemon, device), before + 1);
        attached.link_id
    };
    let program = |name: &str| ProgramAttach {
        program: name.to_owned(),
        ..ProgramAttach::default()
    };
    attach(ProgramAttach {
        before: word("show"),
        ..program("b")
    });
    assert_eq!(digits(&mut a, &mut b), "b");
    attach(ProgramAttach {
        before: word(""),
        ..program("a")
    });
    assert_eq!(digits(&mut a, &mut b), "ab");
    let link = attach(ProgramAttach {
        after: word("a"),
        link: true,
        ..program("c")
    });
    assert_eq!(digits(&mut a, &mut b), "acb");
    attach(ProgramAttach {
        replace: word("b"),
        ..program("next")
    });
    assert_eq!(digits(&mut a, &mut b), "ac");
    let link = link.unwrap();
    attach(ProgramAttach {
        before: Some(format!("link:{link}")),
        ..program("b")
    });
    assert_eq!(digits(&mut a, &mut b), "abc");

    let stale = ProgramAttach {
        expected_revision: Some(1),
        ..program("unknown")
    };
    assert_refused(
        daemon.client().attach_program(device, End::Primary, &stale),
        "ESTALE",
    );
    let twice = daemon
        .client()
        .attach_program(device, End::Primary, &program("a"));
    assert_refused(twice, "EEXIST");
    // What a link holds is not taken out by the program's name.
    let request = ProgramDetach {
        program: word("c"),
        ..ProgramDetach::default()
    };
    let detached = daemon.client().detach_program(device, End::Primary, &request);
    assert!(detached.is_err());
    assert_refused(daemon.client().unload("c"), "EBUSY");
    assert_eq!(digits(&mut a, &mut b), "abc");

    let update = |program: &str, expected: Option<&str>| {
        let request = netkit_api::LinkUpdate {
            program: program.to_owned(),
            expected: expected.map(str::to_owned),
        };
        daemon.client().update_link(link, &request)
    };
    assert_refused(update("pass", Some("a")), "EPERM");
    update("pass", Some("c")).unwrap();
    // PASS ends the list before `show`.
    a.send_frame(&frame(&[0xee; 40]));
    assert_eq!(b.receive().frame, frame(&[0xee; 40]));
    update("c", None).unwrap();
    assert_eq!(digits(&mut a, &mut b), "abc");
    daemon.client().detach_link(link).unwrap();
    assert_eq!(digits(&mut a, &mut b), "ab");
    assert_eq!(daemon.client().link(link).unwrap().ifindex, 0);
    daemon.client().delete_link(link).unwrap();
    assert_refused(daemon.client().link(link), "ENOENT");
    daemon.client().unload("c").unwrap();
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, ClientError>, errno: &str) {
    match result {
        Err(ClientError::Refused(problem)) => assert_eq!(problem.errno, errno, "{problem:?}"),
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn each_direction_runs_its_own_list() {
    let Some((daemon, programs)) = daemon_with("verdicts", &[]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.set_list(&pair.a.device, End::Primary, &["a", "show"]);
    programs.set_list(&pair.a.device, End::Peer, &["b", "c", "show"]);
    assert_eq!(digits(&mut a, &mut b), "a");
    assert_eq!(digits(&mut b, &mut a), "bc");
    let attached = daemon.client().program("show").unwrap().attached;
    assert_eq!(
        attached,
        [
            format!("{} primary", pair.a.device),
            format!("{} peer", pair.a.device)
        ]
    );
}

#[test]
fn a_program_that_is_interpreted_judges_alike() {
    let Some((daemon, programs)) = daemon_with("verdicts", &["--interpret"]) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    assert!(!daemon.client().program("a").unwrap().jited);
    programs.set_list(&pair.a.device, End::Primary, &["a", "b", "c", "show"]);
    assert_eq!(digits(&mut a, &mut b), "abc");
    for (program, reason) in [("fault", "program_fault"), ("drop", "program_drop")] {
        programs.set_list(&pair.a.device, End::Primary, &[program]);
        a.send_frame(&frame(b"x"));
        assert_nothing(&mut b);
        assert_eq!(dropped(&pair.a, reason), 1);
    }
}
