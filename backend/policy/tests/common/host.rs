//! Whole objects in the host's kernel: bpftool loads them with libbpf, which shares no code with ours.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use policy::context::SkBuff;
use policy::object::{MapDefinition, Object};

use super::kernel::{self, Loaded, Outcome};

const MAP_CREATE: i64 = 0;
const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const MAP_GET_NEXT_KEY: i64 = 4;
const OBJ_GET: i64 = 7;

/// The part of `union bpf_attr` that operations on map elements use (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part that finding what is pinned uses.
#[repr(C)]
#[derive(Default)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// An object in the kernel, until it is dropped.
pub struct Host {
    directory: PathBuf,
    programs: BTreeMap<String, Loaded>,
    maps: BTreeMap<String, (File, MapDefinition)>,
    cpus: usize,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Why no object can be loaded into the kernel here; None if it can.
pub fn unavailable() -> Option<String> {
    kernel::unavailable().or_else(|| {
        let version = Command::new("bpftool").arg("version").output();
        match version {
            Err(error) => Some(format!("bpftool cannot be run: {error}")),
            Ok(_) if !Path::new("/sys/fs/bpf").is_dir() => Some("/sys/fs/bpf is not mounted".into()),
            Ok(_) => None,
        }
    })
}

impl Host {
    /// Loads all programs of an object. Why not: what bpftool says.
    pub fn load(octets: &[u8], object: &Object) -> Result<Host, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("netkit-test-{}-{number}", std::process::id());
        let directory = Path::new("/sys/fs/bpf").join(name);
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("o.o");
        std::fs::write(&file, octets).unwrap();
        std::fs::create_dir(&directory).map_err(|error| error.to_string())?;
        let mut host = Host {
            directory,
            programs: BTreeMap::new(),
            maps: BTreeMap::new(),
            cpus: possible_cpus(),
        };
        let programs = host.directory.join("programs");
        let maps = host.directory.join("maps");
        let output = Command::new("bpftool")
            .args(["prog", "loadall"])
            .arg(&file)
            .arg(&programs)
            .args(["type", "classifier", "pinmaps"])
            .arg(&maps)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let lines: Vec<&str> = said.lines().collect();
            return Err(lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        for program in &object.programs {
            if let Ok(file) = pinned(&programs.join(&program.name)) {
                host.programs.insert(program.name.clone(), Loaded(file));
            }
        }
        for map in &object.maps {
            // libbpf.c: internal_map_name, sanitize_pin_path
            let name = match map.name.as_str() {
                ".bss" | ".data" | ".rodata" | ".kconfig" => format!("o{}", map.name),
                name => name.into(),
            };
            if let Ok(file) = pinned(&maps.join(name.replace('.', "_"))) {
                host.maps.insert(map.name.clone(), (file, map.clone()));
            }
        }
        Ok(host)
    }

    /// Runs a program once.
    pub fn run(&self, program: &str, frame: &[u8], context: &SkBuff) -> io::Result<Outcome> {
        match self.programs.get(program) {
            Some(loaded) => loaded.run(frame, context),
            None => Err(io::Error::other(format!("there is no program {program}"))),
        }
    }

    /// Octets of a map's value as bpf(2) hands it over.
    fn value_len(&self, map: &MapDefinition) -> usize {
        match map.kind {
            5 | 6 | 10 => map.value_size.next_multiple_of(8) as usize * self.cpus,
            _ => map.value_size as usize,
        }
    }

    /// Puts a value into a map; into a per-CPU map for every processor.
    pub fn set(&self, map: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        let (file, definition) = &self.maps[map];
        let len = self.value_len(definition);
        let mut all = value.to_vec();
        if len > value.len() {
            all.resize(value.len().next_multiple_of(8), 0);
            all = all.repeat(self.cpus);
        }
        element(file, MAP_UPDATE_ELEM, key.as_ptr(), all.as_mut_ptr()).map(|_| ())
    }

    /// Puts a program into a prog_array.
    pub fn set_program(&self, map: &str, index: u32, program: &str) -> io::Result<()> {
        self.set(
            map,
            &index.to_ne_bytes(),
            &self.programs[program].0.as_raw_fd().to_ne_bytes(),
        )
    }

    /// Puts a map into a map of maps.
    pub fn set_inner(&self, map: &str, key: &[u8], inner: &str) -> io::Result<()> {
        self.set(map, key, &self.maps[inner].0.as_raw_fd().to_ne_bytes())
    }

    /// All entries of a map.
    pub fn contents(&self, map: &str) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some((file, definition)) = self.maps.get(map) else {
            return Err(io::Error::other(format!("there is no map {map}")));
        };
        entries(file, definition.key_size as usize, self.value_len(definition))
    }
}

/// All entries of a map.
pub fn entries(file: &File, key_len: usize, value_len: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut entries = Vec::new();
    let mut key: Option<Vec<u8>> = None;
    loop {
        let mut next = vec![0; key_len];
        let after = key.as_ref().map_or(std::ptr::null(), |key| key.as_ptr());
        match element(file, MAP_GET_NEXT_KEY, after, next.as_mut_ptr()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(entries),
            result => result?,
        };
        let mut value = vec![0; value_len];
        element(file, MAP_LOOKUP_ELEM, next.as_ptr(), value.as_mut_ptr())?;
        entries.push((next.clone(), value));
        key = Some(next);
    }
}

fn element(file: &File, command: i64, key: *const u8, value: *mut u8) -> io::Result<i64> {
    let mut attributes = Element {
        map_fd: file.as_raw_fd() as u32,
        key: key as u64,
        value: value as u64,
        ..Element::default()
    };
    kernel::bpf(command, &mut attributes)
}

fn pinned(path: &Path) -> io::Result<File> {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let mut attributes = Pinned {
        path: path.as_ptr() as u64,
        ..Pinned::default()
    };
    let fd = kernel::bpf(OBJ_GET, &mut attributes)?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}

/// Processors that there could be: as many values a per-CPU map has of each.
fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text
        .trim()
        .rsplit(['-', ','])
        .next()
        .and_then(|last| last.parse::<usize>().ok());
    last.unwrap_or(0) + 1
}

/// The part of `union bpf_attr` that making a map uses.
#[repr(C)]
#[derive(Default)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    rest: [u32; 11],
}

/// Makes a map without type information.
pub fn create(definition: &MapDefinition) -> io::Result<File> {
    let mut attributes = Create {
        kind: definition.kind,
        key_size: definition.key_size,
        value_size: definition.value_size,
        max_entries: definition.max_entries,
        flags: definition.flags,
        ..Create::default()
    };
    let fd = kernel::bpf(MAP_CREATE, &mut attributes)?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}
