//! One scenario, played by the compiled program, by the interpreter and by the host's kernel: all must end alike.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use policy::context::SkBuff;
use policy::engine::{Config, Engine, EngineMap, LoadOptions, Loaded};
use policy::object::Object;
use policy::test_run::{TestError, TestRun};
use policy::{Program, QuarantineRule};

use super::host::{self, Host};

/// What a run leaves behind, as far as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub result: u32,
    pub frame: Vec<u8>,
    pub context: Context,
}

/// What the kernel tells of the context (test_run.c: `convert_skb_to___skb`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub mark: u32,
    pub priority: u32,
    pub ifindex: u32,
    pub ingress_ifindex: u32,
    pub tstamp: u64,
    pub cb: [u32; 5],
    pub wire_len: u32,
    pub gso_segs: u32,
}

/// The entries of all maps by name and key. Of per-CPU maps: sums over the processors, by words of 64 bits.
pub type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// What happened, in order, and what was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    pub runs: Vec<Ran>,
    pub contents: Contents,
}

impl Story {
    /// What a variable of 64 bits in `.bss` holds.
    pub fn word(&self, map: &str, index: usize) -> u64 {
        self.value(map, 0, index)
    }

    /// A word of the value of an entry whose key is a number.
    pub fn value(&self, map: &str, key: u32, index: usize) -> u64 {
        let value = &self.contents[map][key.to_ne_bytes().as_slice()];
        u64::from_ne_bytes(value[8 * index..][..8].try_into().unwrap())
    }
}

/// Somebody who runs the programs of an object.
pub enum Side<'a> {
    Ours(&'a Ours),
    Host(&'a Host),
}

/// A side with what has happened so far.
pub struct Player<'a> {
    side: Side<'a>,
    runs: Vec<Ran>,
}

/// An object in an engine of ours.
#[derive(Debug)]
pub struct Ours {
    pub engine: Engine,
    pub object: Object,
    pub loaded: Loaded,
    interpreter: bool,
}

pub fn config() -> Config {
    Config {
        shards: 2,
        fuel: policy::engine::DEFAULT_FUEL,
        directory: None,
        quarantine: QuarantineRule {
            faults_per_second: 0,
            verdict: None,
        },
        interpreter_only: false,
    }
}

impl Ours {
    pub fn new(octets: &[u8], interpreter: bool) -> Ours {
        let object = Object::parse(octets).unwrap_or_else(|error| panic!("{error}"));
        Ours::of(object, interpreter)
    }

    pub fn of(object: Object, interpreter: bool) -> Ours {
        let mut engine = Engine::new(Config {
            interpreter_only: interpreter,
            ..config()
        });
        let loaded = engine
            .load(&object, &LoadOptions::default())
            .unwrap_or_else(|error| panic!("{error}"));
        Ours {
            engine,
            object,
            loaded,
            interpreter,
        }
    }

    pub fn program(&self, name: &str) -> &Program {
        let found = self.loaded.programs.iter().find(|program| program.name == name);
        found.unwrap_or_else(|| panic!("there is no program {name}"))
    }

    pub fn map(&self, name: &str) -> &EngineMap {
        let place = self.object.maps.iter().position(|map| map.name == name);
        let place = place.unwrap_or_else(|| panic!("there is no map {name}"));
        self.engine.map(self.loaded.maps[place]).unwrap()
    }

    pub fn run(&self, program: &str, frame: &[u8], context: &SkBuff) -> Result<Ran, TestError> {
        let program = self.program(program);
        assert!(self.interpreter || program.compiled.is_some() || !cfg!(target_arch = "x86_64"));
        let run = TestRun {
            data: frame.to_vec(),
            context: Some(octets_of(context).to_vec()),
            repeat: 1,
            interpreter: self.interpreter,
        };
        // SAFETY: nobody else uses this engine.
        let result = unsafe { program.test_run(self.engine.test_shard(), &run) }?;
        Ok(Ran {
            result: result.retval,
            context: told(&context_of(&result.context), frame.len() == result.data.len()),
            frame: result.data,
        })
    }

    /// All entries of a map.
    pub fn contents(&self, map: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut entries = Vec::new();
        let result = self.map(map).map.dump(&mut |key, value| {
            entries.push((key, value));
            ControlFlow::Continue(())
        });
        result.unwrap_or_else(|error| panic!("{map}: {error}"));
        entries
    }

    /// A value of a map.
    pub fn get(&self, map: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.map(map).map.get(key, 0).ok()
    }

    pub fn set(&self, map: &str, key: &[u8], value: &[u8]) {
        let map = &self.map(map).map;
        let mut all = value.to_vec();
        if map.kind().is_percpu() {
            all.resize(value.len().next_multiple_of(8), 0);
            all = all.repeat(map.value_len() / all.len());
        }
        map.set(key, &all, 0).unwrap();
    }
}

pub fn octets_of(context: &SkBuff) -> [u8; size_of::<SkBuff>()] {
    // SAFETY: the context is octets without gaps.
    unsafe { std::mem::transmute_copy(context) }
}

pub fn context_of(octets: &[u8]) -> SkBuff {
    assert!(octets.len() >= size_of::<SkBuff>());
    // SAFETY: any octets are a context, and there are enough.
    unsafe { octets.as_ptr().cast::<SkBuff>().read_unaligned() }
}

/// `wire_len` is told of frames only that kept their length and are not to be cut: the kernel leaves what it was when
/// the frame was sent, or what a test run was told, we say what it is.
fn told(context: &SkBuff, is_as_long: bool) -> Context {
    Context {
        mark: context.mark,
        priority: context.priority,
        ifindex: context.ifindex,
        ingress_ifindex: context.ingress_ifindex,
        tstamp: context.tstamp,
        cb: context.cb,
        wire_len: if is_as_long && context.gso_segs == 0 {
            context.wire_len
        } else {
            0
        },
        gso_segs: context.gso_segs,
    }
}

impl Player<'_> {
    /// Runs a program on a frame.
    pub fn run(&mut self, program: &str, frame: &[u8]) -> Ran {
        self.run_with(program, frame, &SkBuff::default())
    }

    pub fn run_with(&mut self, program: &str, frame: &[u8], context: &SkBuff) -> Ran {
        let ran = match self.side {
            Side::Ours(ours) => ours
                .run(program, frame, context)
                .unwrap_or_else(|error| panic!("{program}: {error}")),
            Side::Host(host) => {
                let outcome = host.run(program, frame, context);
                let outcome = outcome.unwrap_or_else(|error| panic!("{program} in the kernel: {error}"));
                Ran {
                    result: outcome.result,
                    context: told(&outcome.context, frame.len() == outcome.octets.len()),
                    frame: outcome.octets,
                }
            }
        };
        self.runs.push(ran.clone());
        ran
    }

    /// Puts a value into a map; into a per-CPU map for every processor.
    pub fn set(&mut self, map: &str, key: &[u8], value: &[u8]) {
        match self.side {
            Side::Ours(ours) => ours.set(map, key, value),
            Side::Host(host) => host.set(map, key, value).unwrap(),
        }
    }

    pub fn set_program(&mut self, map: &str, index: u32, program: &str) {
        match self.side {
            Side::Ours(ours) => {
                let found = ours.loaded.programs.iter().find(|it| it.name == program);
                ours.engine.set_program(ours.map(map), index, found).unwrap();
            }
            Side::Host(host) => host.set_program(map, index, program).unwrap(),
        }
    }

    pub fn set_inner(&mut self, map: &str, key: &[u8], inner: &str) {
        match self.side {
            Side::Ours(ours) => {
                let inner = ours.map(inner);
                ours.engine.set_inner(ours.map(map), key, Some(inner), 0).unwrap();
            }
            Side::Host(host) => host.set_inner(map, key, inner).unwrap(),
        }
    }

    fn story(self, object: &Object) -> Story {
        let mut contents = Contents::new();
        for map in &object.maps {
            // Programs, perf events, maps of maps, queues, stacks, rings and bloom filters have nothing to compare.
            if matches!(map.kind, 3 | 4 | 12 | 13 | 22 | 23 | 27 | 30) || map.name.starts_with("secret") {
                continue;
            }
            let entries = match self.side {
                Side::Ours(ours) => ours.contents(&map.name),
                Side::Host(host) => host
                    .contents(&map.name)
                    .unwrap_or_else(|error| panic!("{}: {error}", map.name)),
            };
            let entries = entries.into_iter().map(|(key, value)| match map.kind {
                5 | 6 | 10 => (key, sum(&value, map.value_size)),
                _ => (key, value),
            });
            contents.insert(map.name.clone(), entries.collect());
        }
        Story {
            runs: self.runs,
            contents,
        }
    }
}

/// The sum of the values of all processors, by words of 64 bits.
fn sum(values: &[u8], size: u32) -> Vec<u8> {
    let len = size.next_multiple_of(8) as usize;
    let word = |value: &[u8], at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap());
    let sums = (0..len).step_by(8).map(|at| {
        let words = values.chunks(len).map(|value| word(value, at));
        words.fold(0, u64::wrapping_add)
    });
    sums.flat_map(u64::to_ne_bytes).collect()
}

/// Has a scenario played by all three, compares them, and hands out what happened.
pub fn play(test: &str, octets: &[u8], scenario: impl Fn(&mut Player<'_>)) -> Story {
    let [interpreted, compiled] = [true, false].map(|interpreter| {
        let ours = Ours::new(octets, interpreter);
        let mut player = Player {
            side: Side::Ours(&ours),
            runs: Vec::new(),
        };
        scenario(&mut player);
        player.story(&ours.object)
    });
    assert_alike(test, "interpreter", &interpreted, "compiler", &compiled);
    if let Some(why) = host::unavailable() {
        super::not_run(&format!("{test} in the kernel"), &why);
        return compiled;
    }
    let object = Object::parse(octets).unwrap();
    let host = Host::load(octets, &object).unwrap_or_else(|error| panic!("the kernel: {error}"));
    let mut player = Player {
        side: Side::Host(&host),
        runs: Vec::new(),
    };
    scenario(&mut player);
    let expected = player.story(&object);
    assert_alike(test, "kernel", &expected, "compiler", &compiled);
    compiled
}

fn assert_alike(test: &str, one: &str, expected: &Story, other: &str, actual: &Story) {
    for (index, (expected, actual)) in expected.runs.iter().zip(&actual.runs).enumerate() {
        assert_eq!(expected, actual, "{test}, run {index}: {one} and {other}");
    }
    for (map, expected) in &expected.contents {
        let actual = &actual.contents[map];
        for key in expected.keys().chain(actual.keys()) {
            let at = words(key);
            let (expected, actual) = (expected.get(key), actual.get(key));
            let differs = expected.zip(actual).and_then(|(one, other)| {
                one.chunks(8)
                    .zip(other.chunks(8))
                    .position(|(one, other)| one != other)
            });
            assert_eq!(
                expected.map(|it| words(it)),
                actual.map(|it| words(it)),
                "{test}, map {map}, key {at:?}: {one} and {other}, first at word {differs:?}"
            );
        }
    }
}

fn words(octets: &[u8]) -> Vec<String> {
    octets
        .chunks(8)
        .map(|chunk| chunk.iter().map(|octet| format!("{octet:02x}")).collect())
        .collect()
}
