//! Helpers on text: `bpf_strtol`, `bpf_strtoul`, `bpf_strncmp`.

use super::{Answer, Call, Failure, helpers};
use crate::Errno;

helpers! {
    105 => strtol;
    106 => strtoul;
    182 => strncmp;
}

/// Digits, with sign and prefix, that the kernel looks at (helpers.c: `__bpf_strtoull`).
const NUMBER_MAX: usize = 63;
/// linux/bpf.h: `BPF_STRTOX_BASE_MASK`
const BASE_MASK: u64 = 0x1f;
/// Octets that are compared before the program pays for the next ones.
const PIECE: u32 = 4096;

/// A number that was read, and how far it reached.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    negative: bool,
    magnitude: u64,
    /// Octets of space, sign, prefix and digits.
    consumed: u64,
}

fn strtol(call: &mut Call<'_>, arguments: [u64; 5]) -> Answer {
    number(call, arguments, |number| {
        let signed = if number.negative {
            number.magnitude.wrapping_neg() as i64
        } else {
            number.magnitude as i64
        };
        let out_of_range = if number.negative { signed > 0 } else { signed < 0 };
        if out_of_range {
            Err(Errno::ERANGE)
        } else {
            Ok(signed as u64)
        }
    })
}

fn strtoul(call: &mut Call<'_>, arguments: [u64; 5]) -> Answer {
    number(call, arguments, |number| {
        if number.negative {
            Err(Errno::EINVAL)
        } else {
            Ok(number.magnitude)
        }
    })
}

// helpers.c: bpf_strtol, bpf_strtoul
fn number(
    call: &mut Call<'_>,
    [text, len, flags, result, _]: [u64; 5],
    value: impl FnOnce(&Number) -> Result<u64, Errno>,
) -> Answer {
    call.read(1, text, len)?;
    call.store(4, result, &0u64.to_le_bytes())?;
    let base = (flags & BASE_MASK) as u32;
    if len == 0 || !matches!(base, 0 | 8 | 10 | 16) || flags & !BASE_MASK != 0 {
        return Err(Errno::EINVAL.into());
    }
    let spaces = count_spaces(call, text, len)?;
    // One more than the digits, for a sign in front of them.
    let mut octets = [0; NUMBER_MAX + 1];
    let rest = (len - spaces).min(octets.len() as u64) as usize;
    let from = call.read(1, text.wrapping_add(spaces), rest as u64)?;
    // SAFETY: the source is accessible, as just checked; the destination is long enough.
    unsafe { std::ptr::copy_nonoverlapping(from, octets.as_mut_ptr(), rest) };
    let mut number = parse(&octets[..rest], base)?;
    number.consumed += spaces;
    let value = value(&number)?;
    call.store(4, result, &value.to_le_bytes())?;
    Ok(number.consumed)
}

fn count_spaces(call: &mut Call<'_>, text: u64, len: u64) -> Result<u64, Failure> {
    let mut count = 0;
    while count < len {
        let [octet] = call.copy(1, text.wrapping_add(count))?;
        if !is_space(octet) {
            break;
        }
        count += 1;
        if count % u64::from(PIECE) == 0 {
            call.charge_fuel(i64::from(PIECE))?;
        }
    }
    Ok(count)
}

// helpers.c: __bpf_strtoull; kstrtox.c: _parse_integer_fixup_radix, _parse_integer
fn parse(text: &[u8], base: u32) -> Result<Number, Errno> {
    let negative = text.first() == Some(&b'-');
    let digits = &text[usize::from(negative)..];
    let digits = &digits[..digits.len().min(NUMBER_MAX)];
    let at = |index: usize| digits.get(index).copied().unwrap_or(0);
    let hexadecimal = at(0) == b'0' && at(1).eq_ignore_ascii_case(&b'x');
    let base = match base {
        0 if hexadecimal && at(2).is_ascii_hexdigit() => 16,
        0 if at(0) == b'0' => 8,
        0 => 10,
        base => base,
    };
    let prefix = if base == 16 && hexadecimal { 2 } else { 0 };
    let mut magnitude = 0u64;
    let mut count = 0;
    let mut overflow = false;
    for digit in digits
        .iter()
        .skip(prefix)
        .map_while(|octet| (*octet as char).to_digit(16))
    {
        if digit >= base {
            break;
        }
        let more = magnitude
            .checked_mul(u64::from(base))
            .and_then(|product| product.checked_add(u64::from(digit)));
        overflow |= more.is_none();
        magnitude = more.unwrap_or(magnitude);
        count += 1;
    }
    match count {
        _ if overflow => Err(Errno::ERANGE),
        0 => Err(Errno::EINVAL),
        _ => Ok(Number {
            negative,
            magnitude,
            consumed: u64::from(negative) + (prefix + count) as u64,
        }),
    }
}

// lib/string.c: strncmp. The second string ends in a NUL or with the memory that it is in.
fn strncmp(call: &mut Call<'_>, [first, len, second, ..]: [u64; 5]) -> Answer {
    let len = u64::from(len as u32);
    call.read(1, first, len)?;
    let readable = u64::from(call.machine.readable(second, len as u32));
    for index in 0..len {
        if index >= readable {
            return Err(call.refuse(3, second));
        }
        let [left] = call.copy(1, first.wrapping_add(index))?;
        let [right] = call.copy(3, second.wrapping_add(index))?;
        if left != right {
            return Ok(if left < right { -1i64 as u64 } else { 1 });
        }
        if left == 0 {
            break;
        }
        if (index + 1) % u64::from(PIECE) == 0 {
            call.charge_fuel(i64::from(PIECE))?;
        }
    }
    Ok(0)
}

/// lib/ctype.c: `isspace`
pub(super) fn is_space(octet: u8) -> bool {
    matches!(octet, b'\t'..=b'\r' | b' ' | 0xa0)
}

/// lib/ctype.c: `ispunct`
pub(super) fn is_punctuation(octet: u8) -> bool {
    octet.is_ascii_punctuation() || matches!(octet, 0xa1..=0xbf | 0xd7 | 0xf7)
}

/// lib/ctype.c: `isalnum`, which knows the letters of Latin 1.
pub(super) fn is_alphanumeric(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || (octet >= 0xc0 && !is_punctuation(octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str, base: u32) -> Result<(i128, u64), Errno> {
        let number = parse(text.as_bytes(), base)?;
        let sign = if number.negative { -1 } else { 1 };
        Ok((sign * i128::from(number.magnitude), number.consumed))
    }

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        assert_eq!(number("42", 0), Ok((42, 2)));
        assert_eq!(number("-0x2a;", 0), Ok((-42, 5)));
        assert_eq!(number("052", 0), Ok((42, 3)));
        assert_eq!(number("0x2A", 16), Ok((42, 4)));
        assert_eq!(number("2a", 16), Ok((42, 2)));
        assert_eq!(number("0", 0), Ok((0, 1)));
        assert_eq!(number("0xg", 0), Ok((0, 1)), "the prefix needs a digit");
        assert_eq!(number("0xg", 16), Err(Errno::EINVAL));
        assert_eq!(number("789", 8), Ok((7, 1)));
        assert_eq!(number("x", 10), Err(Errno::EINVAL));
        assert_eq!(number("-", 10), Err(Errno::EINVAL));
        assert_eq!(number("18446744073709551615", 10), Ok((u64::MAX.into(), 20)));
        assert_eq!(number("18446744073709551616", 10), Err(Errno::ERANGE));
        assert_eq!(
            number(&"0".repeat(64), 10),
            Ok((0, 63)),
            "63 octets are looked at"
        );
    }
}
