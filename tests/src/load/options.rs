//! What is to be measured, as the command line says it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use super::error::LoadError;
use super::frame::Shape;

/// Generates and sinks frames as the guests of a vhost-user back end's two ports, on one core.
#[derive(Debug, Clone, Parser)]
#[command(name = "load")]
pub struct Options {
    /// vhost-user socket of the first port
    #[arg(long, value_name = "SOCKET")]
    pub a: PathBuf,
    /// vhost-user socket of the second port
    #[arg(long, value_name = "SOCKET")]
    pub b: PathBuf,
    /// Listen on the sockets and wait for the back end, instead of connecting
    #[arg(long)]
    pub server: bool,
    /// Format of the rings
    #[arg(long, value_enum, default_value_t = RingFormat::Split)]
    pub ring: RingFormat,
    /// Mergeable receive buffers [default: if offered]
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub mergeable: Option<bool>,
    /// Buffers used in order [default: if offered]
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub in_order: Option<bool>,
    /// Notifications by index
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = false)]
    pub event_idx: bool,
    /// Sent frames in indirect tables, header and frame apart
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = false)]
    pub indirect: bool,
    /// Descriptors of each ring
    #[arg(long, default_value_t = 1024)]
    pub queue_size: u16,
    /// Queue pairs of each port
    #[arg(long, default_value_t = 1)]
    pub queues: u16,
    /// Flows in each direction, spread over the queues; at least one for each queue is sent
    #[arg(long, default_value_t = 1)]
    pub flows: u16,
    /// Guest memory in huge pages [default: if enough are free]
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub huge: Option<bool>,
    /// What is done
    #[arg(long, value_enum, default_value_t = Mode::OneWay)]
    pub mode: Mode,
    /// Octets of an Ethernet frame without FCS, 64 to 1518; or imix; or gso
    #[arg(long, default_value = "64")]
    pub size: Size,
    /// Frames under way in the closed loop
    #[arg(long, default_value_t = 1)]
    pub in_flight: u16,
    /// Seconds before the measurement
    #[arg(long, default_value_t = 0.5)]
    pub warm_up: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Microseconds between two frames of mode wake
    #[arg(long, default_value_t = 2000)]
    pub pause: u64,
    /// Processor to run on
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Kick the device when it asks for that; otherwise it has to poll [default: true]
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub notify: Option<bool>,
    /// Which frames are checked: whole, or a sample whole and all others for order and length, or none at all
    #[arg(long, value_enum, default_value_t = Verify::Sample)]
    pub verify: Verify,
    /// Ethernet address of the first port
    #[arg(long, default_value = "02:00:00:00:00:0a")]
    pub mac_a: Mac,
    /// Ethernet address of the second port
    #[arg(long, default_value = "02:00:00:00:00:0b")]
    pub mac_b: Mac,
}

/// Format of the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RingFormat {
    Split,
    Packed,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// As many frames as go from the first port to the second
    OneWay,
    /// As many frames as go in both directions
    BothWays,
    /// A number of frames there and back
    ClosedLoop,
    /// Single frames to a back end that sleeps
    Wake,
    /// Nothing at all
    Wait,
}

/// Which frames are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verify {
    /// Every octet of every frame
    All,
    /// Every octet of each 64th frame of a flow, sequence number and length of the others
    Sample,
    /// Frames are counted; in the closed loop, as sample
    None,
}

/// Frame sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// All alike.
    Fixed(u16),
    /// 7 of 64, 4 of 594, 1 of 1518.
    Imix,
    /// TCP frames of 64 KB that are cut into segments by whoever needs it.
    Gso,
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Options {
    /// The options with nothing but the two sockets said.
    pub fn new(a: PathBuf, b: PathBuf) -> Options {
        Options::parse_from(["load".into(), "--a".into(), a, "--b".into(), b])
    }

    /// Says what is wrong with the numbers.
    pub fn check(&self) -> Result<(), LoadError> {
        let refuse = |text: &str| Err(LoadError::Options(text.to_owned()));
        let split = self.ring == RingFormat::Split;
        if !(16..=32768).contains(&self.queue_size) || split && !self.queue_size.is_power_of_two() {
            return refuse("--queue-size is 16 to 32768, and a power of two for split rings");
        }
        if !(1..=256).contains(&self.queues) || !(1..=16384).contains(&self.flows) {
            return refuse("--queues is 1 to 256, and --flows is 1 to 16384");
        }
        if self.in_flight == 0 || self.in_flight > self.queue_size / 2 {
            return refuse("--in-flight is at least 1, and at most half of --queue-size");
        }
        let duration = |seconds: f64| (0.0..=3600.0).contains(&seconds);
        if !duration(self.warm_up) || !duration(self.seconds) || self.seconds == 0.0 {
            return refuse("--warm-up and --seconds are up to an hour, and --seconds is more than nothing");
        }
        if self.size == Size::Gso && self.indirect {
            return refuse("--size gso goes without --indirect");
        }
        Ok(())
    }

    /// Flows of each direction.
    pub fn all_flows(&self) -> u16 {
        self.flows.max(self.queues)
    }

    /// Whether the device is ever kicked.
    pub fn kicks(&self) -> bool {
        self.notify != Some(false)
    }

    /// How long to run before the measurement.
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    /// How long to measure.
    pub fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

impl Verify {
    /// Bits of a sequence number that are all zero in frames that are checked whole.
    pub fn unchecked(self) -> u64 {
        match self {
            Verify::All => 0,
            Verify::Sample => 63,
            Verify::None => u64::MAX,
        }
    }
}

impl Size {
    /// The shapes of frames.
    pub fn shapes(self) -> Vec<Shape> {
        let udp = |len| Shape { len, segment: None };
        match self {
            Size::Fixed(len) => vec![udp(usize::from(len))],
            Size::Imix => vec![udp(64), udp(594), udp(1518)],
            // 45 whole segments: no more fit into 64 KB.
            Size::Gso => vec![Shape {
                len: 54 + 45 * 1448,
                segment: Some(1448),
            }],
        }
    }

    /// In which order the shapes follow one another.
    pub fn mix(self) -> Vec<usize> {
        match self {
            Size::Imix => vec![0, 1, 0, 1, 0, 2, 0, 1, 0, 1, 0, 0],
            Size::Fixed(_) | Size::Gso => vec![0],
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        match (text, text.parse::<u16>()) {
            ("imix", _) => Ok(Size::Imix),
            ("gso", _) => Ok(Size::Gso),
            (_, Ok(len @ 64..=1518)) => Ok(Size::Fixed(len)),
            _ => Err("a size is 64 to 1518, or imix, or gso".to_owned()),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Size::Fixed(len) => write!(f, "{len}"),
            Size::Imix => f.write_str("imix"),
            Size::Gso => f.write_str("gso"),
        }
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let octets: Result<Vec<u8>, _> = text.split(':').map(|it| u8::from_str_radix(it, 16)).collect();
        let octets = octets.ok().and_then(|it| <[u8; 6]>::try_from(it).ok());
        octets
            .map(Mac)
            .ok_or_else(|| "an Ethernet address is six octets such as 02:00:00:00:00:0a".to_owned())
    }
}
