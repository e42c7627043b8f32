//! Maps of maps and of programs.

use std::sync::Arc;

use policy::code::Code;
use policy::map::{Map, NOEXIST};
use policy::{Domain, Errno, Program};

use crate::common::{at, create, definition, key, kind, memory};

#[test]
fn a_map_of_maps_gives_programs_handles_and_the_api_ids() {
    for (kind, key_number) in [(kind::ARRAY_OF_MAPS, 1), (kind::HASH_OF_MAPS, 77)] {
        let memory = memory(1);
        let template = definition(kind::HASH, 4, 8, 10, 0);
        let mut outer = definition(kind, 4, 4, 2, 0);
        assert_eq!(create(&memory, outer.clone()).unwrap_err().errno(), Errno::EBADF);
        outer.inner = Some(Box::new(template.clone()));
        let outer = create(&memory, outer).unwrap();
        let inner = |id: u32| Arc::new(Map::create(id, id as u16 + 100, template.clone(), &memory).unwrap());
        let key = key(key_number);
        // SAFETY: the key is long enough.
        let lookup = || unsafe { outer.lookup(at(&memory, 0), key.as_ptr()) };
        assert_eq!(lookup(), None);
        assert_eq!(outer.get(&key, 0), Err(Errno::ENOENT));
        assert_eq!(outer.set_map(&key, None, 0).unwrap_err(), Errno::ENOENT);
        assert!(outer.set_map(&key, Some(inner(5)), 0).unwrap().is_none());
        assert_eq!(lookup(), Some(105));
        assert_eq!(outer.get(&key, 0), Ok(5_u32.to_ne_bytes().to_vec()));
        assert!(outer.set_map(&key, Some(inner(6)), NOEXIST).is_err());
        assert_eq!(lookup(), Some(105));
        let old = outer.set_map(&key, Some(inner(6)), 0).unwrap().unwrap();
        assert_eq!((old.id(), lookup(), outer.entries()), (5, Some(106), 1));
        let other = definition(kind::HASH, 4, 12, 10, 0);
        let other = Arc::new(create(&memory, other).unwrap());
        assert_eq!(outer.set_map(&key, Some(other), 0).unwrap_err(), Errno::EINVAL);
        // SAFETY: key and value are long enough.
        unsafe {
            let at = at(&memory, 0);
            assert_eq!(
                outer.update(at, key.as_ptr(), key.as_ptr(), 0),
                Err(Errno::EINVAL)
            );
            assert_eq!(outer.delete(at, key.as_ptr()), Err(Errno::EINVAL));
        }
        assert_eq!(outer.set_map(&key, None, 0).unwrap().unwrap().id(), 6);
        assert_eq!((lookup(), outer.entries()), (None, 0));
    }
}

#[test]
fn a_full_hash_of_maps_stays_as_it_is() {
    let memory = memory(1);
    let template = definition(kind::ARRAY, 4, 8, 1, 0);
    let mut outer = definition(kind::HASH_OF_MAPS, 4, 4, 1, 0);
    outer.inner = Some(Box::new(template.clone()));
    let outer = create(&memory, outer).unwrap();
    let inner = Arc::new(Map::create(7, 7, template, &memory).unwrap());
    outer.set_map(&key(1), Some(inner.clone()), 0).unwrap();
    assert_eq!(outer.set_map(&key(2), Some(inner), 0).unwrap_err(), Errno::E2BIG);
    // SAFETY: the keys are long enough.
    unsafe {
        assert_eq!(outer.lookup(at(&memory, 0), key(1).as_ptr()), Some(7));
        assert_eq!(outer.lookup(at(&memory, 0), key(2).as_ptr()), None);
    }
}

fn program(domain: &Arc<Domain>, id: u32) -> Arc<Program> {
    let code = Code::new(Box::default(), Box::default(), Box::default());
    Arc::new(Program {
        id,
        ..Program::anonymous(code, None, domain.clone())
    })
}

#[test]
fn a_prog_array_holds_programs_until_they_are_taken_out() {
    let domain = Arc::new(Domain::new(1, None).unwrap());
    let definition = definition(kind::PROG_ARRAY, 4, 4, 3, 0);
    let map = create(domain.memory(), definition).unwrap();
    let first = program(&domain, 11);
    assert!(map.program(1).is_none());
    assert!(map.set_program(1, Some(first.clone())).unwrap().is_none());
    assert_eq!(map.program(1), Some(Arc::as_ptr(&first)));
    assert_eq!(map.get(&key(1), 0), Ok(key(11).to_vec()));
    assert_eq!(map.get(&key(0), 0), Err(Errno::ENOENT));
    assert!(map.program(3).is_none());
    let old = map.set_program(1, Some(program(&domain, 12))).unwrap().unwrap();
    assert_eq!(old.id, 11);
    assert_eq!(map.set_program(3, Some(first.clone())).unwrap_err(), Errno::E2BIG);
    assert_eq!(map.set_program(0, None).unwrap_err(), Errno::ENOENT);
    map.set_program(2, Some(first.clone())).unwrap();
    assert_eq!(map.entries(), 2);
    let ids: Vec<u32> = map.clear_programs().iter().map(|program| program.id).collect();
    assert_eq!(ids, [12, 11]);
    map.set_program(2, Some(first.clone())).unwrap();
    drop(old);
    drop(map);
    assert_eq!(
        Arc::strong_count(&first),
        1,
        "a map that is dropped lets go of its programs"
    );
}
