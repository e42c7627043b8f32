//! Where netkitd differs from the kernel, and why. A row that is not needed any more fails the test.

use netkit_tests::kernel::scenario::Observation;
use serde_json::Value;

/// Observations of some scenarios that differ on purpose.
pub struct Difference {
    /// How the scenarios' names begin.
    pub scenario: &'static str,
    /// How the path of what differs ends.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
}

const SOCKET: &str = "the kernel's packet socket refuses to send from a device that is down, which then counts nothing; a \
                      guest cannot be refused, and its frame is counted as the core counts all others that such a device \
                      is to send";
const RX_DROPPED: &str =
    "the receiver's core counts it, not netkit; netkitd charges senders and counts no rx_dropped";
const MOVE: &str =
    "netkitd leaves a device up that is moved to another domain, because a move loses no addresses there";
const CLONE: &str = "netkitd sends copies when the programs have run, so bpf_clone_redirect cannot tell what becomes of one \
                     (NET_XMIT_CN or NET_RX_DROP in the kernel)";
const CLONE_TARGET: &str = "in the kernel a copy's own redirect overwrites what the copying program asked for before; netkitd \
                            sends the copy later";
const NO_ROUTE: &str = "the kernel takes an IPv4 destination without a route to be on the link, and asks for it with ARP or, in L3 \
                        mode, sends to it; netkitd redirects by the routes and neighbours that it was told";
const TRANSPORT: &str = "the kernel's packet socket has found the transport header, below which a frame cannot be cut; netkitd \
                         does not look for one";
const ETHER_TYPE: &str = "the kernel's packet socket takes a length for a protocol; netkitd does what the kernel does with a \
                          frame from a tap (eth_type_trans)";
const WIRE_LEN: &str =
    "netkitd's wire_len follows the frame; the kernel's is that of the frame when it was sent";

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    row("verdicts: down", "/tx_dropped", SOCKET),
    row("pair: moving keeps a device up", "", MOVE),
    row("redirects: to a device that is down", "/rx_dropped", RX_DROPPED),
    row("redirects: clone_redirect lost", "/rx_dropped", RX_DROPPED),
    row("redirects: clone_redirect lost", "/returned", CLONE),
    row(
        "redirects: redirect and a copy that is redirected",
        "",
        CLONE_TARGET,
    ),
    row("redirects: redirect_neigh without a route", "", NO_ROUTE),
    row("fields: cut below the transport header", "", TRANSPORT),
    row("fields: lengths for EtherTypes", "/protocol", ETHER_TYPE),
    row("fields: pkt_type", "/rx_dropped", RX_DROPPED),
    row("fields: VLAN tags", "/rx_dropped", RX_DROPPED),
    row("fields: wire_len", "/wire_len", WIRE_LEN),
];

const fn row(scenario: &'static str, what: &'static str, why: &'static str) -> Difference {
    Difference { scenario, what, why }
}

/// Where two observations differ: paths to values.
pub fn between(kernel: &Observation, ours: &Observation) -> Vec<String> {
    let mut paths = Vec::new();
    collect("", kernel, ours, &mut paths);
    paths
}

fn collect(path: &str, kernel: &Value, ours: &Value, paths: &mut Vec<String>) {
    match (kernel, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a
                .keys()
                .chain(b.keys().filter(|key| !a.contains_key(*key)))
                .collect();
            keys.sort();
            for key in keys {
                let none = Value::Object(serde_json::Map::new());
                let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned();
                let (a, b) = match (value(a), value(b)) {
                    // A device without changes is not listed at all.
                    (Some(a), None) if a.is_object() => (a, none),
                    (None, Some(b)) if b.is_object() => (none, b),
                    (a, b) => (a.unwrap_or_default(), b.unwrap_or_default()),
                };
                collect(&format!("{path}/{key}"), &a, &b, paths);
            }
        }
        _ if kernel == ours => (),
        _ => paths.push(path.to_owned()),
    }
}

/// The row that explains a difference.
pub fn find(scenario: &str, path: &str) -> Option<usize> {
    DIFFERENCES
        .iter()
        .position(|it| scenario.starts_with(it.scenario) && path.ends_with(it.what))
}
