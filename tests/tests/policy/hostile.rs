//! Programs, objects and callers that mean harm: they get an answer, the daemon lives, and nobody else notices.

use std::time::{Duration, Instant};

use netkit_api::{ProgramLoad, ProgramRun, TraceRequest};
use netkit_tests::driver::{Bystanders, NetDriver, Pair, Random, Setup};
use netkit_tests::http;
use netkit_tests::netkitd::Netkitd;
use netkit_tests::programs::{self, Programs, base64};
use serde_json::{Value, json};
use vmm_glue::client::End;

use crate::{assert_nothing, daemon_with, dropped, files, frame, object};

/// Sends frames until a program that faults on each is in quarantine.
fn provoke(daemon: &Netkitd, a: &mut NetDriver, program: &str) -> u64 {
    let end = Instant::now() + Duration::from_secs(10);
    let mut sent = 0;
    while !daemon.client().program(program).unwrap().quarantined {
        assert!(Instant::now() < end, "{program} is never quarantined");
        for _ in 0..40 {
            a.send_frame(&frame(b"to be judged"));
        }
        a.flush();
        sent += 40;
    }
    sent
}

#[test]
fn a_program_that_faults_too_often_is_kept_from_running() {
    let Some((daemon, programs)) = daemon_with("hostile", &["--workers", "1"]) else {
        return;
    };
    let bystanders = Bystanders::start(&daemon);
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    for program in ["fault", "stray", "beyond"] {
        let before = dropped(&pair.a, "program_fault");
        programs.set_list(&pair.a.device, End::Primary, &[program]);
        let mut sent = provoke(&daemon, &mut a, program);
        let shown = daemon.client().program(program).unwrap();
        assert!(shown.faults >= 16 && shown.faults < sent, "{shown:?}");
        // In quarantine it does not run, and still nothing passes.
        for _ in 0..100 {
            a.send_frame(&frame(b"more"));
        }
        a.flush();
        sent += 100;
        let later = daemon.client().program(program).unwrap();
        assert_eq!(
            (later.faults, later.run_cnt),
            (shown.faults, shown.run_cnt),
            "{program}"
        );
        assert_eq!(dropped(&pair.a, "program_fault"), before + sent, "{program}");
        assert_nothing(&mut b);
        let text = daemon.ok(&format!("prog show name {program}"));
        assert!(text.contains("quarantine"), "{text}");

        daemon.ok(&format!("prog resume name {program}"));
        assert!(!daemon.client().program(program).unwrap().quarantined);
        a.send_frame(&frame(b"again"));
        a.flush();
        assert_eq!(
            daemon.client().program(program).unwrap().faults,
            shown.faults + 1,
            "{program}"
        );
        bystanders.go_on();
    }
    assert!(
        daemon.log().contains("it is in quarantine now"),
        "{}",
        daemon.log()
    );
    bystanders.finish();
}

#[test]
fn the_quarantine_s_verdict_can_be_to_go_on() {
    let arguments = ["--quarantine-after", "3", "--quarantine-verdict", "next"];
    let Some((daemon, programs)) = daemon_with("hostile", &arguments) else {
        return;
    };
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "fault");
    for number in 0..3u8 {
        a.send_frame(&frame(&[number]));
        a.flush();
    }
    assert_eq!(dropped(&pair.a, "program_fault"), 3);
    a.send_frame(&frame(b"after"));
    assert_eq!(b.receive().frame, frame(b"after"));
    assert_nothing(&mut b);
}

#[test]
fn an_endless_loop_is_stopped_and_others_on_the_worker_go_on() {
    let arguments = ["--workers", "1", "--quarantine-after", "0"];
    let Some((daemon, programs)) = daemon_with("hostile", &arguments) else {
        return;
    };
    let bystanders = Bystanders::start(&daemon);
    let pair = Pair::new(&daemon, "nk");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "endless");
    let begun = Instant::now();
    for _ in 0..300 {
        a.send_frame(&frame(b"for ever"));
    }
    a.flush();
    let each = begun.elapsed() / 300;
    println!("a frame that is stopped for its fuel takes {each:?}");
    assert_eq!(dropped(&pair.a, "program_fault"), 300);
    let shown = daemon.client().program("endless").unwrap();
    assert_eq!((shown.faults, shown.quarantined), (300, false));
    assert!(shown.last_fault.unwrap().contains("longer than it may"));
    assert_nothing(&mut b);
    bystanders.finish();
}

#[test]
fn a_program_that_copies_without_end_has_a_bound() {
    let Some((daemon, programs)) = daemon_with("hostile", &["--workers", "1"]) else {
        return;
    };
    let bystanders = Bystanders::start(&daemon);
    let pair = Pair::new(&daemon, "nk");
    daemon.ok("link set nk0 domain elsewhere");
    daemon.ok("link set nk1 domain elsewhere");
    let (mut a, mut b) = pair.connect(&Setup::default()).unwrap();
    programs.attach(&pair.a.device, End::Primary, "copies");
    programs.attach(&pair.a.device, End::Peer, "copies");
    for _ in 0..50 {
        a.send_frame(&frame(b"copied"));
        while a.poll().is_some() | b.poll().is_some() {}
    }
    a.flush();
    bystanders.finish();
}

/// Posts an object by hand: always an answer, and one that says what was wrong.
fn post(daemon: &Netkitd, object: &[u8]) -> u16 {
    let body = json!({ "object": base64(object) }).to_string();
    let answer = http::call(&daemon.api(), "POST", "/v1/programs", Some(&body));
    assert!(
        [201, 400, 403, 404, 409, 413, 422, 507].contains(&answer.status),
        "{answer:?}"
    );
    if answer.status != 201 {
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{answer:?}"
        );
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
    }
    answer.status
}

#[test]
fn mutated_objects_are_loaded_or_refused() {
    let daemon = Netkitd::start();
    let bystanders = Bystanders::start(&daemon);
    let mut random = Random::new(77);
    let (mut loaded, mut refused) = (0, 0);
    for name in [
        "allow_list",
        "firewall",
        "mirror",
        "snat",
        "rate_limit",
        "anti_spoof",
    ] {
        let whole = programs::policy(name);
        assert_eq!(post(&daemon, &whole), 201);
        for round in 0..60 {
            let mut object = whole.clone();
            match round % 4 {
                0 => object.truncate(random.number() as usize % whole.len()),
                1 => {
                    // The ELF header and what is behind it.
                    let at = random.number() as usize % 64;
                    object[at] = random.number() as u8;
                }
                2 => {
                    // Section headers are at the end.
                    let at = whole.len() - 1 - random.number() as usize % 1024.min(whole.len() - 1);
                    object[at] = random.number() as u8;
                }
                _ => {
                    for _ in 0..1 + random.number() % 16 {
                        let at = random.number() as usize % whole.len();
                        object[at] = random.number() as u8;
                    }
                }
            }
            match post(&daemon, &object) {
                201 => loaded += 1,
                _ => refused += 1,
            }
        }
        // What a strange object left can be seen, run and unloaded.
        for program in daemon.client().programs().unwrap() {
            let id = program.id.to_string();
            let run = ProgramRun {
                data_in: base64(&frame(b"a frame for a strange program")),
                ..ProgramRun::default()
            };
            let _ = daemon.client().run(&id, &run);
            daemon.client().xlated(&id).unwrap();
            daemon.client().unload(&id).unwrap();
        }
    }
    for len in [0, 1, 3, 63, 64, 65, 4096, 100_000] {
        assert_ne!(post(&daemon, &random.octets(len)), 201);
        refused += 1;
    }
    println!("{loaded} mutated objects were loaded, {refused} refused");
    assert!(refused > 50);
    bystanders.finish();
}

#[test]
fn bodies_that_are_no_objects_are_refused() {
    let daemon = Netkitd::start();
    let call = |path: &str, body: &str| http::call(&daemon.api(), "POST", path, Some(body));
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"object\": 7}",
        "{\"object\": \"%%%\"}",
        "{\"object\": \"AAA\"}",
    ] {
        let answer = call("/v1/programs", body);
        assert_eq!(
            (answer.status, answer.json()["errno"].as_str()),
            (400, Some("EINVAL")),
            "{answer:?}"
        );
    }
    for body in [
        json!({"object": "", "nam": "x"}),
        json!({"object": base64(&programs::policy("mirror")), "name": "nobody"}),
        json!({"object": base64(&programs::policy("mirror")), "maps": [{"name": "frames", "pinned": "nowhere"}]}),
        json!({"object": base64(&programs::policy("mirror")), "maps": [{"name": "nomap", "pinned": "frames"}]}),
    ] {
        let answer = call("/v1/programs", &body.to_string());
        assert!((400..500).contains(&answer.status), "{} {answer:?}", body["maps"]);
    }
    assert_eq!(daemon.client().programs().unwrap(), []);
    assert_eq!(daemon.client().maps().unwrap(), []);

    // One octet more than there may be.
    let longest = 32 << 20;
    let open = "{\"object\": \"";
    let body = format!("{open}{}\"}}", "A".repeat(longest - open.len() - 1));
    assert_eq!(body.len(), longest + 1);
    let answer = call("/v1/programs", &body);
    assert_eq!(
        (answer.status, answer.json()["errno"].as_str()),
        (413, Some("EMSGSIZE")),
        "{answer:?}"
    );
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("33554432"), "{detail}");
    let answer = call("/v1/programs", &body[1..]);
    assert_eq!(answer.status, 400);
    // Where no object is expected the limit is as before.
    let answer = call("/v1/devices", &" ".repeat(65537));
    assert_eq!(answer.status, 413);
    assert!(answer.json()["detail"].as_str().unwrap().contains("65536"));
}

#[test]
fn map_requests_that_make_no_sense_are_refused() {
    let Some((daemon, programs)) = daemon_with("maps", &[]) else {
        return;
    };
    programs.load(&programs::policy("mirror"));
    programs.load(&programs::policy("allow_list"));
    let before = programs.read("counts", &[0; 4]);
    let mut random = Random::new(4);
    let words = |random: &mut Random| -> Value {
        match random.number() % 9 {
            0 => Value::Null,
            1 => json!(""),
            2 => json!("0"),
            3 => json!("xy"),
            4 => json!("é0"),
            5 => json!("00".repeat(random.number() as usize % 40)),
            6 => json!("ff".repeat(4)),
            7 => json!("00".repeat(20_000)),
            _ => json!("ff".repeat(8 * (random.number() as usize % 5))),
        }
    };
    let operations = [
        "lookup",
        "next",
        "take",
        "update",
        "delete",
        "push",
        "pop",
        "peek",
        "freezer",
        "events",
        "../counts",
        "%ff",
        "",
    ];
    let mut statuses = std::collections::BTreeMap::new();
    for map in daemon.client().maps().unwrap() {
        for operation in operations {
            for _ in 0..6 {
                // Writes to the counters would be allowed.
                if map.name == "counts" && operation == "update" {
                    continue;
                }
                let body = json!({"key": words(&mut random), "value": words(&mut random)});
                let path = format!("/v1/maps/{}/{operation}", map.id);
                let answer = http::call(&daemon.api(), "POST", &path, Some(&body.to_string()));
                assert_ne!(answer.status, 500, "{path} {body}: {answer:?}");
                *statuses.entry(answer.status).or_insert(0) += 1;
            }
        }
    }
    println!("{statuses:?}");
    assert_eq!(programs.read("counts", &[0; 4]), before);
}

#[test]
fn odd_frames_can_be_traced_and_tried() {
    let daemon = Netkitd::start();
    let programs = Programs(daemon.client());
    let pair = Pair::new(&daemon, "nk");
    for name in ["allow_list", "firewall", "mirror", "snat"] {
        programs.load(&programs::policy(name));
    }
    let all = daemon.client().programs().unwrap();
    for program in &all {
        programs.attach(&pair.a.device, End::Primary, &program.id.to_string());
    }
    let mut random = Random::new(9);
    let mut frames: Vec<Vec<u8>> = [0, 1, 13, 14, 15, 33, 34, 60, 1514, 4000, 65_549, 70_000, 200_000]
        .map(|len| random.octets(len))
        .to_vec();
    for _ in 0..40 {
        // As if IPv4 or IPv6, with the rest at random.
        let len = 14 + random.number() as usize % 100;
        let mut frame = random.octets(len);
        let is_ipv4 = len.is_multiple_of(2);
        frame[12..14].copy_from_slice(if is_ipv4 { &[8, 0] } else { &[0x86, 0xdd] });
        if let Some(first) = frame.get_mut(14) {
            *first = if is_ipv4 { 0x45 } else { 0x60 };
        }
        frames.push(frame);
    }
    let (mut traced, mut refused) = (0, 0);
    for frame in &frames {
        for gso_size in [0, 1, 1400, u16::MAX] {
            let request = TraceRequest {
                frame: base64(frame),
                gso_size,
                limit: 5,
                ..TraceRequest::default()
            };
            match daemon.client().trace(&pair.a.device, &request) {
                Ok(_) => traced += 1,
                Err(vmm_glue::ClientError::Refused(_)) => refused += 1,
                Err(error) => panic!("{} octets, gso {gso_size}: {error}", frame.len()),
            }
        }
        let run = ProgramRun {
            data_in: base64(frame),
            ctx_in: Some(base64(&random.octets(random.clone().number() as usize % 300))),
            ..ProgramRun::default()
        };
        match daemon.client().run(&all[0].id.to_string(), &run) {
            Ok(_) | Err(vmm_glue::ClientError::Refused(_)) => {}
            Err(error) => panic!("{} octets: {error}", frame.len()),
        }
    }
    println!("{traced} traced, {refused} refused");
    assert!(traced > 20 && refused > 0);
    let answer = http::call(
        &daemon.api(),
        "POST",
        "/v1/devices/nk0/trace",
        Some("{\"frame\": \"not base64\"}"),
    );
    assert_eq!(answer.status, 400);
    // None of this was a frame.
    assert_eq!((pair.a.statistics().tx_packets, pair.a.drops()), (0, vec![]));
}

/// Memory maps and open files of the daemon.
fn resources(daemon: &Netkitd) -> (usize, usize) {
    let process = format!("/proc/{}", daemon.process().id());
    let maps = std::fs::read_to_string(format!("{process}/maps")).unwrap();
    let descriptors = std::fs::read_dir(format!("{process}/fd")).unwrap();
    (maps.lines().count(), descriptors.count())
}

#[test]
fn two_hundred_rounds_leave_nothing_behind() {
    let Some(object) = object("hostile") else { return };
    let daemon = Netkitd::start();
    let programs = Programs(daemon.client());
    let pair = Pair::new(&daemon, "nk");
    let round = |number: usize| {
        let policies = ["allow_list", "firewall", "mirror", "snat", "rate_limit"];
        let octets = match number % 6 {
            5 => object.clone(),
            which => programs::policy(policies[which]),
        };
        let loaded = programs.load(&octets);
        let first = loaded.programs[0].id.to_string();
        programs.attach(&pair.a.device, End::Primary, &first);
        let run = ProgramRun {
            data_in: base64(&frame(b"tried")),
            ..ProgramRun::default()
        };
        daemon.client().run(&first, &run).unwrap();
        programs.detach(&pair.a.device, End::Primary, &first);
        for program in loaded.programs {
            daemon.client().unload(&program.id.to_string()).unwrap();
        }
        for map in daemon.client().maps().unwrap() {
            if map.pinned.is_some() {
                daemon.client().unpin_map(&map.id.to_string()).unwrap();
            }
        }
    };
    (0..12).for_each(round);
    let (before, kept) = (resources(&daemon), files(&daemon.path("state")));
    (0..200).for_each(round);
    let after = resources(&daemon);
    println!("memory maps and descriptors: {before:?} before, {after:?} after");
    assert_eq!(daemon.client().programs().unwrap(), []);
    assert_eq!(daemon.client().maps().unwrap(), []);
    assert!(after.0 <= before.0 + 8, "{before:?} {after:?}");
    assert!(after.1 <= before.1 + 2, "{before:?} {after:?}");
    assert_eq!(files(&daemon.path("state")), kept);
    // And none of them from objects that were only checked.
    for _ in 0..20 {
        let check = ProgramLoad {
            object: base64(&programs::policy("firewall")),
            check_only: true,
            ..ProgramLoad::default()
        };
        assert_eq!(daemon.client().load(&check).unwrap().programs[0].id, 0);
    }
    assert_eq!(daemon.client().programs().unwrap(), []);
    assert_eq!(files(&daemon.path("state")), kept);
}
