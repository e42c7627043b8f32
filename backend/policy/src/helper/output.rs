//! Where printed text goes, and the texts of numbers and addresses.

use std::fmt;

/// Where printed octets go: what does not fit is counted.
#[derive(Debug)]
pub(super) struct Output {
    start: *mut u8,
    room: usize,
    len: usize,
}

/// What stands between `%` and the width.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    pub left: bool,
    pub plus: bool,
    pub space: bool,
    pub zero: bool,
}

/// A text that is no longer than an IPv6 address.
#[derive(Debug)]
pub(super) struct Short {
    octets: [u8; 39],
    len: usize,
}

impl Output {
    /// Octets that the caller owns.
    ///
    /// # Safety
    /// `room` octets from `start` on can be written for as long as the output is used. Others may write them, too.
    pub unsafe fn new(start: *mut u8, room: usize) -> Output {
        Output { start, room, len: 0 }
    }

    pub fn put(&mut self, octets: &[u8]) {
        let fits = octets.len().min(self.room.saturating_sub(self.len));
        // SAFETY: the room reaches that far (`new`).
        unsafe { std::ptr::copy_nonoverlapping(octets.as_ptr(), self.start.wrapping_add(self.len), fits) };
        self.len += octets.len();
    }

    pub fn fill(&mut self, octet: u8, count: usize) {
        let fits = count.min(self.room.saturating_sub(self.len));
        // SAFETY: the room reaches that far (`new`).
        unsafe { std::ptr::write_bytes(self.start.wrapping_add(self.len), octet, fits) };
        self.len += count;
    }

    /// Text of the format, in which `%%` is one `%`.
    pub fn literal(&mut self, text: &[u8]) {
        let mut rest = text;
        while let Some(percent) = rest.iter().position(|octet| *octet == b'%') {
            self.put(&rest[..=percent]);
            rest = rest.get(percent + 2..).unwrap_or_default();
        }
        self.put(rest);
    }

    pub fn padded(&mut self, text: &[u8], flags: Flags, width: i32) {
        let padding = usize::try_from(width).unwrap_or(0).saturating_sub(text.len());
        if !flags.left {
            self.fill(b' ', padding);
        }
        self.put(text);
        if flags.left {
            self.fill(b' ', padding);
        }
    }

    pub fn number(&mut self, sign: &str, digits: &Short, flags: Flags, width: i32) {
        let digits = digits.octets();
        let len = sign.len() + digits.len();
        let padding = usize::try_from(width).unwrap_or(0).saturating_sub(len);
        let zero = flags.zero && !flags.left;
        if !zero && !flags.left {
            self.fill(b' ', padding);
        }
        self.put(sign.as_bytes());
        if zero {
            self.fill(b'0', padding);
        }
        self.put(digits);
        if flags.left {
            self.fill(b' ', padding);
        }
    }

    /// Ends the text with a NUL, which takes the place of its last octet if there is no other.
    pub fn finish(&mut self) -> usize {
        if self.room > 0 {
            let end = self.len.min(self.room - 1);
            // SAFETY: the room reaches that far (`new`).
            unsafe { self.start.wrapping_add(end).write(0) };
        }
        self.len
    }
}

pub(super) fn decimal(number: u64) -> Short {
    Short::new(format_args!("{number}"))
}

pub(super) fn hexadecimal(number: u64, upper: bool) -> Short {
    if upper {
        Short::new(format_args!("{number:X}"))
    } else {
        Short::new(format_args!("{number:x}"))
    }
}

/// An address of code (kallsyms.c: sprint_symbol).
pub(super) fn symbol(address: u64) -> Short {
    Short::new(format_args!("{address:#x}"))
}

// vsprintf.c: ip4_string
pub(super) fn ipv4(address: [u8; 4], leading_zeros: bool) -> Short {
    let [a, b, c, d] = address;
    if leading_zeros {
        Short::new(format_args!("{a:03}.{b:03}.{c:03}.{d:03}"))
    } else {
        Short::new(format_args!("{a}.{b}.{c}.{d}"))
    }
}

// vsprintf.c: ip6_string
pub(super) fn ipv6(address: [u8; 16], colons: bool) -> Short {
    let mut text = Short::default();
    for (index, [high, low]) in address.as_chunks::<2>().0.iter().enumerate() {
        let colon = if colons && index > 0 { ":" } else { "" };
        text.push(format_args!("{colon}{high:02x}{low:02x}"));
    }
    text
}

impl Default for Short {
    fn default() -> Short {
        Short {
            octets: [0; 39],
            len: 0,
        }
    }
}

impl Short {
    fn new(text: fmt::Arguments<'_>) -> Short {
        let mut short = Short::default();
        short.push(text);
        short
    }

    fn push(&mut self, text: fmt::Arguments<'_>) {
        // What does not fit is cut; nothing here is that long.
        let _ = fmt::Write::write_fmt(self, text);
    }

    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.octets[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}
