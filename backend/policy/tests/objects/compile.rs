//! Compiles the C sources beside this file, where there is a compiler for BPF.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// The object of `objects/<name>.c`; None, said aloud, where it cannot be compiled.
pub fn compile(test: &str, name: &str) -> Option<Vec<u8>> {
    compile_with(test, name, &[])
}

/// The same, with further options of the compiler.
pub fn compile_with(test: &str, name: &str, options: &[&str]) -> Option<Vec<u8>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/objects/{name}.c"));
    let directory = tempfile::tempdir().unwrap();
    let object = directory.path().join("object.o");
    let output = Command::new("clang")
        .args([
            "-O2",
            "-g",
            "-target",
            "bpf",
            "-mcpu=v3",
            "-I/usr/include/x86_64-linux-gnu",
            "-c",
        ])
        .args(options)
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(std::fs::read(object).unwrap()),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("file not found") => {
            not_run(test, "the headers of Linux and libbpf are not installed");
            None
        }
        Ok(output) => panic!("{name}.c: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            not_run(test, &format!("clang cannot be run: {error}"));
            None
        }
    }
}

/// Prints that a test was not run and why, also to the file that `NETKIT_NOT_RUN` names, which `make test` counts.
fn not_run(name: &str, why: &str) {
    let line = format!("NOT RUN: {name}: {why}\n");
    // Not with eprintln, whose output cargo shows of failed tests only.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("NETKIT_NOT_RUN") {
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
