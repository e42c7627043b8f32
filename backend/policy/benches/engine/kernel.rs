//! The same programs in the kernel: bpf(2), and BPF_PROG_TEST_RUN as often as one likes.

use std::io;

use policy::object::Object;
use policy::pseudo;

use super::measure::Row;

const MAP_CREATE: i32 = 0;
const MAP_UPDATE_ELEM: i32 = 2;
const PROG_LOAD: i32 = 5;
const PROG_TEST_RUN: i32 = 10;
const PROG_TYPE_SCHED_CLS: u32 = 3;

/// `union bpf_attr`
#[derive(Default)]
#[repr(C, align(8))]
struct Attributes([u32; 32]);

/// The programs that the kernel takes, by name.
pub struct Kernel(Vec<(String, u32)>);

impl Attributes {
    fn set(mut self, index: usize, words: &[u32]) -> Attributes {
        self.0[index..index + words.len()].copy_from_slice(words);
        self
    }

    fn pointer<T: ?Sized>(self, index: usize, to: *const T) -> Attributes {
        let address = to.cast::<()>() as u64;
        self.set(index, &[address as u32, (address >> 32) as u32])
    }

    fn call(&self, command: i32) -> io::Result<u32> {
        // SAFETY: the attributes are as long as said; what they point to, the callers keep.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &self.0, size_of_val(&self.0)) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(result as u32)
    }
}

impl Kernel {
    /// Makes the object's map with these entries, and loads the programs.
    pub fn new(object: &Object, entries: &[([u8; 16], [u8; 24])]) -> io::Result<Kernel> {
        let [definition] = object.maps.as_slice() else {
            return Err(io::Error::other("the object has one map"));
        };
        let words = [
            definition.kind,
            definition.key_size,
            definition.value_size,
            definition.max_entries,
        ];
        let map = Attributes::default().set(0, &words).call(MAP_CREATE)?;
        for (key, value) in entries {
            let attributes = Attributes::default().set(0, &[map]);
            attributes
                .pointer(2, key)
                .pointer(4, value)
                .call(MAP_UPDATE_ELEM)?;
        }
        let mut programs = Vec::new();
        for program in object.programs.iter().filter(|program| program.name != "stray") {
            let mut octets = Vec::new();
            for instruction in &program.instructions {
                let mut instruction = *instruction;
                if instruction.is_wide() && instruction.src == pseudo::MAP {
                    instruction.imm = map as i32;
                }
                octets.extend(instruction.to_octets());
            }
            let load = Attributes::default()
                .set(0, &[PROG_TYPE_SCHED_CLS, octets.len() as u32 / 8])
                .pointer(2, octets.as_ptr())
                .pointer(4, c"Apache-2.0".as_ptr())
                .call(PROG_LOAD)?;
            programs.push((program.name.clone(), load));
        }
        Ok(Kernel(programs))
    }

    /// Runs a program on a frame, as often as wanted in one call.
    pub fn row<'a>(&'a self, name: &str, frame: &[u8]) -> Row<'a> {
        let program = self
            .0
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, program)| *program);
        let frame = frame.to_vec();
        let runs = if frame.len() > 64 { 1_000 } else { 20_000 };
        Row::new(format!("{name}, kernel"), runs, move |runs| {
            let attributes = Attributes::default()
                .set(0, &[program.unwrap_or_default(), 0, frame.len() as u32])
                .pointer(4, frame.as_ptr())
                .set(8, &[runs]);
            attributes.call(PROG_TEST_RUN).expect("the kernel runs it");
            assert_ne!(attributes.0[1], 2, "the frame is let through");
        })
    }
}
