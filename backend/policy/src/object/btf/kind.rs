//! One type of BTF, decoded.

use super::{Btf, TYPE_LEN, word};

/// A type.
#[derive(Debug, Clone, Copy)]
pub struct Type<'a> {
    /// Its name; empty if it has none.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a type is, with the numbers of the types that it is made of.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// An integer.
    Int(Int),
    /// A pointer to a type.
    Pointer(u32),
    /// An array.
    Array(Array),
    /// A struct.
    Struct(Composite<'a>),
    /// A union.
    Union(Composite<'a>),
    /// An enumeration.
    Enumeration(Enumeration<'a>),
    /// A struct or union that is only declared.
    Forward,
    /// Another name of a type.
    Typedef(u32),
    /// A qualified type.
    Volatile(u32),
    /// A qualified type.
    Const(u32),
    /// A qualified type.
    Restrict(u32),
    /// A function of a prototype.
    Function {
        /// The prototype.
        prototype: u32,
        /// 0 static, 1 global, 2 extern.
        linkage: u32,
    },
    /// A function's parameters and result.
    Prototype {
        /// The result.
        result: u32,
        /// The parameters.
        parameters: Records<'a, Parameter>,
    },
    /// A variable.
    Variable {
        /// Its type.
        target: u32,
        /// 0 static, 1 global, 2 extern.
        linkage: u32,
    },
    /// A section of variables.
    Section {
        /// Octets.
        size: u32,
        /// The variables.
        variables: Records<'a, SectionVariable>,
    },
    /// A floating-point number.
    Float {
        /// Octets.
        size: u32,
    },
    /// A tag of a declaration.
    DeclarationTag {
        /// What is tagged.
        target: u32,
        /// Its member or parameter; -1 is the whole.
        component: i32,
    },
    /// A tagged type.
    TypeTag(u32),
}

impl Kind<'_> {
    /// The type that this one is, but for a name, a qualifier or a tag.
    pub fn qualified(self) -> Option<u32> {
        match self {
            Kind::Typedef(target)
            | Kind::Volatile(target)
            | Kind::Const(target)
            | Kind::Restrict(target)
            | Kind::TypeTag(target) => Some(target),
            _ => None,
        }
    }
}

/// An integer.
#[derive(Debug, Clone, Copy)]
pub struct Int {
    /// Octets.
    pub size: u32,
    /// Bits that count.
    pub bits: u32,
    /// The first of them.
    pub offset: u32,
    /// Whether it has a sign.
    pub is_signed: bool,
    /// Whether it is a character.
    pub is_char: bool,
    /// Whether it is a boolean.
    pub is_bool: bool,
}

/// An array.
#[derive(Debug, Clone, Copy)]
pub struct Array {
    /// The elements' type.
    pub element: u32,
    /// How many there are.
    pub count: u32,
}

/// A struct or union.
#[derive(Debug, Clone, Copy)]
pub struct Composite<'a> {
    /// Octets.
    pub size: u32,
    /// The members.
    pub members: Records<'a, Member>,
}

/// An enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Enumeration<'a> {
    /// Octets.
    pub size: u32,
    /// Whether it has negative values.
    pub is_signed: bool,
    /// Its values.
    pub values: Records<'a, Enumerator>,
}

/// A member of a struct or union.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    name: u32,
    /// Its type.
    pub target: u32,
    /// Its first bit.
    pub bit_offset: u32,
    /// Its bits, if it is a bit field; else 0.
    pub bits: u32,
}

/// A value of an enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Enumerator {
    name: u32,
    /// The value, extended to 64 bits.
    pub value: u64,
}

/// A parameter of a function.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    name: u32,
    /// Its type.
    pub target: u32,
}

/// Where a variable is in its section.
#[derive(Debug, Clone, Copy)]
pub struct SectionVariable {
    /// The variable.
    pub variable: u32,
    /// Its first octet.
    pub offset: u32,
    /// Its octets.
    pub size: u32,
}

/// What follows a type: as many records as it says.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a, T> {
    octets: &'a [u8],
    record: usize,
    /// The type's flag, which says how members and values are to be read.
    flag: bool,
    decode: fn(&[u8], bool) -> T,
}

impl<T> Records<'_, T> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.octets.len() / self.record
    }

    /// One of them.
    pub fn at(&self, index: usize) -> Option<T> {
        let start = index.checked_mul(self.record)?;
        let octets = self.octets.get(start..start.checked_add(self.record)?)?;
        Some((self.decode)(octets, self.flag))
    }
}

impl<T> Iterator for Records<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let (record, rest) = self.octets.split_at_checked(self.record)?;
        self.octets = rest;
        Some((self.decode)(record, self.flag))
    }
}

impl Member {
    fn decode(octets: &[u8], has_bits: bool) -> Member {
        let offset = word(octets, 8);
        Member {
            name: word(octets, 0),
            target: word(octets, 4),
            bit_offset: if has_bits { offset & 0x00ff_ffff } else { offset },
            bits: if has_bits { offset >> 24 } else { 0 },
        }
    }

    /// Its name; empty if it has none.
    pub fn name(self, btf: &Btf) -> &str {
        btf.name(self.name)
    }
}

impl Enumerator {
    fn decode(octets: &[u8], is_signed: bool) -> Enumerator {
        let low = word(octets, 4);
        let value = match octets.len() {
            12 => u64::from(word(octets, 8)) << 32 | u64::from(low),
            _ if is_signed => i64::from(low as i32) as u64,
            _ => u64::from(low),
        };
        Enumerator {
            name: word(octets, 0),
            value,
        }
    }

    /// Its name.
    pub fn name(self, btf: &Btf) -> &str {
        btf.name(self.name)
    }
}

impl Parameter {
    fn decode(octets: &[u8], _: bool) -> Parameter {
        Parameter {
            name: word(octets, 0),
            target: word(octets, 4),
        }
    }

    /// Its name; empty if it has none.
    pub fn name(self, btf: &Btf) -> &str {
        btf.name(self.name)
    }
}

impl SectionVariable {
    fn decode(octets: &[u8], _: bool) -> SectionVariable {
        SectionVariable {
            variable: word(octets, 0),
            offset: word(octets, 4),
            size: word(octets, 8),
        }
    }

    pub(super) fn to_octets(self) -> [u8; 12] {
        let mut octets = [0; 12];
        for (place, number) in
            octets
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip([self.variable, self.offset, self.size])
        {
            *place = number.to_le_bytes();
        }
        octets
    }
}

// linux/btf.h: BTF_KIND_*.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Octets of a type, by its `info` word; the kind if it is unknown.
pub(super) fn len(info: u32) -> Result<usize, u32> {
    let count = (info & 0xffff) as usize;
    let more = match kind_of(info) {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
        ENUM | FUNC_PROTO => 8 * count,
        PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
        unknown => return Err(unknown),
    };
    Ok(TYPE_LEN + more)
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

impl<'a> Type<'a> {
    /// Decodes a type, of which [`len`] octets are there.
    pub(super) fn parse(btf: &'a Btf, octets: &'a [u8]) -> Option<Type<'a>> {
        let info = word(octets, 4);
        let flag = info >> 31 == 1;
        // Octets of the value, or the number of a type, as the kind has it.
        let (size, target) = (word(octets, 8), word(octets, 8));
        let more = octets.get(TYPE_LEN..len(info).ok()?)?;
        let kind = match kind_of(info) {
            INT => Kind::Int(Int::decode(size, word(more, 0))),
            PTR => Kind::Pointer(target),
            ARRAY => Kind::Array(Array {
                element: word(more, 0),
                count: word(more, 8),
            }),
            kind @ (STRUCT | UNION) => {
                let members = records(more, 12, flag, Member::decode);
                let composite = Composite { size, members };
                match kind {
                    STRUCT => Kind::Struct(composite),
                    _ => Kind::Union(composite),
                }
            }
            kind @ (ENUM | ENUM64) => {
                let record = if kind == ENUM { 8 } else { 12 };
                Kind::Enumeration(Enumeration {
                    size,
                    is_signed: flag,
                    values: records(more, record, flag, Enumerator::decode),
                })
            }
            FWD => Kind::Forward,
            TYPEDEF => Kind::Typedef(target),
            VOLATILE => Kind::Volatile(target),
            CONST => Kind::Const(target),
            RESTRICT => Kind::Restrict(target),
            FUNC => Kind::Function {
                prototype: target,
                linkage: info & 0xffff,
            },
            FUNC_PROTO => Kind::Prototype {
                result: target,
                parameters: records(more, 8, flag, Parameter::decode),
            },
            VAR => Kind::Variable {
                target,
                linkage: word(more, 0),
            },
            DATASEC => Kind::Section {
                size,
                variables: records(more, 12, flag, SectionVariable::decode),
            },
            FLOAT => Kind::Float { size },
            DECL_TAG => Kind::DeclarationTag {
                target,
                component: word(more, 0) as i32,
            },
            TYPE_TAG => Kind::TypeTag(target),
            _ => return None,
        };
        Some(Type {
            name: btf.name(word(octets, 0)),
            kind,
        })
    }
}

impl Int {
    fn decode(size: u32, word: u32) -> Int {
        let encoding = word >> 24 & 0x0f;
        Int {
            size,
            bits: word & 0xff,
            offset: word >> 16 & 0xff,
            is_signed: encoding & 1 != 0,
            is_char: encoding & 2 != 0,
            is_bool: encoding & 4 != 0,
        }
    }
}

fn records<T>(octets: &[u8], record: usize, flag: bool, decode: fn(&[u8], bool) -> T) -> Records<'_, T> {
    Records {
        octets,
        record,
        flag,
        decode,
    }
}
