//! `drops` and `-s`: what became of frames.

use std::io;
use std::time::{Duration, Instant};

use netkit_tests::needs;
use netkit_tests::netkitd::Netkitd;
use serde_json::Value;

use crate::assert_has;

/// Brings a netdev up and sends frames out of it, so that whatever is behind the tap receives them.
fn send(ifname: &str, frames: usize) -> io::Result<()> {
    // Else the host would send frames of its own.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6"), "1");
    let up = std::process::Command::new("ip")
        .args(["link", "set", ifname, "up"])
        .status()?;
    assert!(up.success());
    let index: i32 = std::fs::read_to_string(format!("/sys/class/net/{ifname}/ifindex"))?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    // SAFETY: all-zero is a valid address, and the calls read only what their pointers and lengths describe.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        (to.sll_family, to.sll_ifindex) = (libc::AF_PACKET as u16, index);
        let frame = [0x11u8; 60];
        for _ in 0..frames {
            let to = (&raw const to).cast();
            let length = size_of::<libc::sockaddr_ll>() as u32;
            if libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, to, length) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        libc::close(socket);
    }
    Ok(())
}

fn wait_dropped(daemon: &Netkitd, device: &str, frames: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while daemon.client().device(device).unwrap().statistics.tx_dropped < frames {
        assert!(Instant::now() < deadline, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn drops_are_named_and_charged_to_the_sender() {
    if !needs::taps("cli: drops are named and charged to the sender") {
        return;
    }
    let daemon = Netkitd::start();
    daemon.ok("link add a up type netkit mode l2 peer name b");
    assert_eq!(daemon.ok("drops"), "No frame was dropped.\n");
    assert_eq!(daemon.ok("drops a"), "No frame of a was dropped.\n");
    assert_eq!(daemon.ok("-j drops"), "[]\n");

    let tap = format!("nkd{}", std::process::id());
    daemon.ok(&format!("attach a tap ifname {tap}"));
    send(&tap, 3).unwrap();
    wait_dropped(&daemon, "a", 3);
    daemon.ok("link set b up");
    send(&tap, 2).unwrap();
    wait_dropped(&daemon, "a", 5);
    daemon.ok("link change a type netkit blackhole");
    send(&tap, 1).unwrap();
    wait_dropped(&daemon, "a", 6);

    let rows: Value = serde_json::from_str(&daemon.ok("-j drops")).unwrap();
    let counts: Vec<(&str, &str, u64)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |member: &str| row[member].as_str().unwrap();
            assert!(text("description").ends_with('.'));
            (text("device"), text("reason"), row["frames"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(
        counts,
        [
            ("a", "peer_down", 3),
            ("a", "policy_blackhole", 1),
            ("a", "no_receiver", 2)
        ]
    );
    for words in ["drops", "drops a", "drops dev a"] {
        let table = daemon.ok(words);
        assert!(table.starts_with("device  reason"), "{table}");
        assert_has(
            &table,
            &["\na       peer_down              3  The peer of the sending device is down.\n"],
        );
    }
    assert_eq!(daemon.ok("drops b"), "No frame of b was dropped.\n");

    let statistics = daemon.ok("-s link show a");
    assert_has(
        &statistics,
        &["    TX:  bytes packets errors dropped carrier collsns\n             0       0      0       6 "],
    );
    let json: Value = serde_json::from_str(&daemon.ok("-j -s link show a")).unwrap();
    assert_eq!(json[0]["stats64"]["tx"]["dropped"], 6);
    // The kernel counts no drop of the sender's at the receiver.
    let json: Value = serde_json::from_str(&daemon.ok("-j -s link show b")).unwrap();
    assert_eq!(json[0]["stats64"]["rx"]["dropped"], 0);
}

#[test]
fn frames_are_counted_on_their_way() {
    if !needs::taps("cli: frames are counted on their way") {
        return;
    }
    let daemon = Netkitd::start();
    daemon.ok("link add a up type netkit mode l2 peer name b up");
    let [from, to] = ["f", "g"].map(|which| format!("nk{which}{}", std::process::id()));
    daemon.ok(&format!("attach a tap ifname {from}"));
    daemon.ok(&format!("attach b tap ifname {to}"));
    // The far tap must be up to take frames.
    send(&to, 0).unwrap();
    send(&from, 4).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while daemon.client().device("b").unwrap().statistics.rx_packets < 4 {
        assert!(
            Instant::now() < deadline,
            "{}\n{}",
            daemon.ok("drops"),
            daemon.log()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let stats = |name: &str| -> Value {
        let links: Value = serde_json::from_str(&daemon.ok(&format!("-j -s link show {name}"))).unwrap();
        links[0]["stats64"].clone()
    };
    let (a, b) = (stats("a"), stats("b"));
    // Bytes count whole frames, as in the kernel.
    assert_eq!(
        (&a["tx"]["packets"], &a["tx"]["bytes"], &a["tx"]["dropped"]),
        (&4.into(), &240.into(), &0.into())
    );
    assert_eq!((&b["rx"]["packets"], &b["rx"]["bytes"]), (&4.into(), &240.into()));
    assert_eq!(a["rx"]["packets"], 0);
}
