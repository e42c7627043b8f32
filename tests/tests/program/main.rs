//! netkitd as a program: the conventions of vhost-user back ends, its end, its restarts and its state on disk.

mod host_routes;
mod options;
mod restart;
mod scale;
mod single;
mod sockets;
mod state;
mod workers;

use std::path::Path;

/// Asserts that a text has all these parts.
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}
