//! Calls, loops, stops, and what is refused.

use super::*;
use crate::Errno;
use crate::layout::CONTEXT;
use crate::memory::Section;

fn ja(offset: i16) -> Instruction {
    op(opcode::JA, 0, 0, offset, 0)
}

#[test]
fn jumps_without_condition() {
    let place = Place::new();
    let short = code(&[&[ja(1), exit(), mov(0, 5), exit()]]);
    assert_eq!(place.run(&short, [0; 5]), Ok(5));
    let long = code(&[&[op(opcode::JA32, 0, 0, 0, 1), exit(), mov(0, 6), exit()]]);
    assert_eq!(place.run(&long, [0; 5]), Ok(6));
}

#[test]
fn a_loop_ends_when_the_fuel_does() {
    let place = Place::new();
    let endless = code(&[&[mov(0, 0), op(class::ALU64 | alu::ADD, 1, 0, 0, 1), ja(-2)]]);
    assert_eq!(place.run(&endless, [0; 5]), Err(FaultKind::Fuel));
    let at = place.with(|machine| machine.words.instruction);
    assert_eq!(at, 1);
    // Three instructions for each round of this one.
    let rounds = compile(&code(&[&[
        op(class::ALU64 | alu::ADD, 0, 0, 0, 1),
        op(class::ALU64 | alu::ADD, 1, 0, 0, -1),
        op(class::JMP | jump::JNE, 1, 0, -3, 0),
        exit(),
    ]]));
    assert_eq!(place.call(&rounds, [33_333, 0, 0, 0, 0]), Ok(33_333));
    assert_eq!(place.call(&rounds, [33_334, 0, 0, 0, 0]), Err(FaultKind::Fuel));
}

#[test]
fn what_can_be_called_again_is_charged_for() {
    let place = Place::new();
    let body = [mov(0, 1), exit()];
    let compiled = compile(&code(&[&body]));
    let fuel_after = |frame| {
        place.with(|machine| {
            compiled.call(machine, 0, [0; 5], frame).unwrap();
            machine.words.fuel
        })
    };
    assert_eq!(fuel_after(STACK_TOP), 100_000);
    assert_eq!(fuel_after(STACK_TOP - 512), 99_998);
}

#[test]
fn calls_nest_eight_deep() {
    let place = Place::new();
    // f1(n): n == 0 ? r10 : f1(n - 1)
    let main: &[Instruction] = &[local(1), exit()];
    let function: &[Instruction] = &[
        copy(0, 10),
        op(class::JMP | jump::JEQ, 1, 0, 2, 0),
        op(class::ALU64 | alu::ADD, 1, 0, 0, -1),
        local(-4),
        exit(),
    ];
    let compiled = compile(&code(&[main, function]));
    for depth in 0..7 {
        let frame = u64::from(STACK_TOP) - 512 * (depth + 1);
        assert_eq!(place.call(&compiled, [depth, 0, 0, 0, 0]), Ok(frame));
    }
    for depth in [7, 8, 1000] {
        assert_eq!(
            place.call(&compiled, [depth, 0, 0, 0, 0]),
            Err(FaultKind::CallDepth)
        );
    }
    let again = code(&[&[local(-1), local(-2), exit()]]);
    assert_eq!(place.run(&again, [0; 5]), Err(FaultKind::CallDepth));
}

#[test]
fn a_function_keeps_its_callers_registers_and_frame() {
    let place = Place::new();
    let mut main: Vec<Instruction> = (6..10).map(|r| mov(r, 10 + i32::from(r))).collect();
    main.extend([mov(1, 1), mov(2, 2), mov(3, 3), mov(4, 4), mov(5, 5)]);
    main.push(local(9));
    // r0 of the callee, then r6 to r9, r10's low octets, and r1 to r5, which are zero.
    main.push(op(class::ALU64 | alu::ADD | source::X, 0, 6, 0, 0));
    main.push(op(class::ALU64 | alu::ADD | source::X, 0, 7, 0, 0));
    main.push(op(class::ALU64 | alu::ADD | source::X, 0, 8, 0, 0));
    main.push(op(class::ALU64 | alu::ADD | source::X, 0, 9, 0, 0));
    main.push(op(class::ALU64 | alu::OR | source::X, 1, 2, 0, 0));
    main.push(op(class::ALU64 | alu::OR | source::X, 3, 4, 0, 0));
    main.push(op(class::JMP | jump::JNE, 1, 0, 1, 0));
    main.push(op(class::JMP | jump::JEQ, 10, 0, 0, 0));
    main.push(exit());
    let mut callee: Vec<Instruction> = (6..10).map(|r| mov(r, -1)).collect();
    callee.extend([mov(0, 0)]);
    callee.extend((1..6).map(|r| op(class::ALU64 | alu::ADD | source::X, 0, r, 0, 0)));
    callee.push(exit());
    let code = code(&[&main, &callee]);
    assert_eq!(place.run(&code, [0; 5]), Ok(15 + 16 + 17 + 18 + 19));
}

#[test]
fn helpers_get_their_arguments_and_leave_nothing_behind() {
    let place = Place::new();
    let arguments: Vec<Instruction> = (1..6).map(|r| mov(r, i32::from(r))).collect();
    let program = [arguments.as_slice(), &[helper(SUM), exit()]].concat();
    assert_eq!(place.run(&code(&[&program]), [0; 5]), Ok(12_345));
    for register in 1..6 {
        let read_later = [helper(DIRTY), ja(0), copy(0, register), exit()];
        assert_eq!(place.run(&code(&[&read_later]), [9; 5]), Ok(0));
        for read in [
            copy(0, register),
            op(class::ALU64 | alu::MUL | source::X, 0, register, 0, 0),
            op(class::ALU64 | alu::AND | source::X, 0, register, 0, 0),
        ] {
            assert_eq!(place.run(&code(&[&[helper(DIRTY), read, exit()]]), [9; 5]), Ok(0));
        }
        let stored = [
            helper(DIRTY),
            store(size::DW, 10, -8, register),
            load(size::DW, 0, 10, -8),
            exit(),
        ];
        assert_eq!(place.run(&code(&[&stored]), [9; 5]), Ok(0));
        let changed = [
            helper(DIRTY),
            op(class::ALU64 | alu::ADD, register, 0, 0, 3),
            copy(0, register),
            exit(),
        ];
        assert_eq!(place.run(&code(&[&changed]), [9; 5]), Ok(3));
        let passed = [helper(DIRTY), mov(0, 0), helper(SUM), exit()];
        assert_eq!(place.run(&code(&[&passed]), [9; 5]), Ok(0));
    }
    let kept: Vec<Instruction> = (6..10).map(|r| mov(r, i32::from(r))).collect();
    let sum = (6..10).map(|r| op(class::ALU64 | alu::ADD | source::X, 0, r, 0, 0));
    let program = [kept, vec![helper(DIRTY)], sum.collect(), vec![exit()]].concat();
    assert_eq!(place.run(&code(&[&program]), [0; 5]), Ok(5 + 30));
}

#[test]
fn programs_start_with_registers_of_zero() {
    let place = Place::new();
    for register in [0, 6, 7, 8, 9] {
        let program = [copy(0, register), exit()];
        assert_eq!(place.run(&code(&[&program]), [9; 5]), Ok(0));
    }
}

#[test]
fn a_helper_stops_the_program() {
    let place = Place::new();
    let program = [
        mov(1, 42),
        helper(STOP),
        op(class::ST | mode::MEM | size::DW, 1, 0, 0, 0),
        exit(),
    ];
    let fault = FaultKind::Argument {
        helper: 8,
        argument: 1,
        value: 42,
        len: 0,
    };
    assert_eq!(place.run(&code(&[&program]), [0; 5]), Err(fault));
    assert_eq!(place.with(|machine| machine.words.instruction), 1);
}

/// Calls the second function back, with `at` as its argument, and returns what it returned plus r6.
fn calling_back(at: i32) -> Program {
    let main = [
        mov(6, 1000),
        mov(1, crate::code::function_handle(1) as i32),
        mov(2, at),
        helper(CALL_BACK),
        op(class::ALU64 | alu::ADD | source::X, 0, 6, 0, 0),
        exit(),
    ];
    let callee = [mov(6, 0), mov(0, 7), load(size::DW, 3, 1, 0), exit()];
    program(code(&[&main, &callee]))
}

#[test]
fn a_helper_calls_back() {
    let program = calling_back(CONTEXT as i32);
    assert_eq!(run(&program, vec![0; 64]), Ok(1007));
}

#[test]
fn a_fault_in_a_call_back_ends_both() {
    let program = calling_back(8);
    for _ in 0..3 {
        let fault = run(&program, vec![0; 64]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Access { address: 8 });
        assert_eq!(fault.instruction, 8);
    }
}

#[test]
fn call_backs_nest_no_deeper_than_calls() {
    let own = crate::code::function_handle(0) as i32;
    let program = program(code(&[&[mov(1, own), helper(CALL_BACK), exit()]]));
    assert_eq!(run(&program, vec![0; 64]).unwrap_err().kind, FaultKind::CallDepth);
}

#[test]
fn a_tail_call_that_fails_goes_on() {
    let program = program(code(&[&[
        mov(2, 3),
        mov(3, 0),
        helper(crate::helper::TAIL_CALL as i32),
        op(class::ALU64 | alu::ADD, 0, 0, 0, 1),
        exit(),
    ]]));
    let wanted = Errno::ENOENT.to_register().wrapping_add(1) as u32;
    assert_eq!(run(&program, vec![0; 64]), Ok(wanted));
}

#[test]
fn legacy_packet_loads() {
    let frame: Vec<u8> = (0..64).collect();
    let absolute = |size: u8, imm: i32| op(class::LD | mode::ABS | size, 0, 0, 0, imm);
    let answer = |load: Instruction| {
        let body = [
            mov(7, 20),
            load,
            op(class::JMP | jump::JNE, 1, 0, 1, 0),
            exit(),
            mov(0, -1),
            exit(),
        ];
        run(&program(code(&[&body])), frame.clone())
    };
    assert_eq!(answer(absolute(size::B, 5)), Ok(5));
    assert_eq!(answer(absolute(size::H, 5)), Ok(0x0506));
    assert_eq!(answer(absolute(size::W, 5)), Ok(0x0506_0708));
    assert_eq!(answer(absolute(size::B, -0x10_0000)), Ok(14));
    assert_eq!(answer(absolute(size::B, -0x20_0000 + 3)), Ok(3));
    let indirect = op(class::LD | mode::IND | size::H, 0, 7, 0, 2);
    assert_eq!(answer(indirect), Ok(0x1617));
    // Behind the end: the function returns 0 at once.
    for imm in [61, 64, i32::MAX, -1, i32::MIN] {
        assert_eq!(answer(absolute(size::W, imm)), Ok(0));
    }
    let main = [local(2), op(class::ALU64 | alu::ADD, 0, 0, 0, 9), exit()];
    let function = [absolute(size::W, 64), mov(0, 100), exit()];
    assert_eq!(run(&program(code(&[&main, &function])), frame), Ok(9));
}

struct Array(ArrayLayout);

impl Maps for Array {
    fn array_layout(&self, handle: u64) -> Option<ArrayLayout> {
        (handle == 3).then_some(self.0)
    }
}

#[test]
fn an_element_of_an_array_is_found_without_a_call() {
    let place = Place::new();
    let block = place.0.memory().allocate(Section::Shared, 4096).unwrap();
    let layout = ArrayLayout {
        start: block.start,
        stride: 24,
        len: 100,
        index_mask: None,
    };
    let target = Target {
        maps: &Array(layout),
        ..target()
    };
    let look_up = |handle: u64| {
        let mut body = vec![
            store(size::W, 10, -4, 1),
            copy(2, 10),
            op(class::ALU64 | alu::ADD, 2, 0, 0, -4),
        ];
        body.extend(wide(1, pseudo::MAP, handle));
        body.extend([
            helper(1),
            op(class::ALU64 | alu::OR | source::X, 0, 2, 0, 0),
            exit(),
        ]);
        code(&[&body])
    };
    let compiled = Compiled::for_target(&look_up(3), target).unwrap();
    for (key, wanted) in [(0, 0), (1, 24), (99, 99 * 24)] {
        let wanted = u64::from(block.start) + wanted;
        assert_eq!(place.call(&compiled, [key, 0, 0, 0, 0]), Ok(wanted));
    }
    for key in [100, 101, 0x7fff_ffff, 0xffff_ffff] {
        assert_eq!(place.call(&compiled, [key, 0, 0, 0, 0]), Ok(0));
    }
    // Another map, or one that a jump may have changed, is left to the helper, which these tests lack.
    assert!(matches!(
        Compiled::for_target(&look_up(4), target),
        Err(CompileError::Helper { helper: 1, .. })
    ));
    let mut around = vec![op(class::JMP | jump::JEQ, 1, 0, 2, 0)];
    around.extend(wide(1, pseudo::MAP, 3));
    around.extend([helper(1), exit()]);
    assert!(Compiled::for_target(&code(&[&around]), target).is_err());
    let mut stray = wide(1, pseudo::MAP, 3).to_vec();
    stray.extend([mov(2, 16), helper(1), exit()]);
    let stray = Compiled::for_target(&code(&[&stray]), target).unwrap();
    assert_eq!(place.call(&stray, [0; 5]), Err(FaultKind::Access { address: 16 }));
}

#[test]
fn a_fault_is_told_with_its_instruction() {
    let place = Place::new();
    for before in 0..20 {
        let mut body: Vec<Instruction> = (0..before)
            .map(|n| op(class::ALU64 | alu::DIV | source::X, 3, n % 10, 0, 0))
            .collect();
        body.extend(wide(4, 0, u64::MAX));
        body.extend([load(size::W, 0, 4, 0), exit()]);
        let result = place.run(&code(&[&body]), [0; 5]);
        assert_eq!(result, Err(FaultKind::Access { address: 0xffff_ffff }));
        assert_eq!(
            place.with(|machine| machine.words.instruction),
            u32::from(before) + 2
        );
    }
}

#[test]
fn machine_code_is_listed_by_instruction() {
    let compiled = compile(&code(&[&[mov(0, 5), local(1), exit()], &[mov(0, 6), exit()]]));
    let lines = compiled.disassemble();
    let of = |text: &str| {
        let (offset, _) = lines.iter().find(|(_, line)| line == text).expect(text);
        compiled.instruction_at(*offset)
    };
    assert_eq!(of("mov eax, 5"), Some(0));
    assert_eq!(of("mov eax, 6"), Some(3));
    assert_eq!(of("mov rsp, [rdi+20h]"), None);
    assert_eq!(compiled.instruction_at(usize::MAX), None);
    let octets = lines.last().map(|(offset, _)| offset + 1);
    assert_eq!(octets, Some(compiled.machine_code().len()));
}

#[test]
fn what_is_no_program_is_refused() {
    let refused =
        |instructions: &[Instruction]| Compiled::for_target(&code(&[instructions]), target()).unwrap_err();
    assert!(matches!(refused(&[mov(0, 0)]), CompileError::End { .. }));
    assert!(matches!(refused(&[]), CompileError::Function { .. }));
    for bad in [
        op(0xff, 0, 0, 0, 0),
        op(0x8d, 0, 0, 0, 0),
        op(0x06 | 0xe0, 0, 0, 0, 0),
    ] {
        assert!(matches!(
            refused(&[bad, exit()]),
            CompileError::Unknown { .. } | CompileError::Jump { .. }
        ));
    }
    assert!(matches!(
        refused(&[mov(11, 0), exit()]),
        CompileError::Register { .. }
    ));
    assert!(matches!(
        refused(&[copy(0, 15), exit()]),
        CompileError::Register { .. }
    ));
    for frame_pointer in [
        mov(10, 0),
        load(size::W, 10, 1, 0),
        op(class::STX | mode::ATOMIC | size::DW, 1, 10, 0, atomic::XCHG),
    ] {
        assert!(matches!(
            refused(&[frame_pointer, exit()]),
            CompileError::FramePointer { .. }
        ));
    }
    assert!(matches!(
        refused(&[wide(10, 0, 0).as_slice(), &[exit()]].concat()),
        CompileError::FramePointer { .. }
    ));
    for offset in [1, -2, i16::MAX, i16::MIN] {
        assert!(matches!(
            refused(&[ja(offset), exit()]),
            CompileError::Jump { .. }
        ));
    }
    let into_wide = [&[ja(1)], wide(0, 0, 0).as_slice(), &[exit()]].concat();
    assert!(matches!(refused(&into_wide), CompileError::Jump { .. }));
    assert!(matches!(
        refused(&[op(opcode::LDDW, 0, 0, 0, 0)]),
        CompileError::Wide { .. }
    ));
    assert!(matches!(refused(&[local(0), exit()]), CompileError::Call { .. }));
    assert!(matches!(
        refused(&[op(opcode::CALL, 0, pseudo::KFUNC, 0, 0), exit()]),
        CompileError::Call { .. }
    ));
    assert!(matches!(
        refused(&[helper(9999), exit()]),
        CompileError::Helper { helper: 9999, .. }
    ));
    let long = [vec![mov(0, 0); INSTRUCTIONS_MAX], vec![exit()]].concat();
    assert!(matches!(refused(&long), CompileError::Length { .. }));
    let overlapping = Code {
        functions: [(0, 2), (1, 2)]
            .map(|(start, end)| Function {
                name: String::new(),
                start,
                end,
            })
            .into(),
        ..code(&[&[mov(0, 0), exit()]])
    };
    assert!(Compiled::for_target(&overlapping, target()).is_err());
}

#[test]
fn the_longest_program_is_compiled() {
    let place = Place::new();
    let look = op(
        class::STX | mode::ATOMIC | size::DW,
        10,
        2,
        -8,
        atomic::XOR | atomic::FETCH,
    );
    let long = [vec![look; INSTRUCTIONS_MAX - 1], vec![exit()]].concat();
    assert_eq!(place.run(&code(&[&long]), [0; 5]), Ok(0));
}

/// What was known in front of an exit or a jump was once taken to hold behind it, and such code failed the proof.
#[test]
fn code_behind_the_end_of_a_flow_is_compiled() {
    let place = Place::new();
    let after_call = [
        op(class::JMP | jump::JEQ, 1, 0, 2, 0),
        helper(DIRTY),
        exit(),
        copy(0, 2),
        exit(),
    ];
    assert_eq!(place.run(&code(&[&after_call]), [0, 7, 0, 0, 0]), Ok(7));
    for end in [exit(), ja(1)] {
        let after_access = [load(size::W, 0, 1, 0), end, load(size::W, 0, 1, 0), exit()];
        assert_eq!(
            place.run(&code(&[&after_access]), [CONTEXT.into(), 0, 0, 0, 0]),
            Ok(0)
        );
    }
}
