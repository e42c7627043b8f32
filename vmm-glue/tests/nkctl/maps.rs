//! Maps: what nkctl asks for them.

use serde_json::{Value, json};

use crate::fake::{FakeDaemon, problem};
use crate::{DONE, answered, asks, failed, nkctl};

fn map() -> Value {
    json!({
        "id": 3, "type": "hash", "name": "counters", "flags": 0, "bytes_key": 4, "bytes_value": 2, "max_entries": 16,
        "bytes_memlock": 4096, "frozen": false, "pinned": "shared", "program_ids": [], "shards": null,
    })
}

const FIND: &str = "GET /v1/maps/3";

fn found() -> (u16, Value) {
    (200, map())
}

fn entry(key: u8) -> Value {
    json!({"key": format!("{key:02x}000000"), "value": "0102", "values": null, "formatted": null, "text": null})
}

#[test]
fn show_names_maps_in_every_way() {
    let text = "3: hash  name counters  flags 0x0\n\tkey 4B  value 2B  max_entries 16  memlock 4096B\n\tpinned shared\n";
    let all = || (200, json!([map()]));
    let cases = [
        ("map show", all(), "GET /v1/maps"),
        ("map show 3", found(), FIND),
        ("map show counters", all(), "GET /v1/maps"),
        ("map show pinned shared", all(), "GET /v1/maps"),
    ];
    for (line, answer, request) in cases {
        let (out, asked) = answered(line, [answer]);
        assert_eq!((out.as_str(), asked), (text, vec![request.into()]), "{line}");
    }
    let daemon = FakeDaemon::answering([all()]);
    let error = "Error: no map is pinned as \"other\"; \"nkctl map show\" lists those that are\n";
    assert_eq!(nkctl(&daemon.socket(), "map dump pinned other"), failed(1, error));
}

#[test]
fn dump_reads_page_after_page() {
    let pages = [
        found(),
        (200, json!({"entries": [entry(1), entry(2)], "next": "02000000"})),
        (200, json!({"entries": [entry(3)], "next": null})),
    ];
    let (out, asked) = answered("map dump 3", pages);
    assert_eq!(
        out,
        "key: 01 00 00 00  value: 01 02\nkey: 02 00 00 00  value: 01 02\nkey: 03 00 00 00  value: 01 02\n\
         Found 3 elements\n"
    );
    assert_eq!(
        asked,
        [
            FIND,
            "GET /v1/maps/3/entries",
            "GET /v1/maps/3/entries?after=02000000"
        ]
    );
    let again = || (200, json!({"entries": [entry(1)], "next": "01000000"}));
    let (out, _) = answered("map dump 3", [found(), again(), again()]);
    assert!(
        out.ends_with("Found 2 elements\n"),
        "a map that goes round ends: {out}"
    );
}

#[test]
fn members_keep_their_order() {
    let typed = json!({
        "key": "01000000", "value": "0102", "values": null,
        "formatted": {"key": 1, "value": {"packets": 1, "bytes": 2, "age": 3}}, "text": "{}",
    });
    let (out, _) = answered("-j map lookup 3 key 1 0 0 0", [found(), (200, typed)]);
    let end = "\"formatted\":{\"key\":1,\"value\":{\"packets\":1,\"bytes\":2,\"age\":3}}}\n";
    assert!(out.ends_with(end), "{out}");
}

#[test]
fn entries_are_written_and_deleted() {
    asks(
        "map update 3 key 1 0 0 0 value hex 1 2 noexist",
        [found(), DONE],
        &[
            (FIND, Value::Null),
            (
                "POST /v1/maps/3/update",
                json!({"key": "01000000", "value": "0102", "flags": "noexist"}),
            ),
        ],
    );
    asks(
        "map delete 3 key 01000000",
        [found(), DONE],
        &[
            (FIND, Value::Null),
            ("POST /v1/maps/3/delete", json!({"key": "01000000"})),
        ],
    );
    asks(
        "map push 3 value 1 2",
        [found(), DONE],
        &[
            (FIND, Value::Null),
            ("POST /v1/maps/3/push", json!({"value": "0102"})),
        ],
    );
    asks("map freeze 3", [DONE], &[("POST /v1/maps/3/freeze", json!({}))]);
    asks(
        "map unpin pinned shared",
        [(200, json!([map()])), DONE],
        &[
            ("GET /v1/maps", Value::Null),
            ("DELETE /v1/maps/3/pin", Value::Null),
        ],
    );
    let daemon = FakeDaemon::answering([found()]);
    let error = "Error: key expected 4 bytes got 2: that is the length of a key of map 3 (hash counters)\n";
    assert_eq!(
        nkctl(&daemon.socket(), "map lookup 3 key 1 2"),
        failed(255, error)
    );
}

#[test]
fn entries_are_read() {
    let (out, asked) = answered("map lookup 3 key 1 0 0 0", [found(), (200, entry(1))]);
    assert_eq!(out, "key: 01 00 00 00  value: 01 02\n");
    assert_eq!(asked, [FIND, "POST /v1/maps/3/lookup"]);
    let (out, asked) = answered("map getnext 3", [found(), (200, entry(1))]);
    assert_eq!(out, "key: None\nnext key:\n01 00 00 00\n");
    assert_eq!(asked, [FIND, "POST /v1/maps/3/next"]);
    let value = json!({"key": null, "value": "0102", "values": null, "formatted": null, "text": null});
    let (out, asked) = answered("map pop 3", [found(), (200, value.clone())]);
    assert_eq!(out, "value: 01 02\n");
    assert_eq!(asked, [FIND, "POST /v1/maps/3/pop"]);
    let (out, asked) = answered("-j map peek 3", [found(), (200, value)]);
    assert_eq!(out, "{\"key\":[],\"value\":[\"0x01\",\"0x02\"]}\n");
    assert_eq!(asked, [FIND, "POST /v1/maps/3/peek"]);
}

#[test]
fn what_is_not_there_is_said_in_bpftools_words() {
    let absent = || problem(404, ("ENOENT", 2), "the map has no such key");
    let daemon = FakeDaemon::answering([found(), absent()]);
    let error = "key:\n01 00 00 00\n\nNot found\n";
    assert_eq!(
        nkctl(&daemon.socket(), "map lookup 3 key 1 0 0 0"),
        failed(1, error)
    );
    let daemon = FakeDaemon::answering([found(), absent()]);
    assert_eq!(
        nkctl(&daemon.socket(), "map pop 3"),
        failed(1, "Error: empty map\n")
    );
}

#[test]
fn events_of_one_shard_or_all() {
    let events = || {
        let event = |cpu, lost| json!({"cpu": cpu, "lost": lost, "data": "0aff"});
        (200, json!([event(0, 0), event(1, 2)]))
    };
    let (out, asked) = answered("map event_pipe 3 once", [events()]);
    assert_eq!(
        out,
        "== CPU: 0 index: 0 =====\n0a ff\nlost 2 events\n== CPU: 1 index: 1 =====\n0a ff\n"
    );
    assert_eq!(asked, ["POST /v1/maps/3/events"]);
    let (out, _) = answered("-j map event_pipe 3 cpu 0 once", [events()]);
    assert_eq!(out, "[{\"type\":9,\"cpu\":0,\"index\":0,\"data\":[10,255]}]\n");
}
