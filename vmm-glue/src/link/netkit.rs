//! What may follow `type netkit`, as iproute2's netkit plugin reads it.

use netkit_api::{Mode, Pairing, Policy, Scrub};

use super::attributes::Attributes;
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates_option, once, short};

/// What the words say; absent is not said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Netkit {
    pub mode: Option<Mode>,
    pub policy: Option<Policy>,
    pub scrub: Option<Scrub>,
    pub pairing: Option<Pairing>,
    pub headroom: Option<u16>,
    pub tailroom: Option<u16>,
    pub peer_policy: Option<Policy>,
    pub peer_scrub: Option<Scrub>,
    /// Link attributes after `peer`.
    pub peer: Option<Attributes>,
}

impl Netkit {
    /// Nothing, unless the words before were `type KIND`.
    pub fn parse(kind: Option<&str>, words: &mut Words<'_>) -> Result<Option<Netkit>, UsageError> {
        match kind {
            None => Ok(None),
            Some("netkit") => Netkit::options(words).map(Some),
            Some(_) => Err(UsageError::UnknownKind),
        }
    }

    fn options(words: &mut Words<'_>) -> Result<Netkit, UsageError> {
        let mut netkit = Netkit::default();
        let mut seen_peer = false;
        while let Some(word) = words.next() {
            match word {
                "peer" if seen_peer => return Err(duplicate(word, words.peek().unwrap_or(word))),
                "peer" => seen_peer = true,
                _ if netkit.read(word, words, seen_peer)? => {}
                _ if seen_peer => {
                    words.put_back();
                    netkit.peer = Some(peer(words)?);
                }
                _ if abbreviates_option(word, "help") => return Err(UsageError::Information(help::NETKIT)),
                _ => return Err(UsageError::NetkitOption(word.into())),
            }
        }
        Ok(netkit)
    }

    /// Whether `word` is one of netkit's own; if so, its value has been read too.
    fn read(&mut self, word: &str, words: &mut Words<'_>, of_peer: bool) -> Result<bool, UsageError> {
        let (policy, scrub) = match of_peer {
            true => (&mut self.peer_policy, &mut self.peer_scrub),
            false => (&mut self.policy, &mut self.scrub),
        };
        match word {
            "forward" => *policy = Some(Policy::Forward),
            "blackhole" => *policy = Some(Policy::Blackhole),
            "scrub" => *scrub = Some(scrub_of(words.value()?)?),
            "single" => self.pairing = Some(Pairing::Single),
            "mode" => {
                let value = words.value()?;
                if self.mode.is_some() {
                    return Err(duplicate(word, value));
                }
                self.mode = Some(mode_of(value)?);
            }
            "headroom" => {
                let value = words.value()?;
                once(&mut self.headroom, word, value, short(value, "headroom")?)?;
            }
            "tailroom" => {
                let value = words.value()?;
                once(&mut self.tailroom, word, value, short(value, "tailroom")?)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// To the end, for nothing of netkit's can follow.
fn peer(words: &mut Words<'_>) -> Result<Attributes, UsageError> {
    let attributes = Attributes::parse(words)?;
    match &attributes.kind {
        Some(kind) => Err(duplicate("type", kind)),
        None => Ok(attributes),
    }
}

fn mode_of(word: &str) -> Result<Mode, UsageError> {
    match word {
        "l3" => Ok(Mode::L3),
        "l2" => Ok(Mode::L2),
        _ => Err(UsageError::Mode),
    }
}

fn scrub_of(word: &str) -> Result<Scrub, UsageError> {
    match word {
        "none" => Ok(Scrub::None),
        "default" => Ok(Scrub::Default),
        _ => Err(UsageError::Scrub),
    }
}

fn duplicate(key: &str, word: &str) -> UsageError {
    UsageError::Duplicate {
        key: key.into(),
        word: word.into(),
    }
}
