//! Files that no compiler makes: whatever is in them, they are read or refused, and nothing else happens.

#[path = "objects/builder.rs"]
mod builder;
#[path = "objects/compile.rs"]
mod compile;

use builder::{Builder, CODE, DATA, FUNCTION, GLOBAL, OBJECT, WEAK, btf, instruction};
use policy::object::btf::{Btf, BtfError};
use policy::object::{Object, ObjectProgram};
use policy::pseudo;
use proptest::prelude::*;

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
const LDDW: u8 = 0x18;
const CALL: u8 = 0x85;
/// Relocations of an address and of a call.
const R_BPF_64_64: u32 = 1;
const R_BPF_64_32: u32 = 10;

/// What holds of every object that is read: all that instructions name exists, and functions cover them.
fn check(object: &Object) {
    assert!(!object.programs.is_empty());
    for program in &object.programs {
        check_program(object, program);
    }
    for map in &object.maps {
        assert!(
            map.contents
                .as_ref()
                .is_none_or(|contents| contents.len() == map.value_size as usize)
        );
        let (Some(types), Some(contents)) = (&map.types, &map.contents) else {
            continue;
        };
        if let Ok(value) = types.btf.to_json(types.value, contents) {
            assert!(!value.to_json().is_empty());
            assert!(!value.to_text(0).is_empty());
        }
    }
}

fn check_program(object: &Object, program: &ObjectProgram) {
    let mut end = 0;
    for function in &program.functions {
        assert_eq!(function.start, end);
        assert!(function.end > function.start);
        end = function.end;
    }
    assert_eq!(end, program.instructions.len());
    let mut place = 0;
    while place < program.instructions.len() {
        let instruction = program.instructions[place];
        let leads = i64::from(instruction.imm) + place as i64 + 1;
        let is_function = || program.functions.iter().any(|f| f.start as i64 == leads);
        if instruction.is_wide() {
            match instruction.src {
                0 => {}
                pseudo::MAP | pseudo::MAP_VALUE => assert!((instruction.imm as usize) < object.maps.len()),
                pseudo::FUNCTION => assert!(is_function()),
                other => panic!("lddw with source {other}"),
            }
            place += 1;
        } else if instruction.is_local_call() {
            assert!(is_function());
        }
        place += 1;
    }
    let instructions = program.instructions.len();
    assert!(
        program
            .lines
            .iter()
            .all(|line| line.instruction < instructions && line.line > 0)
    );
}

fn problem(file: &[u8]) -> String {
    Object::parse(file).unwrap_err().to_string()
}

#[test]
fn a_file_without_types_is_read() {
    let object = Object::parse(&Builder::program("tc", &[EXIT]).finish()).unwrap();
    check(&object);
    assert_eq!(object.programs[0].name, "program");
    assert_eq!((object.license.as_str(), object.maps.len()), ("", 0));
}

#[test]
fn the_license_ends_at_its_first_zero() {
    let mut builder = Builder::program("tc", &[EXIT]);
    builder.section("license", DATA, b"GPL\0rest");
    assert_eq!(Object::parse(&builder.finish()).unwrap().license, "GPL");
}

#[test]
fn a_file_for_another_machine_is_refused() {
    let file = Builder::program("tc", &[EXIT]).finish();
    let changed = |at: usize, to: u8| {
        let mut file = file.clone();
        file[at] = to;
        problem(&file)
    };
    assert!(changed(18, 62).contains("machine 62"));
    assert!(changed(16, 2).contains("not relocatable"));
    assert!(changed(5, 2).contains("little-endian"));
    assert!(changed(4, 1).contains("ELF"));
    assert!(changed(0, 0).contains("ELF"));
    assert!(problem(b"").contains("ELF"));
}

#[test]
fn an_undefined_symbol_is_refused_by_name_and_place() {
    let code = [EXIT, instruction(LDDW, 1, 0, 0), [0; 8], EXIT];
    let mut builder = Builder::program("tc", &code);
    let symbol = builder.symbol("nowhere", GLOBAL, 0, 0, 0);
    builder.relocations(1, &[(8, R_BPF_64_64, symbol)]);
    let problem = problem(&builder.finish());
    for part in ["section `tc`", "function `program`", "instruction 1", "`nowhere`"] {
        assert!(problem.contains(part), "{part} in {problem}");
    }
}

#[test]
fn a_weak_undefined_symbol_is_null() {
    let mut builder = Builder::program("tc", &[instruction(LDDW, 1, 1, 7), [0; 8], EXIT]);
    let symbol = builder.symbol("nowhere", WEAK, 0, 0, 0);
    builder.relocations(1, &[(0, R_BPF_64_64, symbol)]);
    let object = Object::parse(&builder.finish()).unwrap();
    let first = object.programs[0].instructions[0];
    assert_eq!((first.src, first.imm), (0, 0));
}

#[test]
fn an_address_without_a_relocation_names_nothing() {
    for source in [1, 2, 3, 5, 6, 15] {
        let builder = Builder::program("tc", &[instruction(LDDW, 1, source, 0), [0; 8], EXIT]);
        assert!(problem(&builder.finish()).contains("names nothing"));
    }
}

#[test]
fn an_address_behind_its_section_is_refused() {
    for (addend, is_inside) in [(0, true), (7, true), (8, false), (-1, false), (i32::MAX, false)] {
        let mut builder = Builder::program("tc", &[instruction(LDDW, 1, 0, addend), [0; 8], EXIT]);
        let data = builder.section(".data", DATA, &[0; 8]);
        let symbol = builder.symbol("", 3, data, 0, 0);
        builder.relocations(1, &[(0, R_BPF_64_64, symbol)]);
        let object = Object::parse(&builder.finish());
        assert_eq!(object.is_ok(), is_inside, "{addend}");
        if let Ok(object) = object {
            assert_eq!(object.programs[0].instructions[1].imm, addend);
        }
    }
}

#[test]
fn a_call_leads_to_the_start_of_a_function_or_is_refused() {
    // The file's own calls need no relocation within a section.
    let own = Builder::program("tc", &[instruction(CALL, 0, 1, -1), EXIT]);
    let object = Object::parse(&own.finish()).unwrap();
    assert_eq!(object.programs[0].instructions[0].imm, -1);
    for distance in [0, 1, 5, -2, i32::MAX, i32::MIN] {
        let builder = Builder::program("tc", &[instruction(CALL, 0, 1, distance), EXIT]);
        let problem = problem(&builder.finish());
        assert!(problem.contains("no function starts"), "{problem}");
    }
    let kernel = Builder::program("tc", &[instruction(CALL, 0, 2, 5), EXIT]);
    assert!(problem(&kernel.finish()).contains("kernel function"));
}

#[test]
fn functions_of_text_are_linked_by_symbol_and_by_offset() {
    for (with_section_symbol, imm) in [(true, 1), (false, -1)] {
        let mut builder = Builder::program("tc", &[instruction(CALL, 0, 1, imm), EXIT]);
        let text = builder.section(".text", CODE, &[EXIT, EXIT, EXIT].concat());
        builder.symbol("first", FUNCTION, text, 0, 16);
        let second = builder.symbol("second", FUNCTION, text, 16, 8);
        let section = builder.symbol("", 3, text, 0, 0);
        let symbol = if with_section_symbol { section } else { second };
        builder.relocations(1, &[(0, R_BPF_64_32, symbol)]);
        let object = Object::parse(&builder.finish()).unwrap();
        check(&object);
        let names: Vec<_> = object.programs[0].functions.iter().map(|f| &f.name).collect();
        assert_eq!(names, ["program", "second"]);
    }
}

#[test]
fn a_relocation_of_no_instruction_is_refused() {
    let code = [instruction(LDDW, 1, 0, 0), [0; 8], EXIT];
    for (offset, kind) in [
        (8, R_BPF_64_64),
        (4, R_BPF_64_64),
        (0, R_BPF_64_32),
        (16, R_BPF_64_64),
        (0, 77),
    ] {
        let mut builder = Builder::program("tc", &code);
        let data = builder.section(".data", DATA, &[0; 8]);
        let symbol = builder.symbol("data", GLOBAL | OBJECT, data, 0, 8);
        builder.relocations(1, &[(offset, kind, symbol)]);
        assert!(Object::parse(&builder.finish()).is_err(), "{offset} {kind}");
    }
    let mut twice = Builder::program("tc", &code);
    let data = twice.section(".data", DATA, &[0; 8]);
    let symbol = twice.symbol("data", GLOBAL | OBJECT, data, 0, 8);
    twice.relocations(1, &[(0, R_BPF_64_64, symbol), (0, R_BPF_64_64, symbol)]);
    assert!(Object::parse(&twice.finish()).is_err());
}

#[test]
fn too_much_of_anything_is_refused() {
    let mut programs = Builder::new();
    let section = programs.section("tc", CODE, &[EXIT; 1025].concat());
    for place in 0..1025 {
        programs.symbol(&format!("p{place}"), GLOBAL | FUNCTION, section, place * 8, 8);
    }
    assert!(problem(&programs.finish()).contains("more than 1024 programs"));

    // A chain of 257 functions.
    let mut functions = Builder::new();
    let mut code = vec![[instruction(CALL, 0, 1, 1), EXIT].concat(); 256].concat();
    code.extend(EXIT);
    let section = functions.section("tc", CODE, &code);
    functions.symbol("program", GLOBAL | FUNCTION, section, 0, 16);
    for place in 1..257 {
        functions.symbol(
            "f",
            FUNCTION,
            section,
            place * 16,
            if place == 256 { 8 } else { 16 },
        );
    }
    assert!(problem(&functions.finish()).contains("more than 256 functions"));

    // 1024 programs that share a function of 8192 instructions.
    let mut instructions = Builder::new();
    let section = instructions.section("tc", CODE, &[EXIT; 8192].concat());
    for place in 0..1024 {
        instructions.symbol(&format!("p{place}"), GLOBAL | FUNCTION, section, 0, 8192 * 8);
    }
    assert!(problem(&instructions.finish()).contains("more than 4000000 instructions"));

    assert!(problem(&vec![0; (64 << 20) + 1]).contains("octets"));
}

#[test]
fn sections_that_overlap_are_refused() {
    let mut builder = Builder::program("tc", &[EXIT]);
    builder.section("other", 0, &[0; 4096]);
    let mut file = builder.finish();
    // The table of sections is at the end; its second entry is the code.
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let code = table + 64;
    let len = table as u64 - 64;
    file[code + 32..code + 40].copy_from_slice(&len.to_le_bytes());
    assert!(problem(&file).contains("overlap"));
}

#[test]
fn data_of_more_than_64_mib_is_refused_before_it_is_made() {
    const NOBITS: u8 = 8;
    let mut builder = Builder::program("tc", &[EXIT]);
    builder.section(".bss", DATA, &[]);
    let mut file = builder.finish();
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let bss = table + 2 * 64;
    file[bss + 4] = NOBITS;
    file[bss + 32..bss + 40].copy_from_slice(&(65_u64 << 20).to_le_bytes());
    assert!(problem(&file).contains("`.bss`"));
    file[bss + 32..bss + 40].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(problem(&file).contains("`.bss`"));
    file[bss + 32..bss + 40].copy_from_slice(&(1_u64 << 20).to_le_bytes());
    check(&Object::parse(&file).unwrap());
}

// linux/btf.h: the kinds of types, as the `info` word has them.
const INT: u32 = 1 << 24;
const PTR: u32 = 2 << 24;
const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;
const UNION: u32 = 5 << 24;
const TYPEDEF: u32 = 8 << 24;
const CONST: u32 = 10 << 24;

#[test]
fn types_that_refer_to_themselves_are_refused() {
    let types = [
        vec![0, TYPEDEF, 1],
        vec![0, CONST, 2, 0, TYPEDEF, 1],
        vec![0, ARRAY, 0, 1, 1, 1],
        vec![0, STRUCT | 1, 8, 0, 1, 0],
    ];
    for words in types {
        let types = Btf::parse(&btf(&words, b"\0")).unwrap();
        let printed = types.to_json(1, &[0; 64]);
        assert!(matches!(printed, Err(BtfError::TooDeep(_))), "{printed:?}");
        assert!(types.size(1).is_err() || words[1] == STRUCT | 1);
        assert!(types.alignment(1) <= 8);
    }
}

#[test]
fn types_that_grow_without_end_are_refused() {
    // An array of 4 GiB of nothing, and unions of unions.
    let nothing = [0, ARRAY, 0, 2, 2, u32::MAX, 0, STRUCT, 0];
    let types = Btf::parse(&btf(&nothing, b"\0")).unwrap();
    assert_eq!(types.to_json(1, &[]), Err(BtfError::TooMany));
    let mut unions = Vec::new();
    for next in 2..20 {
        unions.extend([0, UNION | 8, 4]);
        unions.extend([[0, next, 0]; 8].concat());
    }
    unions.extend([0, INT, 4, 32]);
    let types = Btf::parse(&btf(&unions, b"\0")).unwrap();
    assert_eq!(types.to_json(1, &[0; 4]), Err(BtfError::TooMany));
    let huge = [
        0,
        ARRAY,
        0,
        2,
        2,
        u32::MAX,
        0,
        ARRAY,
        0,
        3,
        3,
        u32::MAX,
        0,
        INT,
        4,
        32,
    ];
    let types = Btf::parse(&btf(&huge, b"\0")).unwrap();
    assert_eq!(types.size(1), Err(BtfError::NoSize(1)));
}

#[test]
fn types_that_do_not_exist_are_refused() {
    let types = Btf::parse(&btf(&[0, TYPEDEF, 9, 0, PTR, 0], b"\0")).unwrap();
    assert_eq!(types.to_json(1, &[0; 8]), Err(BtfError::NoType(9)));
    assert_eq!(types.to_json(0, &[0; 8]), Err(BtfError::NoType(0)));
    assert_eq!(types.size(u32::MAX), Err(BtfError::NoType(u32::MAX)));
    assert_eq!(types.to_json(2, &[0; 7]), Err(BtfError::Short(2)));
    let unknown = Btf::parse(&btf(&[0, 31 << 24, 0], b"\0"));
    assert_eq!(unknown.unwrap_err(), BtfError::UnknownKind(1, 31));
    assert_eq!(
        Btf::parse(&btf(&[0, INT, 4], b"\0")).unwrap_err(),
        BtfError::Truncated
    );
}

/// Objects of all kinds to be damaged.
fn originals() -> Vec<Vec<u8>> {
    let names = [
        "features",
        "core",
        "legacy",
        "sections",
        "values",
        "kernel_function",
    ];
    let test = "damaged_objects_are_read_or_refused";
    let mut files: Vec<_> = names
        .iter()
        .map_while(|name| compile::compile(test, name))
        .collect();
    let mut builder = Builder::program(
        "tc",
        &[
            instruction(CALL, 0, 1, -1),
            instruction(LDDW, 1, 0, 0),
            [0; 8],
            EXIT,
        ],
    );
    let text = builder.section(".text", CODE, &[EXIT, EXIT].concat());
    let data = builder.section(".data", DATA, &[1; 16]);
    let function = builder.symbol("function", FUNCTION, text, 8, 8);
    let object = builder.symbol("object", GLOBAL | OBJECT, data, 8, 8);
    builder.relocations(1, &[(0, R_BPF_64_32, function), (8, R_BPF_64_64, object)]);
    builder.section(
        ".BTF",
        0,
        &btf(&[0, INT, 4, 32, 0, ARRAY, 0, 1, 1, 4], b"\0int\0"),
    );
    files.push(builder.finish());
    files
}

/// The parts of a file that are not debugging information, where damage does something.
fn interesting(file: &[u8]) -> Vec<usize> {
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let table = number(40);
    let mut places: Vec<usize> = (0..64).chain(table..file.len()).collect();
    for header in (table..file.len()).step_by(64) {
        let (start, len) = (number(header + 24), number(header + 32));
        let kind = file[header + 4];
        if kind != 8 && len < 6000 && start + len <= table {
            places.extend(start..start + len);
        }
    }
    places
}

#[test]
fn damaged_objects_are_read_or_refused() {
    let files = originals();
    let interesting: Vec<_> = files.iter().map(|file| interesting(file)).collect();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6);
    let cut = prop::option::weighted(0.1, any::<prop::sample::Index>());
    let cases = (any::<prop::sample::Index>(), damage, cut);
    let read = std::cell::Cell::new(0);
    let config = ProptestConfig {
        cases: 6000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&cases, |(which, damage, cut)| {
        let which = which.index(files.len());
        let mut file = files[which].clone();
        for (place, octet, how) in damage {
            let place = interesting[which][place.index(interesting[which].len())];
            file[place] = match how {
                0 => octet,
                1 => file[place] ^ 1 << (octet % 8),
                2 => file[place].wrapping_add(octet % 5).wrapping_sub(2),
                _ => [0, 0xff, 0x7f, 0x80][usize::from(octet) % 4],
            };
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len() + 1));
        }
        if let Ok(object) = Object::parse(&file) {
            check(&object);
            read.set(read.get() + 1);
        }
        Ok(())
    });
    result.unwrap();
    // Both ends are tried: damage that shows, and damage that does not.
    assert!((500..5900).contains(&read.get()), "{} were read", read.get());
}

#[test]
fn types_of_random_octets_are_read_or_refused() {
    let word = prop_oneof![
        0..12_u32,
        (1..20_u32, 0..4_u32, any::<bool>())
            .prop_map(|(kind, len, flag)| u32::from(flag) << 31 | kind << 24 | len),
        any::<u32>(),
    ];
    let words = prop::collection::vec(word, 0..64);
    let config = ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(words in words, octets in prop::collection::vec(any::<u8>(), 0..64))| {
        // Types that are not all there end in front of the first that is not.
        for len in 0..=words.len() {
            let Ok(types) = Btf::parse(&btf(&words[..len], b"\0a\0char\0")) else { continue };
            for id in 0..types.len() + 2 {
                let printed = types.to_json(id, &octets);
                if let Ok(value) = printed {
                    prop_assert!(!value.to_json().is_empty());
                }
                prop_assert!(types.alignment(id) <= 8);
                let _ = types.size(id);
            }
        }
    });
}
