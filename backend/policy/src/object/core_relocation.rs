//! Compile once, run everywhere: what instructions know of types (relo_core.c), against the object's own types.
//!
//! There are no other types to adapt to: programs see the stable layouts of the kernel's interface, which the object has.

use super::btf::extension::CoreRecord;
use super::btf::{Btf, BtfError, Enumeration, Kind, Member};
use crate::{Instruction, class, source};

/// The most parts of an access (relo_core.h: `BPF_CORE_SPEC_MAX_LEN`).
const ACCESS_MAX: usize = 64;
/// The furthest bit of an access (relo_core.h: `bpf_core_spec.bit_offset`).
const BIT_OFFSET_MAX: u64 = u32::MAX as u64;

// linux/bpf.h: enum bpf_core_relo_kind.
const FIELD_BYTE_OFFSET: u32 = 0;
const FIELD_BYTE_SIZE: u32 = 1;
const FIELD_EXISTS: u32 = 2;
const FIELD_SIGNED: u32 = 3;
const FIELD_LSHIFT_U64: u32 = 4;
const FIELD_RSHIFT_U64: u32 = 5;
const TYPE_ID_LOCAL: u32 = 6;
const TYPE_ID_TARGET: u32 = 7;
const TYPE_EXISTS: u32 = 8;
const TYPE_SIZE: u32 = 9;
const ENUMVAL_EXISTS: u32 = 10;
const ENUMVAL_VALUE: u32 = 11;
const TYPE_MATCHES: u32 = 12;

/// What an instruction is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    value: u64,
    /// Whether the compiler must have come to the same: of bit fields it need not (relo_core.c).
    is_certain: bool,
}

/// A part of a value.
struct Access {
    /// The first bit.
    bit_offset: u64,
    /// The part's type.
    target: u32,
    /// How it is a member, if it is one.
    member: Option<Member>,
}

/// Patches the instruction at `place` as a record says; the problem if that cannot be.
pub(super) fn patch(
    btf: &Btf,
    record: &CoreRecord,
    instructions: &mut [Instruction],
    place: usize,
) -> Result<(), String> {
    let answer = answer(btf, record).map_err(|problem| {
        format!(
            "what it depends on (CO-RE relocation of kind {}, access `{}` of type {}) cannot be found: {problem}",
            record.kind,
            btf.name(record.access),
            record.target
        )
    })?;
    apply(instructions, place, answer)
}

fn answer(btf: &Btf, record: &CoreRecord) -> Result<Answer, String> {
    let certain = |value| Answer {
        value,
        is_certain: true,
    };
    let access = btf.name(record.access);
    match record.kind {
        // The type exists, and is what it is: it is this one.
        TYPE_ID_LOCAL | TYPE_ID_TARGET => Ok(certain(record.target.into())),
        TYPE_EXISTS | TYPE_MATCHES => Ok(certain(1)),
        TYPE_SIZE => btf.size(record.target).map(certain).map_err(text),
        ENUMVAL_EXISTS | ENUMVAL_VALUE => {
            let value = enumerator(btf, record.target, access)?;
            Ok(match record.kind {
                ENUMVAL_EXISTS => certain(1),
                _ => value,
            })
        }
        FIELD_BYTE_OFFSET..=FIELD_RSHIFT_U64 => {
            let access = follow(btf, record.target, access)?;
            match record.kind {
                FIELD_EXISTS => Ok(certain(1)),
                kind => field(btf, kind, &access),
            }
        }
        unknown => Err(format!("kind {unknown} is not known")),
    }
}

/// The numbers of an access such as `0:1:2`.
fn parse_access(access: &str) -> Result<Vec<u32>, String> {
    let wrong = || format!("`{access}` is not an access");
    let numbers: Vec<u32> = access
        .split(':')
        .take(ACCESS_MAX + 1)
        .map(|number| number.parse::<u32>().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    if numbers.len() > ACCESS_MAX {
        return Err(wrong());
    }
    Ok(numbers)
}

/// A value of an enumeration, by its place in it.
fn enumerator(btf: &Btf, target: u32, access: &str) -> Result<Answer, String> {
    let [index] = parse_access(access)?[..] else {
        return Err("it is no value of an enumeration".into());
    };
    let (_, found) = btf.resolve(target).map_err(text)?;
    let Kind::Enumeration(Enumeration { size, values, .. }) = found.kind else {
        return Err("it is no enumeration".into());
    };
    let value = values
        .at(index as usize)
        .ok_or("the enumeration has fewer values")?;
    Ok(Answer {
        value: value.value,
        // Compilers before clang 15 do not say whether an enumeration has a sign, and so how it is extended.
        is_certain: size == 8 || value.value < 1 << 31,
    })
}

/// Follows an access into a type.
fn follow(btf: &Btf, root: u32, access: &str) -> Result<Access, String> {
    let numbers = parse_access(access)?;
    let overflow = || "it is outside of everything".to_owned();
    let step = |bit_offset: u64, index: u32, target: u32| {
        let bits = btf.size(target).ok()?.checked_mul(8)?;
        let bit_offset = bit_offset.checked_add(bits.checked_mul(index.into())?)?;
        (bit_offset <= BIT_OFFSET_MAX).then_some(bit_offset)
    };
    let (root, _) = btf.resolve(root).map_err(text)?;
    let mut access = Access {
        bit_offset: step(0, numbers[0], root).ok_or_else(overflow)?,
        target: root,
        member: None,
    };
    for index in &numbers[1..] {
        match btf.resolve(access.target).map_err(text)?.1.kind {
            Kind::Struct(composite) | Kind::Union(composite) => {
                let member = composite.members.at(*index as usize);
                let member = member.ok_or("the struct has fewer members")?;
                access.bit_offset += u64::from(member.bit_offset);
                if access.bit_offset > BIT_OFFSET_MAX {
                    return Err(overflow());
                }
                access.target = member.target;
                access.member = Some(member);
            }
            // An index behind the end is that of a flexible array, or of one that people use as such.
            Kind::Array(array) => {
                let (element, _) = btf.resolve(array.element).map_err(text)?;
                access.bit_offset = step(access.bit_offset, *index, element).ok_or_else(overflow)?;
                access.target = element;
                access.member = None;
            }
            _ => return Err("it is neither of a struct nor of an array".into()),
        }
    }
    Ok(access)
}

/// What there is to be known of a field (relo_core.c: `bpf_core_calc_field_relo`).
fn field(btf: &Btf, kind: u32, access: &Access) -> Result<Answer, String> {
    let (_, found) = btf.resolve(access.target).map_err(text)?;
    let bits = access.member.map_or(0, |member| u64::from(member.bits));
    let mut octets = btf.size(access.target).map_err(text)?;
    let mut start = access.bit_offset / 8;
    if bits > 0 {
        // The smallest load that holds the bit field.
        let load = [1, 2, 4, 8]
            .into_iter()
            .filter(|load| *load >= octets)
            .find(|load| {
                start = access.bit_offset / 8 / load * load;
                access.bit_offset + bits <= (start + load) * 8
            });
        octets = load.ok_or("no load holds the whole bit field")?;
    }
    let width = if bits > 0 { bits } else { octets.saturating_mul(8) };
    let behind = access.bit_offset.saturating_sub(start * 8).saturating_add(width);
    let value = match kind {
        FIELD_BYTE_OFFSET => start,
        FIELD_BYTE_SIZE => octets,
        FIELD_SIGNED => u64::from(match found.kind {
            Kind::Int(int) => int.is_signed,
            Kind::Enumeration(enumeration) => enumeration.is_signed,
            _ => false,
        }),
        FIELD_LSHIFT_U64 => 64_u64.wrapping_sub(behind),
        _ => 64_u64.wrapping_sub(width),
    };
    Ok(Answer {
        value,
        is_certain: bits == 0 || matches!(kind, FIELD_SIGNED | FIELD_RSHIFT_U64),
    })
}

/// Puts an answer into an instruction (relo_core.c: `bpf_core_patch_insn`).
fn apply(instructions: &mut [Instruction], place: usize, answer: Answer) -> Result<(), String> {
    let value = answer.value;
    let check = |held: u64| match !answer.is_certain || held == value {
        true => Ok(()),
        false => Err(format!(
            "it holds {held}, and its types (CO-RE) say {value}: the object contradicts itself"
        )),
    };
    let next = instructions.get(place + 1).copied();
    let Some(instruction) = instructions.get_mut(place) else {
        return Err("a CO-RE relocation is outside of the function".into());
    };
    match instruction.class() {
        class::ALU | class::ALU64 if instruction.opcode & source::X == 0 => {
            // As the C of the kernel has it, the immediate is extended with its sign; the rest is not kept.
            check_low(instruction.imm, answer)?;
            instruction.imm = value as i32;
        }
        class::LDX | class::ST | class::STX => {
            check(i64::from(instruction.offset) as u64)?;
            instruction.offset =
                i16::try_from(value).map_err(|_| format!("offset {value} does not fit an instruction"))?;
        }
        class::LD if instruction.is_wide() && instruction.src == 0 => {
            let Some(second) = next.filter(|second| second.opcode == 0) else {
                return Err("lddw has no second half".into());
            };
            if !answer.is_certain && instruction.imm == value as i32 {
                return Ok(());
            }
            check(u64::from(second.imm as u32) << 32 | u64::from(instruction.imm as u32))?;
            instruction.imm = value as i32;
            instructions[place + 1].imm = (value >> 32) as i32;
        }
        _ => return Err("a CO-RE relocation is of an instruction that holds nothing of types".into()),
    }
    Ok(())
}

fn check_low(held: i32, answer: Answer) -> Result<(), String> {
    match !answer.is_certain || held == answer.value as i32 {
        true => Ok(()),
        false => Err(format!(
            "it holds {held}, and its types (CO-RE) say {}: the object contradicts itself",
            answer.value
        )),
    }
}

#[expect(clippy::needless_pass_by_value)] // for `map_err`
fn text(error: BtfError) -> String {
    error.to_string()
}
