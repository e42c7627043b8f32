//! What is promised of object files, tried on files from a compiler.

#[path = "objects/compile.rs"]
mod compile;

use compile::{compile, compile_with};
use policy::object::{MapDefinition, Object, ObjectError, ObjectProgram};
use policy::{Instruction, class, mode, pseudo};

fn load(test: &str, name: &str) -> Option<Object> {
    Some(Object::parse(&compile(test, name)?).unwrap())
}

fn map<'a>(object: &'a Object, name: &str) -> &'a MapDefinition {
    object.maps.iter().find(|map| map.name == name).unwrap()
}

fn program<'a>(object: &'a Object, name: &str) -> &'a ObjectProgram {
    object
        .programs
        .iter()
        .find(|program| program.name == name)
        .unwrap()
}

fn function_names(program: &ObjectProgram) -> Vec<&str> {
    program.functions.iter().map(|f| f.name.as_str()).collect()
}

/// The instructions that name a map, as map and offset.
fn map_references(object: &Object, program: &ObjectProgram) -> Vec<(String, bool, i32)> {
    program
        .instructions
        .windows(2)
        .filter(|pair| pair[0].is_wide() && matches!(pair[0].src, pseudo::MAP | pseudo::MAP_VALUE))
        .map(|pair| {
            let name = object.maps[pair[0].imm as usize].name.clone();
            (name, pair[0].src == pseudo::MAP_VALUE, pair[1].imm)
        })
        .collect()
}

/// The name of the function that an instruction leads to.
fn target(program: &ObjectProgram, place: usize) -> &str {
    let start = place as i64 + 1 + i64::from(program.instructions[place].imm);
    let function = program.functions.iter().find(|f| f.start as i64 == start);
    &function.unwrap().name
}

#[test]
fn every_section_of_tc_and_netkit_is_a_program() {
    let Some(object) = load("every_section_of_tc_and_netkit_is_a_program", "sections") else {
        return;
    };
    let programs: Vec<_> = object
        .programs
        .iter()
        .map(|p| (p.section.as_str(), p.name.as_str()))
        .collect();
    assert_eq!(
        programs,
        [
            ("netkit/primary", "primary"),
            ("netkit/peer", "peer"),
            ("tc", "tc_one"),
            ("tc", "tc_two"),
            ("tc", "caller"),
            ("tc/ingress", "tc_ingress"),
            ("tc/egress", "tc_egress"),
            ("tcx/ingress", "tcx_ingress"),
            ("tcx/egress", "tcx_egress"),
            ("classifier", "classifier_one"),
            ("classifier/x", "classifier_x"),
            ("action", "action_one"),
        ]
    );
    assert_eq!(object.license, "");
}

#[test]
fn functions_of_a_program_s_own_section_are_linked() {
    let Some(object) = load("functions_of_a_program_s_own_section_are_linked", "sections") else {
        return;
    };
    let caller = program(&object, "caller");
    assert_eq!(function_names(caller), ["caller", "within", "beside"]);
    let calls: Vec<_> = (0..caller.instructions.len())
        .filter(|place| caller.instructions[*place].is_local_call())
        .map(|place| target(caller, place))
        .collect();
    assert_eq!(calls, ["within", "within", "beside"]);
}

#[test]
fn functions_are_linked_once_behind_the_entry() {
    let Some(object) = load("functions_are_linked_once_behind_the_entry", "features") else {
        return;
    };
    let first = program(&object, "first");
    assert_eq!(function_names(first), ["first", "each", "branch", "leaf"]);
    let mut end = 0;
    for function in &first.functions {
        assert_eq!(function.start, end);
        end = function.end;
    }
    assert_eq!(end, first.instructions.len());
    let leads: Vec<_> = first
        .instructions
        .iter()
        .enumerate()
        .filter(|(_, i)| i.is_local_call() || i.is_wide() && i.src == pseudo::FUNCTION)
        .map(|(place, _)| target(first, place))
        .collect();
    assert_eq!(leads, ["each", "branch", "leaf", "leaf"]);
}

#[test]
fn addresses_name_maps_and_octets_of_data() {
    let Some(object) = load("addresses_name_maps_and_octets_of_data", "features") else {
        return;
    };
    let references = map_references(&object, program(&object, "first"));
    let expected = [
        ("outer", false, 0),
        ("bloom", false, 0),
        ("pinned", false, 0),
        ("events", false, 0),
        ("ring", false, 0),
        ("calls", false, 0),
        (".rodata", true, 4),
        (".rodata", true, 0),
        (".data.own", true, 0),
        (".data", true, 0),
        (".bss", true, 0),
    ];
    assert_eq!(
        references,
        expected.map(|(name, value, offset)| (name.to_owned(), value, offset))
    );
}

#[test]
fn definitions_of_maps_are_read_from_types() {
    let Some(object) = load("definitions_of_maps_are_read_from_types", "features") else {
        return;
    };
    let pinned = map(&object, "pinned");
    assert_eq!((pinned.kind, pinned.key_size, pinned.value_size), (1, 4, 16));
    assert_eq!((pinned.max_entries, pinned.flags, pinned.pinned), (100, 1, true));
    let types = pinned.types.as_ref().unwrap();
    let value = types
        .btf
        .to_json(types.value, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(value.unwrap().to_json(), r#"{"packets":1,"octets":2}"#);
    assert_eq!(
        types.btf.to_json(types.key, &[7, 0, 0, 0]).unwrap().to_json(),
        "7"
    );
    let bloom = map(&object, "bloom");
    assert_eq!((bloom.kind, bloom.key_size, bloom.extra), (30, 0, 5));
    let events = map(&object, "events");
    assert_eq!((events.kind, events.key_size, events.max_entries), (4, 4, 0));
    assert_eq!(map(&object, "ring").max_entries, 4096);
}

#[test]
fn maps_hold_maps_and_programs_from_the_start() {
    let Some(object) = load("maps_hold_maps_and_programs_from_the_start", "features") else {
        return;
    };
    let outer = map(&object, "outer");
    assert_eq!(outer.values, [(1, "inner_a".into()), (3, "inner_b".into())]);
    let inner = outer.inner.as_ref().unwrap();
    assert_eq!((inner.kind, inner.value_size, inner.max_entries), (2, 16, 1));
    let calls = map(&object, "calls");
    assert_eq!(calls.values, [(1, "second".into())]);
    assert_eq!((calls.key_size, calls.value_size), (4, 4));
}

#[test]
fn data_sections_are_maps_of_one_value() {
    let Some(object) = load("data_sections_are_maps_of_one_value", "features") else {
        return;
    };
    let rodata = map(&object, ".rodata");
    assert_eq!(
        (rodata.kind, rodata.key_size, rodata.max_entries, rodata.flags),
        (2, 4, 1, 1 << 7)
    );
    assert_eq!(rodata.contents.as_deref(), Some(&b"\x34\x12\0\0eth0\0\0\0\0"[..]));
    assert_eq!(map(&object, ".data").contents.as_deref(), Some(&[7, 0, 0, 0][..]));
    assert_eq!(
        map(&object, ".data.own").contents.as_deref(),
        Some(&[9, 0, 0, 0][..])
    );
    let bss = map(&object, ".bss");
    assert_eq!((bss.flags, bss.contents.as_deref()), (0, Some(&[0; 8][..])));
    let types = rodata.types.as_ref().unwrap();
    let value = types
        .btf
        .to_json(types.value, rodata.contents.as_ref().unwrap())
        .unwrap();
    assert_eq!(value.to_json(), r#"{".rodata":[{"mark":4660},{"name":"eth0"}]}"#);
}

#[test]
fn the_configuration_is_supplied() {
    let Some(object) = load("the_configuration_is_supplied", "features") else {
        return;
    };
    let configuration = map(&object, ".kconfig");
    assert_eq!(configuration.flags, 1 << 7);
    let types = configuration.types.as_ref().unwrap();
    let value = types
        .btf
        .to_json(types.value, configuration.contents.as_ref().unwrap());
    assert_eq!(
        value.unwrap().to_json(),
        r#"{".kconfig":[{"CONFIG_NETKIT":true},{"CONFIG_NET_SCHED":"TRI_YES"},{"CONFIG_BPF":121},{"LINUX_KERNEL_VERSION":396288},{"CONFIG_DEFAULT_HOSTNAME":"(none)"},{"CONFIG_UNHEARD_OF":0}]}"#
    );
}

#[test]
fn what_is_weak_and_missing_is_null_and_its_call_fails() {
    let Some(object) = load("what_is_weak_and_missing_is_null_and_its_call_fails", "features") else {
        return;
    };
    let first = program(&object, "first");
    let nulls = first
        .instructions
        .windows(2)
        .filter(|pair| pair[0].is_wide() && (pair[0].src, pair[0].imm, pair[1].imm) == (0, 0, 0));
    assert!(nulls.count() >= 2);
    let calls = first.instructions.iter().filter(|i| {
        **i == Instruction {
            opcode: class::LDX | mode::MEM | policy::size::DW,
            dst: 0,
            src: 10,
            offset: 0x4000,
            imm: 0,
        }
    });
    assert_eq!(calls.count(), 1);
    assert!(
        object
            .skipped
            .iter()
            .any(|note| note.contains("`missing_function`"))
    );
}

#[test]
fn programs_of_other_kinds_are_left_out_with_a_note() {
    let Some(object) = load("programs_of_other_kinds_are_left_out_with_a_note", "features") else {
        return;
    };
    let names: Vec<_> = object.programs.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["second", "first", "third"]);
    assert!(object.skipped[0].contains("`other_kind` in section `xdp`"));
    assert_eq!(object.license, "Dual MIT/GPL");
}

#[test]
fn an_object_of_other_kinds_alone_is_refused_by_name() {
    let test = "an_object_of_other_kinds_alone_is_refused_by_name";
    let Some(octets) = compile(test, "other_kinds") else {
        return;
    };
    let error = Object::parse(&octets).unwrap_err().to_string();
    assert!(
        error.contains("`trace` in section `kprobe/do_nothing`"),
        "{error}"
    );
    assert!(error.contains("netkit/primary"), "{error}");
}

#[test]
fn a_kernel_function_is_refused_by_name_unless_its_program_is_optional() {
    let test = "a_kernel_function_is_refused_by_name_unless_its_program_is_optional";
    let Some(octets) = compile(test, "kernel_function") else {
        return;
    };
    let object = Object::parse(&octets).unwrap();
    assert_eq!(object.programs.len(), 1);
    let note = &object.skipped[0];
    assert!(
        note.contains("`wants_it`") && note.contains("extern `kernel_function`"),
        "{note}"
    );
    // The same, with nothing optional.
    let mut strict = octets;
    for place in 0..strict.len() - 4 {
        if strict[place..].starts_with(b"?tc\0") {
            strict[place..place + 4].copy_from_slice(b"tcx\0");
        }
    }
    match Object::parse(&strict).unwrap_err() {
        ObjectError::Instruction {
            section,
            function,
            problem,
            ..
        } => {
            assert_eq!((section.as_str(), function.as_str()), ("tcx", "wants_it"));
            assert!(problem.contains("`kernel_function`"), "{problem}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn legacy_definitions_of_libbpf_and_iproute2_are_read() {
    let Some(object) = load("legacy_definitions_of_libbpf_and_iproute2_are_read", "legacy") else {
        return;
    };
    let plain = map(&object, "plain");
    assert_eq!((plain.kind, plain.key_size, plain.value_size), (1, 4, 8));
    assert_eq!((plain.max_entries, plain.flags, plain.pinned), (16, 1, false));
    let outer = map(&object, "outer");
    assert!(outer.pinned);
    assert_eq!(outer.values, [(1, "inner".into())]);
    assert_eq!(outer.inner.as_ref().unwrap().max_entries, 1);
    let names: Vec<_> = map_references(&object, &object.programs[0])
        .into_iter()
        .map(|(name, _, _)| name)
        .collect();
    assert_eq!(names, ["plain", "outer", "inner"]);
}

/// The numbers that instructions put into registers.
fn constants(program: &ObjectProgram) -> Vec<i32> {
    program
        .instructions
        .iter()
        .filter(|i| matches!(i.opcode, 0xb4 | 0xb7 | 0x18))
        .map(|i| i.imm)
        .collect()
}

#[test]
fn instructions_that_depend_on_types_hold_what_the_types_say() {
    let Some(object) = load(
        "instructions_that_depend_on_types_hold_what_the_types_say",
        "core",
    ) else {
        return;
    };
    let fields = program(&object, "fields");
    let loads: Vec<_> = fields
        .instructions
        .iter()
        .filter(|i| i.class() == class::LDX)
        .map(|i| i.offset)
        .collect();
    // corners[2].y[3], centre.x; and flag is stored to.
    assert_eq!(loads, [70, 16]);
    let facts = constants(program(&object, "facts"));
    // exists, size of name, type exists, enumerator exists: 1, 16, 1, 1; the value of GREEN, and the size of the type.
    for expected in [16, 80, 70000] {
        assert!(facts.contains(&expected), "{expected} in {facts:?}");
    }
}

#[test]
fn bit_fields_are_loaded_by_the_smallest_load_that_holds_them() {
    let Some(object) = load(
        "bit_fields_are_loaded_by_the_smallest_load_that_holds_them",
        "core",
    ) else {
        return;
    };
    // `wide` is bits 3 to 22 of the word at 28: a load of four octets, shifted left by 41 and right by 44.
    let shifts: Vec<_> = program(&object, "facts")
        .instructions
        .iter()
        .filter(|i| matches!(i.opcode, 0x67 | 0x77 | 0xc7))
        .map(|i| i.imm)
        .collect();
    assert!(shifts.contains(&41) && shifts.contains(&44), "{shifts:?}");
    assert!(shifts.contains(&61), "{shifts:?}");
}

#[test]
fn a_relocation_against_types_that_say_otherwise_is_refused() {
    let test = "a_relocation_against_types_that_say_otherwise_is_refused";
    let Some(mut octets) = compile(test, "core") else {
        return;
    };
    let object = Object::parse(&octets).unwrap();
    // The store to `flag`, made to be one elsewhere.
    let store = program(&object, "fields")
        .instructions
        .iter()
        .find(|i| i.opcode == 0x73);
    let store = store.unwrap().to_octets();
    let place = octets.windows(8).position(|octets| octets == store).unwrap();
    octets[place + 2] += 1;
    let error = Object::parse(&octets).unwrap_err().to_string();
    assert!(error.contains("`fields`") && error.contains("CO-RE"), "{error}");
}

#[test]
fn lines_follow_functions_to_where_they_are_linked() {
    let Some(object) = load("lines_follow_functions_to_where_they_are_linked", "features") else {
        return;
    };
    let first = program(&object, "first");
    assert!(first.lines.is_sorted_by(|a, b| a.instruction < b.instruction));
    for function in &first.functions {
        let lines = first
            .lines
            .iter()
            .filter(|line| (function.start..function.end).contains(&line.instruction));
        let texts: Vec<_> = lines.map(|line| line.text.as_str()).collect();
        let expected = match function.name.as_str() {
            "leaf" => "seen += number;",
            "branch" => "return leaf(number) + limit;",
            "each" => "return *key == 3;",
            _ => "found->packets++;",
        };
        assert!(
            texts.iter().any(|text| text.trim() == expected),
            "{expected} in {texts:?}"
        );
    }
    let line = &first.lines[0];
    assert!(line.file.ends_with("features.c") && line.line > 0);
}

#[test]
fn values_are_printed_as_bpftool_does() {
    let Some(object) = load("values_are_printed_as_bpftool_does", "values") else {
        return;
    };
    let data = map(&object, ".data");
    let types = data.types.as_ref().unwrap();
    let value = types
        .btf
        .to_json(types.value, data.contents.as_ref().unwrap())
        .unwrap();
    assert_eq!(
        value.to_json(),
        concat!(
            r#"{".data":[{"sample":{"truth":true,"letter":120,"small":-5,"port":65535,"number":-100000,"#,
            r#""large":18446744073709551615,"name":"e\"t\\0","octets":[1,2,3,4],"address":[10,0,0,1],"#,
            r#""colours":["GREEN","DARK",5],"narrow":"0x5","wide":"0xffffe","points":[{"x":1,"y":2},"#,
            r#"{"x":3,"y":-4}],"":{"whole":65538,"half":2},"pointer":4660,"null":0,"#,
            r#""huge":"0x10000000000000002","nothing":{},"none":[]}}]}"#
        )
    );
    let text = value.to_text(1);
    assert!(
        text.starts_with("{\n        \".data\": [{\n                \"sample\": {\n"),
        "{text}"
    );
    assert!(
        text.contains("\"octets\": [1,2,3,4\n                    ],\n"),
        "{text}"
    );
    assert!(text.contains("\"narrow\": 0x5,"), "{text}");
    assert!(text.contains("\"pointer\": \"0x1234\",\n"), "{text}");
    assert!(text.ends_with("}\n        ]\n    }"), "{text}");
}

#[test]
fn a_value_that_is_shorter_than_its_type_is_refused() {
    let Some(object) = load("a_value_that_is_shorter_than_its_type_is_refused", "values") else {
        return;
    };
    let types = map(&object, "values").types.as_ref().unwrap();
    let size = types.btf.size(types.value).unwrap() as usize;
    let octets = vec![0; size];
    assert!(types.btf.to_json(types.value, &octets).is_ok());
    for len in 0..size {
        let short = types.btf.to_json(types.value, &octets[..len]);
        // What is behind the last octet that a member has is padding.
        assert!(short.is_err() || len >= size - 16, "{len}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let expected = [
        ("1", "map `map`: field `colour` of its definition is not known"),
        (
            "2",
            "map `map`: `value_size` says 4 octets, and what is before it 8",
        ),
        ("3", "map `map`: `pinning` is 7"),
        ("4", "map `map`: `values`"),
        ("5", "map `map`: `map_flags` is not a number"),
        ("6", "map `untyped`: its `type` is missing"),
        (
            "7",
            "extern `CONFIG_UNHEARD_OF`: the configuration of this engine does not say",
        ),
        ("8", "extern `LINUX_KERNEL_VERSION`"),
    ];
    for (case, problem) in expected {
        let case = format!("-DCASE={case}");
        let Some(octets) = compile_with("what_cannot_be_is_refused_by_name", "refused", &[&case]) else {
            return;
        };
        let error = Object::parse(&octets).unwrap_err().to_string();
        assert!(error.contains(problem), "{case}: {error}");
    }
}

#[test]
fn maps_without_types_are_refused_with_what_to_do() {
    let test = "maps_without_types_are_refused_with_what_to_do";
    let Some(octets) = compile_with(test, "refused", &["-DCASE=0", "-g0"]) else {
        return;
    };
    let error = Object::parse(&octets).unwrap_err().to_string();
    assert!(error.contains("compile with clang -g"), "{error}");
}

#[test]
fn addresses_in_data_are_told_of() {
    let Some(octets) = compile_with("addresses_in_data_are_told_of", "refused", &["-DCASE=0"]) else {
        return;
    };
    let object = Object::parse(&octets).unwrap();
    assert!(
        object.skipped[0].contains("1 addresses in section `.data`"),
        "{:?}",
        object.skipped
    );
    assert_eq!(map(&object, ".data").contents.as_deref(), Some(&[0; 8][..]));
}
