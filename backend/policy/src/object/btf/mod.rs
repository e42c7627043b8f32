//! BTF, the type information of an object (Documentation/bpf/btf.rst in Linux).

pub(super) mod extension;
mod kind;
mod print;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;

pub use kind::{
    Array, Composite, Enumeration, Enumerator, Int, Kind, Member, Parameter, SectionVariable, Type,
};
pub use value::Value;

/// Octets of the largest type information (btf.c: `BTF_MAX_SIZE`).
const SIZE_MAX: usize = 16 << 20;
/// The most types (linux/btf.h: `BTF_MAX_TYPE`).
const TYPES_MAX: usize = 0x000f_ffff;
/// Octets of the longest name (linux/kallsyms.h: `KSYM_NAME_LEN`).
const NAME_MAX: usize = 512;
/// Octets that are shown of a line of source.
const TEXT_MAX: usize = 256;
/// How often a type may refer to the next one (btf.c: `MAX_RESOLVE_DEPTH`).
pub(crate) const DEPTH_MAX: usize = 32;

/// `0xeb9f`, little-endian.
const MAGIC: u16 = 0xeb9f;
/// Octets of the header that every version has.
const HEADER_LEN: usize = 24;
/// Octets of a type in front of what its kind adds.
const TYPE_LEN: usize = 12;

/// Types, each of which has a number from 1; 0 is void.
pub struct Btf {
    types: Box<[u8]>,
    /// Where each type starts, from type 1.
    starts: Box<[u32]>,
    strings: Box<[u8]>,
}

/// What is wrong with type information, or with a question to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// It does not begin as BTF does.
    #[error("this is not little-endian BTF")]
    Header,
    /// It is too large.
    #[error("there is too much of it: at most {SIZE_MAX} octets and {TYPES_MAX} types are read")]
    TooLarge,
    /// A part is outside.
    #[error("it is cut short")]
    Truncated,
    /// A kind from the future, or from nowhere.
    #[error("type {0} is of unknown kind {1}")]
    UnknownKind(u32, u32),
    /// There is no such type.
    #[error("there is no type {0}")]
    NoType(u32),
    /// Types refer to each other too deeply, or in a circle.
    #[error("type {0} refers to other types more than {DEPTH_MAX} times")]
    TooDeep(u32),
    /// The type has no size.
    #[error("type {0} has no size")]
    NoSize(u32),
    /// The octets are fewer than the type has.
    #[error("the value is shorter than its type {0}")]
    Short(u32),
    /// The value has more parts than anybody would read.
    #[error("the value has too many parts to print")]
    TooMany,
    /// The type has no values.
    #[error("values of type {0} cannot be printed")]
    Unprintable(u32),
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.starts.len())
            .field("strings", &self.strings.len())
            .finish()
    }
}

impl Btf {
    /// Reads the octets of a `.BTF` section.
    pub fn parse(octets: &[u8]) -> Result<Btf, BtfError> {
        if octets.len() > SIZE_MAX {
            return Err(BtfError::TooLarge);
        }
        let header = octets.get(..HEADER_LEN).ok_or(BtfError::Header)?;
        if u16::from_le_bytes([header[0], header[1]]) != MAGIC || header[2] != 1 {
            return Err(BtfError::Header);
        }
        let body = octets
            .get(word(header, 4) as usize..)
            .ok_or(BtfError::Truncated)?;
        let part = |at| {
            let start = word(header, at) as usize;
            let end = start.checked_add(word(header, at + 4) as usize);
            end.and_then(|end| body.get(start..end))
                .ok_or(BtfError::Truncated)
        };
        let types: Box<[u8]> = part(8)?.into();
        let strings = part(16)?.into();
        Ok(Btf {
            starts: find_types(&types)?,
            types,
            strings,
        })
    }

    /// How many types there are, without void.
    pub fn len(&self) -> u32 {
        self.starts.len() as u32
    }

    /// Whether there are no types.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// A type. None for void as well.
    pub fn get(&self, id: u32) -> Option<Type<'_>> {
        let start = *self.starts.get(id.checked_sub(1)? as usize)? as usize;
        Type::parse(self, self.types.get(start..)?)
    }

    /// A type, as one that has to be there.
    pub fn expect(&self, id: u32) -> Result<Type<'_>, BtfError> {
        self.get(id).ok_or(BtfError::NoType(id))
    }

    /// All types with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Type<'_>)> {
        (1..=self.len()).filter_map(|id| Some((id, self.get(id)?)))
    }

    /// A name; the empty one if it is not a name.
    pub fn name(&self, offset: u32) -> &str {
        let string = self.string(offset, NAME_MAX);
        string
            .filter(|string| string.len() < NAME_MAX)
            .and_then(|string| std::str::from_utf8(string).ok())
            .unwrap_or_default()
    }

    /// A text, as much of it as is worth showing.
    pub fn text(&self, offset: u32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.string(offset, TEXT_MAX).unwrap_or_default())
    }

    /// The octets up to the next zero.
    fn string(&self, offset: u32, max: usize) -> Option<&[u8]> {
        let rest = self.strings.get(offset as usize..)?;
        let rest = rest.get(..max).unwrap_or(rest);
        rest.split(|octet| *octet == 0).next()
    }

    /// The type behind qualifiers and typedefs, with its number. Void is `NoType(0)`.
    pub fn resolve(&self, id: u32) -> Result<(u32, Type<'_>), BtfError> {
        let mut next = id;
        for _ in 0..DEPTH_MAX {
            let found = self.expect(next)?;
            match found.kind.qualified() {
                Some(target) => next = target,
                None => return Ok((next, found)),
            }
        }
        Err(BtfError::TooDeep(id))
    }

    /// Octets of a value of the type.
    pub fn size(&self, id: u32) -> Result<u64, BtfError> {
        let mut next = id;
        let mut count = 1_u64;
        for _ in 0..DEPTH_MAX {
            let size = match self.expect(next)?.kind {
                Kind::Array(array) => {
                    count = count
                        .checked_mul(u64::from(array.count))
                        .ok_or(BtfError::NoSize(id))?;
                    next = array.element;
                    continue;
                }
                Kind::Variable { target, .. } => {
                    next = target;
                    continue;
                }
                Kind::Int(int) => int.size,
                Kind::Float { size } | Kind::Section { size, .. } => size,
                Kind::Struct(composite) | Kind::Union(composite) => composite.size,
                Kind::Enumeration(enumeration) => enumeration.size,
                Kind::Pointer(_) => 8,
                other => match other.qualified() {
                    Some(target) => {
                        next = target;
                        continue;
                    }
                    None => return Err(BtfError::NoSize(id)),
                },
            };
            return count.checked_mul(u64::from(size)).ok_or(BtfError::NoSize(id));
        }
        Err(BtfError::TooDeep(id))
    }

    /// The octets at which values of the type start (libbpf's `btf__align_of`), which its `.kconfig` goes by.
    pub fn alignment(&self, id: u32) -> u64 {
        let mut next = id;
        for _ in 0..DEPTH_MAX {
            match self.resolve(next).map(|(_, found)| found.kind) {
                Ok(Kind::Array(array)) => next = array.element,
                Ok(_) => break,
                Err(_) => return 1,
            }
        }
        self.size(next).unwrap_or(1).clamp(1, 8).next_power_of_two()
    }

    /// The variables of a section, by the section's name.
    pub fn section(&self, name: &str) -> Option<(u32, impl Iterator<Item = SectionVariable> + '_)> {
        self.iter().find_map(|(id, found)| match found.kind {
            Kind::Section { variables, .. } if found.name == name => Some((id, variables)),
            _ => None,
        })
    }

    /// All sections of variables by name, the first of each name.
    pub(super) fn sections(&self) -> HashMap<&str, u32> {
        let mut sections = HashMap::new();
        for (id, found) in self.iter() {
            if matches!(found.kind, Kind::Section { .. }) {
                sections.entry(found.name).or_insert(id);
            }
        }
        sections
    }

    /// Says where a section's variables are, in its order, and how large it is: compilers leave that open.
    ///
    /// Variables that `place` does not know keep their places.
    pub(super) fn place_section(
        &mut self,
        id: u32,
        section_size: u32,
        place: impl Fn(&str) -> Option<u32>,
    ) -> Option<()> {
        let Kind::Section { variables, .. } = self.get(id)?.kind else {
            return None;
        };
        let mut placed: Vec<SectionVariable> = variables
            .map(|mut variable| {
                let name = self.get(variable.variable).map(|found| found.name);
                variable.offset = name.and_then(&place).unwrap_or(variable.offset);
                variable
            })
            .collect();
        placed.sort_by_key(|variable| variable.offset);
        let start = *self.starts.get(id.checked_sub(1)? as usize)? as usize;
        self.types
            .get_mut(start + 8..start + TYPE_LEN)?
            .copy_from_slice(&section_size.to_le_bytes());
        let records = self.types.get_mut(start + TYPE_LEN..)?;
        for (record, variable) in records.as_chunks_mut::<12>().0.iter_mut().zip(placed) {
            *record = variable.to_octets();
        }
        Some(())
    }
}

/// Where each type starts.
fn find_types(types: &[u8]) -> Result<Box<[u32]>, BtfError> {
    let mut starts = Vec::new();
    let mut start = 0;
    while start < types.len() {
        let id = starts.len() as u32 + 1;
        if starts.len() == TYPES_MAX {
            return Err(BtfError::TooLarge);
        }
        let rest = &types[start..];
        let head = rest.get(..TYPE_LEN).ok_or(BtfError::Truncated)?;
        let len = kind::len(word(head, 4)).map_err(|kind| BtfError::UnknownKind(id, kind))?;
        if len > rest.len() {
            return Err(BtfError::Truncated);
        }
        starts.push(start as u32);
        start += len;
    }
    Ok(starts.into())
}

/// A number of four octets; 0 outside.
fn word(octets: &[u8], at: usize) -> u32 {
    let octets = octets.get(at..).and_then(<[u8]>::first_chunk);
    u32::from_le_bytes(octets.copied().unwrap_or_default())
}
