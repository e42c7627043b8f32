//! `prog`, `map`, `net`, `link ... bpf`, `trace`, `route` and `neigh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use netkit_tests::driver::packet::{self, Host};
use netkit_tests::netkitd::Netkitd;
use netkit_tests::{not_run, programs};
use serde_json::Value;

use crate::assert_has;

/// A daemon with the pair `a`, `b` and the policies `allow_list` and `mirror`.
fn daemon() -> Netkitd {
    let daemon = Netkitd::start();
    daemon.ok("link add a up type netkit mode l2 peer name b up");
    for policy in ["allow_list", "mirror"] {
        let loaded = daemon.ok(&format!("prog load {}", policy_path(policy).display()));
        assert_eq!(loaded.lines().count(), 2, "{loaded}");
        assert_has(&loaded, &["sched_cls  name ", "  tag ", "  gpl\n"]);
    }
    daemon
}

fn policy_path(name: &str) -> PathBuf {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backend/policies");
    policies.join(name).with_extension("o")
}

fn json(daemon: &Netkitd, words: &str) -> Value {
    let text = daemon.ok(&format!("-j {words}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("nkctl -j {words}: {error}: {text}"))
}

#[test]
fn programs_are_shown_dumped_tried_and_unloaded() {
    let daemon = daemon();
    let check = daemon.ok(&format!("prog check {}", policy_path("firewall").display()));
    assert_has(
        &check,
        &["sched_cls  name firewall_guest", "sched_cls  name firewall_host"],
    );
    let shown = daemon.ok("prog show name allow_guest");
    assert_has(
        &shown,
        &[
            "1: sched_cls  name allow_guest  tag ",
            "\tloaded_at ",
            "\txlated ",
            "B  jited ",
            "map_ids 1,2",
        ],
    );
    assert_eq!(daemon.ok("prog"), daemon.ok("prog list"));
    let all = json(&daemon, "prog show");
    assert_eq!(all.as_array().unwrap().len(), 4);
    let one = json(&daemon, "prog show id 1");
    assert_eq!(
        (&one["id"], &one["type"], &one["name"]),
        (&1.into(), &"sched_cls".into(), &"allow_guest".into())
    );
    let tag = one["tag"].as_str().unwrap();
    assert_eq!(daemon.ok(&format!("prog show tag {tag}")), shown);

    assert_has(
        &daemon.ok("prog dump xlated id 1"),
        &["allow_guest:\n", "\n; ", "   0: (", "(95) exit"],
    );
    assert_has(
        &daemon.ok("prog dump xlated id 1 opcodes"),
        &["95 00 00 00 00 00 00 00"],
    );
    assert_has(
        &daemon.ok("prog dump jited id 1"),
        &["allow_guest:\n", "\n   0:\t", "ret"],
    );
    assert!(json(&daemon, "prog dump xlated id 1").is_array());
    assert!(json(&daemon, "prog dump jited id 1").is_array());
    let file = daemon.path("code");
    daemon.ok(&format!("prog dump xlated id 1 file {}", file.display()));
    let xlated = one["bytes_xlated"].as_u64().unwrap();
    assert_eq!(std::fs::metadata(file).unwrap().len(), xlated);

    let (input, output) = (daemon.path("in"), daemon.path("out"));
    std::fs::write(&input, packet::ethernet([2; 6], [4; 6], b"tried")).unwrap();
    let words = format!(
        "prog run name allow_guest data_in {} data_out {}",
        input.display(),
        output.display()
    );
    assert_has(&daemon.ok(&words), &["Return value: 2, duration"]);
    assert_eq!(std::fs::read(&output).unwrap(), std::fs::read(&input).unwrap());
    assert_eq!(
        json(&daemon, &format!("{words} repeat 10 interpreter"))["retval"],
        2
    );
    daemon.ok("prog tracelog once");
    assert_eq!(daemon.ok("prog tracelog once"), "");

    daemon.ok("prog resume allow_guest");
    daemon.ok("prog unload allow_guest");
    assert_has(&daemon.fails(2, "prog show id 1"), &["ENOENT"]);
    assert_has(&daemon.fails(2, "prog unload allow_guest"), &["allow_guest"]);
    assert_eq!(json(&daemon, "prog").as_array().unwrap().len(), 3);
}

#[test]
fn lists_and_links_are_changed_and_shown() {
    let daemon = daemon();
    daemon.ok("net attach netkit_primary allow_host dev a");
    daemon.ok("net attach netkit_primary name mirror_host dev a before allow_host");
    assert_eq!(
        daemon.ok("net attach netkit_peer name mirror_guest dev a link"),
        "link_id 1\n"
    );
    let shown = daemon.ok("net show");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "tc:");
    assert_has(lines[1], &["a(", "netkit/primary mirror_host prog_id 4"]);
    assert_has(lines[2], &["netkit/primary allow_host prog_id 2"]);
    assert_has(lines[3], &["netkit/peer mirror_guest prog_id 3 link_id 1"]);
    assert_eq!(daemon.ok("net show dev a"), shown);
    assert_has(
        &daemon.ok("-d net"),
        &["netkit/primary revision 3", "netkit/peer revision 2"],
    );
    let json_list = json(&daemon, "net list");
    assert_eq!(json_list[0]["tc"][0]["name"], "mirror_host");
    assert_has(&daemon.ok("prog show name mirror_guest"), &["attached a peer"]);

    daemon
        .ok("net attach netkit_primary name allow_guest dev a replace name mirror_host expected-revision 3");
    assert_has(&daemon.ok("net"), &["netkit/primary allow_guest prog_id 1"]);
    let stale = daemon.fails(2, "net detach netkit_primary dev a expected-revision 3");
    assert_has(&stale, &["ESTALE"]);
    daemon.ok("net detach netkit_primary allow_guest dev a");
    daemon.ok("net detach netkit_primary dev a expected-revision 5");

    // A link is known by the device whose frames it sees, as in the kernel.
    let peer = daemon.client().device("b").unwrap().ifindex;
    let link = daemon.ok("link show id 1");
    assert_eq!(
        link,
        format!("1: netkit  prog 3\n\tifindex b({peer})  attach_type netkit_peer\n")
    );
    assert_eq!(daemon.ok("link show bpf"), link);
    assert_eq!(json(&daemon, "link show bpf")[0]["prog_id"], 3);
    daemon.ok("link update id 1 prog name allow_guest expected name mirror_guest");
    assert_has(&daemon.ok("link show id 1"), &["prog 1"]);
    assert_has(&daemon.fails(2, "link update id 1 prog 3 expected 3"), &["EPERM"]);
    assert_has(&daemon.fails(2, "prog unload allow_guest"), &["EBUSY"]);
    daemon.ok("link detach id 1");
    assert_has(&daemon.ok("link show bpf"), &["(detached)"]);
    daemon.ok("link delete id 1");
    assert_eq!(json(&daemon, "link show bpf"), Value::Array(vec![]));
    assert_eq!(json(&daemon, "net")[0]["tc"], Value::Array(vec![]));
}

#[test]
fn maps_are_read_and_written() {
    const KEY: &str = "hex 80 00 00 00 00 00 00 00 00 00 00 00 00 00 ff ff 0a 00 00 01";
    const VALUE: &str = "hex 00 00 ff ff 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
    let daemon = daemon();
    let shown = daemon.ok("map show name allowed");
    assert_has(
        &shown,
        &["1: lpm_trie  name allowed  flags 0x1\n\tkey 20B  value 24B  max_entries 4096  memlock "],
    );
    assert_eq!(json(&daemon, "map")[1]["type"], "percpu_array");
    assert_eq!(daemon.ok("map dump name allowed"), "Found 0 elements\n");
    daemon.ok(&format!(
        "map update name allowed key {KEY} value {VALUE} noexist"
    ));
    let again = daemon.fails(
        2,
        &format!("map update name allowed key {KEY} value {VALUE} noexist"),
    );
    assert_has(&again, &["EEXIST"]);
    assert_has(
        &daemon.ok("map dump name allowed"),
        &["\"prefix_length\": 128", "\"protocol\": 6"],
    );
    let entry = json(&daemon, &format!("map lookup name allowed key {KEY}"));
    assert_eq!(entry["formatted"]["value"]["last_port"], 65535);
    assert_has(
        &daemon.ok("map getnext name allowed"),
        &["key: None\nnext key:\n80 00 00 00"],
    );
    daemon.ok(&format!("map delete name allowed key {KEY}"));
    assert_has(
        &daemon.fails(2, &format!("map delete name allowed key {KEY}")),
        &["ENOENT"],
    );

    assert_has(
        &daemon.ok("map lookup name rejected key 0 0 0 0"),
        &["\"cpu\": 0", "\"packets\": 0"],
    );
    assert!(
        json(&daemon, "map dump name rejected")[0]["values"]
            .as_array()
            .unwrap()
            .len()
            >= 2
    );
    assert_eq!(daemon.ok("map event_pipe name frames once"), "");
    daemon.ok("map freeze name allowed");
    let frozen = daemon.fails(2, &format!("map update name allowed key {KEY} value {VALUE}"));
    assert_has(&frozen, &["EPERM"]);
    assert_has(&daemon.fails(2, "map unpin name allowed"), &["pinned"]);
    let pinned = daemon.ok(&format!(
        "prog load {} pinmaps",
        policy_path("rate_limit").display()
    ));
    assert!(!pinned.is_empty());
    let map = daemon
        .client()
        .maps()
        .unwrap()
        .into_iter()
        .find_map(|map| map.pinned)
        .unwrap();
    assert_has(
        &daemon.ok(&format!("map show pinned {map}")),
        &[&format!("pinned {map}")],
    );
    daemon.ok(&format!("map unpin pinned {map}"));
    daemon.fails(1, &format!("map show pinned {map}"));
}

#[test]
fn maps_of_programs_queues_and_stacks_are_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/programs");
    let Some(object) = programs::compile(&directory.join("maps.c")) else {
        return;
    };
    let daemon = Netkitd::start();
    let path = daemon.path("maps.o");
    std::fs::write(&path, object).unwrap();
    daemon.ok(&format!("prog load {}", path.display()));
    daemon.ok("map update name next_step key 0 0 0 0 value prog name left");
    let left = daemon.client().program("left").unwrap().id;
    let entry = json(&daemon, "map lookup name next_step key 0 0 0 0");
    assert!(entry.to_string().contains(&format!("{left:#04x}")), "{entry}");
    daemon.ok("map delete name next_step key 0 0 0 0");
    daemon.ok("map push name queue value 1 2 3 4");
    daemon.ok("map enqueue name queue value hex 05 06 07 08");
    for verb in ["peek", "pop"] {
        let value = daemon.ok(&format!("map {verb} name queue"));
        assert_has(&value, &["\"value\": 67305985"]);
    }
    let last = json(&daemon, "map dequeue name queue");
    assert_eq!(last["formatted"]["value"], 0x0807_0605);
    assert_has(&daemon.fails(1, "map pop name queue"), &["empty"]);
}

#[test]
fn traces_routes_and_neighbours() {
    let daemon = daemon();
    daemon.ok("net attach netkit_primary allow_host dev a");
    let packet = "ipv4(dst=10.1.1.7),tcp(dport=80),payload=64";
    let brief = daemon.ok(&format!("trace a packet {packet} brief"));
    assert_has(
        &brief,
        &[
            "a: transmits to b; 1 program",
            "program allow_host id 2",
            "call bpf_map_lookup_elem",
            "verdict 2 DROP",
        ],
    );
    let whole = daemon.ok(&format!("trace a packet {packet}"));
    assert!(whole.len() > 2 * brief.len());
    assert_has(&whole, &[" r", "exit"]);
    let steps = json(&daemon, &format!("trace a packet {packet} limit 3"));
    assert_eq!(
        (&steps["drop"], &steps["steps"][0]["kind"]),
        (&"program_drop".into(), &"device".into())
    );
    assert_has(&daemon.ok("trace b packet arp"), &["a receives the frame"]);
    assert_eq!(daemon.ok("drops"), "No frame was dropped.\n");

    daemon.ok("route add 10.0.0.0/8 via 10.9.9.9 dev a src 10.0.0.1 mtu 1400 domain host");
    daemon.ok("route add default dev a domain host");
    let routes = daemon.ok("route show domain host");
    assert_has(
        &routes,
        &["10.0.0.0/8 via 10.9.9.9 dev a", "src 10.0.0.1", "mtu 1400"],
    );
    assert_eq!(
        json(&daemon, "route show domain host").as_array().unwrap().len(),
        2
    );
    daemon.ok("route delete 10.0.0.0/8 dev a domain host");
    assert_has(
        &daemon.fails(1, "route delete 10.0.0.0/8 dev a domain host"),
        &["no such route"],
    );
    daemon.ok("neigh add 10.9.9.9 lladdr 02:00:00:00:00:01 dev a domain host");
    daemon.ok("neigh replace 10.9.9.9 lladdr 02:00:00:00:00:02 dev a domain host");
    assert_eq!(
        daemon.ok("neigh show domain host"),
        "10.9.9.9 dev a lladdr 02:00:00:00:00:02 PERMANENT\n"
    );
    assert_eq!(
        json(&daemon, "neigh show domain host")[0]["lladdr"],
        "02:00:00:00:00:02"
    );
    daemon.ok("neigh delete 10.9.9.9 dev a domain host");
    assert_eq!(json(&daemon, "neigh show domain host"), Value::Array(vec![]));
}

/// Programs that the host's kernel has pinned, removed in the end.
struct Pinned(PathBuf);

impl Drop for Pinned {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn bpftool(words: &str) -> std::io::Result<Output> {
    Command::new("bpftool").args(words.split(' ')).output()
}

/// IPv4 and IPv6 packets, and frames that are neither.
fn frames() -> Vec<Vec<u8>> {
    let host = |last: u8, port| Host {
        mac: [2, 0, 0, 0, 0, last],
        ip: std::net::Ipv4Addr::new(10, 1, 0, last).into(),
        port,
    };
    let over_ipv6 = |host: Host| Host {
        ip: std::net::Ipv6Addr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host.mac[5]]).into(),
        ..host
    };
    let (a, b) = (host(1, 1000), host(2, 2000));
    vec![
        packet::udp(a, b, b"datagram"),
        packet::udp(a, b, &[7; 1400]),
        packet::tcp(a, b, 1, b"segment"),
        packet::tcp(over_ipv6(a), over_ipv6(b), 1, b"segment"),
        packet::udp(over_ipv6(a), over_ipv6(b), &[9; 300]),
        packet::ethernet(a.mac, b.mac, b"neither"),
    ]
}

#[test]
fn a_test_run_gives_what_the_host_s_kernel_gives() {
    let name = "cli: a test run gives what the host's kernel gives";
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/programs");
    let Some(object) = programs::compile(&directory.join("tc.c")) else {
        return;
    };
    let daemon = Netkitd::start();
    let path = daemon.path("tc.o");
    std::fs::write(&path, object).unwrap();
    let pinned = Pinned(PathBuf::from(format!(
        "/sys/fs/bpf/netkit-tests-{}",
        std::process::id()
    )));
    let (path, pins) = (path.display(), pinned.0.display());
    match bpftool(&format!("prog loadall {path} {pins}")) {
        Ok(output) if output.status.success() => {}
        Ok(output) => return not_run(name, String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return not_run(name, &format!("bpftool: {error}")),
    }
    daemon.ok(&format!("prog load {path}"));
    let file = |name: &str| daemon.path(name).display().to_string();
    let (input, context) = (file("in"), file("ctx"));
    let mut skb = [0; 192];
    // mark, priority and cb are what a caller may set.
    skb[8..12].copy_from_slice(&0x1234_5678u32.to_ne_bytes());
    skb[32..36].copy_from_slice(&5u32.to_ne_bytes());
    skb[48..52].copy_from_slice(&77u32.to_ne_bytes());
    std::fs::write(&context, skb).unwrap();
    let mut runs = 0;
    for program in ["classify", "change", "arithmetic"] {
        for frame in frames() {
            std::fs::write(&input, &frame).unwrap();
            let words = |who: &str| {
                format!(
                    "data_in {input} data_out {} ctx_in {context} ctx_out {} repeat 1",
                    file(&format!("{who}-data")),
                    file(&format!("{who}-ctx"))
                )
            };
            let theirs = bpftool(&format!(
                "-j prog run pinned {pins}/{program} {}",
                words("kernel")
            ))
            .unwrap();
            assert!(
                theirs.status.success(),
                "{}",
                String::from_utf8_lossy(&theirs.stdout)
            );
            let theirs: Value = serde_json::from_slice(&theirs.stdout).unwrap();
            let ours = json(&daemon, &format!("prog run name {program} {}", words("netkitd")));
            assert_eq!(ours["retval"], theirs["retval"], "{program} on {frame:02x?}");
            let read = |name: &str| std::fs::read(file(name)).unwrap();
            assert_eq!(
                read("netkitd-data"),
                read("kernel-data"),
                "{program} on {frame:02x?}"
            );
            let (ours, theirs) = (read("netkitd-ctx"), read("kernel-ctx"));
            assert_eq!(ours, theirs, "{program} on {frame:02x?}");
            runs += 1;
        }
    }
    assert_eq!(runs, 18);
}
