//! Many devices in one daemon: what each costs while nothing happens, and that the others do not slow two of them down.

use std::time::{Duration, Instant};

use netkit_api::{AttachmentSpec, DeviceCreate, DeviceSet, Mode, SocketMode, VhostUserSpec};
use netkit_tests::driver::packet::ethernet;
use netkit_tests::driver::{NetDriver, Pair, PairConfig, Setup};
use netkit_tests::netkitd::Netkitd;

const DEVICES: usize = 1000;
/// Pairs with a guest at each end, which then idle.
const CONNECTED: usize = 4;
/// Much more than a device takes (about a tenth of it), much less than a mistake would.
const OCTETS_PER_DEVICE: u64 = 64 << 10;
/// Much more processor time than the daemon takes to make and attach them, with four changes for each pair.
const SECONDS: f64 = 30.0;

/// Makes an attached pair, both ends up, with four calls.
fn make_pair(daemon: &Netkitd, index: usize) {
    let client = daemon.client();
    let created = client
        .create(&DeviceCreate {
            mode: Some(Mode::L2),
            ..DeviceCreate::default()
        })
        .expect("a pair");
    for (end, name) in [Some(&created.primary), created.peer.as_ref()]
        .into_iter()
        .flatten()
        .enumerate()
    {
        let spec = VhostUserSpec {
            path: daemon.path(&format!("{index}-{end}.sock")).display().to_string(),
            mode: SocketMode::Server,
            queues: 1,
        };
        client
            .attach(name, &AttachmentSpec::VhostUser(spec))
            .expect("a socket behind the device");
        let up = DeviceSet {
            up: Some(true),
            ..DeviceSet::default()
        };
        client.set(name, &up).expect("the device up");
    }
}

fn connect(daemon: &Netkitd, index: usize) -> [NetDriver; 2] {
    [0, 1].map(|end| {
        let socket = daemon.path(&format!("{index}-{end}.sock"));
        NetDriver::connect(&socket, Setup::default()).expect("a guest")
    })
}

fn exchange(from: &mut NetDriver, to: &mut NetDriver, frames: u64) {
    for number in 0..frames {
        let frame = ethernet([2; 6], [4; 6], &number.to_be_bytes());
        from.send_frame(&frame);
        assert_eq!(to.receive().frame, frame);
    }
}

/// Octets of the daemon's own memory, files that guests share not counted.
fn resident(daemon: &Netkitd) -> u64 {
    let path = format!("/proc/{}/status", daemon.process().id());
    let status = std::fs::read_to_string(path).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * kilobytes
        .and_then(|number| number.parse::<u64>().ok())
        .expect("RssAnon")
}

#[test]
fn a_thousand_devices_cost_little_and_disturb_nobody() {
    let daemon = Netkitd::with(&["--workers", "2"]);
    make_pair(&daemon, 0);
    let (before, start, cpu) = (resident(&daemon), Instant::now(), daemon.cpu_seconds());
    for index in 1..DEVICES / 2 {
        make_pair(&daemon, index);
    }
    let (took, seconds) = (start.elapsed(), daemon.cpu_seconds() - cpu);
    let each = resident(&daemon).saturating_sub(before) / DEVICES as u64;
    println!("{DEVICES} devices: {took:?}, of which the daemon {seconds} s, and {each} octets each");
    assert_eq!(daemon.client().devices().expect("devices").len(), DEVICES);
    assert!(seconds < SECONDS, "{DEVICES} devices took {seconds} s");
    assert!(each < OCTETS_PER_DEVICE, "a device takes {each} octets");

    let mut idle: Vec<_> = (1..=CONNECTED).map(|index| connect(&daemon, index)).collect();
    let [mut a, mut b] = connect(&daemon, DEVICES / 2 - 1);
    exchange(&mut a, &mut b, 100);
    exchange(&mut b, &mut a, 100);

    std::thread::sleep(Duration::from_millis(100));
    let before = daemon.cpu_seconds();
    std::thread::sleep(Duration::from_secs(2));
    let used = daemon.cpu_seconds() - before;
    println!("{used} s of processor time in 2 idle seconds");
    assert!(used <= 0.05, "an idle daemon used {used} s in 2 s");

    // The ones that idled are still served.
    for [a, b] in &mut idle {
        exchange(a, b, 3);
        exchange(b, a, 3);
    }
}

#[test]
fn guests_that_idle_use_no_processor_time() {
    let daemon = Netkitd::start();
    let mut guests: Vec<_> = (0..32)
        .map(|index| {
            make_pair(&daemon, index);
            connect(&daemon, index)
        })
        .collect();
    for [a, b] in &mut guests {
        exchange(a, b, 10);
    }
    std::thread::sleep(Duration::from_millis(100));
    let before = daemon.cpu_seconds();
    std::thread::sleep(Duration::from_secs(4));
    let used = daemon.cpu_seconds() - before;
    println!("{used} s of processor time in 4 s with 64 idle guests");
    assert!(used <= 0.02, "64 idle guests took {used} s in 4 s");
    for [a, b] in &mut guests {
        exchange(b, a, 10);
    }
}

/// Changes come while frames flow: each puts a new plan in force, and none may cost a frame.
#[test]
fn changes_under_load_lose_no_frame() {
    let daemon = Netkitd::with(&["--workers", "2"]);
    let config = PairConfig {
        queues: 2,
        ..PairConfig::default()
    };
    let pair = Pair::with(&daemon, "nk", config);
    let setup = Setup {
        pairs: 2,
        ..Setup::default()
    };
    let (mut a, mut b) = pair.connect(&setup).expect("two guests");
    let client = daemon.client();
    let changes = std::thread::spawn(move || {
        let create = DeviceCreate {
            name: Some("other".to_owned()),
            ..DeviceCreate::default()
        };
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            let start = Instant::now();
            client.create(&create).expect("another pair");
            client.delete("other").expect("it is there");
            longest = longest.max(start.elapsed());
        }
        longest
    });
    let mut sent = 0u64;
    while !changes.is_finished() || sent < 1000 {
        let frame = ethernet([2; 6], [4; 6], &sent.to_be_bytes());
        a.send((sent % 2) as usize, &Default::default(), &frame);
        assert_eq!(b.receive().frame, frame, "frame {sent}");
        sent += 1;
    }
    let longest = changes.join().expect("the changes");
    println!("{sent} frames beside 200 changes, of which two took {longest:?} at most");
    let statistics = pair.a.statistics();
    assert_eq!(
        (statistics.tx_packets, statistics.tx_dropped),
        (sent, 0),
        "{:?}",
        pair.a.drops()
    );
}
