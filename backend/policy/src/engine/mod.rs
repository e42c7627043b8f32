//! All programs and maps of the daemon: loading, finding, unloading.

mod error;
mod link;
mod load;
mod saved;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::map::{Map, MapKind};
use crate::quarantine::QuarantineRule;
use crate::{Domain, Program};

pub use error::LoadError;
pub use load::{LoadOptions, Loaded};
pub use saved::{SavedEngine, SavedMap, SavedProgram};

/// How programs are run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that run programs, each with a number below this. The last one is the control plane's own: nobody runs
    /// programs on it but [`Engine::test_shard`]'s user.
    pub shards: usize,
    /// What a run may take at most, in instructions at loop heads and calls.
    pub fuel: i64,
    /// Where map memory is kept, so that maps outlive the daemon; None keeps it in anonymous memory.
    pub directory: Option<PathBuf>,
    /// When programs go into quarantine.
    pub quarantine: QuarantineRule,
    /// Run programs with the interpreter even where they could be compiled.
    pub interpreter_only: bool,
}

/// Instructions that a run may take unless told otherwise.
pub const DEFAULT_FUEL: i64 = 1 << 20;

/// The programs and maps. One thread changes it; programs run without it.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    programs: BTreeMap<u32, Arc<Program>>,
    maps: BTreeMap<u32, EngineMap>,
    domains: BTreeMap<u32, Arc<Domain>>,
    last_program: u32,
    last_map: u32,
    last_domain: u32,
}

/// A map, and where it belongs.
#[derive(Debug, Clone)]
pub struct EngineMap {
    /// The map.
    pub map: Arc<Map>,
    /// The number of its domain.
    pub domain: u32,
    /// The name that it is found under by objects that are loaded later.
    pub pinned: Option<String>,
    /// The object that it comes from, and its place in there.
    origin: (String, usize),
}

impl EngineMap {
    /// The ids of the maps that a map of maps holds.
    fn inner_ids(&self) -> Vec<u32> {
        let mut ids = Vec::new();
        if matches!(self.map.kind(), MapKind::ArrayOfMaps | MapKind::HashOfMaps) {
            let _ = self.map.dump(&mut |_, id| {
                ids.extend(id.first_chunk().map(|id| u32::from_ne_bytes(*id)));
                ControlFlow::Continue(())
            });
        }
        ids
    }
}

impl Engine {
    /// An engine without programs.
    pub fn new(config: Config) -> Engine {
        crate::jit::install_fault_handler();
        Engine {
            config,
            programs: BTreeMap::new(),
            maps: BTreeMap::new(),
            domains: BTreeMap::new(),
            last_program: 0,
            last_map: 0,
            last_domain: 0,
        }
    }

    /// The shard for runs that the control plane asks for.
    pub fn test_shard(&self) -> usize {
        self.config.shards - 1
    }

    /// All programs by id.
    pub fn programs(&self) -> impl Iterator<Item = &Arc<Program>> {
        self.programs.values()
    }

    /// A program.
    pub fn program(&self, id: u32) -> Option<&Arc<Program>> {
        self.programs.get(&id)
    }

    /// All maps by id.
    pub fn maps(&self) -> impl Iterator<Item = &EngineMap> {
        self.maps.values()
    }

    /// A map.
    pub fn map(&self, id: u32) -> Option<&EngineMap> {
        self.maps.get(&id)
    }

    /// The programs that use a map.
    pub fn users(&self, map: u32) -> impl Iterator<Item = u32> {
        self.programs
            .values()
            .filter(move |program| program.maps.iter().any(|used| used.id() == map))
            .map(|program| program.id)
    }

    /// Forgets a program. The caller has seen to it that it is in no list; maps that nobody needs any more go with it.
    pub fn unload(&mut self, id: u32) -> Option<Arc<Program>> {
        let program = self.programs.remove(&id)?;
        self.collect();
        Some(program)
    }

    /// Takes the name from a map. It goes when no program uses it.
    pub fn unpin(&mut self, id: u32) -> bool {
        let pinned = self.maps.get_mut(&id).and_then(|map| map.pinned.take()).is_some();
        self.collect();
        pinned
    }

    /// Puts a map into a map of maps. Returns when no program can still find the one that was there.
    pub fn set_inner(
        &self,
        outer: &EngineMap,
        key: &[u8],
        inner: Option<&EngineMap>,
        flags: u64,
    ) -> Result<(), crate::Errno> {
        if inner.is_some_and(|inner| inner.domain != outer.domain) {
            return Err(crate::Errno::EINVAL);
        }
        let old = outer
            .map
            .set_map(key, inner.map(|inner| inner.map.clone()), flags)?;
        self.quiesce(outer.domain);
        drop(old);
        Ok(())
    }

    /// Puts a program into a prog_array. Returns when no program can still find the one that was there.
    pub fn set_program(
        &self,
        array: &EngineMap,
        index: u32,
        program: Option<&Arc<Program>>,
    ) -> Result<(), crate::Errno> {
        let domain = self.domains.get(&array.domain);
        let fits = |program: &Arc<Program>| domain.is_some_and(|domain| Arc::ptr_eq(domain, &program.domain));
        if program.is_some_and(|program| !fits(program)) {
            return Err(crate::Errno::EINVAL);
        }
        let old = array.map.set_program(index, program.cloned())?;
        self.quiesce(array.domain);
        drop(old);
        Ok(())
    }

    /// Returns when no run in a domain can still use what was taken away before.
    fn quiesce(&self, domain: u32) {
        if let Some(domain) = self.domains.get(&domain) {
            domain.wait();
        }
    }

    /// Drops maps that no program's object has and no name holds, and domains without maps and programs. What belongs to
    /// an object stays with its programs, used or not: they are restored with all of it.
    fn collect(&mut self) {
        loop {
            let needed = |map: &EngineMap, engine: &Engine| {
                map.pinned.is_some()
                    || engine
                        .programs
                        .values()
                        .any(|program| program.object_maps.contains(&map.map.id()))
                    || engine
                        .maps
                        .values()
                        .any(|outer| outer.inner_ids().contains(&map.map.id()))
            };
            let idle: Vec<u32> = self
                .maps
                .values()
                .filter(|map| !needed(map, self))
                .map(|map| map.map.id())
                .collect();
            if idle.is_empty() {
                break;
            }
            for id in idle {
                self.drop_map(id);
            }
        }
        let live: std::collections::BTreeSet<u32> = self.maps.values().map(|map| map.domain).collect();
        let programs = &self.programs;
        let config = &self.config;
        self.domains.retain(|id, domain| {
            let used = live.contains(id)
                || programs
                    .values()
                    .any(|program| Arc::ptr_eq(&program.domain, domain));
            if !used && let Some(directory) = &config.directory {
                let _ = std::fs::remove_dir_all(directory.join(id.to_string()));
            }
            used
        });
    }

    fn drop_map(&mut self, id: u32) {
        let Some(entry) = self.maps.remove(&id) else {
            return;
        };
        let Some(domain) = self.domains.get(&entry.domain) else {
            return;
        };
        domain.handles().remove(entry.map.handle());
        drop(entry.map.clear_programs());
        domain.wait();
    }
}
