//! The check refuses what engines cannot run, as the kernel does, and survives anything.

mod common;

use common::assembler::*;
use common::generate::{self, MakeUnit, Random};
use common::kernel::{self, Loaded};
use common::{check_all, engines, functions, not_run, one_function, unchecked_program};
use policy::check::{CheckError, FUNCTIONS_MAX, NetkitRules, Problem, Rules, check};
use policy::code::Function;
use policy::{Instruction, alu, atomic as operation, class, jump, mode, opcode, pseudo, size};

fn problem(code: &[Instruction]) -> String {
    check_all(code, &one_function(code))
        .unwrap_err()
        .problem
        .to_string()
}

/// Checks an instruction in the middle of a program.
fn in_program(instruction: Instruction) -> Result<(), CheckError> {
    let code = [instruction, mov_k(0, 0), exit()];
    check_all(&code, &one_function(&code))
}

fn refused(instruction: Instruction) -> String {
    let error = in_program(instruction).unwrap_err();
    assert_eq!(
        (error.instruction, error.function.as_str()),
        (0, "f0"),
        "{instruction:?}"
    );
    error.problem.to_string()
}

#[test]
fn an_error_says_where_it_is() {
    let code = [call(1), exit(), mov_k(0, 0), mov_k(10, 0), exit()];
    let error = check_all(&code, &functions(&[0, 2, 5])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "function f1, instruction 3: frame pointer is read only"
    );
}

#[test]
fn unknown_opcodes_are_refused() {
    for opcode in [
        class::JMP | 0xe0,
        class::JMP | 0xf0,
        class::JMP32 | jump::CALL,
        class::JMP32 | jump::EXIT,
        class::JMP | jump::CALL | 8,
        class::JMP | jump::JA | 8,
        class::ALU | 0xe0,
        class::ALU64 | alu::NEG | 8,
        class::ALU64 | alu::END | 8,
        class::LDX | mode::MEMSX | size::DW,
        class::LDX | mode::ABS,
        class::LDX | mode::ATOMIC,
        class::STX | mode::ATOMIC | size::B,
        class::ST | mode::ATOMIC,
        class::STX | mode::MEMSX,
        class::LD | mode::ABS | size::DW,
        class::LD | mode::MEM,
        class::LD,
    ] {
        assert_eq!(
            refused(raw(opcode, 0, 0, 0, 0)),
            format!("unknown opcode {opcode:02x}")
        );
    }
}

#[test]
fn registers_exist_and_r10_is_not_written() {
    assert_eq!(refused(mov_k(11, 0)), "R11 is invalid");
    assert_eq!(refused(mov(0, 15)), "R15 is invalid");
    assert_eq!(refused(store(size::W, 12, 0, 0)), "R12 is invalid");
    for writes in [
        mov_k(10, 0),
        add_k(10, 8),
        alu_k(W64, alu::NEG, 0, 10, 0),
        load(size::DW, 10, 1, 0),
        atomic(size::DW, operation::XCHG, 1, 0, 10),
        atomic(size::DW, operation::ADD | operation::FETCH, 1, 0, 10),
    ] {
        assert_eq!(refused(writes), "frame pointer is read only");
    }
    let [low, high] = lddw(10, 0);
    assert_eq!(problem(&[low, high, exit()]), "frame pointer is read only");
    for reads in [
        mov(1, 10),
        store(size::DW, 10, -8, 10),
        atomic(size::DW, operation::ADD, 10, -8, 10),
        atomic(size::DW, operation::CMPXCHG, 10, -8, 10),
    ] {
        assert_eq!(in_program(reads), Ok(()));
    }
}

#[test]
fn reserved_fields_are_zero() {
    let with = |instruction: Instruction, change: fn(&mut Instruction)| {
        let mut instruction = instruction;
        change(&mut instruction);
        refused(instruction)
    };
    let mov32 = alu_x(W32, alu::MOV, 0, 1, 2);
    for (refused, name) in [
        (with(add_k(1, 2), |i| i.src = 1), "BPF_ALU"),
        (with(add_k(1, 2), |i| i.offset = 1), "BPF_ALU"),
        (with(alu_x(W64, alu::ADD, 0, 1, 2), |i| i.imm = 1), "BPF_ALU"),
        (with(alu_x(W64, alu::DIV, 0, 1, 2), |i| i.offset = 2), "BPF_ALU"),
        (with(mov(1, 2), |i| i.imm = 1), "BPF_MOV"),
        (with(mov(1, 2), |i| i.offset = 4), "BPF_MOV"),
        (with(mov32, |i| i.offset = 32), "BPF_MOV"),
        (with(mov_k(1, 2), |i| i.offset = 8), "BPF_MOV"),
        (with(mov_k(1, 2), |i| i.src = 1), "BPF_MOV"),
        (with(alu_k(W64, alu::NEG, 0, 1, 0), |i| i.imm = 1), "BPF_NEG"),
        (with(alu_k(W64, alu::END, 0, 1, 16), |i| i.imm = 8), "BPF_END"),
        (with(alu_k(W32, alu::END, 0, 1, 16), |i| i.src = 1), "BPF_END"),
        (with(load(size::W, 0, 10, -8), |i| i.imm = 1), "BPF_LDX"),
        (with(store(size::W, 10, -8, 1), |i| i.imm = 1), "BPF_STX"),
        (with(store_k(size::W, 10, -8, 1), |i| i.src = 1), "BPF_ST"),
        (with(ja(0), |i| i.imm = 1), "BPF_JA"),
        (with(ja(0), |i| i.dst = 1), "BPF_JA"),
        (with(gotol(0), |i| i.offset = 1), "BPF_JA"),
        (
            with(jump_k(W64, jump::JEQ, 1, 2, 0), |i| i.src = 1),
            "BPF_JMP/JMP32",
        ),
        (
            with(jump_x(W32, jump::JEQ, 1, 2, 0), |i| i.imm = 1),
            "BPF_JMP/JMP32",
        ),
        (with(helper(1), |i| i.dst = 1), "BPF_CALL"),
        (with(helper(1), |i| i.offset = 1), "BPF_CALL"),
        (with(helper(1), |i| i.src = 3), "BPF_CALL"),
        (with(exit(), |i| i.imm = 1), "BPF_EXIT"),
        (with(exit(), |i| i.src = 1), "BPF_EXIT"),
        (with(load_absolute(size::B, 0), |i| i.src = 1), "BPF_LD_[ABS|IND]"),
        (
            with(load_indirect(size::B, 1, 0), |i| i.dst = 1),
            "BPF_LD_[ABS|IND]",
        ),
    ] {
        assert_eq!(refused, format!("{name} uses reserved fields"));
    }
}

#[test]
fn immediates_make_sense() {
    for width in [W32, W64] {
        assert_eq!(refused(alu_k(width, alu::DIV, 0, 1, 0)), "div by zero");
        assert_eq!(refused(alu_k(width, alu::MOD, 1, 1, 0)), "div by zero");
        assert_eq!(refused(alu_k(width, alu::RSH, 0, 1, -1)), "invalid shift -1");
        assert_eq!(in_program(alu_k(width, alu::LSH, 0, 1, 31)), Ok(()));
    }
    assert_eq!(refused(alu_k(W32, alu::LSH, 0, 1, 32)), "invalid shift 32");
    assert_eq!(refused(alu_k(W64, alu::ARSH, 0, 1, 64)), "invalid shift 64");
    let unknown = atomic(size::W, 0x10, 10, -8, 1);
    assert_eq!(refused(unknown), "BPF_ATOMIC uses invalid atomic opcode 10");
}

#[test]
fn wide_constants_have_two_halves_and_known_operands() {
    let [low, high] = lddw(1, 5);
    assert_eq!(problem(&[low]), "invalid bpf_ld_imm64 insn");
    assert_eq!(problem(&[low, exit()]), "invalid bpf_ld_imm64 insn");
    assert_eq!(
        problem(&[low, Instruction { dst: 1, ..high }, exit()]),
        "invalid bpf_ld_imm64 insn"
    );
    let with_offset = Instruction { offset: 1, ..low };
    assert_eq!(
        problem(&[with_offset, high, exit()]),
        "BPF_LD_IMM64 uses reserved fields"
    );
    let of = |src| Instruction { src, ..low };
    assert!(problem(&[of(3), high, exit()]).starts_with("unrecognized bpf_ld_imm64 insn"));
    assert_eq!(problem(&[low, high]), "last insn is not an exit or jmp");
    let code = [of(pseudo::MAP), high, exit()];
    struct TwoMaps;
    impl Rules for TwoMaps {
        fn helper(&self, id: u32) -> Result<(), String> {
            Err(format!("helper {id} is not available"))
        }
        fn maps(&self) -> usize {
            2
        }
    }
    let error = check(&code, &one_function(&code), &TwoMaps).unwrap_err();
    assert_eq!(error.problem, Problem::Map { index: 5, maps: 2 });
    let code = [helper(4), exit()];
    let error = check(&code, &one_function(&code), &TwoMaps).unwrap_err();
    assert_eq!(error.problem.to_string(), "helper 4 is not available");
}

#[test]
fn kernel_functions_are_refused_by_number() {
    let kfunc = Instruction {
        src: pseudo::KFUNC,
        ..helper(1234)
    };
    assert!(refused(kfunc).contains("BTF id 1234"));
}

#[test]
fn control_stays_in_its_function() {
    let [low, high] = lddw(1, 0);
    assert_eq!(problem(&[ja(1), exit()]), "jump out of range from insn 0 to 2");
    assert_eq!(problem(&[ja(-2), exit()]), "jump out of range from insn 0 to -1");
    assert_eq!(
        problem(&[gotol(i32::MIN), exit()]),
        "jump out of range from insn 0 to -2147483647"
    );
    assert_eq!(
        problem(&[gotol(i32::MAX), exit()]),
        "jump out of range from insn 0 to 2147483648"
    );
    let into = [jump_k(W64, jump::JEQ, 1, 0, 1), low, high, exit()];
    assert_eq!(problem(&into), "jump into the middle of ldimm64 insn 1");
    assert_eq!(problem(&[exit(), mov_k(0, 0), exit()]), "unreachable insn 1");
    assert_eq!(problem(&[mov_k(0, 0)]), "last insn is not an exit or jmp");
    assert_eq!(
        problem(&[exit(), jump_k(W64, jump::JEQ, 1, 0, -2)]),
        "last insn is not an exit or jmp"
    );
    let code = [call(2), exit(), exit(), exit()];
    assert_eq!(
        check_all(&code, &functions(&[0, 2, 4]))
            .unwrap_err()
            .problem
            .to_string(),
        "insn 3 is not the first of a function"
    );
    let code = [jump_k(W64, jump::JEQ, 1, 0, 1), exit(), exit()];
    assert_eq!(
        check_all(&code, &functions(&[0, 2, 3]))
            .unwrap_err()
            .problem
            .to_string(),
        "jump out of range from insn 0 to 2"
    );
}

#[test]
fn calls_do_not_nest_deeper_than_there_are_frames() {
    let chain = |functions_: usize, last: Instruction| {
        let mut code: Vec<_> = (1..functions_).flat_map(|_| [call(1), exit()]).collect();
        code.extend([last, exit()]);
        let starts: Vec<_> = (0..=functions_).map(|function| 2 * function).collect();
        check_all(&code, &functions(&starts)).map_err(|error| error.problem)
    };
    assert_eq!(chain(8, mov_k(0, 0)), Ok(()));
    assert_eq!(chain(9, mov_k(0, 0)), Err(Problem::CallDepth(9)));
    assert_eq!(
        chain(1, call(-1)),
        Err(Problem::CallDepth(9)),
        "a function that calls itself"
    );
    assert_eq!(
        chain(3, call(-3)),
        Err(Problem::CallDepth(9)),
        "functions that call each other"
    );
}

#[test]
fn a_program_has_instructions_and_functions_in_order() {
    assert!(matches!(
        check_all(&[], &[]).unwrap_err().problem,
        Problem::Length(0)
    ));
    let code = [exit(), exit()];
    assert!(matches!(
        check_all(&code, &[]).unwrap_err().problem,
        Problem::Functions(0)
    ));
    let many = vec![one_function(&code).remove(0); FUNCTIONS_MAX + 1];
    assert!(matches!(
        check_all(&code, &many).unwrap_err().problem,
        Problem::Functions(257)
    ));
    for (start, end) in [(0, 1), (0, 3), (1, 2), (0, usize::MAX), (0, 0)] {
        let function = Function {
            name: String::new(),
            start,
            end,
        };
        assert_eq!(
            check_all(&code, &[function]).unwrap_err().problem,
            Problem::Layout
        );
    }
    let code = vec![exit(); 1_000_001];
    assert!(matches!(
        check_all(&code, &one_function(&code)).unwrap_err().problem,
        Problem::Length(_)
    ));
}

/// `family`, which programs may not read.
const FAMILY: i16 = 88;

#[test]
fn the_context_is_followed_to_accesses_that_are_not_allowed() {
    let load = |register| load(size::W, 0, register, FAMILY);
    for code in [
        vec![load(1), exit()],
        vec![mov(6, 1), mov_k(1, 0), load(6), exit()],
        vec![mov(6, 1), helper(1), load(6), exit()],
        vec![
            add_k(1, 8),
            common::assembler::load(size::W, 0, 1, FAMILY - 8),
            exit(),
        ],
        vec![
            store(size::DW, 10, -8, 1),
            helper(1),
            common::assembler::load(size::DW, 3, 10, -8),
            load(3),
            exit(),
        ],
        vec![jump_k(W64, jump::JEQ, 2, 0, 1), mov_k(2, 0), load(1), exit()],
        // A loop does not lose it.
        vec![add_k(2, 1), jump_k(W64, jump::JLT, 2, 9, -2), load(1), exit()],
    ] {
        assert!(
            problem(&code).starts_with("invalid bpf_context access off=88 size=4: family"),
            "{code:?}"
        );
    }
    let code = [mov(2, 1), call(1), exit(), load(2), exit()];
    let error = check_all(&code, &functions(&[0, 3, 5])).unwrap_err();
    assert_eq!(error.instruction, 3);
    let code = [store(size::W, 1, 76, 2), exit()];
    assert!(problem(&code).contains("data may be read, 4 octets at a time, and not written"));
}

#[test]
fn what_may_be_another_pointer_is_not_taken_for_the_context() {
    let load = |register| load(size::W, 0, register, FAMILY);
    for code in [
        vec![helper(1), load(1), exit()],
        vec![alu_x(W64, alu::ADD, 0, 1, 2), load(1), exit()],
        vec![alu_x(W32, alu::MOV, 0, 1, 1), load(1), exit()],
        vec![jump_k(W64, jump::JEQ, 2, 0, 1), mov(1, 2), load(1), exit()],
        // The slot is written again: directly, by half, by a helper, at an unknown place.
        vec![
            store(size::DW, 10, -8, 1),
            store(size::DW, 10, -8, 2),
            common::assembler::load(size::DW, 3, 10, -8),
            load(3),
            exit(),
        ],
        vec![
            store(size::DW, 10, -8, 1),
            store_k(size::B, 10, -1, 0),
            common::assembler::load(size::DW, 3, 10, -8),
            load(3),
            exit(),
        ],
        vec![
            store(size::DW, 10, -8, 1),
            mov(2, 10),
            add_k(2, -16),
            helper(1),
            common::assembler::load(size::DW, 3, 10, -8),
            load(3),
            exit(),
        ],
        vec![
            store(size::DW, 10, -8, 1),
            mov(3, 10),
            alu_x(W64, alu::ADD, 0, 3, 2),
            store(size::DW, 3, 0, 2),
            common::assembler::load(size::DW, 3, 10, -8),
            load(3),
            exit(),
        ],
    ] {
        assert_eq!(check_all(&code, &one_function(&code)), Ok(()), "{code:?}");
    }
}

#[test]
fn a_program_of_many_jumps_is_checked_in_good_time() {
    // Each jump leads to all that is behind it, with something else in a register.
    let mut code = Vec::new();
    for turn in 0..100_000 {
        code.push(add_k(1, 1));
        code.push(jump_k(W64, jump::JEQ, 2, turn, 0));
    }
    code.push(jump_k(W64, jump::JEQ, 2, 0, -20_000));
    code.push(exit());
    assert_eq!(check_all(&code, &one_function(&code)), Ok(()));
}

/// An instruction that is a little wrong, perhaps.
fn changed(random: &mut Random, instruction: Instruction) -> Instruction {
    let mut instruction = instruction;
    match random.below(6) {
        0 => instruction.opcode ^= 1 << random.below(8),
        1 => instruction.dst = random.below(12) as u8,
        2 => instruction.src = random.below(12) as u8,
        3 => instruction.offset = random.number() as i16,
        4 => instruction.offset = random.below(20) as i16 - 10,
        _ => instruction.imm = random.number() as i32,
    }
    instruction
}

fn changed_program(random: &mut Random, makers: &[MakeUnit]) -> (Vec<Instruction>, Vec<Function>) {
    let len = random.below(12) as usize;
    let generated = generate::program(random, len, makers);
    let mut code = generated.instructions;
    for _ in 0..1 + random.below(3) {
        let index = random.below(code.len() as u64) as usize;
        code[index] = changed(random, code[index]);
    }
    (code, functions(&generated.starts))
}

#[test]
fn nothing_that_passes_makes_an_engine_panic_or_hang() {
    let mut passed = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let (code, functions) = changed_program(&mut random, generate::INSTRUCTIONS);
        if check(&code, &functions, &NetkitRules { maps: 0 }).is_err() {
            continue;
        }
        passed += 1;
        for engine in engines() {
            let mut program = unchecked_program(engine, &code, &functions);
            program.fuel = 10_000;
            let mut frame = generate::frame(&mut random);
            let _ = common::run(&program, &mut frame, &mut Default::default());
        }
    }
    assert!(passed > 5_000, "{passed} programs passed");
}

#[test]
fn random_words_are_checked_without_panic() {
    let mut random = Random(1);
    for _ in 0..20_000 {
        let len = random.below(20) as usize;
        let mut code: Vec<_> = (0..len)
            .map(|_| {
                let mut instruction = Instruction::from_octets(random.next().to_le_bytes());
                if random.below(2) == 0 {
                    instruction = changed(&mut random, raw(instruction.opcode, 1, 0, 0, 0));
                }
                instruction
            })
            .collect();
        code.push(exit());
        let middle = random.below(code.len() as u64) as usize;
        for functions in [one_function(&code), functions(&[0, middle, code.len()])] {
            let _ = check_all(&code, &functions);
            // The interpreter contains even what nobody checked.
            let mut program = unchecked_program(engines()[0], &code, &functions);
            program.fuel = 10_000;
            let _ = common::run_on_octets(&program, &mut vec![0; 64]);
        }
    }
}

#[test]
fn what_the_kernel_accepts_passes() {
    if let Some(why) = kernel::unavailable() {
        return not_run("what_the_kernel_accepts_passes", &why);
    }
    let mut accepted = 0;
    for seed in 0..4_000 {
        let mut random = Random(seed);
        // The kernel looks at no instruction that it knows never to run.
        let (code, functions) = changed_program(&mut random, generate::STRAIGHT);
        let may_goto = |instruction: &Instruction| instruction.opcode == class::JMP | 0xe0;
        let odd_exit =
            |instruction: &Instruction| instruction.opcode == opcode::EXIT && instruction.offset != 0;
        // A call that was changed may make another place a function, which the table does not have.
        let moved = |instruction: &Instruction| instruction.is_local_call();
        if code
            .iter()
            .any(|instruction| may_goto(instruction) || odd_exit(instruction) || moved(instruction))
        {
            continue;
        }
        if Loaded::new_quietly(&code).is_ok() {
            accepted += 1;
            assert_eq!(check_all(&code, &functions), Ok(()), "seed {seed}");
        }
    }
    assert!(accepted > 100, "the kernel accepted {accepted}");
}
