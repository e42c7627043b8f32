//! Frames that the command line describes: `ipv4(src=10.0.0.1,dst=10.0.0.2),tcp(dport=80,flags=S),payload=64`.

mod headers;

use crate::octets::from_hex;

/// One header, or the payload, with what was said of it.
#[derive(Debug)]
struct Layer<'a> {
    kind: Kind,
    fields: Vec<(&'a str, &'a str)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ethernet,
    Vlan,
    Arp,
    Ipv4,
    Ipv6,
    Udp,
    Tcp,
    Icmp,
    Payload,
}

/// Whether a word is meant as a description, right or wrong, rather than as a file's name.
pub fn is_description(word: &str) -> bool {
    let end = word.find(['(', ',', '=']).unwrap_or(word.len());
    let (name, rest) = word.split_at(end);
    match Kind::named(name) {
        Some(Kind::Payload) => rest.starts_with('='),
        Some(_) => !rest.starts_with('='),
        None => word.starts_with("hex:"),
    }
}

/// The octets of the frame, with lengths and checksums.
pub fn build(word: &str) -> Result<Vec<u8>, Wrong> {
    if let Some(digits) = word.strip_prefix("hex:") {
        return from_hex(digits).ok_or_else(|| Wrong::Hexadecimal(digits.into()));
    }
    let mut layers = layers(word)?;
    let (mut octets, mut above) = (Vec::new(), None);
    while let Some(mut layer) = layers.pop() {
        octets = headers::put(&mut layer, &octets, above, layers.last())?;
        if let Some((field, _)) = layer.fields.first() {
            return Err(Wrong::Unknown {
                layer: layer.kind.name(),
                field: (*field).into(),
            });
        }
        above = Some(layer.kind);
    }
    Ok(octets)
}

/// From the outermost to the innermost. An Ethernet header need not be written.
fn layers(word: &str) -> Result<Vec<Layer<'_>>, Wrong> {
    let mut layers = Vec::new();
    let mut rest = Some(word);
    while let Some(text) = rest {
        let (layer, behind) = layer(text)?;
        let below = layers.last().map(|layer: &Layer<'_>| layer.kind);
        if below.is_none() && layer.kind != Kind::Ethernet {
            layers.push(Layer {
                kind: Kind::Ethernet,
                fields: vec![],
            });
        }
        let below = below.unwrap_or(Kind::Ethernet);
        if !layers.is_empty() && !below.carries(layer.kind) {
            return Err(Wrong::Order {
                below: below.name(),
                above: layer.kind.name(),
            });
        }
        layers.push(layer);
        rest = behind;
    }
    Ok(layers)
}

/// The first layer of a description, and what follows its comma.
fn layer(text: &str) -> Result<(Layer<'_>, Option<&str>), Wrong> {
    let end = text.find(['(', ',', '=']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let kind = Kind::named(name).ok_or_else(|| Wrong::Layer(name.into()))?;
    let (fields, rest) = match rest.chars().next() {
        Some('(') => {
            let (inside, rest) = rest[1..].split_once(')').ok_or(Wrong::Parenthesis)?;
            (fields(inside)?, rest)
        }
        Some('=') => {
            let (value, rest) = rest[1..].split_at(rest[1..].find(',').unwrap_or(rest.len() - 1));
            (vec![("", value)], rest)
        }
        _ => (vec![], rest),
    };
    let rest = match rest {
        "" => None,
        _ => Some(rest.strip_prefix(',').ok_or_else(|| Wrong::Layer(rest.into()))?),
    };
    Ok((Layer { kind, fields }, rest))
}

fn fields(inside: &str) -> Result<Vec<(&str, &str)>, Wrong> {
    let fields = inside.split(',').filter(|field| !field.is_empty());
    fields
        .map(|field| field.split_once('=').ok_or_else(|| Wrong::NoValue(field.into())))
        .collect()
}

impl<'a> Layer<'a> {
    /// A field that is read only once.
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.fields.iter().position(|(field, _)| *field == name)?;
        Some(self.fields.remove(at).1)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let field = self.fields.iter().find(|(field, _)| *field == name)?;
        Some(field.1)
    }
}

impl Kind {
    fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "eth" => Kind::Ethernet,
            "vlan" => Kind::Vlan,
            "arp" => Kind::Arp,
            "ipv4" => Kind::Ipv4,
            "ipv6" => Kind::Ipv6,
            "udp" => Kind::Udp,
            "tcp" => Kind::Tcp,
            "icmp" | "icmpv6" => Kind::Icmp,
            "payload" => Kind::Payload,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Ethernet => "eth",
            Kind::Vlan => "vlan",
            Kind::Arp => "arp",
            Kind::Ipv4 => "ipv4",
            Kind::Ipv6 => "ipv6",
            Kind::Udp => "udp",
            Kind::Tcp => "tcp",
            Kind::Icmp => "icmp",
            Kind::Payload => "payload",
        }
    }

    /// Whether the other may follow.
    fn carries(self, above: Kind) -> bool {
        match above {
            Kind::Ethernet => false,
            Kind::Vlan | Kind::Arp => matches!(self, Kind::Ethernet | Kind::Vlan),
            Kind::Ipv4 | Kind::Ipv6 => {
                matches!(self, Kind::Ethernet | Kind::Vlan | Kind::Ipv4 | Kind::Ipv6)
            }
            Kind::Udp | Kind::Tcp | Kind::Icmp => matches!(self, Kind::Ipv4 | Kind::Ipv6),
            Kind::Payload => self != Kind::Payload,
        }
    }
}

/// What is wrong with a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("\"{0}\" is not pairs of hexadecimal digits")]
    Hexadecimal(String),
    #[error("there is no layer \"{0}\"; there are eth, vlan, arp, ipv4, ipv6, udp, tcp, icmp and payload")]
    Layer(String),
    #[error("a parenthesis is not closed")]
    Parenthesis,
    #[error("\"{0}\" has no value: write {0}=VALUE")]
    NoValue(String),
    #[error("{above} cannot follow {below}")]
    Order {
        below: &'static str,
        above: &'static str,
    },
    #[error("{layer} has no field \"{field}\", or it is there twice")]
    Unknown { layer: &'static str, field: String },
    #[error("\"{value}\" is no value for {field} of {layer}")]
    Value {
        layer: &'static str,
        field: &'static str,
        value: String,
    },
    #[error("the frame is too long for {0}")]
    TooLong(&'static str),
}

impl From<Wrong> for String {
    fn from(wrong: Wrong) -> String {
        wrong.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::to_hex;

    fn built(word: &str) -> String {
        to_hex(&build(word).expect(word))
    }

    #[test]
    fn headers_follow_each_other() {
        assert_eq!(built("hex:00ff"), "00ff");
        assert_eq!(
            built("eth(src=02:00:00:00:00:01,dst=2:0:0:0:0:2),payload=3"),
            "020000000002\
             020000000001\
             88b5000102"
        );
        assert_eq!(
            built("vlan(id=5,priority=1),vlan,arp(op=reply,spa=10.0.0.9)"),
            "0000000000000000000000008100\
             20058100\
             00010806\
             0001080006040002000000000000\
             0a0000090000000000000a000002"
        );
    }

    /// The sum over what has its checksum is zero. RFC 1071.
    #[test]
    fn checksums_are_right() {
        let sum = |octets: &[u8]| headers::checksum(&[octets]);
        let frame = build("ipv4(src=10.0.0.1,dst=10.0.0.2,ttl=63),udp(sport=1,dport=53),payload=hex:aabbcc")
            .expect("a frame");
        assert_eq!(frame.len(), 14 + 20 + 8 + 3);
        assert_eq!(sum(&frame[14..34]), 0);
        assert_eq!(to_hex(&frame[14..34]), "4500001f000040003f1127cc0a0000010a000002");
        let pseudo = |addresses: &[u8], protocol: u8, segment: &[u8]| {
            let length = (segment.len() as u32).to_be_bytes();
            headers::checksum(&[addresses, &[0, 0, 0, protocol], &length, segment])
        };
        assert_eq!(pseudo(&frame[26..34], 17, &frame[34..]), 0);
        let frame = build("ipv6(src=fd00::1,dst=fd00::2),tcp(dport=80,flags=SA),payload=5").expect("a frame");
        assert_eq!(pseudo(&frame[22..54], 6, &frame[54..]), 0);
        assert_eq!(frame[67], 0x12);
        let frame = build("ipv6,icmp(seq=7)").expect("a frame");
        assert_eq!((frame[20], frame[54]), (58, 128));
        assert_eq!(pseudo(&frame[22..54], 58, &frame[54..]), 0);
        let frame = build("ipv4,icmp,payload=2").expect("a frame");
        assert_eq!((frame[23], frame[34], sum(&frame[34..])), (1, 8, 0));
        let frame = build("ipv4,ipv6,udp").expect("a frame");
        assert_eq!((frame[23], frame[34] >> 4, frame[40]), (41, 6, 17));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let cases = [
            ("hex:0", "\"0\" is not pairs of hexadecimal digits"),
            (
                "eth,sctp",
                "there is no layer \"sctp\"; there are eth, vlan, arp, ipv4, ipv6, udp, tcp, icmp and payload",
            ),
            ("ipv4(src=1.2.3.4", "a parenthesis is not closed"),
            ("ipv4(ttl)", "\"ttl\" has no value: write ttl=VALUE"),
            ("eth,tcp", "tcp cannot follow eth"),
            ("tcp", "tcp cannot follow eth"),
            ("ipv4,eth", "eth cannot follow ipv4"),
            ("payload=1,udp", "udp cannot follow payload"),
            (
                "ipv4(colour=1)",
                "ipv4 has no field \"colour\", or it is there twice",
            ),
            (
                "ipv4(ttl=1,ttl=2)",
                "ipv4 has no field \"ttl\", or it is there twice",
            ),
            ("ipv4(ttl=256)", "\"256\" is no value for ttl of ipv4"),
            ("ipv4(src=::1)", "\"::1\" is no value for src of ipv4"),
            ("ipv4,tcp(flags=X)", "\"X\" is no value for flags of tcp"),
            ("eth(dst=1:2)", "\"1:2\" is no value for dst of eth"),
            ("payload=70000", "\"70000\" is no value for length of payload"),
            ("ipv4,udp,payload=65530", "the frame is too long for udp"),
        ];
        for (word, text) in cases {
            assert_eq!(build(word).expect_err(word).to_string(), text, "{word}");
        }
        for word in ["eth,", "eth,,ipv4", "eth)x", "ipv4()x", "payload", "(", "="] {
            assert!(build(word).is_err(), "{word}");
        }
    }

    #[test]
    fn any_part_of_a_description_is_a_frame_or_an_error() {
        for word in [
            "eth(src=02:00:00:00:00:01,type=0x0800),vlan(id=4095,priority=7),ipv4(src=1.2.3.4),udp,payload=hex:00",
            "ipv6(dst=::1,flow=0xfffff),tcp(flags=FSRPAUEC,seq=0xffffffff),payload=9",
            "arp(op=reply,spa=é),payload=65535",
        ] {
            for (at, _) in word.char_indices() {
                for part in [&word[..at], &word[at..]] {
                    if let Ok(frame) = build(part) {
                        assert!(frame.len() >= 14 || part.starts_with("hex:"), "{part}");
                    }
                }
            }
        }
    }

    #[test]
    fn descriptions_begin_with_a_layer() {
        for word in ["eth", "ipv4,tcp", "ipv4(", "payload=5", "hex:", "udp(x)"] {
            assert!(is_description(word), "{word}");
        }
        for word in ["eth.pcap", "./eth", "payload", "ipv4=5", "frame.bin", "a(b)"] {
            assert!(!is_description(word), "{word}");
        }
    }
}
