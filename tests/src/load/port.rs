//! One port of the back end: the connection, the guest's memory, and the queues in it.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::error::LoadError;
use super::frame::HEADER;
use super::memory::{HUGE_PAGE, Memory, free_huge_pages};
use super::options::{Options, RingFormat, Size};
use super::queue::Queue;
use super::ring::{DriverRing, RingConfig};
use crate::driver::front_end::FrontEnd;
use crate::driver::{feature, message::protocol};

/// Octets of a receive buffer, as guests have them: for one wire frame, or for a part of a large one.
const BUFFER: usize = 2048;
const LARGE_PART: usize = 4096;
/// Large frames under way from one queue: more have no room at any receiver, and would only fall out of caches.
const LARGE_FRAMES: u16 = 128;
/// What a driver needs to send and receive large TCP frames.
const LARGE: u64 = feature::CSUM | feature::GUEST_CSUM | feature::HOST_TSO4 | feature::GUEST_TSO4;
/// Features by name.
const NAMES: [(u64, &str); 8] = [
    (feature::VERSION_1, "VERSION_1"),
    (feature::RING_PACKED, "RING_PACKED"),
    (feature::MRG_RXBUF, "MRG_RXBUF"),
    (feature::IN_ORDER, "IN_ORDER"),
    (feature::EVENT_IDX, "EVENT_IDX"),
    (feature::INDIRECT, "INDIRECT_DESC"),
    (feature::MQ, "MQ"),
    (LARGE, "CSUM, GUEST_CSUM, HOST_TSO4 and GUEST_TSO4"),
];

/// A port with running rings.
#[derive(Debug)]
pub struct Port<R> {
    /// Where frames come in, one for each queue pair.
    pub receive: Vec<Queue<R>>,
    /// Where frames go out.
    pub transmit: Vec<Queue<R>>,
    /// The virtio features that were taken.
    pub features: u64,
    /// Whether the memory is in huge pages.
    pub huge: bool,
    path: PathBuf,
    front_end: FrontEnd,
    memory: Memory,
}

/// A socket that was listened on, gone when dropped.
#[derive(Debug)]
pub struct Listener {
    path: PathBuf,
    listener: UnixListener,
}

impl Listener {
    /// Listens, over a socket that somebody left behind.
    pub fn new(path: &Path) -> Result<Listener, LoadError> {
        // If it cannot be removed, binding says why.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(|source| unreachable(path, source))?;
        Ok(Listener {
            path: path.to_owned(),
            listener,
        })
    }

    /// Waits for the back end.
    pub fn accept(&self) -> Result<UnixStream, LoadError> {
        let accepted = self.listener.accept();
        Ok(accepted.map_err(|source| unreachable(&self.path, source))?.0)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Whoever needs the path next removes what is there.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Connects to a back end that listens.
pub fn connect(path: &Path) -> Result<UnixStream, LoadError> {
    UnixStream::connect(path).map_err(|source| unreachable(path, source))
}

fn unreachable(path: &Path, source: io::Error) -> LoadError {
    let path = path.to_owned();
    LoadError::Connect { path, source }
}

impl<R: DriverRing> Port<R> {
    /// Negotiates features, lays rings out, and starts them with all receive buffers posted.
    pub fn open(path: &Path, stream: UnixStream, options: &Options) -> Result<Port<R>, LoadError> {
        let message = |what| {
            let path = path.to_owned();
            move |source| LoadError::Message { path, what, source }
        };
        let mut front_end = FrontEnd::from_stream(stream)?;
        let offered = front_end.features().map_err(message("GET_FEATURES"))?;
        let features = choose(path, offered, options)?;
        agree(&mut front_end, offered, options).map_err(message("SET_PROTOCOL_FEATURES"))?;
        front_end.set_owner().map_err(message("SET_OWNER"))?;

        let (receive, transmit) = ring_configs(features, options);
        let pairs = usize::from(options.queues);
        let len = pairs * (Queue::<R>::octets(&receive) + Queue::<R>::octets(&transmit));
        let huge = options.huge.unwrap_or_else(|| {
            // Both ports need as much.
            free_huge_pages() >= 2 * len.div_ceil(HUGE_PAGE)
        });
        let memory = Memory::new(len, huge);
        let mut memory = memory.map_err(|source| LoadError::Memory { len, source })?;
        let mut queues = |config| -> io::Result<Vec<Queue<R>>> {
            (0..pairs).map(|_| Queue::new(config, &mut memory)).collect()
        };
        let mut port = Port {
            receive: queues(&receive)?,
            transmit: queues(&transmit)?,
            features,
            huge,
            path: path.to_owned(),
            front_end,
            memory,
        };
        for queue in &mut port.receive {
            queue.refill()?;
        }
        let sizes = [receive.size, transmit.size];
        port.start(offered, sizes)
            .map_err(message("the start of its rings"))?;
        Ok(port)
    }

    /// Tells everything there is about the rings.
    fn start(&mut self, offered: u64, sizes: [u16; 2]) -> io::Result<()> {
        let front_end = &self.front_end;
        let negotiated = offered & feature::PROTOCOL_FEATURES;
        front_end.set_features(self.features | negotiated)?;
        front_end.set_mem_table(&[self.memory.region()])?;
        let pairs = self.receive.iter().zip(&self.transmit);
        for (index, queue) in pairs
            .flat_map(|(receive, transmit)| [receive, transmit])
            .enumerate()
        {
            front_end.set_vring_num(index, u32::from(sizes[index % 2]))?;
            front_end.set_vring_base(index, R::BASE)?;
            front_end.set_vring_addr(index, &queue.ring.addresses())?;
            front_end.set_vring_kick(index, Some(queue.kick.as_raw_fd()))?;
            front_end.set_vring_call(index, Some(queue.call.as_raw_fd()))?;
        }
        if negotiated != 0 {
            for index in 0..2 * self.receive.len() {
                front_end.set_vring_enable(index, true)?;
            }
        }
        front_end.settle()?;
        // A back end may wait for a kick before it looks at a ring at all (U4).
        self.receive
            .iter()
            .chain(&self.transmit)
            .try_for_each(|queue| queue.kick.write(1))
    }

    /// Whether a frame may take several buffers.
    pub fn mergeable(&self) -> bool {
        self.features & feature::MRG_RXBUF != 0
    }

    /// Stops the rings, as a driver does at its end.
    pub fn stop(&mut self) -> Result<(), LoadError> {
        for ring in 0..2 * self.receive.len() {
            self.front_end
                .vring_base(ring)
                .map_err(|source| LoadError::Message {
                    path: self.path.clone(),
                    what: "GET_VRING_BASE",
                    source,
                })?;
        }
        Ok(())
    }
}

/// The features that are taken: what was asked for, and what is always of use.
fn choose(path: &Path, offered: u64, options: &Options) -> Result<u64, LoadError> {
    let has = |mask| offered & mask == mask;
    let wish = |wish: Option<bool>, mask| wish.unwrap_or(has(mask));
    let wishes = [
        (true, feature::VERSION_1),
        (options.ring == RingFormat::Packed, feature::RING_PACKED),
        (wish(options.mergeable, feature::MRG_RXBUF), feature::MRG_RXBUF),
        (wish(options.in_order, feature::IN_ORDER), feature::IN_ORDER),
        (options.event_idx, feature::EVENT_IDX),
        (options.indirect, feature::INDIRECT),
        (options.queues > 1, feature::MQ),
        (options.size == Size::Gso, LARGE),
    ];
    let features = wishes
        .iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |all, (_, mask)| all | mask);
    match NAMES
        .iter()
        .find(|(mask, _)| features & mask == *mask && !has(*mask))
    {
        None => Ok(features),
        Some((_, feature)) => Err(LoadError::Feature {
            path: path.to_owned(),
            feature,
            offered,
        }),
    }
}

fn agree(front_end: &mut FrontEnd, offered: u64, options: &Options) -> io::Result<()> {
    if offered & feature::PROTOCOL_FEATURES == 0 {
        return Ok(());
    }
    let known = protocol::MQ | protocol::REPLY_ACK;
    let agreed = front_end.protocol_features()? & known;
    front_end.set_protocol_features(agreed)?;
    if options.queues > 1 {
        let most = if agreed & protocol::MQ != 0 {
            front_end.queue_num()?
        } else {
            1
        };
        if most < u64::from(options.queues) {
            return Err(io::Error::other(format!("it has {most} queue pairs at most")));
        }
    }
    Ok(())
}

/// Receive and transmit rings.
fn ring_configs(features: u64, options: &Options) -> (RingConfig, RingConfig) {
    let has = |mask| features & mask == mask;
    let large = options.size == Size::Gso;
    let longest = options.size.shapes().iter().map(|shape| shape.len).max();
    let longest = HEADER + longest.unwrap_or(0);
    let receive = RingConfig {
        size: options.queue_size,
        in_order: has(feature::IN_ORDER),
        event_idx: has(feature::EVENT_IDX),
        indirect: false,
        writable: true,
        buffer_len: match (large, has(feature::MRG_RXBUF)) {
            (false, _) => BUFFER,
            (true, true) => LARGE_PART,
            (true, false) => longest,
        } as u32,
        kicks: options.kicks(),
    };
    let transmit = RingConfig {
        size: if large {
            options.queue_size.min(LARGE_FRAMES)
        } else {
            options.queue_size
        },
        indirect: has(feature::INDIRECT),
        writable: false,
        buffer_len: longest.max(128) as u32,
        ..receive
    };
    (receive, transmit)
}
