//! The engine as it is written to disk, and back: ids, names and places. The objects are kept by the caller, map contents
//! by the map memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::HANDLES;
use crate::engine::{Engine, EngineMap, LoadError};
use crate::map::{Map, MapKind};
use crate::memory::{Block, Section};
use crate::object::Object;

/// All programs and maps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEngine {
    /// Ids that were last handed out.
    pub last_program: u32,
    pub last_map: u32,
    pub last_domain: u32,
    pub maps: Vec<SavedMap>,
    pub programs: Vec<SavedProgram>,
}

/// A map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMap {
    pub id: u32,
    pub handle: u16,
    pub domain: u32,
    pub pinned: Option<String>,
    /// The object that defines it, and its place in there.
    pub object: String,
    pub place: usize,
    /// Its memory: section, start and length.
    pub blocks: Vec<(u8, u32, u32)>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedProgram {
    pub id: u32,
    pub name: String,
    /// The object that it is in, and its function there.
    pub object: String,
    pub function: String,
    pub domain: u32,
    pub loaded_at: u64,
    /// The ids of the object's maps, by their places.
    pub maps: Vec<u32>,
}

const SECTIONS: [Section; 4] = [
    Section::ReadOnly,
    Section::Shared,
    Section::PerShard,
    Section::Private,
];

impl Engine {
    /// What is to survive a restart.
    pub fn save(&self) -> SavedEngine {
        SavedEngine {
            last_program: self.last_program,
            last_map: self.last_map,
            last_domain: self.last_domain,
            maps: self.maps.values().map(save_map).collect(),
            programs: self
                .programs
                .values()
                .map(|program| self.save_program(program))
                .collect(),
        }
    }

    fn save_program(&self, program: &Arc<crate::Program>) -> SavedProgram {
        let domain = self
            .domains
            .iter()
            .find(|(_, domain)| Arc::ptr_eq(domain, &program.domain));
        SavedProgram {
            id: program.id,
            name: program.name.clone(),
            object: program.origin.clone(),
            function: program.function.clone(),
            domain: domain.map_or(0, |(number, _)| *number),
            loaded_at: program.loaded_at,
            maps: program.object_maps.clone(),
        }
    }

    /// The objects that a saved state refers to.
    pub fn objects_of(saved: &SavedEngine) -> BTreeSet<String> {
        let of_maps = saved.maps.iter().map(|map| map.object.clone());
        of_maps
            .chain(saved.programs.iter().map(|program| program.object.clone()))
            .collect()
    }

    /// Takes up a saved state. What was saved is checked as if a stranger had written it.
    pub fn restore(
        &mut self,
        saved: &SavedEngine,
        objects: &BTreeMap<String, Object>,
    ) -> Result<(), LoadError> {
        let wrong = |what: String| LoadError::Saved(what);
        (self.last_program, self.last_map, self.last_domain) =
            (saved.last_program, saved.last_map, saved.last_domain);
        for map in &saved.maps {
            let domain = self.open_domain(map.domain)?;
            for block in blocks(map).ok_or_else(|| wrong(format!("map {} has memory of no kind", map.id)))? {
                domain.memory().claim(block)?;
            }
        }
        for map in &saved.maps {
            self.restore_map(map, objects)?;
        }
        for program in &saved.programs {
            self.restore_program(program, objects)?;
        }
        for map in &saved.maps {
            self.restore_references(map.id)?;
        }
        self.collect();
        Ok(())
    }

    fn restore_map(&mut self, saved: &SavedMap, objects: &BTreeMap<String, Object>) -> Result<(), LoadError> {
        let wrong = || LoadError::Saved(format!("map {} is in none of the objects", saved.id));
        let definition = objects
            .get(&saved.object)
            .and_then(|object| object.maps.get(saved.place))
            .ok_or_else(wrong)?;
        let domain = self.open_domain(saved.domain)?;
        let blocks = blocks(saved).ok_or_else(wrong)?;
        let map = Map::restore(
            saved.id,
            saved.handle,
            definition.clone(),
            domain.memory(),
            &blocks,
        )
        .map_err(|source| LoadError::Map {
            map: definition.name.clone(),
            source,
        })?;
        if saved.handle == 0 || usize::from(saved.handle) >= HANDLES || self.maps.contains_key(&saved.id) {
            return Err(LoadError::Saved(format!(
                "map {} has an impossible number",
                saved.id
            )));
        }
        let map = Arc::new(map);
        // SAFETY: the engine holds the map until `drop_map`, which takes it out first.
        unsafe { domain.handles().insert(&map) };
        let entry = EngineMap {
            map,
            domain: saved.domain,
            pinned: saved.pinned.clone(),
            origin: (saved.object.clone(), saved.place),
        };
        self.maps.insert(saved.id, entry);
        Ok(())
    }

    fn restore_program(
        &mut self,
        saved: &SavedProgram,
        objects: &BTreeMap<String, Object>,
    ) -> Result<(), LoadError> {
        let wrong = |what: &str| LoadError::Saved(format!("program {}: {what}", saved.id));
        let object = objects
            .get(&saved.object)
            .ok_or_else(|| wrong("its object is not there"))?;
        let source = object
            .programs
            .iter()
            .find(|program| program.name == saved.function);
        let source = source.ok_or_else(|| wrong("it is not in its object"))?;
        let map = |id: &u32| self.maps.get(id).map(|entry| entry.map.clone());
        let maps: Option<Vec<Arc<Map>>> = saved.maps.iter().map(map).collect();
        let maps = maps.ok_or_else(|| wrong("one of its maps is not there"))?;
        if maps.len() != object.maps.len() || self.programs.contains_key(&saved.id) {
            return Err(wrong("it does not fit its object"));
        }
        super::load::check_program(source, object)?;
        let domain = self.open_domain(saved.domain)?;
        let origin = super::load::Origin {
            name: &saved.name,
            object: &saved.object,
            loaded_at: saved.loaded_at,
        };
        let program = self.build(saved.id, &origin, source, object, &domain, &maps)?;
        self.programs.insert(saved.id, program);
        Ok(())
    }

    /// Puts the programs and maps that a map held into it again. What is not there any more is left out, as it is when
    /// the daemon was killed between the change of a map and that of the saved state.
    fn restore_references(&self, id: u32) -> Result<(), LoadError> {
        let Some(entry) = self.maps.get(&id) else {
            return Ok(());
        };
        for (key, held) in entry.map.remembered() {
            let result = match (entry.map.kind(), self.programs.get(&held), self.maps.get(&held)) {
                (MapKind::ProgArray, Some(program), _) => {
                    let index = key
                        .first_chunk::<4>()
                        .map_or(u32::MAX, |octets| u32::from_ne_bytes(*octets));
                    self.set_program(entry, index, Some(program))
                }
                (MapKind::ArrayOfMaps | MapKind::HashOfMaps, _, Some(inner)) => {
                    self.set_inner(entry, &key, Some(inner), 0)
                }
                _ => Ok(()),
            };
            result.map_err(|errno| LoadError::Saved(format!("map {id} cannot hold {held}: {errno}")))?;
        }
        Ok(())
    }
}

fn save_map(entry: &EngineMap) -> SavedMap {
    let map = &entry.map;
    SavedMap {
        id: map.id(),
        handle: map.handle(),
        domain: entry.domain,
        pinned: entry.pinned.clone(),
        object: entry.origin.0.clone(),
        place: entry.origin.1,
        blocks: map
            .blocks()
            .iter()
            .map(|block| (block.section as u8, block.start, block.len))
            .collect(),
    }
}

fn blocks(saved: &SavedMap) -> Option<Vec<Block>> {
    let block = |&(section, start, len): &(u8, u32, u32)| {
        let section = *SECTIONS.get(usize::from(section))?;
        Some(Block { section, start, len })
    };
    saved.blocks.iter().map(block).collect()
}
