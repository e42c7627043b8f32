//! The shared libraries that a binary needs.

use super::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The paths, loader included, under which the loader looks for the libraries of `binary`; none if it is static.
pub fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(binary)
        .output()
        .map_err(Error::io("run ldd on", binary))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find(|line| line.contains("not found")) {
        Some(line) => Err(Error::Program {
            program: binary.display().to_string(),
            reason: line.trim().into(),
        }),
        None => Ok(parse(&text)),
    }
}

/// Reads lines such as `libc.so.6 => /lib/libc.so.6 (0x7f…)` and `/lib64/ld-linux-x86-64.so.2 (0x7f…)`.
fn parse(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(PathBuf::from)
    };
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_found() {
        let text =
            "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7f)\n";
        assert_eq!(
            parse(text),
            [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld.so")]
        );
        assert!(parse("\tnot a dynamic executable\n").is_empty());
    }
}
