//! Requests that make no sense are refused as problems, and change nothing.

use netkit_tests::http;
use netkit_tests::netkitd::Netkitd;

use crate::assert_problem;

/// With the pair `a`, `b`.
fn daemon() -> Netkitd {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit mode l2 peer name b");
    daemon
}

#[test]
fn bodies_that_cannot_be_read() {
    const DEVICES: (&str, &str) = ("POST", "/v1/devices");
    const DEVICE: (&str, &str) = ("PATCH", "/v1/devices/a");
    const NETKIT: (&str, &str) = ("PATCH", "/v1/devices/a/netkit");
    const ATTACHMENT: (&str, &str) = ("PUT", "/v1/devices/a/attachment");
    const UPLINKS: (&str, &str) = ("POST", "/v1/uplinks");
    const UPLINK: (&str, &str) = ("PATCH", "/v1/uplinks/wan");
    const LEASES: (&str, &str) = ("POST", "/v1/devices/a/leases");
    const PASS: (&str, &str) = ("PUT", "/v1/nics/0000:03:00.0/pass");
    let rows: [((&str, &str), &str, &[&str]); 42] = [
        (DEVICES, "", &["JSON", "EOF"]),
        (DEVICES, "{", &["JSON", "EOF", "line 1"]),
        (DEVICES, "{\"mtu\": 1500,}", &["trailing comma"]),
        (DEVICES, "{} {}", &["trailing characters"]),
        (DEVICES, "mtu=1500", &["JSON"]),
        (DEVICES, "null", &["expected a JSON object"]),
        (DEVICES, "\"nk0\"", &["expected a JSON object"]),
        // An array is not an object with its members in order.
        (DEVICES, "[]", &["expected a JSON object"]),
        (DEVICES, "[\"x\"]", &["expected a JSON object"]),
        (DEVICES, "{\"peer\": []}", &["peer", "expected a JSON object"]),
        (DEVICES, "{\"peer\": \"x\"}", &["peer", "expected a JSON object"]),
        (DEVICES, "{\"mtu\": \"1500\"}", &["mtu", "string", "expected u32"]),
        (DEVICES, "{\"mtu\": -1}", &["mtu", "-1"]),
        (DEVICES, "{\"mtu\": 1500.5}", &["mtu", "1500.5"]),
        (DEVICES, "{\"mtu\": 4294967296}", &["mtu", "4294967296"]),
        (DEVICES, "{\"headroom\": 65536}", &["headroom", "65536"]),
        (DEVICES, "{\"name\": 7}", &["name", "string"]),
        (
            DEVICES,
            "{\"name\": \"x\", \"name\": \"y\"}",
            &["duplicate field `name`"],
        ),
        (DEVICES, "{\"nam\": \"x\"}", &["unknown field `nam`", "`name`"]),
        (
            DEVICES,
            "{\"peer\": {\"mode\": \"l2\"}}",
            &["unknown field `mode`"],
        ),
        (DEVICES, "{\"mode\": \"L2\"}", &["unknown variant `L2`", "`l2`"]),
        (
            DEVICES,
            "{\"policy\": \"drop\"}",
            &["unknown variant `drop`", "`blackhole`"],
        ),
        (
            DEVICES,
            "{\"mode\": \"l2\", \"address\": \"02:00\"}",
            &["\"02:00\"", "six hexadecimal octets"],
        ),
        (DEVICES, "{\"ifindex\": 0}", &["0 cannot be an ifindex"]),
        (
            DEVICES,
            "{\"ifindex\": 2147483648}",
            &["2147483648 cannot be an ifindex"],
        ),
        (DEVICE, "[]", &["expected a JSON object"]),
        (DEVICE, "{\"up\": 1}", &["up", "boolean"]),
        (DEVICE, "{\"policy\": \"forward\"}", &["unknown field `policy`"]),
        (
            NETKIT,
            "{\"has_peer_info\": true}",
            &["unknown field `has_peer_info`"],
        ),
        (ATTACHMENT, "{}", &["missing field `kind`"]),
        (
            ATTACHMENT,
            "{\"kind\": \"veth\"}",
            &["unknown variant `veth`", "`vhost-user`", "`uplink`"],
        ),
        (ATTACHMENT, "{\"kind\": \"uplink\"}", &["missing field `uplink`"]),
        (UPLINKS, "[]", &["expected a JSON object"]),
        (UPLINKS, "{\"name\": \"wan\"}", &["missing field `nic`"]),
        (
            UPLINKS,
            "{\"name\": \"wan\", \"nic\": {\"kind\": \"bond\"}}",
            &["unknown variant `bond`", "`vfio`"],
        ),
        (UPLINK, "{\"mtu\": 9000}", &["unknown field `mtu`"]),
        (LEASES, "{\"uplink\": \"wan\"}", &["missing field `queue`"]),
        (PASS, "{\"dry-run\": true}", &["unknown field `dry-run`"]),
        (
            ATTACHMENT,
            "{\"kind\": \"vhost-user\"}",
            &["missing field `path`"],
        ),
        (
            ATTACHMENT,
            "{\"kind\": \"tap\", \"path\": \"/x\"}",
            &["unknown field `path`"],
        ),
        (
            ATTACHMENT,
            "{\"kind\": \"vhost-user\", \"path\": \"a.sock\"}",
            &["\"a.sock\"", "not absolute"],
        ),
        (
            ATTACHMENT,
            "{\"kind\": \"vhost-user\", \"path\": \"/tmp/a\\u0000b\"}",
            &["zero octet"],
        ),
    ];
    let daemon = daemon();
    let before = daemon.client().devices().unwrap();
    for ((method, path), body, parts) in rows {
        let answer = http::call(&daemon.api(), method, path, Some(body));
        assert_problem(&answer, 400, "EINVAL", parts);
        assert_eq!(daemon.client().devices().unwrap(), before, "{body}");
    }
    let text = http::say(
        &daemon.api(),
        b"POST /v1/devices HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    );
    assert!(text.contains("Content-Type: application/json"), "{text}");
    assert_eq!(daemon.client().devices().unwrap(), before);
}

#[test]
fn bodies_that_are_too_long() {
    let daemon = daemon();
    let spaces = " ".repeat(64 * 1024 - 2);
    let answer = http::call(
        &daemon.api(),
        "POST",
        "/v1/devices",
        Some(&format!("{{}}{spaces}")),
    );
    assert_eq!(answer.status, 201, "{answer:?}");
    let answer = http::call(
        &daemon.api(),
        "POST",
        "/v1/devices",
        Some(&format!("{{}}{spaces} ")),
    );
    assert_problem(&answer, 413, "EMSGSIZE", &["65536 octets"]);

    let mut chunked = b"POST /v1/devices HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        .to_vec();
    for _ in 0..100 {
        chunked.extend(b"1000\r\n");
        chunked.extend([b' '; 0x1000]);
        chunked.extend(b"\r\n");
    }
    let text = http::say(&daemon.api(), &chunked);
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert_eq!(daemon.client().devices().unwrap().len(), 4);
}

#[test]
fn addresses_that_cannot_be() {
    let daemon = daemon();
    for (path, part) in [
        ("/v1/devices/%ff", "UTF-8"),
        ("/v1/devices/%ff/lists", "UTF-8"),
        ("/v1/programs/%ff", "UTF-8"),
        ("/v1/maps/%ff/entries", "UTF-8"),
        ("/v1/domains/%ff/routes", "UTF-8"),
        ("/v1/domains/a%2fb/routes", "slash"),
        ("/v1/links/x", "x"),
        ("/v1/links/-1", "-1"),
        ("/v1/links/4294967296", "4294967296"),
        ("/v1/tracelog?from=x", "from"),
        ("/v1/tracelog?from=18446744073709551616", "from"),
    ] {
        let answer = http::call(&daemon.api(), "GET", path, None);
        assert_problem(&answer, 400, "EINVAL", &[part]);
    }
    for (path, errno) in [
        ("/v1/links/4294967295", "ENOENT"),
        ("/v1/programs/99999999999", "ENOENT"),
        ("/v1/maps/nosuch/entries", "ENOENT"),
        ("/v1/devices/nosuch/lists", "ENODEV"),
    ] {
        let answer = http::call(&daemon.api(), "GET", path, None);
        assert_problem(&answer, 404, errno, &[]);
    }
    let last = http::call(
        &daemon.api(),
        "GET",
        "/v1/tracelog?from=18446744073709551615",
        None,
    );
    assert_eq!(last.status, 200, "{last:?}");
}

#[test]
fn resources_and_methods_that_there_are_not() {
    let daemon = daemon();
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/nosuch",
        "/v2/devices",
        "/v1/devices/",
        "/v1/devices//",
        "/v1/devices/a/",
        "/v1/devices/a/b",
        "/v1/devices/a/drops/b",
        "/V1/devices",
    ] {
        let answer = http::call(&daemon.api(), "GET", path, None);
        assert_problem(&answer, 404, "ENOENT", &[path, "/openapi.json"]);
    }
    for (method, path, allowed) in [
        ("PUT", "/v1/devices", "GET,HEAD,POST"),
        ("DELETE", "/v1/devices", "GET,HEAD,POST"),
        ("OPTIONS", "/v1/devices", "GET,HEAD,POST"),
        ("POST", "/v1/devices/a", "GET,HEAD,PATCH,DELETE"),
        ("GET", "/v1/devices/a/netkit", "PATCH"),
        ("PATCH", "/v1/devices/a/attachment", "PUT,DELETE"),
        ("POST", "/openapi.json", "GET,HEAD"),
    ] {
        let answer = http::call(&daemon.api(), method, path, None);
        assert_problem(&answer, 405, "ENOSYS", &[path, method]);
        let sorted = |methods: &str| {
            let mut methods: Vec<String> = methods.split(',').map(String::from).collect();
            methods.sort();
            methods
        };
        assert_eq!(sorted(answer.header("allow")), sorted(allowed), "{method} {path}");
    }
    assert_eq!(http::call(&daemon.api(), "HEAD", "/v1/devices", None).status, 200);
}

#[test]
fn each_errno_has_its_status() {
    let daemon = daemon();
    daemon.ok(&format!(
        "attach a vhost-user path {}",
        daemon.path("a.sock").display()
    ));
    let missing = daemon.path("missing/b.sock");
    let attach = format!("{{\"kind\": \"vhost-user\", \"path\": {missing:?}}}");
    for (method, path, body, status, errno) in [
        ("POST", "/v1/devices", Some("{\"name\": \"a\"}"), 409, "EEXIST"),
        ("POST", "/v1/devices", Some("{\"mtu\": 67}"), 400, "EINVAL"),
        (
            "POST",
            "/v1/devices",
            Some("{\"address\": \"02:00:00:00:00:01\"}"),
            400,
            "EOPNOTSUPP",
        ),
        (
            "PATCH",
            "/v1/devices/a",
            Some("{\"address\": \"00:00:00:00:00:00\"}"),
            400,
            "EADDRNOTAVAIL",
        ),
        (
            "PATCH",
            "/v1/devices/a/netkit",
            Some("{\"mode\": \"l2\"}"),
            403,
            "EACCES",
        ),
        (
            "PATCH",
            "/v1/devices/b/netkit",
            Some("{\"policy\": \"forward\"}"),
            403,
            "EACCES",
        ),
        (
            "PUT",
            "/v1/devices/a/attachment",
            Some("{\"kind\": \"tap\"}"),
            409,
            "EBUSY",
        ),
        ("PUT", "/v1/devices/b/attachment", Some(&attach), 404, "ENOENT"),
        ("DELETE", "/v1/devices/b/attachment", None, 404, "ENOENT"),
        ("DELETE", "/v1/devices/c", None, 404, "ENODEV"),
    ] {
        let answer = http::call(&daemon.api(), method, path, body);
        assert_problem(&answer, status, errno, &[]);
    }
}
