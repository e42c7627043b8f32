//! Changes of lists while frames flow at full speed: each frame sees one list, none is lost, and what is detached has
//! ended when the caller is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netkit_api::{LinkUpdate, ProgramAttach};
use netkit_tests::driver::{Header, NetDriver, Pair, PairConfig, Setup};
use netkit_tests::netkitd::Netkitd;
use netkit_tests::programs::Programs;
use vmm_glue::client::End;

use crate::{daemon_with, frame, number};

/// Frames that are on the way at most: fewer than there are receive buffers, so that none may be lost.
const WINDOW: u64 = 128;
const LATEST: Duration = Duration::from_secs(10);

/// A guest that sends as fast as it can on two queues, and one that receives.
struct Flow {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Vec<(u32, u64)>>,
}

impl Flow {
    fn start(mut a: NetDriver, mut b: NetDriver) -> Flow {
        let stop = Arc::<AtomicBool>::default();
        let ended = Arc::<AtomicBool>::default();
        let received = Arc::<AtomicU64>::default();
        let total = Arc::<AtomicU64>::default();
        let sender = {
            let (stop, ended) = (stop.clone(), ended.clone());
            let (received, total) = (received.clone(), total.clone());
            std::thread::spawn(move || {
                let blank = frame(&[0xee; 40]);
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    if sent - received.load(Ordering::Relaxed) >= WINDOW {
                        std::thread::yield_now();
                        continue;
                    }
                    let pair = sent as usize % a.setup().pairs;
                    sent += u64::from(a.try_send(pair, &Header::default(), &blank));
                }
                a.flush();
                total.store(sent, Ordering::Relaxed);
                ended.store(true, Ordering::Release);
                sent
            })
        };
        let counter = received.clone();
        let receiver = std::thread::spawn(move || {
            // Marks are few; a list of them is a map that keeps their order.
            let mut marks: Vec<(u32, u64)> = Vec::new();
            let mut last = Instant::now();
            loop {
                if let Some(received) = b.poll() {
                    let mark = number(&received.frame, 14);
                    match marks.iter_mut().find(|(known, _)| *known == mark) {
                        Some((_, count)) => *count += 1,
                        None => marks.push((mark, 1)),
                    }
                    counter.fetch_add(1, Ordering::Relaxed);
                    last = Instant::now();
                } else if ended.load(Ordering::Acquire)
                    && counter.load(Ordering::Relaxed) == total.load(Ordering::Relaxed)
                {
                    return marks;
                } else {
                    assert!(last.elapsed() < LATEST, "frames were lost on the way");
                    b.wait(Duration::from_millis(1));
                }
            }
        });
        Flow {
            stop,
            received,
            sender,
            receiver,
        }
    }

    /// Waits until so many more frames have arrived.
    fn go_on(&self, frames: u64) {
        let (wanted, end) = (
            self.received.load(Ordering::Relaxed) + frames,
            Instant::now() + LATEST,
        );
        while self.received.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < end, "frames do not flow any more");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// How many frames were sent, and how many arrived with which mark.
    fn finish(self) -> (u64, Vec<(u32, u64)>) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("a sender");
        (sent, self.receiver.join().expect("every frame arrives"))
    }
}

/// Two queues on two workers, with the programs of verdicts.c; `show` is at the end of the list.
fn flow() -> Option<(Netkitd, Programs, Pair, Flow)> {
    let (daemon, programs) = daemon_with("verdicts", &["--workers", "2"])?;
    let config = PairConfig {
        queues: 2,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    let setup = Setup {
        pairs: 2,
        ..Setup::default()
    };
    let (a, b) = pair.connect(&setup).unwrap();
    programs.attach(&pair.a.device, End::Primary, "show");
    let flow = Flow::start(a, b);
    flow.go_on(100);
    Some((daemon, programs, pair, flow))
}

/// Asserts that a program which is attached nowhere does not run any more.
fn assert_rests(programs: &Programs, flow: &Flow, program: &str) {
    let runs = programs.runs(program);
    flow.go_on(50);
    assert_eq!(programs.runs(program), runs, "{program} still runs");
}

#[test]
fn each_frame_sees_one_list_while_lists_change() {
    let Some((daemon, programs, pair, flow)) = flow() else {
        return;
    };
    let device = pair.a.device.as_str();
    let attach = |program: &str, before: &str| {
        let request = ProgramAttach {
            program: program.to_owned(),
            before: Some(before.to_owned()),
            ..ProgramAttach::default()
        };
        daemon
            .client()
            .attach_program(device, End::Primary, &request)
            .unwrap();
    };
    let end = Instant::now() + Duration::from_secs(4);
    let mut rounds = 0;
    while Instant::now() < end {
        attach("a", "");
        flow.go_on(20);
        attach("b", "show");
        flow.go_on(20);
        programs.detach(device, End::Primary, "a");
        assert_rests(&programs, &flow, "a");
        attach("c", "b");
        let replaced = ProgramAttach {
            program: "a".to_owned(),
            replace: Some("b".to_owned()),
            ..ProgramAttach::default()
        };
        daemon
            .client()
            .attach_program(device, End::Primary, &replaced)
            .unwrap();
        assert_rests(&programs, &flow, "b");
        programs.detach(device, End::Primary, "c");
        programs.detach(device, End::Primary, "a");
        assert_rests(&programs, &flow, "a");
        assert_rests(&programs, &flow, "c");
        rounds += 1;
    }
    let (sent, marks) = flow.finish();
    println!("{rounds} rounds of 7 changes, {sent} frames, {marks:x?}");
    assert!(rounds > 3);
    // The lists that there were, and no others.
    let lists = [0x0, 0xa, 0xab, 0xb, 0xcb, 0xca];
    assert!(marks.iter().all(|(mark, _)| lists.contains(mark)), "{marks:x?}");
    assert!(marks.len() >= 4, "{marks:x?}");
    assert_eq!(marks.iter().map(|(_, count)| count).sum::<u64>(), sent);
    // Each run was counted.
    for (program, digit) in [("a", 0xa), ("b", 0xb), ("c", 0xc)] {
        let has = |mark: u32| mark & 0xf == digit || mark >> 4 == digit;
        let expected: u64 = marks
            .iter()
            .filter(|(mark, _)| has(*mark))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(programs.runs(program), expected, "{program}");
    }
    assert_eq!(programs.runs("show"), sent);
    let statistics = pair.a.statistics();
    assert_eq!((statistics.tx_packets, statistics.tx_dropped), (sent, 0));
}

#[test]
fn a_link_changes_its_program_between_two_frames() {
    let Some((daemon, programs, pair, flow)) = flow() else {
        return;
    };
    let request = ProgramAttach {
        program: "a".to_owned(),
        before: Some(String::new()),
        link: true,
        ..ProgramAttach::default()
    };
    let client = daemon.client();
    let attached = client
        .attach_program(&pair.a.device, End::Primary, &request)
        .unwrap();
    let link = attached.link_id.unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let mut updates = 0;
    while Instant::now() < end {
        for (program, old) in [("b", "a"), ("c", "b"), ("a", "c")] {
            let update = LinkUpdate {
                program: program.to_owned(),
                expected: Some(old.to_owned()),
            };
            client.update_link(link, &update).unwrap();
            assert_rests(&programs, &flow, old);
            updates += 1;
        }
    }
    let (sent, marks) = flow.finish();
    println!("{updates} updates, {sent} frames, {marks:x?}");
    // One program at any time, and none before there was the link.
    assert!(
        marks.iter().all(|(mark, _)| [0x0, 0xa, 0xb, 0xc].contains(mark)),
        "{marks:x?}"
    );
    let runs: u64 = ["a", "b", "c"].iter().map(|program| programs.runs(program)).sum();
    let without = marks
        .iter()
        .find(|(mark, _)| *mark == 0)
        .map_or(0, |(_, count)| *count);
    assert_eq!(runs, sent - without);
}

#[test]
fn frames_pass_at_full_speed_through_programs() {
    for list in [&[][..], &["next"], &["a", "b", "show"]] {
        let Some((_daemon, programs, pair, flow)) = flow() else {
            return;
        };
        programs.set_list(&pair.a.device, End::Primary, list);
        let before = (Instant::now(), flow.received.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs(1));
        let passed = flow.received.load(Ordering::Relaxed) - before.1;
        let rate = passed as f64 / before.0.elapsed().as_secs_f64();
        println!("{} programs: {:.0} frames a second", list.len(), rate);
        let (sent, marks) = flow.finish();
        assert_eq!(marks.iter().map(|(_, count)| count).sum::<u64>(), sent);
        assert!(passed > 0);
    }
}
