//! Names in paths: whatever may be a device's name can be said, and what cannot be is refused.

use netkit_api::{DeviceCreate, DeviceSet, Mode, PeerCreate};
use netkit_tests::http;
use netkit_tests::netkitd::Netkitd;
use serde_json::json;

use crate::assert_problem;

#[test]
fn every_name_of_the_kernels_can_be_used() {
    let daemon = Netkitd::start();
    let client = daemon.client();
    for name in [
        "eth0.100",
        "a?b",
        "a#b",
        "a&b=c",
        "a+b",
        "\\a\"b'",
        "ü",
        "🦀🦀🦀",
        "-x",
        "~",
        "devices",
        "exactly15octets",
    ] {
        let request = DeviceCreate {
            name: Some(name.into()),
            mode: Some(Mode::L2),
            ..DeviceCreate::default()
        };
        assert_eq!(client.create(&request).unwrap().primary, name);
        let up = DeviceSet {
            up: Some(true),
            ..DeviceSet::default()
        };
        client.set(name, &up).unwrap();
        let device = client.device(name).unwrap();
        assert!(device.name == name && device.flags.contains(&"UP".to_owned()));
        assert_eq!(client.drops(Some(name)).unwrap()[0].device, name);
        client.delete(name).unwrap();
        assert!(client.device(name).unwrap_err().is_no_such_device());
    }
}

#[test]
fn names_that_no_device_has() {
    let daemon = Netkitd::start();
    daemon.ok("link add nk0 type netkit");
    for (path, name) in [
        ("nosuch", "nosuch"),
        ("a%2Fb", "a/b"),
        ("%C3%BC", "ü"),
        ("..", ".."),
        ("%2E%2E", ".."),
        ("a%20b", "a b"),
        ("a%00b", "a\0b"),
        ("%25d", "%d"),
        ("NK0", "NK0"),
        ("nk0%20", "nk0 "),
        (&"x".repeat(5000), &"x".repeat(5000)),
    ] {
        for (method, resource) in [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/drops"),
            ("DELETE", "/attachment"),
        ] {
            let answer = http::call(
                &daemon.api(),
                method,
                &format!("/v1/devices/{path}{resource}"),
                None,
            );
            assert_problem(
                &answer,
                404,
                "ENODEV",
                &[&format!("there is no device \"{name}\"")],
            );
        }
        let answer = http::call(&daemon.api(), "PATCH", &format!("/v1/devices/{path}"), Some("{}"));
        assert_problem(
            &answer,
            404,
            "ENODEV",
            &[&format!("there is no device \"{name}\"")],
        );
    }
    for path in ["%FF", "%C3", "nk0%80"] {
        let answer = http::call(&daemon.api(), "GET", &format!("/v1/devices/{path}"), None);
        assert_problem(&answer, 400, "EINVAL", &[path, "UTF-8"]);
    }
    // A name written in percent-encoding is the same name.
    assert_eq!(
        http::call(&daemon.api(), "GET", "/v1/devices/%6e%6B0", None).status,
        200
    );
}

#[test]
fn names_that_no_device_can_have() {
    let daemon = Netkitd::start();
    let names = [
        "",
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\tb",
        "a\nb",
        "a\0b",
        "sixteen-octets-x",
        "üüüüüüüü",
        "%",
        "%s",
        "%d%d",
    ];
    for name in names {
        let requests = [
            DeviceCreate {
                name: Some(name.into()),
                ..DeviceCreate::default()
            },
            DeviceCreate {
                peer: Some(PeerCreate {
                    name: Some(name.into()),
                    ..PeerCreate::default()
                }),
                ..DeviceCreate::default()
            },
        ];
        for request in requests {
            let body = serde_json::to_string(&request).unwrap();
            let answer = http::call(&daemon.api(), "POST", "/v1/devices", Some(&body));
            assert_problem(&answer, 400, "EINVAL", &["cannot be a device name: "]);
        }
    }
    assert_eq!(daemon.client().devices().unwrap(), []);
    daemon.ok("link add nk0 type netkit");
    for name in names {
        let body = json!({"name": name}).to_string();
        let answer = http::call(&daemon.api(), "PATCH", "/v1/devices/nk0", Some(&body));
        // In a rename, too, one %d stands for a number; none of these is such a template.
        assert_problem(&answer, 400, "EINVAL", &["cannot be a device name: "]);
    }
}
