//! From an object to programs that can run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::code::Code;
use crate::engine::link::{self, Places};
use crate::engine::{Engine, EngineMap, LoadError};
use crate::map::Map;
use crate::object::{MapDefinition, Object, ObjectProgram};
use crate::quarantine::Quarantine;
use crate::statistics::Statistics;
use crate::{Domain, Program, check, jit};

const BPF_MAP_TYPE_PERF_EVENT_ARRAY: u32 = 4;

/// How an object is to be loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Load this program only; or call the only program so.
    pub name: Option<String>,
    /// Pin every map by its name.
    pub pin_maps: bool,
    /// Pinned maps, by name or id, in place of the object's maps of these names.
    pub maps: Vec<(String, String)>,
    /// What the object is known by to whoever keeps it for a restart.
    pub origin: String,
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The programs, in the object's order.
    pub programs: Vec<Arc<Program>>,
    /// The maps by their places in the object.
    pub maps: Vec<u32>,
}

/// Where a program comes from.
pub(super) struct Origin<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What its object is known by.
    pub object: &'a str,
    /// Seconds since 1970.
    pub loaded_at: u64,
}

impl Engine {
    /// Loads an object's programs and makes its maps, or does nothing at all.
    pub fn load(&mut self, object: &Object, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let chosen = choose(object, options.name.as_deref())?;
        for (program, _) in &chosen {
            check_program(program, object)?;
        }
        let shared = self.shared_maps(object, options)?;
        let number = self.domain_of(&shared)?;
        let before = self.last_map;
        let result = self.make(object, options, &chosen, &shared, number);
        if result.is_err() {
            // Maps that nobody refers to yet.
            let made: Vec<u32> = self.maps.range(before + 1..).map(|(id, _)| *id).collect();
            for id in made {
                self.drop_map(id);
            }
            self.collect();
        }
        result
    }

    /// Does what [`Engine::load`] does, says what it made, and undoes it.
    pub fn check(&mut self, object: &Object, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let before = self.last_map;
        let loaded = self.load(object, options)?;
        for program in &loaded.programs {
            self.programs.remove(&program.id);
        }
        for map in self.maps.range_mut(before + 1..) {
            map.1.pinned = None;
        }
        self.collect();
        Ok(loaded)
    }

    fn make(
        &mut self,
        object: &Object,
        options: &LoadOptions,
        chosen: &[(&ObjectProgram, String)],
        shared: &BTreeMap<usize, u32>,
        number: u32,
    ) -> Result<Loaded, LoadError> {
        let domain = self.open_domain(number)?;
        let mut maps = Vec::new();
        for (place, definition) in object.maps.iter().enumerate() {
            let id = match shared.get(&place) {
                Some(id) => *id,
                None => {
                    let pinned = (definition.pinned || options.pin_maps).then(|| definition.name.clone());
                    self.make_map(
                        &domain,
                        number,
                        definition,
                        pinned,
                        (options.origin.clone(), place),
                    )?
                }
            };
            maps.push(id);
        }
        let of_place: Vec<Arc<Map>> = maps.iter().map(|id| self.maps[id].map.clone()).collect();
        let mut programs = Vec::new();
        for (program, name) in chosen {
            programs.push(self.make_program(program, name, &options.origin, object, &domain, &of_place)?);
        }
        self.fill(object, shared, &maps, &programs)?;
        for program in &programs {
            self.programs.insert(program.id, program.clone());
        }
        Ok(Loaded { programs, maps })
    }

    /// The maps that are there already, by their places in the object.
    fn shared_maps(&self, object: &Object, options: &LoadOptions) -> Result<BTreeMap<usize, u32>, LoadError> {
        let mut shared = BTreeMap::new();
        for (place, definition) in object.maps.iter().enumerate() {
            let chosen = options.maps.iter().find(|(name, _)| *name == definition.name);
            let found = match chosen {
                Some((_, wanted)) => {
                    let found = self.find_map(wanted);
                    Some(found.ok_or_else(|| LoadError::NoSuchMap(wanted.clone()))?)
                }
                None if definition.pinned || options.pin_maps => self.pinned(&definition.name),
                None => None,
            };
            let Some(found) = found else { continue };
            if let Some(difference) = difference(found.map.definition(), definition) {
                let map = definition.name.clone();
                return Err(LoadError::PinnedDiffers { map, difference });
            }
            shared.insert(place, found.map.id());
        }
        Ok(shared)
    }

    fn pinned(&self, name: &str) -> Option<&EngineMap> {
        self.maps.values().find(|map| map.pinned.as_deref() == Some(name))
    }

    fn find_map(&self, wanted: &str) -> Option<&EngineMap> {
        let by_id = || self.maps.get(&wanted.parse().ok()?);
        self.pinned(wanted).or_else(by_id)
    }

    /// The domain that all shared maps are in; a new one if there are none.
    fn domain_of(&mut self, shared: &BTreeMap<usize, u32>) -> Result<u32, LoadError> {
        let mut maps = shared.values().map(|id| &self.maps[id]);
        let Some(first) = maps.next() else {
            self.last_domain += 1;
            return Ok(self.last_domain);
        };
        match maps.find(|map| map.domain != first.domain) {
            Some(second) => Err(LoadError::DomainsDiffer {
                first: first.map.definition().name.clone(),
                second: second.map.definition().name.clone(),
            }),
            None => Ok(first.domain),
        }
    }

    pub(super) fn open_domain(&mut self, number: u32) -> Result<Arc<Domain>, LoadError> {
        if let Some(domain) = self.domains.get(&number) {
            return Ok(domain.clone());
        }
        let directory = self
            .config
            .directory
            .as_ref()
            .map(|it| it.join(number.to_string()));
        if let Some(directory) = &directory {
            std::fs::create_dir_all(directory).map_err(|source| crate::memory::MemoryError::System {
                step: "make a directory for",
                source,
            })?;
        }
        let domain = Arc::new(Domain::new(self.config.shards, directory.as_deref())?);
        self.domains.insert(number, domain.clone());
        Ok(domain)
    }

    fn make_map(
        &mut self,
        domain: &Arc<Domain>,
        number: u32,
        definition: &MapDefinition,
        pinned: Option<String>,
        origin: (String, usize),
    ) -> Result<u32, LoadError> {
        let name = || definition.name.clone();
        let handle = domain
            .handles()
            .vacant()
            .ok_or_else(|| LoadError::TooManyMaps(name()))?;
        let id = self.last_map + 1;
        let mut definition = definition.clone();
        if definition.kind == BPF_MAP_TYPE_PERF_EVENT_ARRAY && definition.max_entries == 0 {
            // libbpf.c: map_set_def_max_entries
            definition.max_entries = self.config.shards as u32;
        }
        let map = Map::create(id, handle, definition.clone(), domain.memory())
            .map_err(|source| LoadError::Map { map: name(), source })?;
        self.last_map = id;
        let map = Arc::new(map);
        // SAFETY: the engine holds the map until `drop_map`, which takes it out first.
        unsafe { domain.handles().insert(&map) };
        let entry = EngineMap {
            map,
            domain: number,
            pinned,
            origin,
        };
        self.maps.insert(id, entry);
        Ok(id)
    }

    fn make_program(
        &mut self,
        source: &ObjectProgram,
        name: &str,
        from: &str,
        object: &Object,
        domain: &Arc<Domain>,
        maps: &[Arc<Map>],
    ) -> Result<Arc<Program>, LoadError> {
        let id = self.last_program + 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let origin = Origin {
            name,
            object: from,
            loaded_at: now.map_or(0, |time| time.as_secs()),
        };
        let program = self.build(id, &origin, source, object, domain, maps)?;
        self.last_program = id;
        Ok(program)
    }

    pub(super) fn build(
        &self,
        id: u32,
        origin: &Origin<'_>,
        source: &ObjectProgram,
        object: &Object,
        domain: &Arc<Domain>,
        maps: &[Arc<Map>],
    ) -> Result<Arc<Program>, LoadError> {
        let (instructions, used) = link::link(source, &Places(maps));
        let code = Code::new(
            instructions.into(),
            source.functions.clone().into(),
            source.lines.clone().into(),
        );
        let compiled = match self.config.interpreter_only {
            true => None,
            // What cannot be compiled is interpreted: another processor, or code that the check refused.
            false => jit::compile(&code, &link::Layouts(maps)).ok(),
        };
        Ok(Arc::new(Program {
            id,
            name: origin.name.to_owned(),
            origin: origin.object.to_owned(),
            function: source.name.clone(),
            section: source.section.clone(),
            license: object.license.clone(),
            tag: link::tag(source),
            loaded_at: origin.loaded_at,
            code,
            compiled,
            maps: used.iter().map(|place| maps[*place].clone()).collect(),
            object_maps: maps.iter().map(|map| map.id()).collect(),
            domain: domain.clone(),
            fuel: self.config.fuel,
            statistics: Statistics::new(self.config.shards),
            quarantine: Quarantine::new(self.config.quarantine),
        }))
    }

    /// Puts into new maps what the object says that they hold.
    fn fill(
        &mut self,
        object: &Object,
        shared: &BTreeMap<usize, u32>,
        maps: &[u32],
        programs: &[Arc<Program>],
    ) -> Result<(), LoadError> {
        for (place, definition) in object.maps.iter().enumerate() {
            if shared.contains_key(&place) {
                continue;
            }
            let entry = self.maps[&maps[place]].clone();
            let failed = |what: &str| {
                let (map, what) = (definition.name.clone(), what.to_owned());
                move |errno| LoadError::InitialValue { map, what, errno }
            };
            if let Some(contents) = &definition.contents {
                entry
                    .map
                    .set(&0u32.to_ne_bytes(), contents, 0)
                    .map_err(failed("its contents"))?;
                if definition.name.starts_with(".rodata") || definition.name == ".kconfig" {
                    entry.map.freeze().map_err(failed("its contents"))?;
                }
            }
            for (index, name) in &definition.values {
                if let Some(program) = programs.iter().find(|program| program.function == *name) {
                    self.set_program(&entry, *index, Some(program))
                        .map_err(failed(name))?;
                } else if let Some(inner) = object.maps.iter().position(|map| map.name == *name) {
                    let inner = self.maps[&maps[inner]].clone();
                    self.set_inner(&entry, &index.to_ne_bytes(), Some(&inner), 0)
                        .map_err(failed(name))?;
                }
            }
        }
        Ok(())
    }
}

/// Checks a program of an object as it is before its maps are known.
pub(super) fn check_program(program: &ObjectProgram, object: &Object) -> Result<(), LoadError> {
    let rules = check::NetkitRules {
        maps: object.maps.len(),
    };
    let result = check::check(&program.instructions, &program.functions, &rules);
    result.map_err(|source| LoadError::Check {
        program: program.name.clone(),
        source,
    })
}

/// The programs that are meant, with their names.
fn choose<'o>(object: &'o Object, name: Option<&str>) -> Result<Vec<(&'o ObjectProgram, String)>, LoadError> {
    let Some(wanted) = name else {
        return Ok(object
            .programs
            .iter()
            .map(|program| (program, program.name.clone()))
            .collect());
    };
    let found = object.programs.iter().find(|program| program.name == wanted);
    match (found, object.programs.as_slice()) {
        (Some(program), _) | (None, [program]) => Ok(vec![(program, wanted.to_owned())]),
        _ => Err(LoadError::NoSuchProgram {
            wanted: wanted.to_owned(),
            present: object
                .programs
                .iter()
                .map(|it| it.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// How a pinned map differs from what the object wants (libbpf: `map_is_reuse_compat`).
fn difference(pinned: &MapDefinition, wanted: &MapDefinition) -> Option<String> {
    let rows = [
        ("type", pinned.kind, wanted.kind),
        ("key_size", pinned.key_size, wanted.key_size),
        ("value_size", pinned.value_size, wanted.value_size),
        ("max_entries", pinned.max_entries, wanted.max_entries),
        ("map_flags", pinned.flags, wanted.flags),
    ];
    let (what, has, wants) = rows.into_iter().find(|(_, has, wants)| has != wants)?;
    Some(format!("its {what} is {has}, not {wants}"))
}
