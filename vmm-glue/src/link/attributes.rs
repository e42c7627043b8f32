//! The attributes that `ip link add` and `ip link set` share, and the peer's too.

use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates_option, number, once};

/// What the words say, up to `type KIND` or the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    name: Option<String>,
    dev: Option<String>,
    pub up: Option<bool>,
    pub index: Option<u32>,
    pub address: Option<String>,
    pub mtu: Option<u32>,
    pub num_rx_queues: Option<u32>,
    pub num_tx_queues: Option<u32>,
    pub domain: Option<String>,
    pub kind: Option<String>,
    /// Read and checked, but of no effect: a netkit device has no queue in front of it.
    txqueuelen: Option<u32>,
}

/// What iproute2 knows and a netkit device of this daemon has not.
const NOT_SUPPORTED: [&str; 35] = [
    "link",
    "broadcast",
    "brd",
    "alias",
    "group",
    "master",
    "nomaster",
    "vrf",
    "vf",
    "xdp",
    "xdpgeneric",
    "xdpdrv",
    "xdpoffload",
    "multicast",
    "allmulticast",
    "promisc",
    "trailers",
    "arp",
    "dynamic",
    "carrier",
    "mode",
    "state",
    "addrgenmode",
    "link-netns",
    "link-netnsid",
    "protodown",
    "protodown_reason",
    "gso_max_size",
    "gso_max_segs",
    "gro_max_size",
    "gso_ipv4_max_size",
    "gro_ipv4_max_size",
    "parentdev",
    "altname",
    "property",
];

impl Attributes {
    pub fn parse(words: &mut Words<'_>) -> Result<Attributes, UsageError> {
        let mut attributes = Attributes::default();
        while attributes.kind.is_none() {
            let Some(word) = words.next() else { break };
            attributes.read(word, words)?;
        }
        Ok(attributes)
    }

    fn read(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), UsageError> {
        let is = |full| abbreviates_option(word, full);
        match word {
            "up" => self.up = Some(true),
            "down" => self.up = Some(false),
            "name" => return self.read_name(words.value()?),
            "index" => return self.read_index(words.value()?),
            "mtu" => return read_number(&mut self.mtu, "mtu", words),
            "netns" | "domain" => {
                let value = words.value()?;
                return once(&mut self.domain, word, value, value.to_owned());
            }
            _ if NOT_SUPPORTED.contains(&word) => {
                return Err(UsageError::NotSupported {
                    word: word.into(),
                    instead: "netkitd's devices have no such attribute.",
                });
            }
            _ if is("address") => self.address = Some(link_layer_address(words.value()?)?),
            _ if is("txqueuelen") || is("txqlen") || word == "qlen" => {
                return read_number(&mut self.txqueuelen, "txqueuelen", words);
            }
            _ if is("type") => self.kind = Some(words.value()?.into()),
            _ if is("numtxqueues") => return read_number(&mut self.num_tx_queues, "numtxqueues", words),
            _ if is("numrxqueues") => return read_number(&mut self.num_rx_queues, "numrxqueues", words),
            _ if is("help") => return Err(UsageError::Information(help::LINK)),
            "dev" => return self.read_dev(words.value()?),
            _ => return self.read_dev(word),
        }
        Ok(())
    }

    /// Until a device is named, the first name is also the device's.
    fn read_name(&mut self, word: &str) -> Result<(), UsageError> {
        check_name(word, "name")?;
        once(&mut self.name, "name", word, word.to_owned())?;
        if self.dev.is_none() {
            self.dev = self.name.clone();
        }
        Ok(())
    }

    fn read_index(&mut self, word: &str) -> Result<(), UsageError> {
        read_value(&mut self.index, "index", word)?;
        match self.index {
            Some(0) => Err(UsageError::invalid_value(word, "index")),
            _ => Ok(()),
        }
    }

    fn read_dev(&mut self, word: &str) -> Result<(), UsageError> {
        if self.dev != self.name {
            return Err(UsageError::DuplicateOrGarbage {
                key: "dev",
                word: word.into(),
            });
        }
        if word.is_empty() {
            return Err(UsageError::invalid(word, "\"dev\" not a valid ifname"));
        }
        self.dev = Some(word.into());
        Ok(())
    }

    /// Of a device to be made: `NAME`, `dev NAME` and `name NAME` are the same.
    pub fn new_name(&self) -> Result<Option<String>, UsageError> {
        if let Some(dev) = &self.dev {
            check_name(dev, "dev")?;
        }
        match (&self.name, &self.dev) {
            (Some(name), Some(dev)) if name != dev => Err(UsageError::NameAndDev),
            _ => Ok(self.dev.clone()),
        }
    }

    /// The device that exists already.
    pub fn device(&self) -> Result<String, UsageError> {
        self.dev.clone().ok_or(UsageError::Missing("dev"))
    }

    /// What that device shall be called.
    pub fn rename(&self) -> Option<String> {
        self.name.clone().filter(|name| Some(name) != self.dev.as_ref())
    }

    /// Refuses what only a new device can be given.
    pub fn check_existing(&self) -> Result<(), UsageError> {
        let only_new = [
            ("index", self.index),
            ("numrxqueues", self.num_rx_queues),
            ("numtxqueues", self.num_tx_queues),
        ];
        match only_new.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(UsageError::OnlyWhenCreating(name)),
            None => Ok(()),
        }
    }
}

fn read_number(slot: &mut Option<u32>, name: &'static str, words: &mut Words<'_>) -> Result<(), UsageError> {
    read_value(slot, name, words.value()?)
}

/// That a value is the second one is said before whether it is valid.
fn read_value(slot: &mut Option<u32>, name: &'static str, word: &str) -> Result<(), UsageError> {
    once(slot, name, word, 0)?;
    *slot = Some(number(word, name)?);
    Ok(())
}

fn check_name(word: &str, key: &str) -> Result<(), UsageError> {
    let forbidden = |c: char| c == '/' || c.is_ascii_whitespace();
    match word.is_empty() || word.len() > 15 || word.contains(forbidden) {
        true => Err(UsageError::invalid(word, format!("\"{key}\" not a valid ifname"))),
        false => Ok(()),
    }
}

/// Six octets of one or two hexadecimal digits, written with two.
pub fn link_layer_address(word: &str) -> Result<String, UsageError> {
    let octet = |text: &str| match text.len() {
        1 | 2 if text.chars().all(|c| c.is_ascii_hexdigit()) => Some(format!("{text:0>2}").to_lowercase()),
        _ => None,
    };
    let octets: Option<Vec<String>> = word.split(':').map(octet).collect();
    match octets {
        None => Err(UsageError::Address(word.into())),
        Some(octets) if octets.len() != 6 => Err(UsageError::AddressLength(octets.len())),
        Some(octets) => Ok(octets.join(":")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalized() {
        assert_eq!(
            link_layer_address("2:0:0:A:b:Cd").as_deref(),
            Ok("02:00:00:0a:0b:cd")
        );
        for wrong in [
            "",
            "zz",
            "02:00:00:00:00:zz",
            "02:00:00:00:00:001",
            "02::00:00:00:00",
            "+2:0:0:0:0:0",
        ] {
            assert_eq!(link_layer_address(wrong), Err(UsageError::Address(wrong.into())));
        }
        assert_eq!(link_layer_address("02:00"), Err(UsageError::AddressLength(2)));
        assert_eq!(
            link_layer_address("02:00:00:00:00:01:02"),
            Err(UsageError::AddressLength(7))
        );
    }
}
