//! The engine as a whole: loading and unloading, sharing of maps, and restarts.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::assembler::*;
use common::objects::*;
use common::sides;
use policy::engine::{Config, Engine, EngineMap, LoadError, LoadOptions, Loaded, SavedEngine};
use policy::machine::Packet;
use policy::object::Object;
use policy::packet::{Metadata, NoEnvironment};
use policy::{Errno, Fault, Program};

fn engine(directory: Option<&Path>) -> Engine {
    Engine::new(Config {
        directory: directory.map(Into::into),
        ..sides::config()
    })
}

fn load(engine: &mut Engine, object: &Object) -> Loaded {
    load_as(engine, object, "object")
}

fn load_as(engine: &mut Engine, object: &Object, origin: &str) -> Loaded {
    let options = LoadOptions {
        origin: origin.into(),
        ..LoadOptions::default()
    };
    engine
        .load(object, &options)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn run(program: &Program) -> Result<u32, Fault> {
    let mut octets = vec![0; 64];
    let mut packet = Packet {
        metadata: Metadata::default(),
        octets: &mut octets,
        environment: &mut NoEnvironment,
    };
    // SAFETY: nobody else runs programs in this test.
    unsafe { program.run(0, &mut packet) }
}

fn named<'a>(engine: &'a Engine, name: &str) -> &'a Arc<Program> {
    engine.programs().find(|program| program.name == name).unwrap()
}

fn map_named<'a>(engine: &'a Engine, name: &str) -> &'a EngineMap {
    engine
        .maps()
        .find(|map| map.map.definition().name == name)
        .unwrap()
}

fn entries(map: &EngineMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    map.map
        .dump(&mut |key, value| {
            entries.push((key, value));
            ControlFlow::Continue(())
        })
        .unwrap();
    entries.sort();
    entries
}

fn is_empty(engine: &Engine) -> bool {
    engine.programs().count() == 0 && engine.maps().count() == 0
}

/// A program that counts its runs in a map, and one that returns 7.
fn counting(map: policy::object::MapDefinition) -> Object {
    let programs = vec![
        program("count", count(0)),
        program("seven", vec![mov_k(0, 7), exit()]),
    ];
    object(programs, vec![map])
}

#[test]
fn maps_go_with_the_last_program_of_their_object() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = engine(Some(directory.path()));
    let loaded = load(&mut engine, &counting(array("runs", 1)));
    assert_eq!(loaded.programs.len(), 2);
    assert_eq!(run(named(&engine, "count")), Ok(1));
    assert_eq!(run(named(&engine, "count")), Ok(2));
    assert_eq!(run(named(&engine, "seven")), Ok(7));
    let [count, seven] = [0, 1].map(|index: usize| loaded.programs[index].id);
    assert_eq!(engine.users(loaded.maps[0]).collect::<Vec<_>>(), [count]);
    assert!(engine.unload(count).is_some());
    assert!(engine.unload(count).is_none());
    assert_eq!(engine.users(loaded.maps[0]).count(), 0);
    assert_eq!(engine.maps().count(), 1);
    drop(loaded);
    engine.unload(seven);
    assert!(is_empty(&engine));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_pinned_map_stays_and_is_found_by_its_name() {
    let mut engine = engine(None);
    let object = counting(pinned(array("runs", 1)));
    let first = load(&mut engine, &object);
    run(&first.programs[0]).unwrap();
    for program in &first.programs {
        engine.unload(program.id);
    }
    assert_eq!(engine.maps().count(), 1);
    let second = load(&mut engine, &object);
    assert_eq!(second.maps, first.maps);
    assert_eq!(run(&second.programs[0]), Ok(2));
    assert!(engine.unpin(second.maps[0]));
    assert!(!engine.unpin(second.maps[0]));
    assert_eq!(engine.maps().count(), 1);
    // It has no name any more: the next one is another one.
    let third = load(&mut engine, &object);
    assert_ne!(third.maps, second.maps);
    assert_eq!(run(&third.programs[0]), Ok(1));
    for program in second.programs.iter().chain(&third.programs) {
        engine.unload(program.id);
    }
    assert_eq!(engine.maps().count(), 1);
    engine.unpin(third.maps[0]);
    assert!(is_empty(&engine));
}

#[test]
fn maps_are_shared_by_the_choice_of_who_loads() {
    let mut engine = engine(None);
    let options = LoadOptions {
        pin_maps: true,
        ..LoadOptions::default()
    };
    let first = engine.load(&counting(array("runs", 1)), &options).unwrap();
    for chosen in ["runs".to_owned(), first.maps[0].to_string()] {
        let options = LoadOptions {
            maps: vec![("mine".into(), chosen)],
            ..LoadOptions::default()
        };
        let second = engine.load(&counting(array("mine", 1)), &options).unwrap();
        assert_eq!(second.maps, first.maps);
    }
    let options = LoadOptions {
        maps: vec![("mine".into(), "none".into())],
        ..LoadOptions::default()
    };
    let error = engine.load(&counting(array("mine", 1)), &options).unwrap_err();
    assert!(
        matches!(&error, LoadError::NoSuchMap(name) if name == "none"),
        "{error}"
    );
    assert_eq!(error.errno(), Errno::ENOENT);
    // A map of the same name that is another kind of map.
    for other in [hash("runs", 1), array("runs", 2), map("runs", 2, 4, 16, 1)] {
        let error = engine
            .load(&counting(pinned(other)), &LoadOptions::default())
            .unwrap_err();
        assert!(matches!(error, LoadError::PinnedDiffers { .. }), "{error}");
    }
}

#[test]
fn maps_of_two_domains_cannot_be_used_together() {
    let mut engine = engine(None);
    load(&mut engine, &counting(pinned(array("one", 1))));
    load(&mut engine, &counting(pinned(array("two", 1))));
    let (programs, maps) = (engine.programs().count(), engine.maps().count());
    let both = object(
        vec![program("both", count(0))],
        vec![pinned(array("one", 1)), pinned(array("two", 1))],
    );
    let error = engine.load(&both, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, LoadError::DomainsDiffer { .. }), "{error}");
    assert!(error.to_string().contains("one") && error.to_string().contains("two"));
    assert_eq!(
        (engine.programs().count(), engine.maps().count()),
        (programs, maps)
    );
    // With one of them and one of its own it works, in the domain of the former.
    let one = object(
        vec![program("one", count(1))],
        vec![pinned(array("one", 1)), array("own", 1)],
    );
    let loaded = load(&mut engine, &one);
    let domain = |id: u32| engine.map(id).unwrap().domain;
    assert_eq!(domain(loaded.maps[0]), domain(loaded.maps[1]));
}

#[test]
fn one_program_of_an_object_can_be_chosen_by_name() {
    let mut engine = engine(None);
    let named = |name: &str| LoadOptions {
        name: Some(name.into()),
        ..LoadOptions::default()
    };
    let loaded = engine.load(&counting(array("runs", 1)), &named("seven")).unwrap();
    assert_eq!(loaded.programs.len(), 1);
    assert_eq!(run(&loaded.programs[0]), Ok(7));
    let error = engine
        .load(&counting(array("runs", 1)), &named("eight"))
        .unwrap_err();
    let LoadError::NoSuchProgram { wanted, present } = &error else {
        panic!("{error}")
    };
    assert_eq!((wanted.as_str(), present.as_str()), ("eight", "count, seven"));
    // The only program may be called something else.
    let only = object(vec![program("only", vec![mov_k(0, 3), exit()])], Vec::new());
    let loaded = engine.load(&only, &named("mine")).unwrap();
    assert_eq!(
        (
            loaded.programs[0].name.as_str(),
            loaded.programs[0].function.as_str()
        ),
        ("mine", "only")
    );
}

#[test]
fn a_load_that_fails_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = engine(Some(directory.path()));
    let fine = || vec![program("count", count(0))];
    let mut wrong_value = prog_array("table", 2);
    wrong_value.values = vec![(5, "count".into())];
    for (what, object) in [
        (
            "a map that cannot be",
            object(fine(), vec![array("runs", 1), array("none", 0)]),
        ),
        (
            "no memory",
            object(
                fine(),
                vec![array("runs", 1), map("huge", 2, 4, 1 << 20, 1 << 20)],
            ),
        ),
        (
            "no such kind",
            object(fine(), vec![array("runs", 1), map("odd", 99, 4, 8, 1)]),
        ),
        (
            "no such place",
            object(fine(), vec![array("runs", 1), wrong_value]),
        ),
        (
            "a program that no check passes",
            object(
                vec![program("count", count(0)), program("bad", vec![mov_k(0, 1)])],
                vec![array("runs", 1)],
            ),
        ),
        (
            "a map that is not there",
            object(vec![program("count", count(3))], vec![array("runs", 1)]),
        ),
    ] {
        let error = engine.load(&object, &LoadOptions::default()).expect_err(what);
        assert!(!error.to_string().is_empty());
        assert!(is_empty(&engine), "{what}: {error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{what}");
    }
    assert_eq!(
        run(&load(&mut engine, &counting(array("runs", 1))).programs[0]),
        Ok(1)
    );
}

#[test]
fn a_check_says_what_a_load_would_and_undoes_it() {
    let mut engine = engine(None);
    load(&mut engine, &counting(pinned(array("runs", 1))));
    let before = engine.save();
    for name in ["runs", "others"] {
        let checked = engine
            .check(&counting(pinned(array(name, 1))), &LoadOptions::default())
            .unwrap();
        assert_eq!(checked.programs.len(), 2);
        let after = engine.save();
        assert_eq!(
            (after.programs, after.maps),
            (before.programs.clone(), before.maps.clone()),
            "{name}"
        );
    }
    engine
        .check(&counting(array("none", 0)), &LoadOptions::default())
        .unwrap_err();
    assert_eq!(engine.save().maps, before.maps);
}

#[test]
fn there_may_be_as_many_maps_as_handles() {
    let mut engine = engine(None);
    let maps: Vec<_> = (0..1000)
        .map(|number| pinned(array(&format!("map{number}"), 1)))
        .collect();
    let loaded = load(&mut engine, &object(vec![program("count", count(999))], maps));
    assert_eq!(run(&loaded.programs[0]), Ok(1));
    assert_eq!(run(&loaded.programs[0]), Ok(2));
}

/// Every kind of map, with programs and maps in those that hold such.
fn everything() -> Object {
    let mut table = prog_array("table", 4);
    table.values = vec![(0, "seven".into()), (2, "count".into())];
    let inner = array("inner", 2);
    let mut outer = map("outer", 12, 4, 4, 3);
    outer.inner = Some(Box::new(inner.clone()));
    outer.values = vec![(1, "inner".into())];
    let mut outer_hash = map("outer_hash", 13, 4, 4, 3);
    outer_hash.inner = Some(Box::new(inner.clone()));
    let mut constants = array(".rodata", 1);
    constants.flags = 1 << 7;
    constants.contents = Some(0x1122_3344_5566_7788u64.to_ne_bytes().to_vec());
    let mut networks = map("networks", 11, 8, 8, 8);
    networks.flags = 1;
    let dispatch = code(&[&load_map(2, 1), &[mov_k(3, 0), helper(12), mov_k(0, 99), exit()]]);
    let constant = code(&[
        &load_value(1, 5, 0),
        &[common::assembler::load(policy::size::W, 0, 1, 0), exit()],
    ]);
    let programs = vec![
        program("count", count(0)),
        program("seven", vec![mov_k(0, 7), exit()]),
        program("dispatch", dispatch),
        program("constant", constant),
    ];
    let maps = vec![
        array("runs", 1),
        table,
        inner,
        outer,
        outer_hash,
        constants,
        pinned(hash("hash", 100)),
        pinned(map("percpu", 5, 4, 8, 100)),
        pinned(map("percpu_array", 6, 4, 8, 4)),
        pinned(map("lru", 9, 4, 8, 100)),
        pinned(map("lru_percpu", 10, 4, 8, 100)),
        pinned(networks),
        pinned(map("queue", 22, 0, 8, 5)),
        pinned(map("stack", 23, 0, 8, 5)),
        pinned(map("bloom", 30, 0, 8, 50)),
        pinned(ring("ring")),
        pinned(map("events", 4, 4, 4, 2)),
    ];
    object(programs, maps)
}

fn fill(engine: &Engine) {
    for name in ["hash", "percpu", "percpu_array", "lru", "lru_percpu"] {
        let map = map_named(engine, name);
        for key in 0..4u32 {
            let value: Vec<u8> = (0..map.map.value_len())
                .map(|octet| octet as u8 + key as u8)
                .collect();
            map.map.set(&key.to_ne_bytes(), &value, 0).unwrap();
        }
    }
    let key = [24u32.to_ne_bytes(), [10, 0, 0, 0]].concat();
    map_named(engine, "networks").map.set(&key, &[5; 8], 0).unwrap();
    for name in ["queue", "stack", "bloom"] {
        for value in 1..4u64 {
            map_named(engine, name)
                .map
                .push_value(&value.to_ne_bytes(), 0)
                .unwrap();
        }
    }
    let [inner, outer_hash] = ["inner", "outer_hash"].map(|name| map_named(engine, name));
    engine
        .set_inner(outer_hash, &77u32.to_ne_bytes(), Some(inner), 0)
        .unwrap();
}

fn assert_filled(engine: &Engine) {
    for name in ["hash", "percpu", "percpu_array", "lru", "lru_percpu"] {
        let map = map_named(engine, name);
        let entries = entries(map);
        assert_eq!(entries.len(), 4, "{name}");
        for (key, value) in entries {
            let expected: Vec<u8> = (0..value.len()).map(|octet| octet as u8 + key[0]).collect();
            assert_eq!(value, expected, "{name}");
        }
    }
    let key = [32u32.to_ne_bytes(), [10, 0, 0, 9]].concat();
    assert_eq!(map_named(engine, "networks").map.get(&key, 0), Ok(vec![5; 8]));
    let next = |name: &str| map_named(engine, name).map.peek_value();
    assert_eq!(next("queue"), Ok(1u64.to_ne_bytes().to_vec()));
    assert_eq!(next("stack"), Ok(3u64.to_ne_bytes().to_vec()));
    let bloom = map_named(engine, "bloom");
    assert_eq!(bloom.map.contains_value(&2u64.to_ne_bytes()), Ok(()));
    let id = |name: &str| map_named(engine, name).map.id().to_ne_bytes().to_vec();
    let held = |name: &str, key: u32| map_named(engine, name).map.get(&key.to_ne_bytes(), 0);
    assert_eq!(held("outer", 1), Ok(id("inner")));
    assert_eq!(held("outer", 0), Err(Errno::ENOENT));
    assert_eq!(held("outer_hash", 77), Ok(id("inner")));
    assert_eq!(
        held("table", 0),
        Ok(named(engine, "seven").id.to_ne_bytes().to_vec())
    );
    assert_eq!(held("table", 1), Err(Errno::ENOENT));
    assert_eq!(
        held("table", 2),
        Ok(named(engine, "count").id.to_ne_bytes().to_vec())
    );
    let constants = map_named(engine, ".rodata");
    assert!(constants.map.is_frozen());
    assert_eq!(constants.map.set(&[0; 4], &[0; 8], 0), Err(Errno::EPERM));
    assert_eq!(run(named(engine, "dispatch")), Ok(7));
    assert_eq!(run(named(engine, "constant")), Ok(0x5566_7788));
}

#[test]
fn a_restart_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let objects = BTreeMap::from([("object".to_owned(), everything())]);
    let saved = {
        let mut engine = engine(Some(directory.path()));
        load(&mut engine, &objects["object"]);
        fill(&engine);
        assert_filled(&engine);
        run(named(&engine, "count")).unwrap();
        engine.save()
    };
    assert_eq!(
        Engine::objects_of(&saved).into_iter().collect::<Vec<_>>(),
        ["object"]
    );
    for runs in 2..5 {
        let mut engine = engine(Some(directory.path()));
        engine
            .restore(&saved, &objects)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_filled(&engine);
        assert_eq!(engine.save(), saved);
        assert_eq!(run(named(&engine, "count")), Ok(runs));
    }
    // What comes next has other numbers.
    let mut engine = engine(Some(directory.path()));
    engine.restore(&saved, &objects).unwrap();
    let loaded = load(&mut engine, &counting(array("runs", 1)));
    assert!(
        loaded
            .programs
            .iter()
            .all(|program| program.id > saved.last_program)
    );
    assert!(loaded.maps.iter().all(|map| *map > saved.last_map));
    for id in engine.programs().map(|program| program.id).collect::<Vec<_>>() {
        engine.unload(id);
    }
    for id in engine.maps().map(|map| map.map.id()).collect::<Vec<_>>() {
        engine.unpin(id);
    }
    drop(loaded);
    assert!(is_empty(&engine));
}

#[test]
fn a_map_that_no_program_uses_does_not_hinder_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let with_idle = object(
        vec![program("count", count(0))],
        vec![array("runs", 1), array("idle", 1)],
    );
    let objects = BTreeMap::from([("object".to_owned(), with_idle)]);
    let saved = {
        let mut engine = engine(Some(directory.path()));
        load(&mut engine, &objects["object"]);
        let other = load_as(&mut engine, &counting(array("runs", 1)), "other");
        for program in &other.programs {
            engine.unload(program.id);
        }
        engine.save()
    };
    let mut engine = engine(Some(directory.path()));
    engine
        .restore(&saved, &objects)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(run(named(&engine, "count")), Ok(1));
}

#[test]
fn pins_and_domains_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let shared = counting(pinned(array("runs", 1)));
    let own = counting(array("own", 1));
    let objects = BTreeMap::from([
        ("shared".to_owned(), shared.clone()),
        ("own".to_owned(), own.clone()),
    ]);
    let saved = {
        let mut engine = engine(Some(directory.path()));
        let first = load_as(&mut engine, &shared, "shared");
        load_as(&mut engine, &own, "own");
        load_as(&mut engine, &shared, "shared");
        run(&first.programs[0]).unwrap();
        engine.unload(first.programs[0].id);
        engine.save()
    };
    let mut engine = engine(Some(directory.path()));
    engine.restore(&saved, &objects).unwrap();
    let counts: Vec<_> = engine.programs().filter(|it| it.name == "count").collect();
    assert_eq!(counts.len(), 2);
    assert_eq!(
        counts.iter().map(|it| run(it)).collect::<Vec<_>>(),
        [Ok(1), Ok(2)]
    );
    let again = load_as(&mut engine, &shared, "shared");
    assert_eq!(run(&again.programs[0]), Ok(3));
}

/// What of a number in a saved state may be something else.
fn damages(saved: &SavedEngine) -> Vec<SavedEngine> {
    let mut damaged = Vec::new();
    let mut with = |change: &dyn Fn(&mut SavedEngine)| {
        let mut copy = saved.clone();
        change(&mut copy);
        damaged.push(copy);
    };
    for number in [0, 1, 2, 5, 0x7fff, 0x8000, 0xffff, u32::MAX] {
        with(&|it| it.last_program = number);
        with(&|it| it.last_map = number);
        with(&|it| it.last_domain = number);
        for index in 0..saved.maps.len() {
            with(&|it| it.maps[index].id = number);
            with(&|it| it.maps[index].handle = number as u16);
            with(&|it| it.maps[index].domain = number);
            with(&|it| it.maps[index].place = number as usize);
            for block in 0..saved.maps[index].blocks.len() {
                with(&|it| it.maps[index].blocks[block].0 = number as u8);
                with(&|it| it.maps[index].blocks[block].1 = number);
                with(&|it| it.maps[index].blocks[block].1 ^= number);
                with(&|it| it.maps[index].blocks[block].2 = number);
                with(&|it| it.maps[index].blocks[block].2 ^= number);
            }
        }
        for index in 0..saved.programs.len() {
            with(&|it| it.programs[index].id = number);
            with(&|it| it.programs[index].domain = number);
            with(&|it| it.programs[index].maps[0] = number);
            with(&|it| it.programs[index].maps.truncate(number as usize));
        }
    }
    for index in 0..saved.maps.len() {
        with(&|it| it.maps[index].object = "none".into());
        with(&|it| it.maps[index].blocks.clear());
        with(&|it| it.maps[index].blocks.reverse());
        with(&|it| it.maps.truncate(index));
        with(&|it| {
            let copy = it.maps[index].clone();
            it.maps.push(copy);
        });
    }
    for index in 0..saved.programs.len() {
        with(&|it| it.programs[index].object = "none".into());
        with(&|it| it.programs[index].function = "none".into());
        with(&|it| {
            let copy = it.programs[index].clone();
            it.programs.push(copy);
        });
    }
    damaged
}

#[test]
fn a_damaged_state_is_refused_or_taken_up_but_never_believed() {
    let directory = tempfile::tempdir().unwrap();
    let objects = BTreeMap::from([("object".to_owned(), everything())]);
    let saved = {
        let mut engine = engine(Some(directory.path()));
        load(&mut engine, &objects["object"]);
        fill(&engine);
        engine.save()
    };
    let (mut refused, mut taken) = (0, 0);
    // Enough of them; all take minutes.
    for damaged in damages(&saved).into_iter().step_by(9) {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(directory.path(), copy.path());
        let mut engine = engine(Some(copy.path()));
        match engine.restore(&damaged, &objects) {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
            Ok(()) => taken += 1,
        }
        // Whatever is there now can be used and taken away.
        let programs: Vec<_> = engine.programs().cloned().collect();
        for program in &programs {
            let _ = run(program);
        }
        for map in engine.maps() {
            let _ = map.map.dump(&mut |_, _| ControlFlow::Continue(()));
        }
        for program in programs {
            engine.unload(program.id);
        }
        let maps: Vec<u32> = engine.maps().map(|map| map.map.id()).collect();
        for id in maps {
            engine.unpin(id);
        }
    }
    assert!(refused > 50 && taken > 10, "{refused} refused, {taken} taken");
}

#[test]
fn damaged_map_memory_is_never_believed() {
    let directory = tempfile::tempdir().unwrap();
    let objects = BTreeMap::from([("object".to_owned(), everything())]);
    let saved = {
        let mut engine = engine(Some(directory.path()));
        load(&mut engine, &objects["object"]);
        fill(&engine);
        engine.save()
    };
    let mut random = common::generate::Random(5);
    for _ in 0..60 {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(directory.path(), copy.path());
        for file in files(copy.path()) {
            damage(&file, &mut random);
        }
        let mut engine = engine(Some(copy.path()));
        if engine.restore(&saved, &objects).is_ok() {
            for program in engine.programs() {
                let _ = run(program);
            }
            for map in engine.maps() {
                let _ = map.map.dump(&mut |_, _| ControlFlow::Continue(()));
                let _ = map.map.set(&[1, 0, 0, 0], &vec![1; map.map.value_len()], 0);
                let _ = map.map.remove(&[1, 0, 0, 0]);
                map.map.events(&mut |_| ());
            }
        }
    }
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Writes over some of the pages that are not empty, or cuts the file.
fn damage(file: &Path, random: &mut common::generate::Random) {
    use std::os::unix::fs::FileExt;
    let open = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let len = open.metadata().unwrap().len();
    if random.below(10) == 0 {
        return open.set_len(random.below(len + 1)).unwrap();
    }
    for _ in 0..200 {
        let at = random.below(len.clamp(1, 1 << 17));
        let octets = random.number().to_ne_bytes();
        let count = 1 + random.below(8) as usize;
        if at + 8 <= len {
            open.write_at(&octets[..count], at).unwrap();
        }
    }
}

/// Copies a directory, holes as holes.
fn copy_directory(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .args(["-r", "--sparse=always"])
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}

const DIRECTORY: &str = "NETKIT_TEST_DIRECTORY";

#[test]
fn who_is_killed_loses_nothing_that_maps_held() {
    let objects = BTreeMap::from([("object".to_owned(), everything())]);
    // Numbers and places are the same in every process that does the same.
    let saved = {
        let directory = tempfile::tempdir().unwrap();
        let mut engine = engine(Some(directory.path()));
        load(&mut engine, &objects["object"]);
        fill(&engine);
        engine.save()
    };
    for milliseconds in [20, 60, 100] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "inner_runs_until_killed",
                "--exact",
                "--ignored",
                "--test-threads=1",
            ])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = directory.path().join("begun");
        let start = Instant::now();
        while !begun.exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "the child begins");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut engine = engine(Some(directory.path()));
        engine
            .restore(&saved, &objects)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_filled(&engine);
        let runs = run(named(&engine, "count")).unwrap();
        assert!(runs > 1000, "{runs}");
        assert_eq!(run(named(&engine, "count")), Ok(runs + 1));
    }
}

#[test]
#[ignore = "runs until it is killed: started by who_is_killed_loses_nothing_that_maps_held"]
fn inner_runs_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    let mut engine = engine(Some(directory));
    load(&mut engine, &everything());
    fill(&engine);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        for _ in 0..2000 {
            run(named(&engine, "count")).unwrap();
        }
        let _ = std::fs::write(directory.join("begun"), "");
    }
}

#[test]
fn a_killed_child_of_two_programs_does_not_confuse_ids() {
    // A map that a prog_array remembers may be gone when the state is taken up: it is left out.
    let directory = tempfile::tempdir().unwrap();
    let objects = BTreeMap::from([("object".to_owned(), everything())]);
    let mut saved = {
        let mut engine = engine(Some(directory.path()));
        load(&mut engine, &objects["object"]);
        fill(&engine);
        engine.save()
    };
    saved.programs.retain(|program| program.name != "seven");
    let mut engine = engine(Some(directory.path()));
    engine.restore(&saved, &objects).unwrap();
    let table = map_named(&engine, "table");
    assert_eq!(table.map.get(&0u32.to_ne_bytes(), 0), Err(Errno::ENOENT));
    assert_eq!(run(named(&engine, "dispatch")), Ok(99));
}
