//! The daemon's death: what was loaded, attached and counted is there again.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netkit_api::{Map, MapRequest, Program, ProgramAttach, ProgramLoad};
use netkit_tests::driver::{Header, NetDriver, Pair, PairConfig, Random, Setup, packet};
use netkit_tests::netkitd::{Netkitd, run_to_end};
use netkit_tests::programs::{self, Programs};
use vmm_glue::client::End;

use crate::{A, B, daemon_with, dropped, files, frame};

/// What must be the same after a restart.
#[derive(Debug, PartialEq)]
struct Known {
    lists: Vec<netkit_api::ProgramList>,
    links: Vec<netkit_api::Link>,
    programs: Vec<(u32, String, String, Vec<String>)>,
    maps: Vec<Map>,
}

impl Known {
    fn of(daemon: &Netkitd) -> Known {
        let client = daemon.client();
        let named = |it: Program| (it.id, it.name, it.tag, it.attached);
        Known {
            lists: client.lists(None).unwrap(),
            links: client.links().unwrap(),
            programs: client.programs().unwrap().into_iter().map(named).collect(),
            maps: client.maps().unwrap(),
        }
    }
}

/// A pair with `count` and `judge` on what its primary sends, `count` by a link, after some changes.
fn furnish(daemon: &Netkitd, programs: &Programs) -> Pair {
    let pair = Pair::new(daemon, "nk");
    let client = daemon.client();
    for _ in 0..3 {
        programs.attach(&pair.a.device, End::Primary, "left");
        programs.detach(&pair.a.device, End::Primary, "left");
    }
    let request = ProgramAttach {
        program: "count".to_owned(),
        link: true,
        ..ProgramAttach::default()
    };
    client
        .attach_program(&pair.a.device, End::Primary, &request)
        .unwrap();
    programs.attach(&pair.a.device, End::Primary, "judge");
    programs.write("judgements", &u32::from(b'x').to_ne_bytes(), &2i32.to_ne_bytes());
    pair
}

fn reconnect(drivers: [&mut NetDriver; 2], pair: &Pair) {
    for (driver, end) in drivers.into_iter().zip([&pair.a, &pair.b]) {
        let end_of_patience = Instant::now() + Duration::from_secs(10);
        while let Err(error) = driver.reconnect(&end.socket) {
            assert!(Instant::now() < end_of_patience, "{error}");
        }
    }
}

#[test]
fn lists_links_and_maps_survive_a_kill_under_load() {
    let Some((mut daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    let pair = furnish(&daemon, &programs);
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    let mut counted = 0;
    for round in 0..3 {
        for number in 0..200u32 {
            a.send_frame(&frame(&[&b"y"[..], &number.to_be_bytes()].concat()));
            a.send_frame(&frame(b"x"));
            b.receive();
        }
        a.flush();
        assert_eq!(programs.read_u64("counts", 0), counted + 400);
        // Frames are on their way while it dies.
        for _ in 0..30 {
            a.send_frame(&frame(b"y"));
        }
        let known = Known::of(&daemon);
        daemon.kill();
        let restarted = Instant::now();
        daemon.run();
        println!("round {round}: answers {:?} after its start", restarted.elapsed());
        assert_eq!(Known::of(&daemon), known);
        reconnect([&mut a, &mut b], &pair);
        a.flush();
        while b.poll().is_some() {}
        // One frame may have been counted twice: it was judged, and not given back before the end.
        let now = programs.read_u64("counts", 0);
        assert!(
            (counted + 430..=counted + 431).contains(&now),
            "{now} after {counted}"
        );
        counted = now;
        let request = MapRequest {
            key: Some("78000000".to_owned()),
            ..MapRequest::default()
        };
        assert_eq!(
            daemon
                .client()
                .lookup("judgements", &request)
                .unwrap()
                .value
                .unwrap(),
            "02000000"
        );
        // Judged as before.
        a.send_frame(&frame(b"x"));
        a.send_frame(&frame(b"z"));
        assert_eq!(b.receive().frame, frame(b"z"));
        assert_eq!(dropped(&pair.a, "program_drop"), 1);
        counted += 2;
    }
    // Ids go on, and the revision does.
    let before = daemon.client().lists(None).unwrap()[0].revision;
    programs.attach(&pair.a.device, End::Primary, "right");
    assert_eq!(daemon.client().lists(None).unwrap()[0].revision, before + 1);
}

/// The memory of a map is never half written for good: not its buckets, not its list of free entries, not its locks.
#[test]
fn a_map_that_was_being_written_is_whole_after_a_kill() {
    let mut daemon = Netkitd::with(&["--workers", "2"]);
    let programs = Programs(daemon.client());
    let load = ProgramLoad {
        object: programs::base64(&programs::policy("firewall")),
        pin_maps: true,
        ..ProgramLoad::default()
    };
    daemon.client().load(&load).unwrap();
    let config = PairConfig {
        queues: 2,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    programs.attach(&pair.a.device, End::Primary, "firewall_host");
    programs.attach(&pair.a.device, End::Peer, "firewall_guest");
    let setup = Setup {
        pairs: 2,
        ..Setup::default()
    };
    let (mut host, mut guest) = pair.connect(&setup).unwrap();
    let mut random = Random::new(3);
    let flows = Cell::new(0u32);
    let next = || {
        flows.set(flows.get() + 1);
        let [_, high, middle, low] = flows.get().to_be_bytes();
        let to = packet::Host {
            ip: std::net::Ipv4Addr::new(10, high, middle, low).into(),
            ..A
        };
        packet::udp(B, to, b"a new flow")
    };
    let mut discarded = 0;
    for round in 0..12 {
        // Every frame is a new flow, on two workers at once.
        for number in 0..60 {
            guest.send(number % 2, &Header::default(), &next());
        }
        std::thread::sleep(Duration::from_micros(random.number() % 200));
        daemon.kill();
        daemon.run();
        reconnect([&mut host, &mut guest], &pair);
        guest.flush();
        while host.poll().is_some() {}

        let question = next();
        guest.send_frame(&question);
        assert_eq!(host.receive().frame, question, "round {round}");
        let entries = entries(&daemon, "flows");
        // Frames that are found in a ring which is started and not enabled yet are discarded (vhost-user, "Ring states").
        discarded += dropped(&pair.b, "ring_disabled") as u32;
        // Of all others the flows are there: only what was being written may be lost. Those of frames that were judged and
        // not given back before the end are there, too.
        let expected = flows.get() - discarded - 2 * (round + 1)..=flows.get();
        assert!(
            expected.contains(&(entries.len() as u32)),
            "{} entries, not {expected:?}",
            entries.len()
        );
        let unique: std::collections::BTreeSet<&String> = entries.iter().collect();
        assert_eq!(unique.len(), entries.len(), "a key is there twice");
    }
    // It can be emptied and filled again.
    for key in entries(&daemon, "flows") {
        let request = MapRequest {
            key: Some(key),
            ..MapRequest::default()
        };
        daemon.client().delete_entry("flows", &request).unwrap();
    }
    assert_eq!(entries(&daemon, "flows").len(), 0);
    let question = next();
    guest.send_frame(&question);
    assert_eq!(host.receive().frame, question);
    assert_eq!(entries(&daemon, "flows").len(), 1);
}

/// The keys of a map.
fn entries(daemon: &Netkitd, map: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let part = daemon.client().entries(map, after.as_deref()).unwrap();
        keys.extend(part.entries.into_iter().filter_map(|entry| entry.key));
        match part.next {
            Some(next) => after = Some(next),
            None => return keys,
        }
    }
}

/// Starts the daemon on what is left, which it must refuse, and gives what it said.
fn refuses(daemon: &Netkitd) -> String {
    let (api, state) = (daemon.api(), daemon.path("state"));
    let arguments = [
        "--api",
        api.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let (code, _, error) = run_to_end(&arguments);
    assert_eq!(code, 1, "{error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}

#[test]
fn a_damaged_object_is_refused_at_the_start() {
    let Some((mut daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    furnish(&daemon, &programs);
    daemon.kill();
    let objects = files(&daemon.path("state/objects"));
    assert_eq!(objects.len(), 1);
    let whole = std::fs::read(&objects[0]).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let mut other = whole.clone();
    other[0] = b'X';
    for damaged in [vec![], b"garbage".to_vec(), cut, other] {
        std::fs::write(&objects[0], &damaged).unwrap();
        let error = refuses(&daemon);
        let name = objects[0].file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name) || error.contains("object"), "{error}");
    }
    std::fs::remove_file(&objects[0]).unwrap();
    let error = refuses(&daemon);
    assert!(error.contains("No such file"), "{error}");
    std::fs::write(&objects[0], &whole).unwrap();
    daemon.run();
    assert_eq!(daemon.client().links().unwrap().len(), 1);
}

/// A program whose object has further maps is restored with them, or it is not restored at all.
#[test]
fn programs_are_restored_after_others_of_their_object_were_unloaded() {
    let Some((mut daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    furnish(&daemon, &programs);
    // Nobody else uses its program array.
    daemon.client().unload("step").unwrap();
    for _ in 0..2 {
        let known = Known::of(&daemon);
        daemon.kill();
        daemon.run();
        assert_eq!(Known::of(&daemon), known);
    }
}

/// Any octet of an object may have changed: the daemon starts or says why it does not.
#[test]
fn a_changed_object_or_map_never_makes_the_start_panic() {
    let Some((mut daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    furnish(&daemon, &programs);
    let known = Known::of(&daemon);
    daemon.kill();
    let state = daemon.path("state");
    let mut random = Random::new(5);
    let all: Vec<PathBuf> = files(&state)
        .into_iter()
        .filter(|path| !path.ends_with("lock") && path.metadata().unwrap().len() > 0)
        .collect();
    assert!(all.len() >= 3, "{all:?}");
    for path in &all {
        let whole = std::fs::read(path).unwrap();
        for round in 0..6 {
            let mut damaged = whole.clone();
            match round {
                0 => damaged.truncate(whole.len() / 2),
                1 => damaged.clear(),
                _ => {
                    for _ in 0..8 {
                        let at = random.number() as usize % damaged.len();
                        damaged[at] = random.number() as u8;
                    }
                }
            }
            std::fs::write(path, &damaged).unwrap();
            let log = daemon.log().len();
            starts_or_says_why(&daemon, path);
            assert!(!daemon.log()[log..].contains("panicked"), "{}", daemon.log());
            std::fs::write(path, &whole).unwrap();
        }
    }
    daemon.run();
    assert_eq!(Known::of(&daemon), known);
}

fn starts_or_says_why(daemon: &Netkitd, damaged: &Path) {
    let mut command = std::process::Command::new(netkit_tests::netkitd::program("netkitd"));
    let log = std::fs::File::options()
        .append(true)
        .open(daemon.path("log"))
        .unwrap();
    command
        .args(["--api".as_ref(), daemon.api().as_os_str()])
        .args(["--state-dir".as_ref(), daemon.path("state").as_os_str()])
        .stderr(log);
    let process = netkit_tests::rig::Process::spawn(command).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = process.status().unwrap() {
            assert_eq!(status.code(), Some(1), "{damaged:?}: {status}\n{}", daemon.log());
            return;
        }
        if daemon.client().programs().is_ok() {
            // What it took up, it can also show.
            for map in daemon.client().maps().unwrap() {
                let _ = daemon.client().entries(&map.id.to_string(), None);
            }
            assert!(daemon.client().daemon().is_ok(), "{damaged:?}\n{}", daemon.log());
            process.kill().unwrap();
            return;
        }
        assert!(Instant::now() < end, "{damaged:?}: neither\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}
