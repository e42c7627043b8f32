//! BPF programs for tests: objects that clang makes of C, and how they come into a daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use netkit_api::{
    MapRequest, ProgramAttach, ProgramDetach, ProgramLoad, ProgramsLoaded, TraceRequest, Traced,
};
use vmm_glue::client::{Client, End};

use crate::not_run;

/// The object that clang makes of a C file of this directory. None, and the test counts as not run, if there is no clang.
///
/// # Panics
/// If clang does not take the file.
pub fn compile(source: &Path) -> Option<Vec<u8>> {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("programs").to_owned();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let object = directory.path().join("programs.o");
    let machine = std::env::consts::ARCH;
    let output = Command::new("clang")
        .args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3"])
        .arg(format!("-I/usr/include/{machine}-linux-gnu"))
        .arg("-I")
        .arg(policies())
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&object)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(std::fs::read(object).expect("an object")),
        Ok(output) => panic!("clang: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            not_run(&test, &format!("clang: {error}"));
            None
        }
    }
}

/// The object of a ready policy.
pub fn policy(name: &str) -> Vec<u8> {
    let path = policies().join(name).with_extension("o");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../backend/policies")
}

/// Octets as the API takes them.
pub fn base64(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// The octets of what the API gives.
pub fn from_base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("base64")
}

/// Octets as the API of maps takes them.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The octets of what the API of maps gives.
pub fn from_hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// A daemon's programs, by the words of a test.
#[derive(Debug, Clone)]
pub struct Programs(pub Client);

impl Programs {
    /// Loads all programs of an object.
    pub fn load(&self, object: &[u8]) -> ProgramsLoaded {
        let request = ProgramLoad {
            object: base64(object),
            ..ProgramLoad::default()
        };
        self.0.load(&request).expect("an object that loads")
    }

    /// Puts a program at the end of a list.
    pub fn attach(&self, device: &str, end: End, program: &str) {
        let request = ProgramAttach {
            program: program.to_owned(),
            ..ProgramAttach::default()
        };
        self.0
            .attach_program(device, end, &request)
            .expect("a program that can be attached");
    }

    /// Takes a program out of a list.
    pub fn detach(&self, device: &str, end: End, program: &str) {
        let request = ProgramDetach {
            program: Some(program.to_owned()),
            ..ProgramDetach::default()
        };
        self.0
            .detach_program(device, end, &request)
            .expect("a program that is attached");
    }

    /// Makes these the programs of a list.
    pub fn set_list(&self, device: &str, end: End, programs: &[&str]) {
        for program in self.list(device, end) {
            self.detach(device, end, &program.to_string());
        }
        for program in programs {
            self.attach(device, end, program);
        }
    }

    /// The ids of a list's programs.
    pub fn list(&self, device: &str, end: End) -> Vec<u32> {
        let kind = match end {
            End::Primary => "netkit/primary",
            End::Peer => "netkit/peer",
            End::TcxIngress => "tcx/ingress",
            End::TcxEgress => "tcx/egress",
        };
        let lists = self.0.lists(Some(device)).expect("the lists of a device");
        let list = lists.iter().find(|list| list.kind == kind).expect("both lists");
        list.programs.iter().map(|program| program.prog_id).collect()
    }

    /// How often a program ran.
    pub fn runs(&self, program: &str) -> u64 {
        self.0.program(program).expect("a program").run_cnt
    }

    /// Writes an entry of a map.
    pub fn write(&self, map: &str, key: &[u8], value: &[u8]) {
        let request = MapRequest {
            key: Some(hex(key)),
            value: Some(hex(value)),
            flags: None,
        };
        self.0
            .update(map, &request)
            .expect("an entry that can be written");
    }

    /// An entry's value; of a per-CPU map the values of all shards.
    pub fn read(&self, map: &str, key: &[u8]) -> Vec<Vec<u8>> {
        let request = MapRequest {
            key: Some(hex(key)),
            ..MapRequest::default()
        };
        let entry = self.0.lookup(map, &request).expect("an entry");
        match (entry.values, entry.value) {
            (Some(values), _) => values.iter().map(|value| from_hex(value)).collect(),
            (None, value) => value.iter().map(|value| from_hex(value)).collect(),
        }
    }

    /// An entry's value as a number, that of all shards together.
    pub fn read_u64(&self, map: &str, key: u32) -> u64 {
        let values = self.read(map, &key.to_ne_bytes());
        let number = |value: &Vec<u8>| u64::from_ne_bytes(value[..8].try_into().expect("eight octets"));
        values.iter().map(number).sum()
    }

    /// Follows a frame that a device sends.
    pub fn trace(&self, device: &str, frame: &[u8]) -> Traced {
        let request = TraceRequest {
            frame: base64(frame),
            brief: true,
            ..TraceRequest::default()
        };
        self.0.trace(device, &request).expect("a trace")
    }
}
