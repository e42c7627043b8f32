//! What two guests with a stack do to each other: ping, and send a stream that must arrive whole.

use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};

use super::device::PATIENCE;
use super::random::Random;
use super::stack::{Line, Party, Stack, talk};

const IDENT: u16 = 0x22b;
/// Of the octets of streams.
const SEED: u64 = 7;
/// No window scale: smoltcp 0.14 trims segments at a scaled window's edge, and then never acknowledges their FIN.
const WINDOW: usize = 65535;

/// How long an answer may take before the next request is sent, as long as nobody has answered yet: a stack drops what
/// it would send while it looks for its neighbour.
const FIRST_ANSWER: Duration = Duration::from_millis(200);

/// Sends echo requests from `a` until `count` have been answered by `b`, each with the data that was sent.
///
/// # Panics
/// If one of them is not answered.
pub fn ping<L: Line>(a: &mut Stack<L>, b: &mut impl Party, from: IpAddress, to: IpAddress, count: u16) {
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 8192]);
    let handle = a.add(icmp::Socket::new(buffer(), buffer()));
    let socket = a.socket::<icmp::Socket>(handle);
    socket
        .bind(icmp::Endpoint::Ident(IDENT))
        .expect("a free identifier");
    let end = Instant::now() + PATIENCE;
    // The first request makes both stacks look for their neighbour.
    while !is_answered(a, b, handle, 0, &[], FIRST_ANSWER) {
        assert!(Instant::now() < end, "nobody answers for {to}");
        if a.socket::<icmp::Socket>(handle).can_send() {
            send_request(a.socket(handle), from, to, 0, &[]);
        }
    }
    for sequence in 1..=count {
        let data = Random::new(u64::from(sequence)).octets(700);
        send_request(a.socket(handle), from, to, sequence, &data);
        assert!(
            is_answered(a, b, handle, sequence, &data, PATIENCE),
            "request {sequence} to {to} has no answer"
        );
    }
}

/// Whether the answer to a request comes in time, with the data of the request.
fn is_answered<L: Line>(
    a: &mut Stack<L>,
    b: &mut impl Party,
    handle: SocketHandle,
    sequence: u16,
    data: &[u8],
    patience: Duration,
) -> bool {
    let end = Instant::now() + patience;
    let mut answered = false;
    talk(a, b, |a, _| {
        while let Ok((message, _)) = a.socket::<icmp::Socket>(handle).recv() {
            answered |= echoed(message) == Some((sequence, data));
        }
        answered || Instant::now() > end
    });
    answered
}

fn send_request(socket: &mut icmp::Socket, from: IpAddress, to: IpAddress, seq_no: u16, data: &[u8]) {
    let checksums = ChecksumCapabilities::default();
    match (from, to) {
        (IpAddress::Ipv4(_), _) => {
            let repr = Icmpv4Repr::EchoRequest {
                ident: IDENT,
                seq_no,
                data,
            };
            let octets = socket.send(repr.buffer_len(), to).expect("room for a request");
            repr.emit(&mut Icmpv4Packet::new_unchecked(octets), &checksums);
        }
        (IpAddress::Ipv6(from), IpAddress::Ipv6(destination)) => {
            let repr = Icmpv6Repr::EchoRequest {
                ident: IDENT,
                seq_no,
                data,
            };
            let octets = socket.send(repr.buffer_len(), to).expect("room for a request");
            let mut packet = Icmpv6Packet::new_unchecked(octets);
            repr.emit(&from, &destination, &mut packet, &checksums);
        }
        (IpAddress::Ipv6(_), IpAddress::Ipv4(_)) => panic!("two address families"),
    }
}

/// Sequence number and data of an echo reply of either version.
fn echoed(message: &[u8]) -> Option<(u16, &[u8])> {
    const REPLIES: [u8; 2] = [0, 129];
    let [kind, 0, _, _, _, _, high, low, data @ ..] = message else {
        return None;
    };
    REPLIES
        .contains(kind)
        .then(|| (u16::from_be_bytes([*high, *low]), data))
}

/// A TCP socket with room for a good window.
pub fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; WINDOW]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket
}

/// Opens a connection from `a` to `b`: the socket of each.
pub fn connect<A: Line, B: Line>(
    a: &mut Stack<A>,
    b: &mut Stack<B>,
    to: IpAddress,
    ports: (u16, u16),
) -> (SocketHandle, SocketHandle) {
    let (client, server) = (a.add(tcp_socket()), b.add(tcp_socket()));
    b.socket::<tcp::Socket>(server)
        .listen(ports.1)
        .expect("a free port");
    let (socket, context) = a.socket_and_context::<tcp::Socket>(client);
    socket
        .connect(context, (to, ports.1), ports.0)
        .expect("a way to the peer");
    talk(a, b, |a, b| {
        a.socket::<tcp::Socket>(client).may_send() && b.socket::<tcp::Socket>(server).may_recv()
    });
    (client, server)
}

/// Sends `len` random octets from `a` to `b`, which must receive the same octets and the end of the stream.
pub fn transfer<A: Line, B: Line>(
    a: &mut Stack<A>,
    b: &mut Stack<B>,
    to: IpAddress,
    ports: (u16, u16),
    len: usize,
) {
    let (client, server) = connect(a, b, to, ports);
    let mut sender = Sender::new(len);
    let mut receiver = Receiver::new(len);
    talk(a, b, |a, b| {
        sender.advance(a.socket(client));
        receiver.advance(b.socket(server))
    });
}

/// What a [`Sender`] of `len` octets writes.
pub fn stream(len: usize) -> Vec<u8> {
    Random::new(SEED).octets(len)
}

/// Writes random octets into a socket, as there is room.
#[derive(Debug)]
pub struct Sender {
    random: Random,
    pending: Vec<u8>,
    left: usize,
    ends: bool,
}

impl Sender {
    /// Will write `len` octets and end the stream.
    pub fn new(len: usize) -> Sender {
        Sender {
            random: Random::new(SEED),
            pending: Vec::new(),
            left: len,
            ends: true,
        }
    }

    /// Will not end the stream.
    pub fn kept_open(self) -> Sender {
        Sender { ends: false, ..self }
    }

    /// Writes what there is room for.
    pub fn advance(&mut self, socket: &mut tcp::Socket) {
        while socket.can_send() && (self.left > 0 || !self.pending.is_empty()) {
            if self.pending.is_empty() {
                self.pending = self.random.octets(self.left.min(4096));
                self.left -= self.pending.len();
            }
            let sent = socket.send_slice(&self.pending).expect("an open connection");
            self.pending.drain(..sent);
        }
        if self.ends && self.left == 0 && self.pending.is_empty() {
            socket.close();
        }
    }
}

/// Compares what comes out of a socket with what a [`Sender`] writes.
#[derive(Debug)]
pub struct Receiver {
    random: Random,
    expected: Vec<u8>,
    left: usize,
}

impl Receiver {
    /// Expects `len` octets and the end of the stream.
    pub fn new(len: usize) -> Receiver {
        Receiver {
            random: Random::new(SEED),
            expected: Vec::new(),
            left: len,
        }
    }

    /// Octets that have not come yet.
    pub fn left(&self) -> usize {
        self.left + self.expected.len()
    }

    /// Takes what has arrived; true at the end of the stream.
    ///
    /// # Panics
    /// If another octet came, or one too many, or the end too early.
    pub fn advance(&mut self, socket: &mut tcp::Socket) -> bool {
        while socket.can_recv() {
            let taken = socket
                .recv(|octets| (octets.len(), octets.to_vec()))
                .expect("an open connection");
            while self.expected.len() < taken.len() {
                let more = self.random.octets(self.left.min(4096));
                assert!(!more.is_empty(), "more octets than were sent");
                self.left -= more.len();
                self.expected.extend(more);
            }
            assert!(self.expected[..taken.len()] == taken, "the stream was changed");
            self.expected.drain(..taken.len());
        }
        let ended = !socket.may_recv();
        if ended {
            assert_eq!(self.left(), 0, "the stream ended too early");
        }
        ended
    }
}

/// A stream each way over one connection.
#[derive(Debug)]
pub struct Exchange {
    sender: Sender,
    receiver: Receiver,
    has_ended: bool,
}

impl Exchange {
    /// Of `len` octets each way.
    pub fn new(len: usize) -> Exchange {
        Exchange {
            sender: Sender::new(len),
            receiver: Receiver::new(len),
            has_ended: false,
        }
    }

    /// Sends and takes what can be; true when both sides have sent everything and know it.
    ///
    /// # Panics
    /// If another octet came, or one too many, or the end too early.
    pub fn advance(&mut self, socket: &mut tcp::Socket) -> bool {
        let has_begun = !matches!(
            socket.state(),
            tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived
        );
        if has_begun && !self.has_ended {
            self.sender.advance(socket);
            self.has_ended = self.receiver.advance(socket);
        } else if has_begun {
            self.sender.advance(socket);
        }
        self.has_ended && !socket.is_active()
    }
}
