//! Instructions as text, as `bpftool prog dump xlated` prints them.

use crate::code::Code;
use crate::{Instruction, alu, atomic, class, helper, jump, mode, opcode, pseudo, size, source};

/// What those who print programs know maps by.
pub trait Names {
    /// The id of the map with a handle.
    fn map(&self, handle: u32) -> Option<u32>;

    /// The id of the map that has a window address in its only value, and the offset into the value.
    fn map_value(&self, address: u32) -> Option<(u32, u32)>;
}

/// Knows no map.
#[derive(Debug)]
pub struct NoNames;

impl Names for NoNames {
    fn map(&self, _handle: u32) -> Option<u32> {
        None
    }

    fn map_value(&self, _address: u32) -> Option<(u32, u32)> {
        None
    }
}

/// One instruction of a program, with its opcode in front as bpftool has it. The second half of `lddw`, and what lies
/// behind the program, are empty.
pub fn line(code: &Code, index: usize, names: &dyn Names) -> String {
    let Some(instruction) = code.instructions.get(index).copied() else {
        return String::new();
    };
    let text = match instruction.class() {
        class::ALU | class::ALU64 => arithmetic(instruction),
        class::JMP | class::JMP32 => jump_or_call(code, index, instruction),
        class::LDX => load(instruction),
        class::ST | class::STX => store(instruction),
        _ if instruction.opcode == 0 => return String::new(),
        _ if instruction.is_wide() => wide(code, index, instruction, names),
        _ => load_packet(instruction),
    };
    format!("({:02x}) {text}", instruction.opcode)
}

fn unknown(instruction: Instruction) -> String {
    format!("BUG_{:02x}", instruction.opcode)
}

fn type_name(opcode: u8) -> &'static str {
    match opcode & size::DW {
        size::B => "u8",
        size::H => "u16",
        size::W => "u32",
        _ => "u64",
    }
}

fn operator(operation: u8, signed: bool) -> Option<&'static str> {
    Some(match operation {
        alu::ADD => "+=",
        alu::SUB => "-=",
        alu::MUL => "*=",
        alu::DIV if signed => "s/=",
        alu::DIV => "/=",
        alu::OR => "|=",
        alu::AND => "&=",
        alu::LSH => "<<=",
        alu::RSH => ">>=",
        alu::MOD if signed => "s%=",
        alu::MOD => "%=",
        alu::XOR => "^=",
        alu::MOV => "=",
        alu::ARSH => "s>>=",
        _ => return None,
    })
}

fn arithmetic(instruction: Instruction) -> String {
    let Instruction {
        dst,
        src,
        offset,
        imm,
        ..
    } = instruction;
    let operation = instruction.opcode & 0xf0;
    let register = instruction.opcode & source::X != 0;
    let wide = instruction.class() == class::ALU64;
    let r = if wide { 'r' } else { 'w' };
    match operation {
        alu::END if wide => return format!("r{dst} = bswap{imm} r{dst}"),
        alu::END if register => return format!("r{dst} = be{imm} r{dst}"),
        alu::END => return format!("r{dst} = le{imm} r{dst}"),
        alu::NEG => return format!("{r}{dst} = -{r}{dst}"),
        _ => (),
    }
    let Some(operator) = operator(operation, offset == 1) else {
        return unknown(instruction);
    };
    match (register, operation, offset) {
        (true, alu::MOV, 8 | 16 | 32) => format!("{r}{dst} = (s{offset}){r}{src}"),
        (true, ..) => format!("{r}{dst} {operator} {r}{src}"),
        (false, ..) => format!("{r}{dst} {operator} {imm}"),
    }
}

fn jump_or_call(code: &Code, index: usize, instruction: Instruction) -> String {
    let Instruction {
        dst,
        src,
        offset,
        imm,
        ..
    } = instruction;
    let operator = match instruction.opcode & 0xf0 {
        jump::CALL => return call(code, index, instruction),
        jump::EXIT => return "exit".to_owned(),
        jump::JA if instruction.opcode == opcode::JA32 => return format!("gotol pc{imm:+}"),
        jump::JA => return format!("goto pc{offset:+}"),
        jump::JEQ => "==",
        jump::JGT => ">",
        jump::JGE => ">=",
        jump::JSET => "&",
        jump::JNE => "!=",
        jump::JSGT => "s>",
        jump::JSGE => "s>=",
        jump::JLT => "<",
        jump::JLE => "<=",
        jump::JSLT => "s<",
        jump::JSLE => "s<=",
        _ => return unknown(instruction),
    };
    let r = if instruction.class() == class::JMP {
        'r'
    } else {
        'w'
    };
    if instruction.opcode & source::X != 0 {
        format!("if {r}{dst} {operator} {r}{src} goto pc{offset:+}")
    } else {
        format!("if {r}{dst} {operator} {imm:#x} goto pc{offset:+}")
    }
}

fn call(code: &Code, index: usize, instruction: Instruction) -> String {
    let imm = instruction.imm;
    match instruction.src {
        pseudo::CALL => {
            let target = instruction.function_target(index);
            let function = code
                .functions
                .iter()
                .find(|function| Some(function.start) == target);
            match function {
                Some(function) => format!("call pc{imm:+}#{}", function.name),
                None => format!("call pc{imm:+}"),
            }
        }
        pseudo::KFUNC => format!("call kernel-function#{imm}"),
        _ => format!("call {}#{imm}", helper::name(imm as u32)),
    }
}

fn load(instruction: Instruction) -> String {
    let Instruction {
        opcode,
        dst,
        src,
        offset,
        ..
    } = instruction;
    let name = match opcode & 0xe0 {
        mode::MEM => type_name(opcode).to_owned(),
        mode::MEMSX => type_name(opcode).replace('u', "s"),
        _ => return unknown(instruction),
    };
    format!("r{dst} = *({name} *)(r{src} {offset:+})")
}

fn store(instruction: Instruction) -> String {
    let Instruction {
        opcode,
        dst,
        src,
        offset,
        imm,
    } = instruction;
    let register = instruction.class() == class::STX;
    let place = format!("({} *)(r{dst} {offset:+})", type_name(opcode));
    match opcode & 0xe0 {
        mode::MEM if register => format!("*{place} = r{src}"),
        mode::MEM => format!("*{place} = {imm}"),
        mode::ATOMIC if register => atomically(instruction, &place),
        _ => unknown(instruction),
    }
}

fn atomically(instruction: Instruction, place: &str) -> String {
    let Instruction { opcode, src, imm, .. } = instruction;
    let width = if opcode & size::DW == size::DW { "64" } else { "" };
    let name = match imm & !atomic::FETCH {
        atomic::ADD => "add",
        atomic::OR => "or",
        atomic::AND => "and",
        atomic::XOR => "xor",
        _ if imm == atomic::XCHG => return format!("r{src} = atomic{width}_xchg({place}, r{src})"),
        _ if imm == atomic::CMPXCHG => return format!("r0 = atomic{width}_cmpxchg({place}, r0, r{src})"),
        _ => return unknown(instruction),
    };
    // The operations have the numbers of arithmetic (RFC 9669, 5.3).
    match operator((imm & 0xf0) as u8, false) {
        Some(operator) if imm & atomic::FETCH == 0 => format!("lock *{place} {operator} r{src}"),
        _ => format!("r{src} = atomic{width}_fetch_{name}({place}, r{src})"),
    }
}

fn wide(code: &Code, index: usize, instruction: Instruction, names: &dyn Names) -> String {
    let low = instruction.imm as u32;
    let high = code.instructions.get(index + 1).map_or(0, |next| next.imm as u32);
    let operand = match instruction.src {
        pseudo::MAP => names.map(low).map(|id| format!("map[id:{id}]")),
        pseudo::MAP_VALUE => names
            .map_value(low)
            .map(|(id, offset)| format!("map[id:{id}][0]+{offset}")),
        pseudo::FUNCTION => code
            .function_of_handle(u64::from(low))
            .and_then(|function| code.functions.get(function))
            .map(|function| format!("subprog[{:+}]", function.start as i64 - index as i64 - 1)),
        _ => None,
    };
    let number = || format!("{:#x}", u64::from(high) << 32 | u64::from(low));
    format!("r{} = {}", instruction.dst, operand.unwrap_or_else(number))
}

fn load_packet(instruction: Instruction) -> String {
    let Instruction { opcode, src, imm, .. } = instruction;
    let name = type_name(opcode);
    match opcode & 0xe0 {
        mode::ABS => format!("r0 = *({name} *)skb[{imm}]"),
        mode::IND => format!("r0 = *({name} *)skb[r{src} + {imm}]"),
        _ => unknown(instruction),
    }
}
