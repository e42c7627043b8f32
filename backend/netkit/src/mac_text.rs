//! Serde for Ethernet addresses, written as text.

use devices::packet::MacAddress;
use serde::{Deserialize, Deserializer, Serializer, de};

fn parse<E: de::Error>(text: &str) -> Result<MacAddress, E> {
    text.parse().map_err(E::custom)
}

/// Writes an address as six colon-separated hexadecimal octets.
pub fn serialize<S: Serializer>(address: &MacAddress, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

/// Reads an address from text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddress, D::Error> {
    parse(&String::deserialize(deserializer)?)
}

/// The same for an address that may be missing.
pub mod option {
    use super::*;

    /// Writes text or null.
    pub fn serialize<S: Serializer>(address: &Option<MacAddress>, serializer: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_none(),
        }
    }

    /// Reads text or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MacAddress>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .as_deref()
            .map(parse)
            .transpose()
    }
}
