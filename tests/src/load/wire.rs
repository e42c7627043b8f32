//! Two ports that the back end wires together, and the two directions of frames between them.

use std::time::{Duration, Instant};

use super::error::LoadError;
use super::frame::{Mac, Template};
use super::options::{Mode, Options, Verify};
use super::port::{Listener, Port, connect};
use super::queue::Queue;
use super::ring::DriverRing;
use super::sink::{Arrivals, Sink};
use super::source::Source;

/// Names of the ports.
pub const PORTS: [&str; 2] = ["a", "b"];
/// How long a back end may take until frames come through.
const OPENING: Duration = Duration::from_secs(10);
/// A wire on which nothing has come for this long is empty, if the back end has taken all that was sent.
const SILENCE: Duration = Duration::from_millis(20);
/// A back end that has not taken everything by then never will.
const DRAINED: Duration = Duration::from_secs(5);

/// The wire.
#[derive(Debug)]
pub struct Wire<R> {
    /// The two ports.
    pub ports: [Port<R>; 2],
    /// From the first port to the second, and back.
    pub lanes: [Lane; 2],
    _listeners: Vec<Listener>,
}

/// One direction.
#[derive(Debug)]
pub struct Lane {
    /// What is sent, for each transmit queue.
    pub sources: Vec<Source>,
    /// What is received.
    pub sink: Sink,
}

impl<R: DriverRing> Wire<R> {
    /// Opens both ports.
    pub fn open(options: &Options) -> Result<Wire<R>, LoadError> {
        let (listeners, streams) = if options.server {
            let listeners = vec![Listener::new(&options.a)?, Listener::new(&options.b)?];
            let streams = [listeners[0].accept()?, listeners[1].accept()?];
            (listeners, streams)
        } else {
            (Vec::new(), [connect(&options.a)?, connect(&options.b)?])
        };
        let [a, b] = streams;
        let a = Port::open(&options.a, a, options)?;
        let b = Port::open(&options.b, b, options)?;
        if a.features != b.features {
            return Err(LoadError::Unlike(a.features, b.features));
        }
        let addresses = [options.mac_a.0, options.mac_b.0];
        let lanes = [0, 1].map(|from| Lane::new(from, addresses, options, a.mergeable()));
        Ok(Wire {
            ports: [a, b],
            lanes,
            _listeners: listeners,
        })
    }

    /// Takes one burst of each queue that a direction ends in. Gives how many buffers were taken.
    #[inline]
    pub fn sink(&mut self, direction: usize, mut seen: impl FnMut(usize, u64)) -> Result<usize, LoadError> {
        let mut taken = 0;
        for queue in &mut self.ports[1 - direction].receive {
            taken += self.lanes[direction].sink.turn(queue, &mut seen)?;
        }
        Ok(taken)
    }

    /// Puts up to `count` frames into each queue that a direction begins in. Gives how many.
    #[inline]
    pub fn generate(&mut self, direction: usize, count: usize) -> Result<usize, LoadError> {
        let mut put = 0;
        for (source, queue) in self.transmitters(direction) {
            put += source.generate(queue, count)?;
        }
        Ok(put)
    }

    /// The queues that a direction begins in, with what they send.
    pub fn transmitters(&mut self, direction: usize) -> impl Iterator<Item = (&mut Source, &mut Queue<R>)> {
        let queues = &mut self.ports[direction].transmit;
        self.lanes[direction].sources.iter_mut().zip(queues)
    }

    /// Sends single frames in these directions until one has come out at each end.
    pub fn reach(&mut self, directions: &[usize]) -> Result<(), LoadError> {
        let end = Instant::now() + OPENING;
        for &direction in directions {
            while self.lanes[direction].sink.arrivals.frames == 0 {
                if Instant::now() > end {
                    return Err(LoadError::NoWay {
                        from: PORTS[direction],
                        to: PORTS[1 - direction],
                        seconds: OPENING.as_secs(),
                    });
                }
                self.generate(direction, 1)?;
                std::thread::sleep(Duration::from_millis(1));
                self.sink(direction, |_, _| ())?;
            }
        }
        self.drain()
    }

    /// Takes what is still under way: all that the back end sends of what it was given.
    pub fn drain(&mut self) -> Result<(), LoadError> {
        let (begun, mut last) = (Instant::now(), Instant::now());
        while last.elapsed() < SILENCE && begun.elapsed() < DRAINED {
            if self.sink(0, |_, _| ())? + self.sink(1, |_, _| ())? > 0 || self.is_waiting()? {
                last = Instant::now();
            }
        }
        Ok(())
    }

    /// Whether the back end has sent frames still to take.
    fn is_waiting(&mut self) -> Result<bool, LoadError> {
        let mut left = 0;
        for queue in self.ports.iter_mut().flat_map(|port| &mut port.transmit) {
            queue.ring.reclaim()?;
            left += queue.ring.outstanding();
        }
        Ok(left > 0)
    }

    /// Counts from nothing again.
    pub fn reset(&mut self) {
        for lane in &mut self.lanes {
            lane.sink.arrivals = Arrivals::default();
            for source in &mut lane.sources {
                (source.sent, source.refused) = (0, 0);
            }
        }
    }

    /// Stops the rings.
    pub fn stop(&mut self) -> Result<(), LoadError> {
        self.ports.iter_mut().try_for_each(Port::stop)
    }
}

impl Lane {
    /// The direction from the port `from`.
    fn new(from: usize, addresses: [Mac; 2], options: &Options, mergeable: bool) -> Lane {
        let (shapes, flows, queues) = (options.size.shapes(), options.all_flows(), options.queues);
        let first_flow = flows * from as u16;
        let templates = |flow: u16| {
            let shape = |shape| Template::new(addresses[from], addresses[1 - from], first_flow + flow, shape);
            shapes.iter().copied().map(shape).collect::<Vec<_>>()
        };
        let verify = match (options.mode, options.verify) {
            (Mode::ClosedLoop | Mode::Wake, Verify::None) => Verify::Sample,
            (_, verify) => verify,
        };
        let source = |queue: u16| {
            let own = (queue..flows).step_by(usize::from(queues)).flat_map(templates);
            let numbers = (first_flow + queue, queues);
            Source::new(
                own.collect(),
                shapes.len(),
                options.size.mix(),
                numbers,
                verify.unchecked(),
            )
        };
        let all = (0..flows).flat_map(templates).collect();
        Lane {
            sources: (0..queues).map(source).collect(),
            sink: Sink::new(all, shapes.len(), first_flow, verify, mergeable),
        }
    }

    /// Frames that were sent.
    pub fn sent(&self) -> u64 {
        self.sources.iter().map(|source| source.sent).sum()
    }

    /// Frames that found no room.
    pub fn refused(&self) -> u64 {
        self.sources.iter().map(|source| source.refused).sum()
    }
}
