//! Compiles C sources to objects, where there is a compiler for BPF.

use std::path::Path;
use std::process::Command;

/// The object of a source below `tests/`; None, said aloud, where it cannot be compiled.
pub fn compile(test: &str, source: &str) -> Option<Vec<u8>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let directory = tempfile::tempdir().unwrap();
    let object = directory.path().join("object.o");
    let output = Command::new("clang")
        .args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3"])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(std::fs::read(object).unwrap()),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("file not found") => {
            super::not_run(test, "the headers of Linux and libbpf are not installed");
            None
        }
        Ok(output) => panic!(
            "{}: {}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            super::not_run(test, &format!("clang cannot be run: {error}"));
            None
        }
    }
}
