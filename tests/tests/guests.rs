//! Real guests on the two ends of a pair: QEMU under software emulation, with Linux and iPXE as drivers.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netkit_tests::netkitd::Netkitd;
use netkit_tests::programs::{self, Programs};
use netkit_tests::rig::{Guest, GuestConfig, Iperf, Kernel, Nic, Shell, ping, ping6};
use vmm_glue::client::End;

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// Guests are too heavy to boot for two tests at once.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon with the pair `nka`, `nkb`, both up and attached.
fn pair(mode: &str, attach: &str) -> Netkitd {
    wired(Netkitd::start(), mode, attach)
}

fn wired(daemon: Netkitd, mode: &str, attach: &str) -> Netkitd {
    daemon.ok(&format!("link add nka type netkit mode {mode} peer name nkb"));
    for device in ["nka", "nkb"] {
        daemon.ok(&format!("link set {device} up"));
        let socket = daemon.path(device);
        daemon.ok(&format!(
            "attach {device} vhost-user path {} {attach}",
            socket.display()
        ));
    }
    daemon
}

/// The card of a guest on `device`, with the address that the daemon gives it.
fn nic(daemon: &Netkitd, device: &str) -> Nic {
    let shown = daemon.client().device(device).unwrap();
    Nic::vhost_user(daemon.path(device)).mac(shown.attachment.guest_address.unwrap())
}

/// Boots both guests and gives them their addresses.
fn boot(a: GuestConfig, b: GuestConfig) -> (Guest, Guest) {
    let (a, b) = (Guest::start(a).unwrap(), Guest::start(b).unwrap());
    set_up(&a, A, "fd00::1");
    set_up(&b, B, "fd00::2");
    (a, b)
}

fn set_up(guest: &Guest, v4: &str, v6: &str) {
    guest.wait_ready().unwrap();
    guest
        .set_up("eth0", &[&format!("{v4}/24"), &format!("{v6}/64")])
        .unwrap();
}

fn boot_plain(daemon: &Netkitd) -> (Guest, Guest) {
    let config = |device: &str| GuestConfig::new(device).nic(nic(daemon, device));
    boot(config("nka"), config("nkb"))
}

fn assert_pings(from: &Guest, to: &str) {
    let result = ping(from, to, 5).unwrap();
    assert_eq!(result.received, result.sent, "{} -> {to}", from.name());
}

fn assert_pings6(from: &Guest, to: &str) {
    let result = ping6(from, to, 5).unwrap();
    assert_eq!(result.received, result.sent, "{} -> {to}", from.name());
}

/// Measures and prints; a stalled path gives next to nothing.
fn assert_flows(what: &str, iperf: &Iperf, client: &Guest, server: &Guest, address: &str) {
    let result = iperf.run(client, server, address).unwrap();
    println!(
        "{what}: {:.0} Mbit/s, {} retransmits",
        result.bits_per_second / 1e6,
        result.retransmits
    );
    assert!(result.bits_per_second > 5e6, "{what}: {result:?}");
}

#[test]
fn l2_guests_ping_and_iperf_both_ways() {
    let _alone = alone();
    let daemon = pair("l2", "");
    let (a, b) = boot_plain(&daemon);
    assert_pings(&a, B);
    assert_pings(&b, A);
    assert_pings6(&a, "fd00::2");
    assert_flows("L2 TCP", &Iperf::tcp(), &a, &b, B);
    assert_flows("L2 TCP back", &Iperf::tcp().reverse(), &a, &b, B);
    assert_flows("L2 TCP over IPv6", &Iperf::tcp(), &a, &b, "fd00::2");
    assert_flows("L2 UDP", &Iperf::udp("50M"), &a, &b, B);
    let offloads = a.check("ethtool -k eth0").unwrap();
    for feature in [
        "tx-checksumming: on",
        "tcp-segmentation-offload: on",
        "generic-receive-offload: on",
    ] {
        assert!(offloads.contains(feature), "{feature} in {offloads}");
    }
    // A guest whose driver stops for good gives back all that it was lent, and the other end notices nothing worse.
    a.check("ip link set eth0 down; ip link set eth0 up").unwrap();
    a.set_up("eth0", &[&format!("{A}/24")]).unwrap();
    assert_pings(&b, A);
}

#[test]
fn l3_guests_are_answered_by_the_daemon() {
    let _alone = alone();
    let daemon = pair("l3", "");
    let (a, b) = boot_plain(&daemon);
    assert_pings(&a, B);
    assert_pings(&b, A);
    assert_pings6(&a, "fd00::2");
    assert_flows("L3 TCP", &Iperf::tcp(), &a, &b, B);
    assert_flows("L3 UDP", &Iperf::udp("50M"), &a, &b, B);
    // Every neighbour has the one address that the daemon answers with, whether it exists or not.
    let neighbours = a.check(&format!(
        "ping -c 1 -W 1 10.0.0.77 || true; ip neigh show to {B}; ip neigh show to 10.0.0.77"
    ));
    let neighbours = neighbours.unwrap();
    let addresses: Vec<&str> = neighbours
        .lines()
        .filter_map(|line| line.split("lladdr ").nth(1)?.split(' ').next())
        .collect();
    assert!(
        addresses.len() == 2 && addresses[0] == addresses[1],
        "{neighbours}"
    );
    // Duplicate address detection asks, gets no answer, and so succeeds.
    a.check("ip address add fd00::99/64 dev eth0; sleep 3").unwrap();
    let address = a.check("ip -6 address show dev eth0").unwrap();
    assert!(
        address.contains("fd00::99") && !address.contains("dadfailed"),
        "{address}"
    );
    assert!(!address.contains("tentative"), "{address}");
}

#[test]
fn a_guest_without_offloads_gets_whole_checked_segments() {
    let _alone = alone();
    let daemon = pair("l2", "");
    let bare = [
        "csum",
        "guest_csum",
        "gso",
        "guest_tso4",
        "guest_tso6",
        "guest_ecn",
        "host_tso4",
        "host_tso6",
        "host_ecn",
        "mrg_rxbuf",
    ];
    let plain = bare
        .iter()
        .fold(nic(&daemon, "nkb"), |nic, feature| nic.property(feature, "off"));
    let (a, b) = boot(
        GuestConfig::new("nka").nic(nic(&daemon, "nka")),
        GuestConfig::new("nkb").nic(plain),
    );
    assert_pings(&a, B);
    assert_flows("to a guest without offloads", &Iperf::tcp(), &a, &b, B);
    assert_flows(
        "from a guest without offloads",
        &Iperf::tcp().reverse(),
        &a,
        &b,
        B,
    );
    assert_flows("UDP to a guest without offloads", &Iperf::udp("50M"), &a, &b, B);
    // The other guest's stack turns its own offloads off while the device runs.
    a.check("ethtool -K eth0 tx off tso off gso off gro off").unwrap();
    assert_flows("offloads off in both", &Iperf::tcp(), &a, &b, B);
}

#[test]
fn jumbo_frames_pass_whole() {
    let _alone = alone();
    let daemon = pair("l2", "");
    for device in ["nka", "nkb"] {
        daemon.ok(&format!("link set {device} mtu 9000"));
    }
    let config = |device: &str| GuestConfig::new(device).nic(nic(&daemon, device).host_mtu(9000));
    let (a, b) = boot(config("nka"), config("nkb"));
    let mtu = a.check("cat /sys/class/net/eth0/mtu").unwrap();
    assert_eq!(mtu.trim(), "9000", "the card's MTU reaches the guest");
    let large = a.check(&format!("ping -M do -s 8972 -c 3 -i 0.2 {B}")).unwrap();
    assert!(large.contains("3 received"), "{large}");
    assert_flows("TCP with MTU 9000", &Iperf::tcp(), &a, &b, B);
}

#[test]
fn two_queue_pairs_on_two_workers_carry_traffic() {
    let _alone = alone();
    let daemon = wired(Netkitd::with(&["--workers", "2"]), "l2", "queues 2");
    let config = |device: &str| {
        GuestConfig::new(device)
            .cpus(2)
            .nic(nic(&daemon, device).queues(2))
    };
    let (a, b) = boot(config("nka"), config("nkb"));
    a.check("ethtool -L eth0 combined 2").unwrap();
    b.check("ethtool -L eth0 combined 2").unwrap();
    assert_flows("TCP on two queue pairs", &Iperf::tcp().parallel(4), &a, &b, B);
    a.check("for cpu in 0 1; do taskset $((1 << cpu)) ping -q -c 5 -i 0.2 10.0.0.2; done")
        .unwrap();
    let statistics = a.check("ethtool -S eth0").unwrap();
    for queue in [
        "tx_queue_0_packets",
        "tx_queue_1_packets",
        "tx0_packets",
        "tx1_packets",
    ] {
        if let Some(line) = statistics
            .lines()
            .find(|line| line.trim_start().starts_with(queue))
        {
            let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(count > 0, "{queue}: {statistics}");
        }
    }
    assert!(
        statistics.contains("1_packets"),
        "the second queue's counters are missing: {statistics}"
    );
}

#[test]
fn qemu_may_listen_and_the_daemon_connect() {
    let _alone = alone();
    let daemon = pair("l2", "mode client");
    let config = |device: &str| GuestConfig::new(device).nic(nic(&daemon, device).server());
    let (a, b) = boot(config("nka"), config("nkb"));
    assert_pings(&a, B);
    assert_flows("TCP with QEMU as server", &Iperf::tcp(), &a, &b, B);
}

#[test]
fn a_guest_reboots_and_comes_back() {
    let _alone = alone();
    let daemon = pair("l2", "");
    let (a, b) = boot_plain(&daemon);
    assert_pings(&a, B);
    b.reboot().unwrap();
    set_up(&b, B, "fd00::2");
    assert_pings(&a, B);
    b.reset().unwrap();
    set_up(&b, B, "fd00::2");
    assert_pings(&a, B);
    assert_flows("TCP after two boots", &Iperf::tcp(), &a, &b, B);
}

#[test]
fn traffic_survives_the_daemon_s_death() {
    let _alone = alone();
    let mut daemon = pair("l2", "");
    let (a, b) = boot_plain(&daemon);
    assert_pings(&a, B);
    b.check("iperf3 -s -D").unwrap();
    let transfer = a.spawn(&format!("iperf3 -c {B} -t 12 -J")).unwrap();
    std::thread::sleep(Duration::from_secs(3));

    daemon.kill();
    std::thread::sleep(Duration::from_millis(500));
    let restarted = Instant::now();
    daemon.run();
    let answered = loop {
        let result = a.run(&format!("ping -q -c 1 -W 1 {B}")).unwrap();
        if result.status == 0 {
            break restarted.elapsed();
        }
        assert!(
            restarted.elapsed() < Duration::from_secs(20),
            "no ping after a restart\n{}",
            daemon.log()
        );
    };
    println!("from restart to the first answered ping: {answered:?}");
    assert!(
        answered < Duration::from_secs(2),
        "traffic resumed only after {answered:?}"
    );

    let deadline = Instant::now() + Duration::from_secs(60);
    let report = loop {
        let text = a.check(&format!("cat {transfer}")).unwrap();
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(report) => break report,
            Err(_) => assert!(Instant::now() < deadline, "iperf3 does not end: {text}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(report.get("error").is_none(), "TCP did not survive: {report}");
    let intervals = report["intervals"].as_array().unwrap();
    let last = intervals.last().unwrap()["sum"]["bits_per_second"]
        .as_f64()
        .unwrap();
    println!(
        "TCP in the last second after the restart: {:.0} Mbit/s",
        last / 1e6
    );
    assert!(last > 5e6, "TCP did not come back to speed: {report}");
    // What the daemon knew is there again.
    let shown = daemon.ok("link show nka");
    assert!(shown.contains("UP,LOWER_UP"), "{shown}");
}

/// Bits of the features that a guest took (virtio 1.3, 6).
fn took(daemon: &Netkitd, device: &str, bit: u32) -> bool {
    let features = daemon.client().device(device).unwrap().attachment.features;
    features.unwrap_or(0) >> bit & 1 == 1
}

#[test]
fn a_guest_with_packed_rings_talks_to_one_with_split_rings() {
    const RING_PACKED: u32 = 34;
    let _alone = alone();
    let daemon = pair("l2", "");
    let packed = nic(&daemon, "nka").property("packed", "on");
    let (a, b) = boot(
        GuestConfig::new("nka").nic(packed),
        GuestConfig::new("nkb").nic(nic(&daemon, "nkb")),
    );
    assert!(took(&daemon, "nka", RING_PACKED) && !took(&daemon, "nkb", RING_PACKED));
    assert_pings(&a, B);
    assert_pings(&b, A);
    assert_pings6(&a, "fd00::2");
    assert_flows("TCP from packed to split", &Iperf::tcp(), &a, &b, B);
    assert_flows("TCP from split to packed", &Iperf::tcp().reverse(), &a, &b, B);
    assert_flows("UDP from packed to split", &Iperf::udp("50M"), &a, &b, B);
    a.reboot().unwrap();
    set_up(&a, A, "fd00::1");
    assert_pings(&a, B);
}

/// QEMU would not tell us that a ring has moved, so that we would go on writing to where it was.
#[test]
fn a_guest_is_not_offered_to_move_a_ring_that_is_in_use() {
    const RING_RESET: u32 = 40;
    let _alone = alone();
    let daemon = pair("l2", "");
    let packed = nic(&daemon, "nka").property("packed", "on");
    let (a, b) = boot(
        GuestConfig::new("nka").nic(packed),
        GuestConfig::new("nkb").nic(nic(&daemon, "nkb")),
    );
    assert_pings(&a, B);
    for (guest, device) in [(&a, "nka"), (&b, "nkb")] {
        assert!(!took(&daemon, device, RING_RESET), "{device}");
        let resize = guest.run("ethtool -G eth0 rx 64 tx 128").unwrap();
        assert_ne!(resize.status, 0, "{device}");
    }
    assert_pings(&a, B);
    assert_pings(&b, A);
}

#[test]
fn packed_rings_survive_the_daemon_s_death() {
    let _alone = alone();
    let mut daemon = pair("l2", "");
    let packed = |device: &str| GuestConfig::new(device).nic(nic(&daemon, device).property("packed", "on"));
    let (a, b) = boot(packed("nka"), packed("nkb"));
    for round in 0..3 {
        assert_pings(&a, B);
        assert_flows("TCP over packed rings", &Iperf::tcp(), &a, &b, B);
        daemon.kill();
        daemon.run();
        let restarted = Instant::now();
        while a.run(&format!("ping -q -c 1 -W 1 {B}")).unwrap().status != 0 {
            assert!(
                restarted.elapsed() < Duration::from_secs(20),
                "no ping after restart {round}\n{}",
                daemon.log()
            );
        }
    }
    assert_pings(&a, B);
    assert_pings(&b, A);
    assert_flows("TCP after three deaths", &Iperf::tcp(), &a, &b, B);
}

#[test]
fn a_guest_reaches_the_host_through_a_tap() {
    let _alone = alone();
    let daemon = Netkitd::start();
    daemon.ok("link add nkh type netkit mode l2 peer name nkg");
    daemon.ok("link set nkh up");
    daemon.ok("link set nkg up");
    let tap = format!("nkt{}", std::process::id() % 100_000);
    daemon.ok(&format!("attach nkh tap ifname {tap}"));
    daemon.ok(&format!(
        "attach nkg vhost-user path {}",
        daemon.path("nkg").display()
    ));
    host(&format!("ip address add 10.91.0.1/24 dev {tap}"));
    host(&format!("ip link set {tap} up"));

    let guest = Guest::start(GuestConfig::new("nkg").nic(nic(&daemon, "nkg"))).unwrap();
    guest.wait_ready().unwrap();
    guest.set_up("eth0", &["10.91.0.2/24"]).unwrap();
    assert_pings(&guest, "10.91.0.1");
    host("ping -q -c 3 -i 0.2 10.91.0.2");

    let server = Command::new("iperf3")
        .args(["-s", "-1", "-B", "10.91.0.1"])
        .spawn()
        .unwrap();
    let server = Reaped(server);
    std::thread::sleep(Duration::from_millis(300));
    let report = guest.check("iperf3 -c 10.91.0.1 -t 3 -J").unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
    println!("guest to host over the tap: {:.0} Mbit/s", rate / 1e6);
    assert!(rate > 5e6, "{report}");
    drop(server);

    // Attach and detach at run time: the tap is the daemon's own, and goes with it.
    daemon.ok("detach nkh");
    assert!(!std::path::Path::new("/sys/class/net").join(&tap).exists());
    assert_eq!(ping(&guest, "10.91.0.1", 2).unwrap().received, 0);
    assert!(daemon.drops("nkg", "no_receiver") > 0);
}

#[test]
fn other_drivers_work_too() {
    let _alone = alone();
    let daemon = pair("l2", "");
    // The newer kernel is another generation of the Linux driver, and iPXE's driver is nobody's relative.
    let newer = GuestConfig::new("nka")
        .kernel(Kernel::Host)
        .nic(nic(&daemon, "nka"));
    let (a, b) = boot(newer, GuestConfig::new("nkb").nic(nic(&daemon, "nkb")));
    assert_pings(&a, B);
    assert_flows("TCP from another kernel", &Iperf::tcp(), &a, &b, B);
    drop(a);

    let before = daemon.client().device("nka").unwrap().statistics.tx_packets;
    let mut command = Command::new("qemu-system-x86_64");
    let socket = daemon.path("nka");
    command.args([
        "-machine",
        "q35,accel=tcg,graphics=off,memory-backend=mem",
        "-m",
        "256",
        "-display",
        "none",
    ]);
    command.args([
        "-object",
        "memory-backend-memfd,id=mem,size=256M,share=on",
        "-boot",
        "n",
        "-serial",
        "null",
    ]);
    command.args(["-chardev", &format!("socket,id=c,path={}", socket.display())]);
    command.args([
        "-netdev",
        "vhost-user,id=n,chardev=c",
        "-device",
        "virtio-net-pci,netdev=n",
    ]);
    let _ipxe = netkit_tests::rig::Process::spawn(command).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while daemon.client().device("nka").unwrap().statistics.tx_packets < before + 2 {
        assert!(
            Instant::now() < deadline,
            "iPXE sent no DHCP request\n{}",
            daemon.log()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn an_idle_daemon_uses_no_processor_time() {
    let _alone = alone();
    let daemon = pair("l2", "");
    let (a, b) = boot_plain(&daemon);
    // IPv6 housekeeping would be traffic.
    for guest in [&a, &b] {
        guest
            .check("sysctl -w net.ipv6.conf.eth0.disable_ipv6=1")
            .unwrap();
    }
    assert_pings(&a, B);
    std::thread::sleep(Duration::from_secs(1));
    let before = daemon.cpu_seconds();
    std::thread::sleep(Duration::from_secs(10));
    let used = daemon.cpu_seconds() - before;
    println!("processor time of the idle daemon with two guests: {used:.2} s in 10 s");
    assert!(used <= 0.02, "{used} s in 10 s");
}

/// A key of the allow list: this IPv4 address alone.
fn only(address: [u8; 4]) -> Vec<u8> {
    [&128u32.to_ne_bytes()[..], &[0; 10], &[0xff; 2], &address].concat()
}

/// A rule of the allow list: one port of a protocol, nothing counted yet.
fn rule(protocol: u8, port: u16) -> Vec<u8> {
    let port = port.to_ne_bytes();
    [&port[..], &port, &[protocol, 0, 0, 0], &[0; 16]].concat()
}

#[test]
fn an_allow_list_lets_through_what_it_names_and_counts_the_rest() {
    const OTHER: &str = "10.0.0.3";
    let _alone = alone();
    let daemon = pair("l2", "");
    let (a, b) = boot_plain(&daemon);
    a.check(&format!("ip address add {OTHER}/24 dev eth0")).unwrap();
    // Nothing is to be sent but what the test asks for: no neighbour discovery of either kind.
    for (guest, device, addresses) in [(&a, "nkb", &[B][..]), (&b, "nka", &[A, OTHER])] {
        guest
            .check("sysctl -w net.ipv6.conf.eth0.disable_ipv6=1")
            .unwrap();
        let shown = daemon.client().device(device).unwrap();
        let lladdr = shown.attachment.guest_address.unwrap();
        for address in addresses {
            guest
                .check(&format!(
                    "ip neigh replace {address} lladdr {lladdr} dev eth0 nud permanent"
                ))
                .unwrap();
        }
    }
    assert_pings(&b, A);
    a.check("iperf3 -s -D -p 5202").unwrap();

    let programs = Programs(daemon.client());
    programs.load(&programs::policy("allow_list"));
    let sent = |device: &str| daemon.client().device(device).unwrap().statistics;
    let before = ["nka", "nkb"].map(sent);
    // Nothing is allowed yet.
    daemon.ok("net attach netkit_primary allow_host dev nka");
    daemon.ok("net attach netkit_peer allow_guest dev nka");
    assert_eq!(programs.list("nka", End::Peer).len(), 1);
    assert_eq!(ping(&b, A, 2).unwrap().received, 0);
    assert_eq!(daemon.drops("nkb", "program_drop"), 2);

    let (icmp, tcp) = (only([10, 0, 0, 1]), only([10, 0, 0, 3]));
    programs.write("allowed", &icmp, &rule(1, 0));
    programs.write("allowed", &tcp, &rule(6, 5201));
    assert_pings(&b, A);
    assert_pings(&a, B);
    assert_flows("TCP through an allow list", &Iperf::tcp(), &b, &a, OTHER);
    let dropped = || daemon.drops("nka", "program_drop") + daemon.drops("nkb", "program_drop");
    let after_permitted = dropped();
    assert_eq!(after_permitted, 2, "something that is allowed was dropped");

    assert_eq!(ping(&b, OTHER, 3).unwrap().received, 0);
    assert_eq!(dropped(), after_permitted + 3);
    for forbidden in [
        format!("iperf3 -c {OTHER} -p 5202 --connect-timeout 1500 -t 1"),
        format!("iperf3 -c {A} -p 5202 --connect-timeout 1500 -t 1"),
    ] {
        let already = dropped();
        assert_ne!(b.run(&forbidden).unwrap().status, 0, "{forbidden}");
        assert!(dropped() > already, "{forbidden}");
    }

    // Every frame is in one counter.
    let now = ["nka", "nkb"].map(sent);
    let since = |of: fn(&netkit_api::Statistics) -> u64| -> u64 {
        now.iter().map(of).sum::<u64>() - before.iter().map(of).sum::<u64>()
    };
    let counters = |key: &[u8]| {
        let value = programs.read("allowed", key).remove(0);
        let number = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap());
        (number(8), number(16))
    };
    let ((pings, ping_octets), (segments, segment_octets)) = (counters(&icmp), counters(&tcp));
    println!(
        "{pings} ICMP packets, {segments} segments, {} rejected",
        programs.read_u64("rejected", 0)
    );
    assert_eq!(pings, 20);
    assert_eq!(since(|it| it.tx_packets), pings + segments);
    assert_eq!(since(|it| it.tx_bytes), ping_octets + segment_octets);
    assert_eq!(since(|it| it.tx_dropped), programs.read_u64("rejected", 0));
    assert_eq!(dropped(), programs.read_u64("rejected", 0));
    let runs = programs.runs("allow_host") + programs.runs("allow_guest");
    assert_eq!(runs, since(|it| it.tx_packets) + since(|it| it.tx_dropped));
}

/// A child that is ended with the test.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn host(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
