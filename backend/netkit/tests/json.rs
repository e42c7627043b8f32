//! Requests and answers as text.

mod common;

use common::*;
use devices::packet::MacAddress;
use netkit::{CreateRequest, Ifindex, Mode, Pairing, PeerRequest, Policy, Scrub};

/// What a user writes in JSON.
#[test]
fn requests_are_read_from_json() {
    let text = r#"{"name": "nk%d", "mode": "l2", "address": "52:54:00:12:34:56", "policy": "blackhole",
                   "scrub": "none", "pairing": "pair", "peer": {"name": "vm", "domain": "tenant"}}"#;
    let request: CreateRequest = serde_json::from_str(text).unwrap();
    let expected = CreateRequest {
        name: Some("nk%d".into()),
        mode: Some(Mode::L2),
        address: Some(MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
        policy: Some(Policy::Blackhole),
        scrub: Some(Scrub::None),
        pairing: Some(Pairing::Pair),
        peer: Some(PeerRequest {
            name: Some("vm".into()),
            domain: Some("tenant".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(request, expected);
    let written = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<CreateRequest>(&written).unwrap(), expected);
    for wrong in [
        r#"{"mode": "L2"}"#,
        r#"{"address": "nonsense"}"#,
        r#"{"nmae": "x"}"#,
        r#"{"mtu": -1}"#,
    ] {
        assert!(serde_json::from_str::<CreateRequest>(wrong).is_err(), "{wrong}");
    }
    let info = Pair::new(Mode::L2).model.info(Ifindex(2)).unwrap();
    let text = serde_json::to_string(&info).unwrap();
    assert!(
        text.contains(r#""flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"operational_state":"UP""#),
        "{text}"
    );
}
