//! The words of a command line, read one after another as iproute2 reads them.

use crate::usage::UsageError;

/// The words and how many of them have been read.
#[derive(Debug)]
pub struct Words<'a> {
    words: &'a [String],
    read: usize,
}

impl<'a> Words<'a> {
    pub fn new(words: &'a [String]) -> Words<'a> {
        Words { words, read: 0 }
    }

    pub fn peek(&self) -> Option<&'a str> {
        self.words.get(self.read).map(String::as_str)
    }

    /// The word behind the next one.
    pub fn peek_second(&self) -> Option<&'a str> {
        self.words.get(self.read + 1).map(String::as_str)
    }

    /// Makes the word just read the next one again.
    pub fn put_back(&mut self) {
        self.read = self.read.saturating_sub(1);
    }

    /// The word that has to follow the one just read.
    pub fn value(&mut self) -> Result<&'a str, UsageError> {
        self.next().ok_or(UsageError::Incomplete)
    }

    /// Fails if anything is left.
    pub fn end(&self, help: &'static str) -> Result<(), UsageError> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(UsageError::Garbage {
                word: word.into(),
                help,
            }),
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.read += 1;
        Some(word)
    }
}

/// Whether `word` is the beginning of `full`, or all of it: iproute2's `matches()`.
pub fn abbreviates(word: &str, full: &str) -> bool {
    !word.is_empty() && full.starts_with(word)
}

/// For words that stand where a device's name may stand too: iproute2 takes `a` for `address` there, so that
/// a device cannot be called `a`. Here an abbreviation has two letters or more.
pub fn abbreviates_option(word: &str, full: &str) -> bool {
    word.len() > 1 && abbreviates(word, full)
}

/// A number as strtol(3) reads it, with base 0: decimal, `0x` hexadecimal or `0` octal.
pub fn number(word: &str, name: &'static str) -> Result<u32, UsageError> {
    let value = i32::try_from(long(word, name)?).map_err(|_| UsageError::invalid_value(word, name))?;
    Ok(value.unsigned_abs())
}

/// As [`number`], for what has all of 32 bits.
pub fn unsigned(word: &str, name: &'static str) -> Result<u32, UsageError> {
    u32::try_from(long(word, name)?).map_err(|_| UsageError::invalid_value(word, name))
}

/// As [`number`], for what has 64 bits.
pub fn long(word: &str, name: &'static str) -> Result<u64, UsageError> {
    let (digits, base) = match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if word.len() > 1 && word.starts_with('0') => (&word[1..], 8),
        None => (word, 10),
    };
    match digits.chars().all(|c| c.is_ascii_hexdigit()) {
        true => u64::from_str_radix(digits, base).map_err(|_| UsageError::invalid_value(word, name)),
        false => Err(UsageError::invalid_value(word, name)),
    }
}

/// As [`number`], for what has 16 bits.
pub fn short(word: &str, name: &'static str) -> Result<u16, UsageError> {
    u16::try_from(number(word, name)?).map_err(|_| UsageError::invalid_value(word, name))
}

/// Keeps `value`, unless there is one already.
pub fn once<T>(slot: &mut Option<T>, key: &str, word: &str, value: T) -> Result<(), UsageError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError::Duplicate {
            key: key.into(),
            word: word.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_bases_of_strtol() {
        let read = |word| number(word, "mtu").ok();
        assert_eq!(read("1500"), Some(1500));
        assert_eq!(read("0x5dc"), Some(1500));
        assert_eq!(read("02734"), Some(1500));
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("2147483647"), Some(i32::MAX as u32));
        for wrong in [
            "",
            "x",
            "-5",
            "+5",
            "0x",
            "1500 ",
            "2147483648",
            "99999999999",
            "09",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(unsigned("0xffffffff", "mark").ok(), Some(u32::MAX));
        assert_eq!(unsigned("0x100000000", "mark").ok(), None);
        assert_eq!(long("18446744073709551615", "revision").ok(), Some(u64::MAX));
        assert_eq!(long("18446744073709551616", "revision").ok(), None);
        assert_eq!(short("65535", "headroom").ok(), Some(65535));
        assert_eq!(short("65536", "headroom").ok(), None);
    }

    #[test]
    fn an_abbreviation_is_a_beginning() {
        assert!(abbreviates("s", "set") && abbreviates("set", "set"));
        assert!(!abbreviates("sets", "set") && !abbreviates("", "set"));
        assert!(abbreviates_option("ad", "address") && !abbreviates_option("a", "address"));
    }
}
