//! The programs of the scenarios, compiled by clang and parsed once for both sides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use netkit_tests::kernel::scenario::{MapCode, ObjectCode, ProgramCode};
use policy::object::Object;

/// Object files by name, as they are and parsed.
pub type Objects = BTreeMap<String, (PathBuf, ObjectCode)>;

const NAMES: [&str; 2] = ["lists", "frames"];

/// Compiles all programs into a directory; an error is why that cannot be done here.
pub fn compile(directory: &Path) -> Result<Objects, String> {
    NAMES
        .into_iter()
        .map(|name| compile_one(directory, name))
        .collect()
}

fn compile_one(directory: &Path, name: &str) -> Result<(String, (PathBuf, ObjectCode)), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/kernel_netkit/{name}.c"));
    let path = directory.join(format!("{name}.o"));
    let output = Command::new("clang")
        .args([
            "-O2",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
        ])
        .args(["-target", "bpf", "-mcpu=v3", "-c"])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg(&source)
        .arg("-o")
        .arg(&path)
        .output()
        .map_err(|error| format!("clang: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // A missing header is a missing package; anything else is a fault of the source.
    if !output.status.success() && errors.contains("file not found") {
        return Err(format!("clang: {errors}"));
    }
    assert!(output.status.success(), "{errors}");
    let object = Object::parse(&std::fs::read(&path).unwrap()).unwrap();
    Ok((name.to_owned(), (path, code(&object))))
}

fn code(object: &Object) -> ObjectCode {
    let map = |map: &policy::object::MapDefinition| MapCode {
        name: map.name.clone(),
        kind: map.kind,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.flags,
    };
    let program = |program: &policy::object::ObjectProgram| ProgramCode {
        name: program.name.clone(),
        instructions: program.instructions.iter().map(|it| it.to_octets()).collect(),
    };
    ObjectCode {
        license: object.license.clone(),
        maps: object.maps.iter().map(map).collect(),
        programs: object.programs.iter().map(program).collect(),
    }
}
