//! Takes a value apart by its type, as bpftool shows it (tools/bpf/bpftool/btf_dumper.c).

use super::kind::{Array, Composite, Enumeration, Int, Kind};
use super::{Btf, BtfError, DEPTH_MAX, Value};

/// What taking a value apart may cost: an octet of text, or a name that is compared, is 1.
const COST_MAX: usize = 1 << 24;
/// What a part costs.
const PART_COST: usize = 16;

impl Btf {
    /// The octets of a value of a type, taken apart.
    pub fn to_json(&self, id: u32, octets: &[u8]) -> Result<Value, BtfError> {
        let mut printer = Printer {
            btf: self,
            left: COST_MAX,
        };
        printer.value(id, Bits { octets, skip: 0 }, DEPTH_MAX)
    }
}

struct Printer<'a> {
    btf: &'a Btf,
    /// What may still be spent.
    left: usize,
}

/// Octets from which a few bits are skipped.
#[derive(Clone, Copy)]
struct Bits<'a> {
    octets: &'a [u8],
    /// Below 8.
    skip: u32,
}

impl<'a> Bits<'a> {
    /// What begins behind some bits.
    fn behind(self, bits: u32) -> Option<Bits<'a>> {
        let bits = self.skip.checked_add(bits)?;
        Some(Bits {
            octets: self.octets.get(bits as usize / 8..)?,
            skip: bits % 8,
        })
    }

    /// The first bits, of which there are at most 128 with those that are skipped.
    fn get(self, bits: u32) -> Option<u128> {
        let end = self.skip.checked_add(bits).filter(|end| *end <= 128)?;
        let octets = self.octets.get(..end.div_ceil(8) as usize)?;
        let mut number = [0; 16];
        number[..octets.len()].copy_from_slice(octets);
        let mask = u128::MAX.checked_shr(128 - bits).unwrap_or(0);
        Some(u128::from_le_bytes(number) >> self.skip & mask)
    }
}

impl Printer<'_> {
    /// Types are small and can name large values many times over: all work is counted.
    fn spend(&mut self, cost: usize) -> Result<(), BtfError> {
        self.left = self.left.checked_sub(cost).ok_or(BtfError::TooMany)?;
        Ok(())
    }

    fn value(&mut self, id: u32, bits: Bits<'_>, depth: usize) -> Result<Value, BtfError> {
        self.spend(PART_COST)?;
        let depth = depth.checked_sub(1).ok_or(BtfError::TooDeep(id))?;
        let short = BtfError::Short(id);
        let (id, found) = self.btf.resolve(id)?;
        match found.kind {
            Kind::Int(int) => print_int(int, bits).ok_or(short),
            Kind::Float { size } => print_float(size, bits.octets).ok_or(short),
            Kind::Pointer(_) => bits
                .get(64)
                .map(|address| Value::Pointer(address as u64))
                .ok_or(short),
            Kind::Enumeration(enumeration) => {
                self.spend(enumeration.values.count())?;
                self.enumeration(enumeration, bits).ok_or(short)
            }
            Kind::Array(array) => self.array(array, bits.octets, depth),
            Kind::Struct(composite) | Kind::Union(composite) => self.composite(composite, bits, depth, id),
            Kind::Variable { target, .. } => {
                let value = self.value(target, bits, depth)?;
                Ok(Value::Object(vec![(found.name.into(), value)]))
            }
            Kind::Section { variables, .. } => {
                let values = variables
                    .map(|variable| {
                        let octets = bits.octets.get(variable.offset as usize..).ok_or(short.clone())?;
                        self.value(variable.variable, Bits { octets, skip: 0 }, depth)
                    })
                    .collect::<Result<_, _>>()?;
                Ok(Value::Object(vec![(found.name.into(), Value::Array(values))]))
            }
            _ => Err(BtfError::Unprintable(id)),
        }
    }

    fn composite(
        &mut self,
        composite: Composite<'_>,
        bits: Bits<'_>,
        depth: usize,
        id: u32,
    ) -> Result<Value, BtfError> {
        let mut members = Vec::new();
        for member in composite.members {
            let bits = bits.behind(member.bit_offset).ok_or(BtfError::Short(id))?;
            let value = match member.bits {
                0 => self.value(member.target, bits, depth)?,
                field => {
                    self.spend(PART_COST)?;
                    Value::Bits(bits.get(field).ok_or(BtfError::Short(id))?)
                }
            };
            let name = member.name(self.btf);
            self.spend(name.len())?;
            members.push((name.to_owned(), value));
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, array: Array, octets: &[u8], depth: usize) -> Result<Value, BtfError> {
        if self.is_char(array.element) {
            self.spend(octets.len().min(array.count as usize))?;
        }
        if let Some(text) = self.text(array, octets) {
            return Ok(Value::String(text));
        }
        let size =
            usize::try_from(self.btf.size(array.element)?).map_err(|_| BtfError::Short(array.element))?;
        let mut elements = Vec::new();
        for index in 0..array.count as usize {
            let octets = index
                .checked_mul(size)
                .and_then(|start| octets.get(start..))
                .ok_or(BtfError::Short(array.element))?;
            elements.push(self.value(array.element, Bits { octets, skip: 0 }, depth)?);
        }
        Ok(Value::Array(elements))
    }

    /// The text of an array of characters, if it is one (btf_dumper.c: `is_str_array`).
    fn text(&self, array: Array, octets: &[u8]) -> Option<String> {
        if !self.is_char(array.element) {
            return None;
        }
        let octets = octets.get(..array.count as usize)?;
        let text = &octets[..octets.iter().position(|octet| *octet == 0)?];
        let is_text = text.iter().all(|octet| (0x20..0x7f).contains(octet));
        is_text.then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// Whether elements of an array are characters. A typedef of `char` is none: those who write `u8` mean numbers.
    fn is_char(&self, element: u32) -> bool {
        let mut next = element;
        for _ in 0..DEPTH_MAX {
            let Some(found) = self.btf.get(next) else {
                return false;
            };
            match found.kind {
                Kind::Volatile(target) | Kind::Const(target) | Kind::Restrict(target) => next = target,
                Kind::Int(int) => return int.size == 1 && (int.is_char || found.name == "char"),
                _ => return false,
            }
        }
        false
    }

    fn enumeration(&self, enumeration: Enumeration<'_>, bits: Bits<'_>) -> Option<Value> {
        let width = enumeration.size.checked_mul(8).filter(|width| *width <= 64)?;
        let number = bits.get(width)? as u64;
        let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
        let mut values = enumeration.values;
        match values.find(|value| value.value & mask == number) {
            Some(value) => Some(Value::String(value.name(self.btf).into())),
            None => Some(Value::Int(sign_extend(number, width))),
        }
    }
}

/// An integer, or its bits if it is not one of C's.
fn print_int(int: Int, bits: Bits<'_>) -> Option<Value> {
    let bits = bits.behind(int.offset)?;
    let number = bits.get(int.bits)?;
    if bits.skip != 0 || int.offset != 0 || !matches!(int.bits, 8 | 16 | 32 | 64) {
        return Some(Value::Bits(number));
    }
    let number = number as u64;
    Some(match int {
        Int { is_signed: true, .. } => Value::Int(sign_extend(number, int.bits)),
        Int { is_char: true, .. } => Value::Char(number as u8),
        Int { is_bool: true, .. } => Value::Bool(number != 0),
        _ => Value::Uint(number),
    })
}

fn print_float(size: u32, octets: &[u8]) -> Option<Value> {
    match size {
        4 => Some(Value::Float(f32::from_le_bytes(*octets.first_chunk()?).into())),
        8 => Some(Value::Float(f64::from_le_bytes(*octets.first_chunk()?))),
        _ => None,
    }
}

fn sign_extend(number: u64, bits: u32) -> i64 {
    let shift = 64 - bits.clamp(1, 64);
    (number << shift) as i64 >> shift
}
