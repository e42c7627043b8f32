//! Each instruction by itself: a known opcode, registers that there are, nothing in fields that mean nothing.

use crate::{Instruction, alu, atomic, class, jump, mode, opcode, pseudo, size, source};

use super::{Found, Problem, Rules};

pub(super) fn check(instructions: &[Instruction], rules: &dyn Rules) -> Result<(), Found> {
    let mut index = 0;
    while let Some(instruction) = instructions.get(index) {
        let next = instructions.get(index + 1);
        instruction_alone(*instruction, next, rules).map_err(|problem| (index, problem))?;
        index += if instruction.is_wide() { 2 } else { 1 };
    }
    Ok(())
}

fn instruction_alone(
    instruction: Instruction,
    next: Option<&Instruction>,
    rules: &dyn Rules,
) -> Result<(), Problem> {
    match instruction.class() {
        class::ALU | class::ALU64 => arithmetic(instruction)?,
        class::JMP | class::JMP32 => jump_or_call(instruction, rules)?,
        class::LDX => load(instruction)?,
        class::ST | class::STX => store(instruction)?,
        _ => load_constant_or_packet(instruction, next, rules)?,
    }
    registers(instruction)
}

/// All registers exist, and r10 is not written.
fn registers(instruction: Instruction) -> Result<(), Problem> {
    let [dst, src] = [instruction.dst, instruction.src];
    if let Some(register) = [dst, src].into_iter().find(|register| *register > 10) {
        return Err(Problem::Register(register));
    }
    let atomic = instruction.class() == class::STX && instruction.opcode & 0xe0 == mode::ATOMIC;
    let fetches = atomic && instruction.imm & atomic::FETCH != 0 && instruction.imm != atomic::CMPXCHG;
    let writes_dst = matches!(
        instruction.class(),
        class::ALU | class::ALU64 | class::LDX | class::LD
    );
    if (writes_dst && dst == 10) || (fetches && src == 10) {
        return Err(Problem::FramePointer);
    }
    Ok(())
}

/// `error` unless `holds`.
fn require(holds: bool, error: Problem) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(error) }
}

// verifier.c: check_alu_op; RFC 9669, 4.1 and 4.2
fn arithmetic(instruction: Instruction) -> Result<(), Problem> {
    let Instruction { src, offset, imm, .. } = instruction;
    let operation = instruction.opcode & 0xf0;
    let wide = instruction.class() == class::ALU64;
    let register = instruction.opcode & source::X != 0;
    match operation {
        alu::NEG => {
            // bpf_opcode_in_insntable knows no NEG of a register
            require(!register, Problem::Opcode(instruction.opcode))?;
            require(src == 0 && offset == 0 && imm == 0, Problem::Reserved("BPF_NEG"))
        }
        alu::END => {
            require(!wide || !register, Problem::Opcode(instruction.opcode))?;
            let width = matches!(imm, 16 | 32 | 64);
            require(src == 0 && offset == 0 && width, Problem::Reserved("BPF_END"))
        }
        alu::MOV => {
            let extends = offset == 0 || offset == 8 || offset == 16 || (wide && offset == 32);
            let fits = if register {
                extends && imm == 0
            } else {
                src == 0 && offset == 0
            };
            require(fits, Problem::Reserved("BPF_MOV"))
        }
        alu::ADD..alu::END => {
            let divides = matches!(operation, alu::DIV | alu::MOD);
            let signed = offset == 0 || (offset == 1 && divides);
            let other = if register { imm == 0 } else { src == 0 };
            require(signed && other, Problem::Reserved("BPF_ALU"))?;
            require(register || !divides || imm != 0, Problem::DivisionByZero)?;
            let shifts = matches!(operation, alu::LSH | alu::RSH | alu::ARSH);
            let width = if wide { 64 } else { 32 };
            require(
                register || !shifts || (0..width).contains(&imm),
                Problem::Shift(imm),
            )
        }
        _ => Err(Problem::Opcode(instruction.opcode)),
    }
}

// verifier.c: do_check, check_cond_jmp_op; RFC 9669, 4.3
fn jump_or_call(instruction: Instruction, rules: &dyn Rules) -> Result<(), Problem> {
    let Instruction {
        opcode,
        dst,
        src,
        offset,
        imm,
    } = instruction;
    let unknown = Problem::Opcode(opcode);
    match opcode & 0xf0 {
        jump::CALL => {
            require(opcode == opcode::CALL, unknown)?;
            let known = dst == 0 && src <= pseudo::KFUNC && (offset == 0 || src == pseudo::KFUNC);
            require(known, Problem::Reserved("BPF_CALL"))?;
            match src {
                0 => rules.helper(imm as u32).map_err(Problem::Helper),
                pseudo::KFUNC => Err(Problem::KernelFunction(imm)),
                _ => Ok(()),
            }
        }
        jump::EXIT => {
            require(opcode == opcode::EXIT, unknown)?;
            let clear = dst == 0 && src == 0 && offset == 0 && imm == 0;
            require(clear, Problem::Reserved("BPF_EXIT"))
        }
        jump::JA => {
            require(matches!(opcode, opcode::JA | opcode::JA32), unknown)?;
            let other = if opcode == opcode::JA {
                imm == 0
            } else {
                offset == 0
            };
            require(dst == 0 && src == 0 && other, Problem::Reserved("BPF_JA"))
        }
        jump::JEQ..=jump::JSLE => {
            let other = if opcode & source::X != 0 {
                imm == 0
            } else {
                src == 0
            };
            require(other, Problem::Reserved("BPF_JMP/JMP32"))
        }
        _ => Err(unknown),
    }
}

// verifier.c: resolve_pseudo_ldimm64; RFC 9669, 5.1 and 5.2
fn load(instruction: Instruction) -> Result<(), Problem> {
    let known = match instruction.opcode & 0xe0 {
        mode::MEM => true,
        mode::MEMSX => instruction.opcode & size::DW != size::DW,
        _ => false,
    };
    require(known, Problem::Opcode(instruction.opcode))?;
    require(instruction.imm == 0, Problem::Reserved("BPF_LDX"))
}

// verifier.c: do_check, check_atomic; RFC 9669, 5.1 and 5.3
fn store(instruction: Instruction) -> Result<(), Problem> {
    let register = instruction.class() == class::STX;
    match instruction.opcode & 0xe0 {
        mode::MEM if register => require(instruction.imm == 0, Problem::Reserved("BPF_STX")),
        mode::MEM => require(instruction.src == 0, Problem::Reserved("BPF_ST")),
        mode::ATOMIC if register => {
            let width = matches!(instruction.opcode & size::DW, size::W | size::DW);
            require(width, Problem::Opcode(instruction.opcode))?;
            require(
                atomic::ALL.contains(&instruction.imm),
                Problem::Atomic(instruction.imm),
            )
        }
        _ => Err(Problem::Opcode(instruction.opcode)),
    }
}

// verifier.c: resolve_pseudo_ldimm64, check_ld_imm, check_ld_abs; RFC 9669, 5.4 and 5.6
fn load_constant_or_packet(
    instruction: Instruction,
    next: Option<&Instruction>,
    rules: &dyn Rules,
) -> Result<(), Problem> {
    if instruction.is_wide() {
        let second = next.ok_or(Problem::Wide)?;
        let clear = (second.opcode, second.dst, second.src, second.offset) == (0, 0, 0, 0);
        require(clear, Problem::Wide)?;
        require(instruction.offset == 0, Problem::Reserved("BPF_LD_IMM64"))?;
        return operand_kind(instruction, *second, rules);
    }
    let absolute = match instruction.opcode & 0xe0 {
        mode::ABS => true,
        mode::IND => false,
        _ => return Err(Problem::Opcode(instruction.opcode)),
    };
    let width = instruction.opcode & size::DW != size::DW;
    require(width, Problem::Opcode(instruction.opcode))?;
    let clear = instruction.dst == 0 && instruction.offset == 0 && (!absolute || instruction.src == 0);
    require(clear, Problem::Reserved("BPF_LD_[ABS|IND]"))
}

fn operand_kind(instruction: Instruction, second: Instruction, rules: &dyn Rules) -> Result<(), Problem> {
    match instruction.src {
        0 => Ok(()),
        pseudo::MAP | pseudo::MAP_VALUE => {
            let maps = rules.maps();
            let exists = usize::try_from(instruction.imm).is_ok_and(|index| index < maps);
            let index = instruction.imm;
            require(exists, Problem::Map { index, maps })?;
            let clear = instruction.src == pseudo::MAP_VALUE || second.imm == 0;
            require(clear, Problem::Reserved("BPF_LD_IMM64"))
        }
        pseudo::FUNCTION => require(second.imm == 0, Problem::Reserved("BPF_LD_IMM64")),
        kind => Err(Problem::Pseudo(kind)),
    }
}
