//! The state on disk: whole or refused, one daemon's at a time, and never lost in silence.

use std::fs;
use std::path::Path;

use netkit_tests::needs;
use netkit_tests::netkitd::{AS_NOBODY, Netkitd, run_to_end};
use serde_json::{Value, json};

use crate::{assert_has, text};

/// The state file of a daemon that has the pair `a`, `b` with a guest's socket, and has ended.
fn saved() -> (Netkitd, Value) {
    let mut daemon = Netkitd::start();
    daemon.ok("link add a type netkit mode l2 peer name b");
    daemon.ok(&format!(
        "attach a vhost-user path {}",
        daemon.path("a.sock").display()
    ));
    daemon.terminate();
    let state = fs::read_to_string(daemon.path("state/state.json")).unwrap();
    (daemon, serde_json::from_str(&state).unwrap())
}

/// Starts the daemon with this text as its state, which it must refuse, leave as it is and say why.
fn assert_refuses(daemon: &Netkitd, state: &[u8], parts: &[&str]) {
    let file = daemon.path("state/state.json");
    fs::write(&file, state).unwrap();
    let (api, dir) = (daemon.path("other.sock"), daemon.path("state"));
    let (code, _, said) = run_to_end(&["--api", text(&api), "--state-dir", text(&dir)]);
    assert_eq!(code, 1, "{said}");
    assert_has(&said, &["state/state.json\""]);
    assert_has(&said, parts);
    assert_eq!(fs::read(&file).unwrap(), state);
}

#[test]
fn damaged_state_is_refused_and_kept() {
    let (daemon, state) = saved();
    let whole = state.to_string();
    let half = &whole[..whole.len() / 2];
    let damaged = ["damaged: ", "restore a copy, or move the file away"];
    for bad in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"schema\": \"one\"}",
        "{\"schema\": 1}",
        half,
        &format!("{whole}x"),
    ] {
        assert_refuses(&daemon, bad.as_bytes(), &damaged);
    }
    assert_refuses(&daemon, &[0xff, 0xfe, 0], &damaged);
    assert_refuses(&daemon, &[0; 4096], &damaged);

    type Harm = fn(&mut Value);
    let harms: [Harm; 9] = [
        |state| state["model"] = json!(null),
        |state| state["attachments"] = json!({}),
        |state| state["attachments"][0]["spec"]["kind"] = json!("uplink"),
        |state| state["attachments"][0]["ifindex"] = json!("one"),
        |state| *device(state, 0) = json!({}),
        |state| device(state, 0)["name"] = json!("a/b"),
        |state| device(state, 0)["mtu"] = json!(1),
        |state| device(state, 0)["ifindex"] = device(state, 1)["ifindex"].clone(),
        |state| device(state, 0)["name"] = device(state, 1)["name"].clone(),
    ];
    for (number, harm) in harms.into_iter().enumerate() {
        let mut bad = state.clone();
        harm(&mut bad);
        assert_ne!(bad, state, "harm {number} does nothing");
        assert_refuses(&daemon, bad.to_string().as_bytes(), &damaged);
    }
    // Half a pair.
    let mut bad = state.clone();
    bad["model"]["devices"].as_array_mut().unwrap().pop();
    assert_refuses(&daemon, bad.to_string().as_bytes(), &damaged);
}

fn device(state: &mut Value, number: usize) -> &mut Value {
    &mut state["model"]["devices"][number]
}

#[test]
fn state_of_another_version_is_refused_and_kept() {
    let (daemon, mut state) = saved();
    for schema in [0, 2, 99] {
        state["schema"] = json!(schema);
        let found = format!("schema version {schema}, ");
        assert_refuses(
            &daemon,
            state.to_string().as_bytes(),
            &[&found, "use the version that wrote it"],
        );
    }
    // Whatever else that version has written.
    assert_refuses(
        &daemon,
        b"{\"schema\": 7, \"tables\": []}",
        &["schema version 7, "],
    );
}

#[test]
fn what_a_crash_left_half_written_is_ignored() {
    let (mut daemon, _) = saved();
    fs::write(daemon.path("state/state.json.next"), "{\"schema\": 1, \"mod").unwrap();
    daemon.run();
    assert_eq!(daemon.client().devices().unwrap().len(), 2);
    daemon.ok("link add c type netkit");
    daemon.kill();
    daemon.run();
    assert_eq!(daemon.client().devices().unwrap().len(), 4);
}

#[test]
fn every_change_replaces_the_state_whole() {
    let daemon = Netkitd::start();
    let file = daemon.path("state/state.json");
    let mut inodes = Vec::new();
    for line in [
        "link add a type netkit",
        "link set a up",
        "link change a type netkit blackhole",
        "link del a",
    ] {
        let open = fs::read_to_string(&file).ok();
        let old = fs::File::open(&file).ok();
        daemon.ok(line);
        let state: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(state["schema"], 1);
        // Who has the old state open still reads the old state: it was not written over.
        assert_eq!(old.map(|it| std::io::read_to_string(it).unwrap()), open, "{line}");
        inodes.push(std::os::unix::fs::MetadataExt::ino(&fs::metadata(&file).unwrap()));
        assert!(!daemon.path("state/state.json.next").exists());
    }
    assert!(inodes.windows(2).all(|pair| pair[0] != pair[1]), "{inodes:?}");
}

#[test]
fn a_state_directory_is_one_daemons() {
    let mut daemon = Netkitd::start();
    daemon.ok("link add a type netkit");
    let (api, dir) = (daemon.path("other.sock"), daemon.path("state"));
    let second = || run_to_end(&["--api", text(&api), "--state-dir", text(&dir)]);
    for _ in 0..2 {
        let (code, _, said) = second();
        assert_eq!(code, 1);
        assert_has(
            &said,
            &[
                "another netkitd uses the state directory",
                "/state\"",
                "--state-dir another directory",
            ],
        );
        assert!(!api.exists());
    }
    assert_eq!(daemon.client().devices().unwrap().len(), 2);
    // The lock dies with its holder, however that dies.
    daemon.kill();
    daemon.run();
    assert_eq!(daemon.client().devices().unwrap().len(), 2);
}

#[test]
fn without_a_state_directory_nothing_is_kept() {
    let mut daemon = Netkitd::under("exec \"$1\" \"$2\" \"$3\"");
    daemon.ok("link add a type netkit");
    assert!(!daemon.path("state").exists());
    daemon.kill();
    daemon.run();
    assert_eq!(daemon.client().devices().unwrap(), []);
}

#[test]
fn a_state_directory_is_made_with_its_parents() {
    let daemon = Netkitd::under("exec \"$1\" \"$2\" \"$3\" \"$4\" \"$5/deep/down\"");
    daemon.ok("link add a type netkit");
    assert!(daemon.path("state/deep/down/state.json").exists());
}

/// Runs netkitd as nobody with a state directory, which it must refuse; gives what it said.
fn refusal_as_nobody(state: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .current_dir(dir.path())
        .args(["-c", AS_NOBODY, "sh"])
        .arg(netkit_tests::netkitd::program("netkitd"));
    let api = dir.path().join("api.sock");
    let output = command
        .arg("--api")
        .arg(api)
        .arg("--state-dir")
        .arg(state)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn state_that_may_not_be_read_or_written_is_refused() {
    if !needs::root("program: state that may not be read or written is refused") {
        return;
    }
    let (daemon, _) = saved();
    let (state, parent) = (daemon.path("state"), daemon.path(""));
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&parent, 0o711);
    let rights = ["Permission denied", "let netkitd's user read and write there"];
    // Somebody else's directory, then an open directory with somebody else's files.
    assert_has(&refusal_as_nobody(&state), &["state/lock\""]);
    assert_has(&refusal_as_nobody(&state), &rights);
    mode(&state, 0o777);
    mode(&state.join("lock"), 0o666);
    mode(&state.join("state.json"), 0o600);
    let said = refusal_as_nobody(&state);
    assert_has(&said, &["cannot read", "state.json\""]);
    assert_has(&said, &rights);
    assert_has(
        &refusal_as_nobody(&parent.join("new")),
        &["cannot create", "/new\""],
    );
}

#[test]
fn a_full_disk_is_reported_and_survived() {
    if !needs::mounts("program: a full disk is reported and survived") {
        return;
    }
    let script = "mkdir state && exec unshare --mount sh -c \
                  'mount -t tmpfs -o size=16k tmpfs state && exec \"$@\"' sh \"$@\"";
    let daemon = Netkitd::under(script);
    // The mount is the daemon's alone.
    let file = format!(
        "/proc/{}/root{}",
        daemon.process().id(),
        daemon.path("state/state.json").display()
    );
    let kept = || -> Value { serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap() };
    let mut number = 0;
    let refusal = loop {
        let before = number > 0;
        let before = before.then(&kept);
        let output = daemon.nkctl(&format!("link add a{number} type netkit"));
        number += 1;
        assert!(number < 100, "the disk does not fill");
        if !output.status.success() {
            // The old state is still there, whole.
            assert_eq!(Some(kept()), before);
            break (output.status.code(), String::from_utf8(output.stderr).unwrap());
        }
    };
    assert_eq!(refusal.0, Some(2));
    assert_has(
        &refusal.1,
        &[
            "in force but was not saved",
            "a restart will undo it",
            "state.json\"",
            "(ENOSPC: ",
            "make room",
        ],
    );
    // In force it is, and the next change that can be saved saves all.
    assert_eq!(daemon.client().devices().unwrap().len(), 2 * number);
    daemon.ok("link del a0");
    let devices = daemon.client().devices().unwrap();
    assert_eq!(devices.len(), 2 * (number - 1));
    assert_eq!(
        kept()["model"]["devices"].as_array().unwrap().len(),
        devices.len()
    );
}

#[test]
fn a_state_directory_that_vanishes_is_reported() {
    let daemon = Netkitd::start();
    daemon.ok("link add a type netkit");
    fs::remove_dir_all(daemon.path("state")).unwrap();
    let said = daemon.fails(2, "link add b type netkit");
    assert_has(
        &said,
        &[
            "in force but was not saved",
            "state.json\"",
            "No such file",
            "--state-dir",
            "(EIO: ",
        ],
    );
    let said = daemon.fails(2, "link set b up");
    assert_has(&said, &["in force but was not saved"]);
    assert_eq!(
        daemon.client().device("b").unwrap().flags,
        ["NO-CARRIER", "BROADCAST", "MULTICAST", "NOARP", "UP", "M-DOWN"]
    );
    fs::create_dir(daemon.path("state")).unwrap();
    daemon.ok("link set b down");
    let state = fs::read_to_string(daemon.path("state/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["model"]["devices"].as_array().unwrap().len(), 4);
}
