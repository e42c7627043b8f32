//! Octets as they are written: in hexadecimal, in base64, and as bpftool prints them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;

/// `0a00ff`
pub fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Pairs of digits with nothing in between.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Octets that the daemon sent in hexadecimal.
pub fn answered_hex(text: &str) -> Result<Vec<u8>, Error> {
    from_hex(text).ok_or_else(|| Error::NotHexadecimal(text.into()))
}

pub fn to_base64(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// Octets that the daemon sent in base64.
pub fn answered_base64(text: &str) -> Result<Vec<u8>, Error> {
    Ok(STANDARD.decode(text)?)
}

/// `0a 00 ff`, sixteen to a line: bpftool's `fprint_hex()`.
pub fn spaced(octets: &[u8]) -> String {
    let mut text = String::new();
    for (at, octet) in octets.iter().enumerate() {
        text += match at {
            0 => "",
            _ if at % 16 == 0 => "\n",
            _ if at % 8 == 0 => "  ",
            _ => " ",
        };
        text += &format!("{octet:02x}");
    }
    text
}

/// Offset, octets and characters, sixteen to a line: what `bpftool prog run` prints for `data_out -`.
pub fn dump(octets: &[u8]) -> String {
    let mut text = String::new();
    for (row, octets) in octets.chunks(16).enumerate() {
        text += &format!("{:07x}\t", row * 16);
        for column in 0..16 {
            text += &octets
                .get(column)
                .map_or("  ".into(), |octet| format!("{octet:02x}"));
            text += if column % 2 == 1 { " " } else { "" };
        }
        text += "| ";
        for (column, octet) in octets.iter().enumerate() {
            let printable = matches!(octet, b' '..=b'~');
            text.push(if printable { char::from(*octet) } else { '.' });
            text += if column == 7 { " " } else { "" };
        }
        text.push('\n');
    }
    text
}

/// `["0x0a", "0x00", "0xff"]`, as bpftool writes keys and values.
pub fn listed(octets: &[u8]) -> Vec<String> {
    octets.iter().map(|octet| format!("0x{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_it_is_written() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&all)), Some(all));
        assert_eq!(from_hex("0aFF"), Some(vec![10, 255]));
        assert_eq!(from_hex(""), Some(vec![]));
        for wrong in ["0", "0g", "+1", "0x00", " 0", "é"] {
            assert_eq!(from_hex(wrong), None, "{wrong:?}");
        }
        assert!(matches!(answered_hex("xy"), Err(Error::NotHexadecimal(text)) if text == "xy"));
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!(to_base64(&[1, 2, 3, 4]), "AQIDBA==");
        assert_eq!(answered_base64("AQIDBA==").expect("base64"), [1, 2, 3, 4]);
        assert!(matches!(answered_base64("*"), Err(Error::NotBase64(_))));
    }

    #[test]
    fn octets_stand_as_in_bpftool() {
        let octets: Vec<u8> = (0..18).collect();
        assert_eq!(
            spaced(&octets),
            "00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f\n10 11"
        );
        assert_eq!(spaced(&[]), "");
        assert_eq!(listed(&[0, 255]), ["0x00", "0xff"]);
    }

    #[test]
    fn a_dump_has_an_offset_octets_and_characters() {
        // From bpftool v7.1.0, prog run data_out -.
        assert_eq!(
            dump(b"\x45\x00\x00\x14abcdefgh~\x7f \x80\x01"),
            "0000000\t4500 0014 6162 6364 6566 6768 7e7f 2080 | E...abcd efgh~. .\n\
             0000010\t01                                      | .\n"
        );
        assert_eq!(dump(&[]), "");
    }
}
