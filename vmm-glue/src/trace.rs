//! `nkctl trace`: what the devices and their programs would do to a frame.

mod capture;
mod frame;
mod print;

use netkit_api::TraceRequest;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, showing};
use crate::files;
use crate::help;
use crate::link::device_name;
use crate::octets::to_base64;
use crate::usage::UsageError;
use crate::words::{Words, once, short, unsigned};

/// `trace DEV packet FRAME [brief] [mark N] [priority N] [gso N] [limit N]`
#[derive(Debug, PartialEq, Eq)]
pub struct Trace {
    pub device: String,
    pub packet: Packet,
    /// All but the frame itself, which may be in a file.
    pub request: TraceRequest,
}

/// Where the frame comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    /// What the command line described.
    Frame(Vec<u8>),
    /// A file of the frame's octets, or a capture.
    File {
        path: String,
        /// The number of the packet in a capture; the first one is 1.
        number: Option<u32>,
    },
}

impl Trace {
    pub fn parse(words: &mut Words<'_>) -> Result<Trace, UsageError> {
        let device = device_name(words, help::TRACE)?;
        let mut request = TraceRequest::default();
        let (mut packet, mut mark, mut priority, mut gso, mut limit) = (None, None, None, None, None);
        while let Some(word) = words.next() {
            let slot = match word {
                "packet" | "--packet" | "-packet" => {
                    let value = words.value()?;
                    once(&mut packet, "packet", value, Packet::parse(value)?)?;
                    continue;
                }
                "brief" => {
                    request.brief = true;
                    continue;
                }
                "gso" => {
                    let value = words.value()?;
                    once(&mut gso, word, value, short(value, "gso")?)?;
                    continue;
                }
                "mark" => (&mut mark, "mark"),
                "priority" => (&mut priority, "priority"),
                "limit" => (&mut limit, "limit"),
                "help" => return Err(UsageError::Information(help::TRACE)),
                _ => {
                    return Err(UsageError::Garbage {
                        word: word.into(),
                        help: "trace help",
                    });
                }
            };
            let value = words.value()?;
            once(slot.0, word, value, unsigned(value, slot.1)?)?;
        }
        request.mark = mark.unwrap_or(0);
        request.priority = priority.unwrap_or(0);
        request.gso_size = gso.unwrap_or(0);
        request.limit = limit.unwrap_or(0);
        Ok(Trace {
            device,
            packet: packet.ok_or(UsageError::Missing("packet"))?,
            request,
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let request = TraceRequest {
            frame: to_base64(&self.packet.frame()?),
            ..self.request.clone()
        };
        let traced = client
            .trace(&self.device, &request)
            .map_err(showing(&self.device))?;
        match options.json {
            true => Output::json(&traced, options),
            false => Ok(Output::text(print::text(&traced, options)?)),
        }
    }
}

impl Packet {
    /// What begins like a description is one; a file of such a name is reached by `./`.
    fn parse(word: &str) -> Result<Packet, UsageError> {
        if frame::is_description(word) {
            let frame = frame::build(word).map_err(|why| UsageError::invalid(word, why))?;
            return Ok(Packet::Frame(frame));
        }
        let number = word
            .rsplit_once(':')
            .and_then(|(path, number)| Some((path, number.parse().ok().filter(|number| *number > 0)?)));
        Ok(match number {
            Some((path, number)) => Packet::File {
                path: path.into(),
                number: Some(number),
            },
            None => Packet::File {
                path: word.into(),
                number: None,
            },
        })
    }

    fn frame(&self) -> Result<Vec<u8>, Error> {
        match self {
            Packet::Frame(frame) => Ok(frame.clone()),
            Packet::File { path, number } => {
                let octets = files::read(path)?;
                let frame = capture::packet(octets, *number).map_err(|why| PacketError {
                    path: path.clone(),
                    why,
                })?;
                Ok(frame)
            }
        }
    }
}

/// A file that has no frame for us.
#[derive(Debug, thiserror::Error)]
#[error("cannot take a frame from {path:?}: {why}")]
pub struct PacketError {
    path: String,
    why: capture::Unusable,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn trace(line: &str) -> Trace {
        match parse(line) {
            Ok(Command::Trace(trace)) => trace,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn file(path: &str, number: Option<u32>) -> Packet {
        Packet::File {
            path: path.into(),
            number,
        }
    }

    #[test]
    fn a_device_and_a_frame_are_enough() {
        for line in [
            "trace nk0 packet f.bin",
            "t dev nk0 --packet f.bin",
            "tr nk0 -packet f.bin",
        ] {
            let plain = trace(line);
            assert_eq!(
                (plain.device.as_str(), plain.packet),
                ("nk0", file("f.bin", None)),
                "{line}"
            );
            assert_eq!(plain.request, TraceRequest::default());
        }
        let full = trace("trace nk0 brief mark 0xffffffff priority 2 gso 1448 limit 50 packet hex:0011");
        assert_eq!(full.packet, Packet::Frame(vec![0, 0x11]));
        assert_eq!(
            full.request,
            TraceRequest {
                frame: String::new(),
                mark: u32::MAX,
                priority: 2,
                gso_size: 1448,
                brief: true,
                limit: 50,
            }
        );
    }

    #[test]
    fn a_file_is_what_is_no_description() {
        let packet = |word: &str| trace(&format!("trace nk0 packet {word}")).packet;
        assert_eq!(packet("a.pcap:3"), file("a.pcap", Some(3)));
        assert_eq!(packet("a.pcap:0"), file("a.pcap:0", None));
        assert_eq!(packet("a:b"), file("a:b", None));
        assert_eq!(packet("./udp"), file("./udp", None));
        assert_eq!(packet("udp.bin"), file("udp.bin", None));
        assert_eq!(packet("-"), file("-", None));
        assert!(matches!(packet("ipv4,udp"), Packet::Frame(_)));
    }

    #[test]
    fn refusals() {
        let cases = [
            ("trace", "Not enough information: \"dev\" argument is required."),
            (
                "trace nk0",
                "Not enough information: \"packet\" argument is required.",
            ),
            (
                "trace nk0 packet",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "trace nk0 packet a packet b",
                "Error: duplicate \"packet\": \"b\" is the second value.",
            ),
            (
                "trace nk0 packet a gso 65536",
                "Error: argument \"65536\" is wrong: Invalid \"gso\" value",
            ),
            (
                "trace nk0 packet hex:001",
                "Error: argument \"hex:001\" is wrong: \"001\" is not pairs of hexadecimal digits",
            ),
            (
                "trace nk0 a.pcap",
                "Garbage instead of arguments \"a.pcap ...\". Try \"nkctl trace help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
        assert!(matches!(parse("trace nk0 help"), Err(UsageError::Information(_))));
        assert!(matches!(parse("trace help"), Err(UsageError::Information(_))));
    }
}
