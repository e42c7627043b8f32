//! Reads pcap files, as QEMU's filter-dump and tcpdump write them (draft-ietf-opsawg-pcap).

use std::fs;
use std::io;
use std::path::Path;

use super::{Checker, Fault, Tally};
use crate::driver::Header;

/// Octets of the file's header and of each record's.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;

/// Why a capture file cannot be read, or is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is no pcap file of Ethernet frames")]
    Format { path: String },
    #[error("{path}: frame {number} is recorded only in part")]
    Cut { path: String, number: usize },
    #[error("{path}: {fault}")]
    Fault { path: String, fault: Fault },
}

/// The frames of a file, in order. A record at the end that is still being written is left out.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let name = || path.display().to_string();
    let octets = fs::read(path).map_err(|source| Error::Io { path: name(), source })?;
    parse(&octets, &name())
}

/// Checks every frame of a file.
pub fn check(path: &Path, mut checker: Checker) -> Result<Tally, Error> {
    for frame in read(path)? {
        checker
            .check(&Header::default(), &frame)
            .map_err(|fault| Error::Fault {
                path: path.display().to_string(),
                fault,
            })?;
    }
    Ok(checker.tally())
}

fn parse(octets: &[u8], path: &str) -> Result<Vec<Vec<u8>>, Error> {
    let no_pcap = || Error::Format { path: path.into() };
    // Written on this machine, so in its octet order.
    let word = |at: usize| -> Option<u32> {
        let word = octets.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(word.try_into().ok()?))
    };
    let (magic, kind) = (word(0).ok_or_else(no_pcap)?, word(20).ok_or_else(no_pcap)?);
    if !matches!(magic, MICROSECONDS | NANOSECONDS) || kind != ETHERNET {
        return Err(no_pcap());
    }
    let mut frames = Vec::new();
    let mut at = FILE_HEADER;
    while let (Some(recorded), Some(len)) = (word(at + 8), word(at + 12)) {
        let begin = at + RECORD_HEADER;
        let Some(frame) = octets.get(begin..begin.saturating_add(recorded as usize)) else {
            break;
        };
        if recorded != len {
            let number = frames.len();
            return Err(Error::Cut {
                path: path.into(),
                number,
            });
        }
        frames.push(frame.to_vec());
        at = begin + recorded as usize;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[(&[u8], u32)]) -> Vec<u8> {
        let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_ne_bytes()).collect() };
        let mut octets = words(&[MICROSECONDS, 0x0004_0002, 0, 0, 65536, ETHERNET]);
        for (frame, len) in frames {
            octets.extend(words(&[1, 2, frame.len() as u32, *len]));
            octets.extend_from_slice(frame);
        }
        octets
    }

    #[test]
    fn frames_are_read_in_order() {
        let octets = file(&[(b"one", 3), (b"three", 5)]);
        assert_eq!(parse(&octets, "x").unwrap(), [&b"one"[..], b"three"]);
    }

    #[test]
    fn an_unfinished_record_is_left_out() {
        let octets = file(&[(b"one", 3), (b"three", 5)]);
        for missing in 1..21 {
            let octets = &octets[..octets.len() - missing];
            assert_eq!(parse(octets, "x").unwrap(), [b"one"], "{missing} octets missing");
        }
    }

    #[test]
    fn what_is_recorded_in_part_or_no_pcap_is_refused() {
        assert!(matches!(
            parse(&file(&[(b"one", 900)]), "x"),
            Err(Error::Cut { number: 0, .. })
        ));
        assert!(matches!(parse(b"", "x"), Err(Error::Format { .. })));
        assert!(matches!(parse(&[7; 100], "x"), Err(Error::Format { .. })));
    }
}
