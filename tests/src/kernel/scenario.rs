//! What is done on the kernel's netkit and on netkitd alike: a scenario is data, and each side has an interpreter for it.

use std::collections::BTreeMap;

use netkit_api::{Mode, Policy, Scrub};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that the interpreter in the virtual machine is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Work {
    /// Parsed object files, by name.
    pub objects: BTreeMap<String, ObjectCode>,
    /// What to do.
    pub scenarios: Vec<Scenario>,
}

/// An object file's programs and maps, ready for `bpf(2)` except for the maps' descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectCode {
    /// Its licence.
    pub license: String,
    /// The maps; instructions refer to them by their places here.
    pub maps: Vec<MapCode>,
    /// The programs.
    pub programs: Vec<ProgramCode>,
}

/// A map to be created.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MapCode {
    pub name: String,
    pub kind: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
}

/// A program to be loaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProgramCode {
    pub name: String,
    /// As the object file has them, one after the other.
    pub instructions: Vec<[u8; 8]>,
}

/// A sequence of steps that starts with no device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scenario {
    /// Unique.
    pub name: String,
    /// In order.
    pub steps: Vec<Step>,
}

/// One thing to do, and to observe. Devices, programs and links are called by names that the scenario gives them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Makes a pair; both ends are down.
    Pair(PairSpec),
    /// Sets a device up or down.
    Up { device: String, up: bool },
    /// Moves a device to another domain (network namespace).
    Move { device: String, domain: String },
    /// Changes a device's Ethernet address.
    Address { device: String, address: [u8; 6] },
    /// Changes policies.
    Change {
        device: String,
        policy: Option<Policy>,
        peer_policy: Option<Policy>,
    },
    /// Deletes a pair by one of its ends.
    Delete { device: String },
    /// Observes a device.
    Show { device: String },
    /// Loads all programs of an object and makes its maps. They are then called `NAME.program` and `NAME.map`.
    Load { object: String, name: String },
    /// Writes a word of an array map.
    Put { map: String, index: u32, word: u32 },
    /// Observes words of an array map.
    Read { map: String, words: Vec<(u32, String)> },
    /// Puts a program into a list of a pair.
    Attach {
        device: String,
        list: List,
        program: String,
        /// The name of the link that is to hold it.
        link: Option<String>,
        place: Place,
    },
    /// Takes a program out of a list.
    Detach {
        device: String,
        list: List,
        program: Option<String>,
        place: Place,
    },
    /// Observes a list.
    Query { device: String, list: List },
    /// Swaps a link's program.
    UpdateLink {
        link: String,
        program: String,
        expected: Option<String>,
    },
    /// Takes a link's program out of its list.
    DetachLink { link: String },
    /// Closes a link for good.
    CloseLink { link: String },
    /// Observes a link.
    ShowLink { link: String },
    /// A device sends frames; observes who receives what, and everybody's counters afterwards.
    Send {
        device: String,
        frame: Vec<u8>,
        count: usize,
    },
}

/// A pair to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PairSpec {
    pub mode: Option<Mode>,
    pub primary: EndSpec,
    pub peer: EndSpec,
}

/// One end of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndSpec {
    pub name: String,
    /// The same on both sides, so that programs are told the same numbers.
    pub ifindex: u32,
    pub domain: String,
    pub address: Option<[u8; 6]>,
    pub policy: Option<Policy>,
    pub scrub: Option<Scrub>,
}

/// One of the two program lists of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    Primary,
    Peer,
}

/// Where in a list, and under which condition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Place {
    pub before: Option<Anchor>,
    pub after: Option<Anchor>,
    /// A program.
    pub replace: Option<String>,
    pub revision: Option<u64>,
    /// Names what it refers to by ids; the kernel has descriptors, too.
    pub by_id: bool,
}

/// What a place is relative to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The list as a whole.
    End,
    Program(String),
    Link(String),
}

/// What a step did: an object, or `{"errno": n}` for a step that was refused.
pub type Observation = Value;

/// A refusal: an errno, or a defect of the scenario or of its interpreter, which fails the test.
#[derive(Debug)]
pub enum Failure {
    Errno(i32),
    Broken(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        error
            .raw_os_error()
            .map_or_else(|| Failure::Broken(error.to_string()), Failure::Errno)
    }
}

/// Something that runs steps: one for each side.
pub trait Interpreter {
    /// Does one step.
    fn step(&mut self, step: &Step) -> Result<Observation, Failure>;

    /// Does all of them, and gives what each observed.
    fn run(&mut self, scenario: &Scenario) -> Vec<Observation> {
        let observe = |step: &Step| match self.step(step) {
            Ok(observation) => observation,
            Err(Failure::Errno(errno)) => serde_json::json!({ "errno": errno }),
            Err(Failure::Broken(why)) => serde_json::json!({ "broken": why }),
        };
        scenario.steps.iter().map(observe).collect()
    }
}

/// Packets, octets and drops, received and sent, as they were last seen.
#[derive(Debug, Default)]
pub(super) struct Counters(BTreeMap<String, [u64; 6]>);

impl Counters {
    const NAMES: [&str; 6] = [
        "rx_packets",
        "rx_bytes",
        "rx_dropped",
        "tx_packets",
        "tx_bytes",
        "tx_dropped",
    ];

    /// By how much a device's counters have grown; none if they have not.
    pub fn change(&mut self, device: &str, now: [u64; 6]) -> Option<(String, Value)> {
        let before = self.0.insert(device.to_owned(), now).unwrap_or_default();
        let changes = (0..6).map(|index| (Self::NAMES[index], now[index].wrapping_sub(before[index])));
        let changes: serde_json::Map<String, Value> = changes
            .filter(|(_, change)| *change != 0)
            .map(|(name, change)| (name.to_owned(), change.into()))
            .collect();
        (!changes.is_empty()).then(|| (device.to_owned(), Value::Object(changes)))
    }
}

/// Octets in hexadecimal.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A received frame as it is compared: of a device in L3 mode without the Ethernet addresses, which are a matter of
/// whoever stands behind the device.
pub(super) fn observed_frame(mode: Mode, frame: &[u8]) -> String {
    match mode {
        Mode::L2 => hex(frame),
        Mode::L3 => hex(frame.get(12..).unwrap_or_default()),
    }
}
