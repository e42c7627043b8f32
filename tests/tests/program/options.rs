//! The command line: what it can do is printed, and what it cannot is refused at once.

use std::path::Path;

use netkit_tests::netkitd::{program, run_to_end};
use serde_json::{Value, json};

use crate::{assert_has, text};

#[test]
fn capabilities_are_printed_as_json() {
    let (code, printed, said) = run_to_end(&["--print-capabilities"]);
    assert_eq!((code, said.as_str()), (0, ""));
    let capabilities: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(capabilities, json!({"type": "net", "features": []}));
}

#[test]
fn help_and_version_are_answers() {
    let (code, printed, _) = run_to_end(&["--help"]);
    assert_eq!(code, 0);
    for option in [
        "--api",
        "--state-dir",
        "--workers",
        "--socket-path",
        "--fd",
        "--tap",
        "--print-capabilities",
    ] {
        assert_has(&printed, &[option]);
    }
    let (code, printed, _) = run_to_end(&["--version"]);
    assert!(code == 0 && printed.starts_with("netkitd "), "{printed}");
}

#[test]
fn bad_options_fail_early() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&dir.path().join(name)).to_owned();
    let (api, socket, missing, long) = (
        path("api.sock"),
        path("vu.sock"),
        path("missing/s"),
        path(&"x".repeat(108)),
    );
    std::fs::write(path("file"), "precious").unwrap();
    let file = path("file");
    let rows: [(&[&str], &[&str]); 25] = [
        (&[], &["nothing to serve", "--api", "--socket-path"]),
        (&["--bogus"], &["--bogus"]),
        (&["extra"], &["extra"]),
        (&["--api"], &["--api <SOCK>"]),
        (&["--api", ""], &["--api <SOCK>"]),
        (&["--api", &api, "--workers", "0"], &["--workers", "1..=256"]),
        (&["--api", &api, "--workers", "257"], &["--workers", "1..=256"]),
        (&["--api", &api, "--workers", "two"], &["--workers", "two"]),
        (
            &["--api", &missing],
            &["missing/s\"", "create its directory first"],
        ),
        (&["--api", &long], &["107"]),
        (&["--api", &file], &["file\"", "not a socket"]),
        (&["--api", &api, "--state-dir", &file], &["file\"", "directory"]),
        (
            &["--api", &api, "--state-dir", "/proc/nosuch"],
            &["/proc/nosuch\"", "directory"],
        ),
        (&["--state-dir", &path("state")], &["nothing to serve"]),
        // A vhost-user back end serves on one or the other.
        (
            &["--socket-path", &socket, "--fd", "3"],
            &["--socket-path", "--fd", "cannot be used with"],
        ),
        // Its device is made anew at every start, so it has no state.
        (
            &["--socket-path", &socket, "--state-dir", &path("state")],
            &["--state-dir", "cannot be used with"],
        ),
        (&["--api", &api, "--tap", "nktap0"], &["--tap", "--socket-path"]),
        (
            &["--socket-path", &missing],
            &["missing/s\"", "create its directory first"],
        ),
        (&["--socket-path", &file], &["file\"", "not a socket"]),
        (
            &["--socket-path", &socket, "--tap", "sixteen-octets-x"],
            &["\"sixteen-octets-x\"", "at most 15 octets"],
        ),
        (&["--socket-path", &socket, "--tap", "lo"], &["\"lo\""]),
        (&["--fd", "three"], &["--fd", "three"]),
        (&["--fd", "-1"], &["-1"]),
        (&["--fd", "99"], &["--fd 99", "listening unix socket"]),
        (&["--fd", "1"], &["--fd 1", "listening unix socket"]),
    ];
    for (arguments, parts) in rows {
        let (code, printed, said) = run_to_end(arguments);
        assert!(code != 0 && printed.is_empty(), "{arguments:?}: {code} {printed}");
        assert_has(&said, parts);
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}

#[test]
fn management_software_finds_the_program() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backend/share/qemu/vhost-user/50-netkitd.json");
    let backend: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    // The members are those of QEMU's vhost-user.json, and no others.
    for (member, value) in backend.as_object().unwrap() {
        match member.as_str() {
            "description" => assert!(value.as_str().is_some_and(|it| !it.is_empty())),
            "type" => assert_eq!(value, "net"),
            "binary" => {
                let binary = Path::new(value.as_str().unwrap());
                assert!(binary.is_absolute());
                assert_eq!(binary.file_name(), program("netkitd").file_name());
            }
            "tags" => assert!(value.as_array().unwrap().iter().all(Value::is_string)),
            other => panic!("{other} is not in the schema"),
        }
    }
    for member in ["description", "type", "binary"] {
        assert!(backend[member].is_string(), "{member} is missing");
    }
    let (_, printed, _) = run_to_end(&["--print-capabilities"]);
    let capabilities: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(capabilities["type"], backend["type"]);
}
