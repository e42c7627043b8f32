//! The main job, shown: two guests ping and iperf over a netkit pair, and a blackhole stops them.

use std::process::ExitCode;
use std::time::Instant;

use netkit_tests::netkitd::Netkitd;
use netkit_tests::rig::{Guest, GuestConfig, Iperf, Nic, Result, Shell, ping};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

fn main() -> ExitCode {
    let begun = Instant::now();
    match show() {
        Ok(rows) => summarize(&rows, begun),
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One line of the summary.
struct Row {
    what: &'static str,
    result: String,
    good: bool,
}

fn show() -> Result<Vec<Row>> {
    step("netkitd starts, and makes a pair for two guests");
    let daemon = Netkitd::start();
    let nkctl = |words: &str| {
        println!("$ nkctl {words}");
        let printed = daemon.ok(words);
        print!("{printed}");
        printed
    };
    nkctl("link add nka type netkit mode l2 peer name nkb");
    for (device, socket) in [("nka", "a.sock"), ("nkb", "b.sock")] {
        nkctl(&format!("link set {device} up"));
        nkctl(&format!(
            "attach {device} vhost-user path {}",
            daemon.path(socket).display()
        ));
    }
    nkctl("vm args nka qemu memory none");

    step("two guests boot under QEMU (software emulation: this takes a while)");
    let boot = |device: &str, socket: &str| {
        let address = daemon
            .client()
            .device(device)
            .ok()
            .and_then(|it| it.attachment.guest_address);
        let nic = Nic::vhost_user(daemon.path(socket)).mac(address.unwrap_or_default());
        Guest::start(GuestConfig::new(device).nic(nic))
    };
    let (a, b) = (boot("nka", "a.sock")?, boot("nkb", "b.sock")?);
    a.wait_ready()?;
    b.wait_ready()?;
    a.set_up("eth0", &[&format!("{A}/24")])?;
    b.set_up("eth0", &[&format!("{B}/24")])?;

    let mut rows = Vec::new();
    step("they ping each other");
    for (what, from, to) in [("ping nka -> nkb", &a, B), ("ping nkb -> nka", &b, A)] {
        let it = ping(from, to, 5)?;
        row(
            &mut rows,
            what,
            format!("{} of {} answered", it.received, it.sent),
            it.received == it.sent,
        );
    }

    step("they measure throughput with iperf3");
    for (what, iperf) in [
        ("iperf3 TCP", Iperf::tcp()),
        ("iperf3 UDP at 100 Mbit/s", Iperf::udp("100M")),
    ] {
        let it = iperf.run(&a, &b, B)?;
        let text = format!("{:.0} Mbit/s", it.bits_per_second / 1e6);
        row(&mut rows, what, text, it.bits_per_second > 1e6);
    }

    step("what the devices counted");
    nkctl("-s link show");

    step("a blackhole stops them, and says so");
    nkctl("link change nka type netkit blackhole");
    let before = daemon.drops("nka", "policy_blackhole");
    let it = ping(&a, B, 3)?;
    let dropped = daemon.drops("nka", "policy_blackhole") - before;
    nkctl("drops nka");
    row(
        &mut rows,
        "ping into the blackhole",
        format!("{} of {} answered", it.received, it.sent),
        it.received == 0,
    );
    row(
        &mut rows,
        "drop counter policy_blackhole",
        format!("+{dropped} frames"),
        dropped >= 3,
    );
    nkctl("link change nka type netkit forward");
    let it = ping(&a, B, 3)?;
    let text = format!("{} of {} answered", it.received, it.sent);
    row(
        &mut rows,
        "ping after forward again",
        text,
        it.received == it.sent,
    );
    Ok(rows)
}

fn step(what: &str) {
    println!("\n== {what}");
}

fn row(rows: &mut Vec<Row>, what: &'static str, result: String, good: bool) {
    println!("{what}: {result}");
    rows.push(Row { what, result, good });
}

fn summarize(rows: &[Row], begun: Instant) -> ExitCode {
    println!("\n{:<32} {:<24} verdict", "what", "result");
    for Row { what, result, good } in rows {
        println!("{what:<32} {result:<24} {}", if *good { "ok" } else { "FAILED" });
    }
    println!("\nThe demo took {} s.", begun.elapsed().as_secs());
    if rows.iter().all(|row| row.good) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
