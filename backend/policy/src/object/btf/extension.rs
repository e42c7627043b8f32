//! `.BTF.ext`: what is known of instructions.

use std::collections::HashMap;

use super::{BtfError, word};

/// Octets of the header with and without CO-RE relocations.
const HEADER_LEN: usize = 24;
const HEADER_LEN_CORE: usize = 32;
/// The longest record that is believed.
const RECORD_MAX: usize = 256;

/// Records by the name (its offset in the strings of `.BTF`) of the section whose instructions they are about.
#[derive(Debug, Default)]
pub struct Extension {
    pub functions: Table<FunctionRecord>,
    pub lines: Table<LineRecord>,
    pub relocations: Table<CoreRecord>,
}

/// The records of each section, ascending by the octet of the instruction.
pub type Table<T> = HashMap<u32, Vec<T>>;

/// The function that starts at an octet of a section.
#[derive(Debug, Clone, Copy)]
pub struct FunctionRecord {
    pub offset: u32,
    pub function: u32,
}

/// The source of the instruction at an octet of a section and of those that follow.
#[derive(Debug, Clone, Copy)]
pub struct LineRecord {
    pub offset: u32,
    pub file: u32,
    pub text: u32,
    /// The line in the upper 22 bits, the column in the lower 10.
    pub position: u32,
}

/// What the instruction at an octet of a section depends on (linux/bpf.h: `struct bpf_core_relo`).
#[derive(Debug, Clone, Copy)]
pub struct CoreRecord {
    pub offset: u32,
    pub target: u32,
    pub access: u32,
    pub kind: u32,
}

impl Extension {
    /// Reads the octets of a `.BTF.ext` section.
    pub fn parse(octets: &[u8]) -> Result<Extension, BtfError> {
        let header = octets.get(..HEADER_LEN).ok_or(BtfError::Header)?;
        let len = word(header, 4) as usize;
        if header[..3] != [0x9f, 0xeb, 1] || len < HEADER_LEN {
            return Err(BtfError::Header);
        }
        let body = octets.get(len..).ok_or(BtfError::Truncated)?;
        let header = &octets[..len];
        Ok(Extension {
            functions: table(part(header, 8, body)?, 8, |octets| FunctionRecord {
                offset: word(octets, 0),
                function: word(octets, 4),
            })?,
            lines: table(part(header, 16, body)?, 16, |octets| LineRecord {
                offset: word(octets, 0),
                file: word(octets, 4),
                text: word(octets, 8),
                position: word(octets, 12),
            })?,
            relocations: match len {
                ..HEADER_LEN_CORE => HashMap::new(),
                _ => table(part(header, 24, body)?, 16, |octets| CoreRecord {
                    offset: word(octets, 0),
                    target: word(octets, 4),
                    access: word(octets, 8),
                    kind: word(octets, 12),
                })?,
            },
        })
    }
}

fn part<'a>(header: &[u8], at: usize, body: &'a [u8]) -> Result<&'a [u8], BtfError> {
    let start = word(header, at) as usize;
    let end = start.checked_add(word(header, at + 4) as usize);
    end.and_then(|end| body.get(start..end))
        .ok_or(BtfError::Truncated)
}

/// A table: the length of a record, then for each section its name, a count and that many records.
fn table<T>(octets: &[u8], needed: usize, decode: fn(&[u8]) -> T) -> Result<Table<T>, BtfError>
where
    T: Located,
{
    let mut sections = Table::new();
    if octets.is_empty() {
        return Ok(sections);
    }
    let record = word(octets, 0) as usize;
    if !(needed..=RECORD_MAX).contains(&record) {
        return Err(BtfError::Header);
    }
    let mut rest = octets.get(4..).ok_or(BtfError::Truncated)?;
    while !rest.is_empty() {
        let head = rest.get(..8).ok_or(BtfError::Truncated)?;
        let len = (word(head, 4) as usize).checked_mul(record);
        let (records, behind) = len
            .and_then(|len| rest[8..].split_at_checked(len))
            .ok_or(BtfError::Truncated)?;
        let section: &mut Vec<T> = sections.entry(word(head, 0)).or_default();
        section.extend(records.chunks_exact(record).map(decode));
        rest = behind;
    }
    for records in sections.values_mut() {
        records.sort_by_key(Located::offset);
    }
    Ok(sections)
}

/// A record about an instruction.
pub trait Located {
    /// The instruction's first octet in its section.
    fn offset(&self) -> u32;
}

impl Located for FunctionRecord {
    fn offset(&self) -> u32 {
        self.offset
    }
}

impl Located for LineRecord {
    fn offset(&self) -> u32 {
        self.offset
    }
}

impl Located for CoreRecord {
    fn offset(&self) -> u32 {
        self.offset
    }
}

/// The records about some octets of a section.
pub fn records_in<T: Located>(records: &[T], octets: std::ops::Range<u64>) -> &[T] {
    let before = |offset| records.partition_point(|record| u64::from(record.offset()) < offset);
    records
        .get(before(octets.start)..before(octets.end))
        .unwrap_or_default()
}
