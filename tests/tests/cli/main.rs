//! nkctl against the real daemon: every line of its grammar, what comes of it, and what is refused.

mod add;
mod attach;
mod change;
mod errors;
mod hot_plug;
mod programs;
mod show;
mod traffic;
mod uplinks;
mod vm_args;

use netkit_tests::netkitd::Netkitd;
use serde_json::Value;

/// A device as the API has it.
fn device(daemon: &Netkitd, name: &str) -> Value {
    let device = daemon.client().device(name).unwrap();
    serde_json::to_value(device).unwrap()
}

/// Asserts that the API shows a device with these members, among others.
fn assert_device(daemon: &Netkitd, name: &str, members: &Value) {
    let device = device(daemon, name);
    for (member, value) in members.as_object().unwrap() {
        assert_eq!(device[member], *value, "{member} of {name}: {device:#}");
    }
}

/// Asserts that a text has all these parts.
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}
