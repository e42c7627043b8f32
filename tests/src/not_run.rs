//! How a test says that it could not be run here, so that nobody takes it for passed.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Prints that the test `name` was not run and why, also to the file that `NETKIT_NOT_RUN` names.
///
/// `make test` counts the lines of that file.
pub fn not_run(name: &str, why: &str) {
    let line = format!("NOT RUN: {name}: {why}\n");
    // Not with eprintln, whose output cargo shows of failed tests only.
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("NETKIT_NOT_RUN") {
        append(path.as_ref(), &line).expect("the file of NETKIT_NOT_RUN can be written");
    }
}

/// Tests run at the same time: each line is written at once.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("not-run");
        append(&path, "one\n").unwrap();
        append(&path, "two\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }
}
