//! The kernel's `printf` for programs: formats are checked first, then printed (helpers.c: `bpf_bprintf_prepare`,
//! vsprintf.c: `bstr_printf`).

use super::output::{Flags, Output, decimal, hexadecimal, ipv4, ipv6, symbol};
use super::text::{is_alphanumeric, is_punctuation, is_space};
use crate::Errno;

/// Arguments of a format (linux/bpf.h: `MAX_BPRINTF_VARARGS`).
pub(super) const ARGUMENTS_MAX: usize = 12;
/// Octets that all arguments of a format may take (helpers.c: `MAX_BPRINTF_BIN_ARGS`).
const ARGUMENTS_LEN: usize = 512;

/// The widest field (vsprintf.c: `FIELD_WIDTH_MAX`).
const WIDTH_MAX: i32 = (1 << 23) - 1;

/// A format that was checked, with copies of everything that it prints.
#[derive(Debug)]
pub(super) struct Prepared<'f> {
    format: &'f [u8],
    conversions: [Conversion; ARGUMENTS_MAX],
    count: usize,
    /// What strings and addresses said when they were looked at.
    texts: [u8; ARGUMENTS_LEN],
    /// Octets that the kernel would have used of that room.
    used: usize,
}

/// A `%` and what follows it.
#[derive(Debug, Clone, Copy, Default)]
struct Conversion {
    start: usize,
    end: usize,
    flags: Flags,
    /// -1 is none.
    width: i32,
    value: Value,
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Signed(i64),
    Unsigned(u64),
    Hexadecimal {
        number: u64,
        upper: bool,
    },
    Pointer(u64),
    /// An address of code, which has no name here.
    Symbol(u64),
    Character(u8),
    /// Octets of `Prepared::texts`; without `padded` the width does not count.
    Text {
        start: usize,
        len: usize,
        padded: bool,
    },
}

/// Copies octets at an address that the program gave, as many as it may read, and says how many.
pub(super) type Reader<'r> = &'r dyn Fn(u64, &mut [u8]) -> usize;

impl<'f> Prepared<'f> {
    /// Checks a format, which holds no NUL, and takes in its arguments.
    pub fn new(format: &'f [u8], arguments: &[u64], read: Reader<'_>) -> Result<Prepared<'f>, Errno> {
        let mut prepared = Prepared {
            format,
            conversions: [Conversion::default(); ARGUMENTS_MAX],
            count: 0,
            texts: [0; ARGUMENTS_LEN],
            used: 0,
        };
        let mut index = 0;
        while index < format.len() {
            let octet = format[index];
            // Octets of UTF-8 pass, control characters do not.
            if octet.is_ascii() && !matches!(octet, b' '..=b'~') && !is_space(octet) {
                return Err(Errno::EINVAL);
            }
            if octet != b'%' {
                index += 1;
            } else if prepared.at(index + 1) == b'%' {
                index += 2;
            } else {
                let argument = arguments.get(prepared.count).ok_or(Errno::EINVAL)?;
                let (conversion, next) = prepared.conversion(index, *argument, read)?;
                let place = prepared.conversions.get_mut(prepared.count);
                *place.ok_or(Errno::EINVAL)? = conversion;
                prepared.count += 1;
                index = next;
            }
        }
        Ok(prepared)
    }

    /// Prints, and returns how long the whole text is.
    pub fn print(&self, output: &mut Output) -> usize {
        let mut from = 0;
        for conversion in &self.conversions[..self.count] {
            output.literal(&self.format[from..conversion.start]);
            self.print_value(conversion, output);
            from = conversion.end;
        }
        output.literal(&self.format[from..]);
        output.finish()
    }

    fn at(&self, index: usize) -> u8 {
        self.format.get(index).copied().unwrap_or(0)
    }

    /// Takes in the conversion at a `%`. Returns it, and where checking goes on: that may be before its end, because
    /// letters behind `%p` are not printed, but are checked.
    fn conversion(
        &mut self,
        start: usize,
        argument: u64,
        read: Reader<'_>,
    ) -> Result<(Conversion, usize), Errno> {
        let (flags, width, mut index) = self.modifiers(start + 1);
        let value = match self.at(index) {
            b'p' => {
                let (value, next) = self.pointer(index + 1, argument, read)?;
                index = next;
                value
            }
            b's' => {
                index += 1;
                self.ends_word(index)?;
                self.string(argument, read)?
            }
            b'c' => {
                index += 1;
                self.take(1)?;
                Value::Character(argument as u8)
            }
            _ => {
                let (value, next) = self.number(index, argument)?;
                index = next;
                value
            }
        };
        let mut end = index;
        if self.format[start..index].contains(&b'p') {
            while is_alphanumeric(self.at(end)) {
                end += 1;
            }
        }
        let conversion = Conversion {
            start,
            end,
            flags,
            width,
            value,
        };
        Ok((conversion, index))
    }

    fn modifiers(&self, mut index: usize) -> (Flags, i32, usize) {
        let mut flags = Flags::default();
        loop {
            match self.at(index) {
                b'-' => flags.left = true,
                b'+' => flags.plus = true,
                b' ' => flags.space = true,
                b'0' => flags.zero = true,
                _ => break,
            }
            index += 1;
        }
        if !self.at(index).is_ascii_digit() {
            return (flags, -1, index);
        }
        let mut width = 0i32;
        while self.at(index).is_ascii_digit() {
            width = width
                .wrapping_mul(10)
                .wrapping_add(i32::from(self.at(index) - b'0'));
            index += 1;
        }
        (flags, width.clamp(-WIDTH_MAX, WIDTH_MAX), index)
    }

    /// What follows `%p`, from `index` on.
    fn pointer(&mut self, index: usize, argument: u64, read: Reader<'_>) -> Result<(Value, usize), Errno> {
        let (next, second) = (self.at(index), self.at(index + 1));
        match (next, second) {
            (b'k' | b'u', b's') => {
                self.ends_word(index + 2)?;
                Ok((self.string(argument, read)?.unpadded(), index + 2))
            }
            (b'K' | b'x', _) => {
                self.take_aligned(8)?;
                Ok((Value::Pointer(argument), index + 1))
            }
            (b's' | b'S', _) => {
                self.take_aligned(8)?;
                Ok((Value::Symbol(argument), index + 1))
            }
            (b'B', _) => Ok((self.text(symbol(argument).octets())?, index + 1)),
            (b'i' | b'I', b'4') => {
                let mut address = [0; 4];
                if read(argument, &mut address) < address.len() {
                    address = [0; 4];
                }
                Ok((self.text(ipv4(address, next == b'i').octets())?, index + 2))
            }
            (b'i' | b'I', b'6') => {
                let mut address = [0; 16];
                if read(argument, &mut address) < address.len() {
                    address = [0; 16];
                }
                Ok((self.text(ipv6(address, next == b'I').octets())?, index + 2))
            }
            _ if next == 0 || is_space(next) || is_punctuation(next) => {
                self.take_aligned(8)?;
                Ok((Value::Pointer(argument), index))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn number(&mut self, mut index: usize, argument: u64) -> Result<(Value, usize), Errno> {
        let mut long = 0;
        while long < 2 && self.at(index) == b'l' {
            index += 1;
            long += 1;
        }
        let kind = self.at(index);
        let unsigned = if long > 0 {
            argument
        } else {
            u64::from(argument as u32)
        };
        let value = match kind {
            b'd' | b'i' if long > 0 => Value::Signed(argument as i64),
            b'd' | b'i' => Value::Signed(i64::from(argument as i32)),
            b'u' => Value::Unsigned(unsigned),
            b'x' | b'X' => Value::Hexadecimal {
                number: unsigned,
                upper: kind == b'X',
            },
            _ => return Err(Errno::EINVAL),
        };
        self.take_aligned(if long > 0 { 8 } else { 4 })?;
        Ok((value, index + 1))
    }

    /// `%s` must be followed by what ends a word.
    fn ends_word(&self, index: usize) -> Result<(), Errno> {
        match self.at(index) {
            next if next == 0 || is_space(next) || is_punctuation(next) => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Copies a string. One that cannot be read to its end is empty; one that is too long is cut.
    fn string(&mut self, address: u64, read: Reader<'_>) -> Result<Value, Errno> {
        let start = self.used;
        let room = ARGUMENTS_LEN - start;
        if room == 0 {
            return Err(Errno::ENOSPC);
        }
        let readable = read(address, &mut self.texts[start..]);
        let nul = self.texts[start..start + readable.min(room)]
            .iter()
            .position(|octet| *octet == 0);
        let len = match nul {
            Some(len) => len,
            None if readable >= room => room - 1,
            None => 0,
        };
        self.used += len + 1;
        Ok(Value::Text {
            start,
            len,
            padded: true,
        })
    }

    /// Keeps a text that the format has no width for.
    fn text(&mut self, text: &[u8]) -> Result<Value, Errno> {
        let start = self.used;
        self.take(text.len() + 1)?;
        self.texts[start..start + text.len()].copy_from_slice(text);
        Ok(Value::Text {
            start,
            len: text.len(),
            padded: false,
        })
    }

    fn take_aligned(&mut self, len: usize) -> Result<(), Errno> {
        self.used = self.used.next_multiple_of(4);
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Result<(), Errno> {
        if ARGUMENTS_LEN.saturating_sub(self.used) < len {
            return Err(Errno::ENOSPC);
        }
        self.used += len;
        Ok(())
    }

    fn print_value(&self, conversion: &Conversion, output: &mut Output) {
        let Conversion { flags, width, .. } = *conversion;
        match conversion.value {
            Value::Signed(number) => {
                let sign = match number {
                    ..0 => "-",
                    _ if flags.plus => "+",
                    _ if flags.space => " ",
                    _ => "",
                };
                output.number(sign, &decimal(number.unsigned_abs()), flags, width);
            }
            Value::Unsigned(number) => output.number("", &decimal(number), flags, width),
            Value::Hexadecimal { number, upper } => {
                output.number("", &hexadecimal(number, upper), flags, width);
            }
            // A window address gives nothing away: it is printed as it is.
            Value::Pointer(number) if width == -1 => {
                let flags = Flags { zero: true, ..flags };
                output.number("", &hexadecimal(number, false), flags, 16);
            }
            Value::Pointer(number) => output.number("", &hexadecimal(number, false), flags, width),
            Value::Symbol(number) => output.padded(symbol(number).octets(), flags, width),
            Value::Character(octet) => output.padded(&[octet], flags, width),
            Value::Text { start, len, padded } => {
                let text = &self.texts[start..start + len];
                output.padded(text, flags, if padded { width } else { -1 });
            }
        }
    }
}

impl Value {
    fn unpadded(self) -> Value {
        match self {
            Value::Text { start, len, .. } => Value::Text {
                start,
                len,
                padded: false,
            },
            other => other,
        }
    }
}

impl Default for Value {
    fn default() -> Value {
        Value::Unsigned(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with a string at 1, a string without an end at 2 and an address at 3.
    fn read(address: u64, to: &mut [u8]) -> usize {
        let there: &[u8] = match address {
            1 => b"text\0and what lies behind it",
            2 => b"endless",
            3 => &[
                0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2a, 0, 0,
            ],
            4 => &[b'x'; 4096],
            _ => &[],
        };
        let len = there.len().min(to.len());
        to[..len].copy_from_slice(&there[..len]);
        len
    }

    fn print_into(room: usize, format: &str, arguments: &[u64]) -> Result<(String, usize), Errno> {
        let prepared = Prepared::new(format.as_bytes(), arguments, &read)?;
        let mut buffer = vec![0xff; room];
        // SAFETY: the buffer lives long enough.
        let mut output = unsafe { Output::new(buffer.as_mut_ptr(), room) };
        let len = prepared.print(&mut output);
        let end = buffer.iter().position(|octet| *octet == 0).unwrap_or(0);
        Ok((String::from_utf8_lossy(&buffer[..end]).into_owned(), len))
    }

    fn print(format: &str, arguments: &[u64]) -> Result<String, Errno> {
        let (text, len) = print_into(4096, format, arguments)?;
        assert_eq!(text.len(), len);
        Ok(text)
    }

    fn printed(format: &str, argument: u64) -> String {
        print(format, &[argument]).unwrap()
    }

    #[test]
    fn numbers_are_printed_as_the_kernel_prints_them() {
        let minus_one = u64::MAX;
        assert_eq!(printed("%d", minus_one), "-1");
        assert_eq!(printed("%i|", minus_one), "-1|");
        assert_eq!(printed("%u", minus_one), "4294967295");
        assert_eq!(printed("%x", minus_one), "ffffffff");
        assert_eq!(printed("%X", 0xabc), "ABC");
        assert_eq!(printed("%lx", minus_one), "ffffffffffffffff");
        assert_eq!(printed("%lld", minus_one), "-1");
        assert_eq!(printed("%llu", minus_one), "18446744073709551615");
        assert_eq!(printed("%5d", 42), "   42");
        assert_eq!(printed("%-5d|", 42), "42   |");
        assert_eq!(printed("%05d", minus_one), "-0001");
        assert_eq!(printed("%+d", 42), "+42");
        assert_eq!(printed("% d", 42), " 42");
        assert_eq!(printed("%2d", 100), "100");
        assert_eq!(printed("%+u", 42), "42", "only what has a sign shows it");
    }

    #[test]
    fn text_and_addresses_are_printed_as_the_kernel_prints_them() {
        assert_eq!(printed("[%s]", 1), "[text]");
        assert_eq!(printed("%6s|", 1), "  text|");
        assert_eq!(printed("%-6s|", 1), "text  |");
        assert_eq!(
            printed("[%s]", 2),
            "[]",
            "a string that runs out of memory is empty"
        );
        assert_eq!(printed("[%s]", 99), "[]");
        assert_eq!(printed("[%pks]", 1), "[text]");
        assert_eq!(printed("%c%%", 65), "A%");
        assert_eq!(printed("%3c|", 65), "  A|");
        assert_eq!(printed("%p", 0xabc), "0000000000000abc");
        assert_eq!(printed("%px", 0xabc), "0000000000000abc");
        assert_eq!(printed("%5p", 0xabc), "  abc");
        assert_eq!(printed("%pB", 0xabc), "0xabc");
        assert_eq!(printed("%ps", 0xabc), "0xabc");
        assert_eq!(printed("%pI4", 3), "32.1.13.184");
        assert_eq!(printed("%pi4", 3), "032.001.013.184");
        assert_eq!(printed("%pI6", 3), "2001:0db8:0000:0000:0000:0000:0000:002a");
        assert_eq!(printed("%pi6", 3), "20010db800000000000000000000002a");
        assert_eq!(printed("%pI6c|", 3), "2001:0db8:0000:0000:0000:0000:0000:002a|");
        assert_eq!(printed("%pI4", 99), "0.0.0.0");
        assert_eq!(print("grüße 100%%", &[]), Ok("grüße 100%".to_owned()));
    }

    #[test]
    fn formats_that_the_kernel_refuses_are_refused() {
        for format in [
            "%",
            "%z",
            "%5",
            "%n",
            "%f",
            "%.3d",
            "%*d",
            "%hd",
            "%#x",
            "%o",
            "%pX",
            "%pI5",
            "%pkx",
            "%sx",
            "%l",
            "%lld%d",
            "%5%",
            "bell \u{7}",
        ] {
            assert_eq!(print(format, &[1]), Err(Errno::EINVAL), "{format:?}");
        }
        assert_eq!(print("%d", &[]), Err(Errno::EINVAL), "an argument is missing");
        assert_eq!(
            print("%s%d", &[4, 1]),
            Err(Errno::ENOSPC),
            "a string takes all room"
        );
    }

    #[test]
    fn strings_are_cut_where_the_kernel_cuts_them() {
        assert_eq!(printed("%s", 4).len(), 511);
        assert_eq!(
            print_into(3, "%d", &[12345]),
            Ok(("12".to_owned(), 5)),
            "the length is that of the whole"
        );
        assert_eq!(print_into(0, "%d", &[12345]).unwrap().1, 5);
    }

    #[test]
    fn huge_widths_do_not_take_long() {
        assert_eq!(print_into(4, "%8388607d", &[1]).unwrap().1, 8_388_607);
        assert_eq!(print_into(4, "%8388608d", &[1]).unwrap().1, 8_388_607);
        assert_eq!(print_into(4, "%99999999999999999999d", &[1]).map(|_| ()), Ok(()));
    }
}
