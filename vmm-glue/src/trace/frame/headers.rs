//! Headers as they stand in a frame.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{Kind, Layer, Wrong};
use crate::link::link_layer_address;
use crate::octets::from_hex;
use crate::words::long;

const SOURCE_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DESTINATION_4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SOURCE_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const DESTINATION_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// For local experiments. IEEE 802, 9.2.3.
const EXPERIMENTAL_TYPE: u16 = 0x88b5;
/// For experiments. RFC 3692, 2.1.
const EXPERIMENTAL_PROTOCOL: u8 = 253;
const ICMPV6: u8 = 58;

/// Puts a layer in front of what it carries. `above` is the kind of that, `below` what will carry the layer.
pub fn put(
    layer: &mut Layer<'_>,
    rest: &[u8],
    above: Option<Kind>,
    below: Option<&Layer<'_>>,
) -> Result<Vec<u8>, Wrong> {
    match layer.kind {
        Kind::Ethernet => {
            let (to, from) = (layer.address("dst")?, layer.address("src")?);
            let kind = layer.number("type", ether_type(above))?;
            Ok([&to[..], &from, &kind.to_be_bytes(), rest].concat())
        }
        Kind::Vlan => vlan(layer, rest, above),
        Kind::Arp => arp(layer, rest),
        Kind::Ipv4 => ipv4(layer, rest, above),
        Kind::Ipv6 => ipv6(layer, rest, above),
        Kind::Udp => udp(layer, rest, below),
        Kind::Tcp => tcp(layer, rest, below),
        Kind::Icmp => icmp(layer, rest, below),
        Kind::Payload => payload(layer),
    }
}

/// The Internet checksum of these pieces, of which only the last may have an odd length. RFC 1071.
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let pairs = pieces.iter().flat_map(|piece| piece.chunks(2));
    let mut sum: u64 = pairs
        .map(|pair| match pair {
            [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
            [high] => u64::from(*high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn ether_type(above: Option<Kind>) -> u16 {
    match above {
        Some(Kind::Vlan) => 0x8100,
        Some(Kind::Arp) => 0x0806,
        Some(Kind::Ipv4) => 0x0800,
        Some(Kind::Ipv6) => 0x86dd,
        _ => EXPERIMENTAL_TYPE,
    }
}

fn protocol(above: Option<Kind>, of_ipv6: bool) -> u8 {
    match above {
        Some(Kind::Icmp) if of_ipv6 => ICMPV6,
        Some(Kind::Icmp) => 1,
        Some(Kind::Ipv4) => 4,
        Some(Kind::Tcp) => 6,
        Some(Kind::Udp) => 17,
        Some(Kind::Ipv6) => 41,
        _ => EXPERIMENTAL_PROTOCOL,
    }
}

fn vlan(layer: &mut Layer<'_>, rest: &[u8], above: Option<Kind>) -> Result<Vec<u8>, Wrong> {
    let id: u16 = layer.bits("id", 1, 12)?;
    let priority: u16 = layer.bits("priority", 0, 3)?;
    let kind = layer.number("type", ether_type(above))?;
    let control = priority << 13 | id;
    Ok([&control.to_be_bytes()[..], &kind.to_be_bytes(), rest].concat())
}

/// RFC 826, for Ethernet and IPv4.
fn arp(layer: &mut Layer<'_>, rest: &[u8]) -> Result<Vec<u8>, Wrong> {
    let operation: u8 = match layer.take("op") {
        None | Some("request") => 1,
        Some("reply") => 2,
        Some(value) => return Err(layer.wrong("op", value)),
    };
    let sender = (layer.address("sha")?, layer.value("spa", SOURCE_4)?.octets());
    let target = (layer.address("tha")?, layer.value("tpa", DESTINATION_4)?.octets());
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    Ok([&head[..], &sender.0, &sender.1, &target.0, &target.1, rest].concat())
}

/// RFC 791, without options.
fn ipv4(layer: &mut Layer<'_>, rest: &[u8], above: Option<Kind>) -> Result<Vec<u8>, Wrong> {
    let length = length(rest.len() + 20, layer.kind)?;
    let id: u16 = layer.number("id", 0)?;
    let no_fragments: u16 = layer.bits("df", 1, 1)?;
    let (service, ttl) = (layer.number("tos", 0)?, layer.number("ttl", 64)?);
    let protocol = layer.number("protocol", protocol(above, false))?;
    let source = layer.value("src", SOURCE_4)?.octets();
    let destination = layer.value("dst", DESTINATION_4)?.octets();
    let mut header = [&[0x45, service][..], &length, &id.to_be_bytes()].concat();
    header.extend((no_fragments << 14).to_be_bytes());
    header.extend([ttl, protocol]);
    let sum = checksum(&[&header, &source, &destination]);
    Ok([&header[..], &sum.to_be_bytes(), &source, &destination, rest].concat())
}

/// RFC 8200, without extension headers.
fn ipv6(layer: &mut Layer<'_>, rest: &[u8], above: Option<Kind>) -> Result<Vec<u8>, Wrong> {
    let length = length(rest.len(), layer.kind)?;
    let class: u8 = layer.number("class", 0)?;
    let flow: u32 = layer.bits("flow", 0, 20)?;
    let hops: u8 = layer.number("hops", 64)?;
    let next: u8 = layer.number("next", protocol(above, true))?;
    let source = layer.value("src", SOURCE_6)?.octets();
    let destination = layer.value("dst", DESTINATION_6)?.octets();
    let first = 6 << 28 | u32::from(class) << 20 | flow;
    let header = [&first.to_be_bytes()[..], &length, &[next, hops]].concat();
    Ok([&header[..], &source, &destination, rest].concat())
}

/// RFC 768.
fn udp(layer: &mut Layer<'_>, rest: &[u8], below: Option<&Layer<'_>>) -> Result<Vec<u8>, Wrong> {
    let source: u16 = layer.number("sport", 1024)?;
    let destination: u16 = layer.number("dport", 1025)?;
    let length = length(rest.len() + 8, layer.kind)?;
    let header = [
        &source.to_be_bytes()[..],
        &destination.to_be_bytes(),
        &length,
        &[0, 0],
    ];
    let mut datagram = [&header.concat()[..], rest].concat();
    // A sum of zero would say that there is none.
    let sum = match sum_below(&datagram, 17, below)? {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    Ok(datagram)
}

/// RFC 9293, without options.
fn tcp(layer: &mut Layer<'_>, rest: &[u8], below: Option<&Layer<'_>>) -> Result<Vec<u8>, Wrong> {
    let source: u16 = layer.number("sport", 1024)?;
    let destination: u16 = layer.number("dport", 1025)?;
    let sequence: u32 = layer.number("seq", 0)?;
    let acknowledged: u32 = layer.number("ack", 0)?;
    let window: u16 = layer.number("window", 65535)?;
    let letters = layer.take("flags").unwrap_or("S");
    let bits = letters.chars().map(|letter| "FSRPAUEC".find(letter));
    let flags: Option<u8> = bits
        .map(|bit| bit.map(|bit| 1u8 << bit))
        .try_fold(0, |all, bit| Some(all | bit?));
    let flags = flags.ok_or_else(|| layer.wrong("flags", letters))?;
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([5 << 4, flags]);
    segment.extend(window.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(rest);
    let sum = sum_below(&segment, 6, below)?;
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    Ok(segment)
}

/// An echo request unless told otherwise. RFC 792, RFC 4443.
fn icmp(layer: &mut Layer<'_>, rest: &[u8], below: Option<&Layer<'_>>) -> Result<Vec<u8>, Wrong> {
    let of_ipv6 = below.is_some_and(|below| below.kind == Kind::Ipv6);
    let kind: u8 = layer.number("type", if of_ipv6 { 128 } else { 8 })?;
    let code: u8 = layer.number("code", 0)?;
    let id: u16 = layer.number("id", 0)?;
    let sequence: u16 = layer.number("seq", 0)?;
    let header = [
        &[kind, code, 0, 0][..],
        &id.to_be_bytes(),
        &sequence.to_be_bytes(),
    ];
    let mut message = [&header.concat()[..], rest].concat();
    let sum = match of_ipv6 {
        true => sum_below(&message, ICMPV6, below)?,
        false => checksum(&[&message]),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(message)
}

/// `N` octets that count from 0, or those of `hex:`.
fn payload(layer: &mut Layer<'_>) -> Result<Vec<u8>, Wrong> {
    let value = layer.take("").ok_or_else(|| Wrong::NoValue("payload".into()))?;
    if let Some(digits) = value.strip_prefix("hex:") {
        return from_hex(digits).ok_or_else(|| Wrong::Hexadecimal(digits.into()));
    }
    let length = long(value, "payload").ok().filter(|length| *length <= 65535);
    let length = length.ok_or_else(|| layer.wrong("length", value))?;
    Ok((0..length).map(|at| at as u8).collect())
}

/// With the addresses of the layer below. RFC 9293, 3.1; RFC 8200, 8.1.
fn sum_below(octets: &[u8], protocol: u8, below: Option<&Layer<'_>>) -> Result<u16, Wrong> {
    let length = (octets.len() as u32).to_be_bytes();
    let addresses = below.map_or(Ok(vec![]), Layer::addresses)?;
    Ok(checksum(&[&addresses, &[0, 0, 0, protocol], &length, octets]))
}

fn length(octets: usize, kind: Kind) -> Result<[u8; 2], Wrong> {
    match u16::try_from(octets) {
        Ok(length) => Ok(length.to_be_bytes()),
        Err(_) => Err(Wrong::TooLong(kind.name())),
    }
}

impl Layer<'_> {
    fn wrong(&self, field: &'static str, value: &str) -> Wrong {
        Wrong::Value {
            layer: self.kind.name(),
            field,
            value: value.into(),
        }
    }

    fn number<T: TryFrom<u64>>(&mut self, field: &'static str, default: T) -> Result<T, Wrong> {
        let Some(text) = self.take(field) else {
            return Ok(default);
        };
        let value = long(text, field).ok().and_then(|value| T::try_from(value).ok());
        value.ok_or_else(|| self.wrong(field, text))
    }

    /// A number of so many bits.
    fn bits<T: TryFrom<u64> + Into<u64> + Copy>(
        &mut self,
        field: &'static str,
        default: T,
        bits: u32,
    ) -> Result<T, Wrong> {
        let text = self.get(field).unwrap_or_default();
        let value = self.number(field, default)?;
        match value.into() >> bits {
            0 => Ok(value),
            _ => Err(self.wrong(field, text)),
        }
    }

    fn value<T: FromStr>(&mut self, field: &'static str, default: T) -> Result<T, Wrong> {
        match self.take(field) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| self.wrong(field, text)),
        }
    }

    /// An Ethernet address; zeros by default, as a netkit device of mode l3 has it.
    fn address(&mut self, field: &'static str) -> Result<[u8; 6], Wrong> {
        let Some(text) = self.take(field) else {
            return Ok([0; 6]);
        };
        let octets = link_layer_address(text)
            .ok()
            .and_then(|text| from_hex(&text.replace(':', "")));
        let address = octets.and_then(|octets| octets.try_into().ok());
        address.ok_or_else(|| self.wrong(field, text))
    }

    /// Source and destination of an IP header, one behind the other.
    fn addresses(&self) -> Result<Vec<u8>, Wrong> {
        fn read<T: FromStr>(layer: &Layer<'_>, field: &'static str, default: T) -> Result<T, Wrong> {
            match layer.get(field) {
                None => Ok(default),
                Some(text) => text.parse().map_err(|_| layer.wrong(field, text)),
            }
        }
        Ok(match self.kind {
            Kind::Ipv4 => {
                let source = read(self, "src", SOURCE_4)?.octets();
                [source, read(self, "dst", DESTINATION_4)?.octets()].concat()
            }
            Kind::Ipv6 => {
                let source = read(self, "src", SOURCE_6)?.octets();
                [source, read(self, "dst", DESTINATION_6)?.octets()].concat()
            }
            _ => vec![],
        })
    }
}
