//! Programs, lists, links, traces and routes: what nkctl asks for them.

use serde_json::{Value, json};

use crate::fake::{FakeDaemon, problem};
use crate::{DONE, answered, asks, failed, nkctl, printed};

fn program(id: u32, name: &str) -> Value {
    json!({
        "id": id, "type": "sched_cls", "name": name, "section": "tc", "tag": "a04f5eef06a7f555", "license": "GPL",
        "gpl_compatible": true, "loaded_at": 0, "bytes_xlated": 16, "jited": true, "bytes_jited": 20, "map_ids": [],
        "functions": [name], "run_cnt": 0, "run_time_ns": 0, "faults": 0, "last_fault": null, "quarantined": false,
        "attached": [],
    })
}

const FILTER: &str = "\
7: sched_cls  name filter  tag a04f5eef06a7f555  gpl
	loaded_at 1970-01-01T00:00:00+0000
	xlated 16B  jited 20B
";

#[test]
fn show_asks_for_one_program_or_picks_from_all() {
    let (out, asked) = answered("prog show 7", [(200, program(7, "filter"))]);
    assert_eq!((out.as_str(), asked), (FILTER, vec!["GET /v1/programs/7".into()]));
    let all = || {
        (
            200,
            json!([program(7, "filter"), program(8, "count"), program(9, "count")]),
        )
    };
    let (out, asked) = answered("prog show name filter", [all()]);
    assert_eq!((out.as_str(), asked), (FILTER, vec!["GET /v1/programs".into()]));
    let array = |line: &str| {
        let json: Value = serde_json::from_str(&answered(line, [all()]).0).expect("JSON");
        json.as_array().map(Vec::len)
    };
    assert_eq!(array("-j prog"), Some(3));
    assert_eq!(array("-p prog show"), Some(3), "-p alone asks for JSON");
    assert_eq!(array("-j prog show count"), Some(2));
    assert_eq!(
        array("-j prog show filter"),
        None,
        "one that was asked for is an object"
    );
    let no_program = problem(404, ("ENOENT", 2), "there is no program x");
    let daemon = FakeDaemon::answering([all(), no_program]);
    let error = "Error: there is no program x (ENOENT: No such file or directory)\n";
    assert_eq!(nkctl(&daemon.socket(), "prog show x"), failed(2, error));
}

#[test]
fn load_sends_the_object() {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let path = directory.path().join("filter.o");
    std::fs::write(&path, [1, 2, 3, 4]).expect("a file");
    let loaded = json!({"programs": [program(7, "filter")], "map_ids": [], "notes": ["a note"]});
    let daemon = FakeDaemon::answering([(201, loaded.clone()), (201, loaded)]);
    let line = format!(
        "prog load {} name red map name m pinned shared pinmaps",
        path.display()
    );
    let ran = nkctl(&daemon.socket(), &line);
    assert_eq!(
        ran.out,
        FILTER
            .lines()
            .next()
            .map(|line| line.to_owned() + "\n")
            .expect("a line")
    );
    assert_eq!(ran.error, "a note\n");
    nkctl(&daemon.socket(), &format!("prog check {}", path.display()));
    let requests = daemon.requests();
    assert_eq!(requests[0].line, "POST /v1/programs");
    assert_eq!(
        requests[0].body,
        json!({
            "object": "AQIDBA==", "name": "red", "pin_maps": true, "maps": [{"name": "m", "pinned": "shared"}],
            "check_only": false,
        })
    );
    assert_eq!(requests[1].body["check_only"], true);
    let nowhere = std::path::Path::new("/nonexistent/api.sock");
    let error = "Error: cannot read \"/nonexistent.o\": No such file or directory (os error 2)\n";
    assert_eq!(nkctl(nowhere, "prog load /nonexistent.o"), failed(1, error));
}

#[test]
fn run_sends_a_frame_and_writes_what_came_back() {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), [1, 2, 3, 4]).expect("a file");
    let ran = json!({"retval": 2, "duration": 42, "data_out": "AQIDBA==", "ctx_out": "AQ==", "fault": null});
    let daemon = FakeDaemon::answering([(200, ran)]);
    let line = format!(
        "prog run filter data_in {} data_out {} ctx_in {} repeat 3 interpreter",
        path("in"),
        path("out"),
        path("in")
    );
    let text = "Return value: 2, duration (average): 42ns\n";
    assert_eq!(nkctl(&daemon.socket(), &line), printed(text));
    assert_eq!(std::fs::read(path("out")).expect("a file"), [1, 2, 3, 4]);
    let requests = daemon.requests();
    assert_eq!(requests[0].line, "POST /v1/programs/filter/run");
    assert_eq!(
        requests[0].body,
        json!({"data_in": "AQIDBA==", "ctx_in": "AQIDBA==", "repeat": 3, "interpreter": true})
    );
    let stopped =
        json!({"retval": 0, "duration": 0, "data_out": "", "ctx_out": "", "fault": "access to 0x10"});
    let daemon = FakeDaemon::answering([(200, stopped)]);
    let error = "Error: the program was stopped: access to 0x10\n";
    let line = format!("prog run 7 data_in {}", path("in"));
    assert_eq!(nkctl(&daemon.socket(), &line), failed(2, error));
}

#[test]
fn dump_prints_or_writes_a_file() {
    let lines = json!([{"at": 0, "function": "f", "source": null, "text": "(95) exit", "octets": "9500000000000000"}]);
    let (out, asked) = answered("prog dump xlated 7", [(200, lines.clone())]);
    assert_eq!(out, "f:\n   0: (95) exit\n");
    assert_eq!(asked, ["GET /v1/programs/7/xlated"]);
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let path = directory.path().join("code");
    let (out, asked) = answered(
        &format!("prog dump jited f file {}", path.display()),
        [(200, lines)],
    );
    assert_eq!(
        (out.as_str(), asked),
        ("", vec!["GET /v1/programs/f/jited".into()])
    );
    assert_eq!(std::fs::read(path).expect("a file"), [0x95, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn unload_and_resume() {
    asks(
        "prog unload name filter",
        [DONE],
        &[("DELETE /v1/programs/filter", Value::Null)],
    );
    asks(
        "prog resume 7",
        [DONE],
        &[("PATCH /v1/programs/7", json!({"quarantined": false}))],
    );
}

#[test]
fn tracelog_goes_on_where_it_was() {
    let lines = |lines: &[&str], next| (200, json!({"lines": lines, "next": next, "lost": 0}));
    let (out, asked) = answered("prog tracelog once", [lines(&["a", "b"], 2)]);
    assert_eq!(
        (out.as_str(), asked),
        ("a\nb\n", vec!["GET /v1/tracelog?from=0".into()])
    );
    // It follows until the daemon ends.
    let daemon = FakeDaemon::answering([lines(&["a"], 1), lines(&[], 1), lines(&["b"], 2)]);
    let socket = daemon.socket();
    let directory = std::thread::spawn(move || daemon.requests());
    let ran = nkctl(&socket, "-j prog tracelog");
    assert_eq!((ran.code, ran.out.as_str()), (1, "[\"a\",\"b\"]\n"));
    let asked: Vec<String> = directory
        .join()
        .expect("every request was served")
        .into_iter()
        .map(|request| request.line)
        .collect();
    assert_eq!(
        asked,
        [
            "GET /v1/tracelog?from=0",
            "GET /v1/tracelog?from=1",
            "GET /v1/tracelog?from=1"
        ]
    );
}

#[test]
fn attach_and_detach_name_the_list() {
    let attached = (200, json!({"revision": 2, "link_id": null}));
    asks(
        "net attach netkit_primary filter dev nk0 before link 3 expected-revision 1",
        [attached],
        &[(
            "POST /v1/devices/nk0/lists/primary",
            json!({"program": "filter", "link": false, "before": "link:3", "expected_revision": 1}),
        )],
    );
    asks(
        "net detach netkit_peer id 7 dev nk0 after",
        [DONE],
        &[(
            "POST /v1/devices/nk0/lists/peer/detach",
            json!({"program": "7", "after": ""}),
        )],
    );
    let linked = (200, json!({"revision": 2, "link_id": 4}));
    assert_eq!(
        answered("net attach netkit_peer 7 dev nk0 link", [linked]).0,
        "link_id 4\n"
    );
    let refused = || problem(404, ("ENODEV", 19), "there is no device nosuch");
    for line in [
        "net attach netkit_peer 7 dev nosuch",
        "net detach netkit_peer dev nosuch",
    ] {
        let daemon = FakeDaemon::answering([refused()]);
        let error = "Cannot find device \"nosuch\"\n";
        assert_eq!(nkctl(&daemon.socket(), line), failed(1, error), "{line}");
    }
    for line in ["net show dev nosuch", "trace nosuch packet eth"] {
        let daemon = FakeDaemon::answering([refused()]);
        let error = "Device \"nosuch\" does not exist.\n";
        assert_eq!(nkctl(&daemon.socket(), line), failed(1, error), "{line}");
    }
}

#[test]
fn lists_are_shown() {
    let list = json!([{
        "device": "nk0", "ifindex": 3, "kind": "netkit/primary", "revision": 2,
        "programs": [{"name": "filter", "prog_id": 7, "link_id": 4}],
    }]);
    let text = "tc:\nnk0(3) netkit/primary filter prog_id 7 link_id 4\n";
    let (out, asked) = answered("net show", [(200, list.clone())]);
    assert_eq!((out.as_str(), asked), (text, vec!["GET /v1/lists".into()]));
    let (out, asked) = answered("-j net show dev nk0", [(200, list)]);
    let json = "[{\"tc\":[{\"devname\":\"nk0\",\"ifindex\":3,\"kind\":\"netkit/primary\",\"name\":\"filter\",\
                \"prog_id\":7,\"prog_flags\":[],\"link_id\":4,\"link_flags\":[]}]}]\n";
    assert_eq!(
        (out.as_str(), asked),
        (json, vec!["GET /v1/devices/nk0/lists".into()])
    );
}

#[test]
fn links_are_named_by_their_ids() {
    let link = json!({
        "id": 3, "type": "netkit", "prog_id": 7, "attach_type": "netkit_peer", "ifindex": 5, "device": "nk0",
    });
    let text = "3: netkit  prog 7\n\tifindex nk0(5)  attach_type netkit_peer\n";
    let (out, asked) = answered("link show bpf", [(200, json!([link]))]);
    assert_eq!((out.as_str(), asked), (text, vec!["GET /v1/links".into()]));
    let (out, asked) = answered("link show id 3", [(200, link)]);
    assert_eq!((out.as_str(), asked), (text, vec!["GET /v1/links/3".into()]));
    asks(
        "link update id 3 prog count expected filter",
        [DONE],
        &[(
            "PATCH /v1/links/3",
            json!({"program": "count", "expected": "filter"}),
        )],
    );
    asks(
        "link detach id 3",
        [DONE],
        &[("POST /v1/links/3/detach", Value::Null)],
    );
    asks("link delete id 3", [DONE], &[("DELETE /v1/links/3", Value::Null)]);
}

#[test]
fn trace_sends_a_frame() {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let path = directory.path().join("frame");
    std::fs::write(&path, [1, 2, 3, 4]).expect("a file");
    let traced = json!({
        "steps": [{"kind": "device", "device": "nk0", "text": "l2"}, {"kind": "verdict", "code": 2, "text": "drop"}],
        "outcome": "The frame is dropped.", "receiver": null, "drop": "program", "frame": "",
    });
    let daemon = FakeDaemon::answering([(200, traced.clone()), (200, traced)]);
    let line = format!("trace nk0 packet {} mark 5 brief", path.display());
    let text = "nk0: l2\n  verdict 2 drop\nThe frame is dropped.\n";
    assert_eq!(nkctl(&daemon.socket(), &line), printed(text));
    let json = nkctl(&daemon.socket(), "-j trace nk0 packet hex:01020304").out;
    assert!(json.starts_with("{\"steps\":[{\"kind\":\"device\","), "{json}");
    let requests = daemon.requests();
    assert_eq!(requests[0].line, "POST /v1/devices/nk0/trace");
    assert_eq!(
        requests[0].body,
        json!({"frame": "AQIDBA==", "mark": 5, "priority": 0, "gso_size": 0, "brief": true, "limit": 0})
    );
    assert_eq!(requests[1].body["frame"], "AQIDBA==");
}

#[test]
fn routes_and_neighbours_are_a_domains() {
    let routes = "/v1/domains/red/routes";
    let route = || json!({"destination": "10.0.0.0/8", "via": "10.1.1.1", "device": "nk0"});
    asks(
        "route add 10.0.0.0/8 via 10.1.1.1 dev nk0 domain red",
        [DONE],
        &[(&format!("POST {routes}"), route())],
    );
    let there = || (200, json!([route()]));
    asks(
        "route del 10.0.0.0/8 domain red",
        [there(), DONE],
        &[
            (&format!("GET {routes}"), Value::Null),
            (&format!("POST {routes}/delete"), route()),
        ],
    );
    let text = "10.0.0.0/8 via 10.1.1.1 dev nk0\n";
    assert_eq!(answered("route show domain red", [there()]).0, text);
    let daemon = FakeDaemon::answering([there()]);
    let error = "Error: there is no such route in this domain.\n";
    assert_eq!(
        nkctl(&daemon.socket(), "route del ::/0 domain red"),
        failed(1, error)
    );

    let neighbours = "/v1/domains/red/neighbours";
    let neighbour = || json!({"address": "10.1.1.1", "device": "nk0", "lladdr": "02:00:00:00:00:01"});
    asks(
        "neigh add 10.1.1.1 lladdr 2:0:0:0:0:1 dev nk0 domain red",
        [DONE],
        &[(&format!("POST {neighbours}"), neighbour())],
    );
    let there = || (200, json!([neighbour()]));
    asks(
        "neigh del 10.1.1.1 dev nk0 domain red",
        [there(), DONE],
        &[
            (&format!("GET {neighbours}"), Value::Null),
            (&format!("POST {neighbours}/delete"), neighbour()),
        ],
    );
    let text = "10.1.1.1 dev nk0 lladdr 02:00:00:00:00:01 PERMANENT\n";
    assert_eq!(answered("neigh show domain red", [there()]).0, text);
}
