//! Sessions without a socket: messages in, rings in a file of memory.

mod bases;
mod inflight;
mod queue_reset;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use devices::guest::{GuestPort, OFFERED, QueueGuard};
use devices::packet::MacAddress;
use devices::ring::{Chain, RingError};
use vhost::vhost_user::message::FrontendReq as Request;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::{Connection, Host, Identity, Message, Reply, Session, Violation};

const VERSION_1: u64 = 1 << 32;
const PACKED: u64 = 1 << 34;
const PROTOCOL_FEATURES: u64 = 1 << 30;
/// The transmit queue.
const RING: u32 = 1;
const BUFFER: u64 = 0x8000;
const MEMORY: u64 = 0x1_0000;

struct Nobody;

impl Host for Nobody {
    fn watch(&mut self, _: usize, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
    fn unwatch(&mut self, _: usize, _: BorrowedFd<'_>) {}
    fn wake(&mut self, _: usize) {}
    fn announce(&mut self, _: MacAddress) {}
}

/// A front end, and the back end that it talks to.
struct Bench {
    session: Session,
    memory: File,
}

impl Bench {
    /// With features and memory.
    fn new(features: u64) -> Bench {
        Bench::around(memfd(MEMORY), features)
    }

    /// As after a new connection: the memory stays as it is.
    fn around(memory: File, features: u64) -> Bench {
        let identity = Identity {
            features: OFFERED,
            address: MacAddress([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            link_up: true,
        };
        let session = Session::new(Arc::new(GuestPort::new(1)), identity);
        let mut bench = Bench { session, memory };
        bench.ask(
            Request::SET_FEATURES,
            &longs(&[features | VERSION_1 | PROTOCOL_FEATURES]),
        );
        bench.share_memory();
        bench
    }

    fn share_memory(&mut self) {
        let table = [words(&[1, 0]), longs(&[0, MEMORY, 0, 0])].concat();
        self.ask_with(
            Request::SET_MEM_TABLE,
            &table,
            Some(&self.memory.try_clone().unwrap()),
        );
    }

    fn handle(
        &mut self,
        request: Request,
        payload: &[u8],
        fd: Option<&File>,
    ) -> Result<Option<Reply>, Violation> {
        let message = Message {
            request,
            need_reply: false,
            payload: payload.to_vec(),
            fds: fd.map(|fd| fd.try_clone().unwrap()).into_iter().collect(),
        };
        self.session.handle(message, &mut Nobody)
    }

    fn ask_with(&mut self, request: Request, payload: &[u8], fd: Option<&File>) -> Option<Reply> {
        self.handle(request, payload, fd).unwrap()
    }

    fn ask(&mut self, request: Request, payload: &[u8]) -> Option<Reply> {
        self.ask_with(request, payload, None)
    }

    fn set_addr(&mut self, [desc, avail, used]: [u64; 3]) {
        let payload = [words(&[RING, 0]), longs(&[desc, used, avail, 0])].concat();
        self.ask(Request::SET_VRING_ADDR, &payload);
    }

    fn kick(&mut self) {
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        // SAFETY: the duplicate is new and nobody else's.
        let fd = unsafe { File::from_raw_fd(libc::dup(event.as_raw_fd())) };
        self.ask_with(Request::SET_VRING_KICK, &longs(&[u64::from(RING)]), Some(&fd));
    }

    fn start(&mut self, size: u32, base: u32, addresses: [u64; 3]) {
        self.ask(Request::SET_VRING_NUM, &words(&[RING, size]));
        self.ask(Request::SET_VRING_BASE, &words(&[RING, base]));
        self.set_addr(addresses);
        self.kick();
    }

    fn stop(&mut self) -> u32 {
        let reply = self.ask(Request::GET_VRING_BASE, &words(&[RING, 0])).unwrap();
        u32::from_ne_bytes(*reply.octets.last_chunk().unwrap())
    }

    fn queue(&self) -> QueueGuard<'_> {
        self.session.port.queues()[RING as usize].lock()
    }

    fn position(&self) -> Option<u32> {
        self.queue().ring.as_ref().map(devices::ring::Ring::position)
    }

    /// The driver makes descriptors available from a place in a packed ring on.
    fn offer_packed(&self, desc: u64, range: std::ops::Range<u64>, wrap: bool) {
        for index in range {
            let flags: u64 = if wrap { 1 << 7 } else { 1 << 15 };
            let half = 64 | index << 32 | flags << 48;
            self.write(desc + 16 * index, &longs(&[BUFFER, half]));
        }
    }

    /// The driver makes the first chains of a split ring available.
    fn offer_split(&self, [desc, avail, _]: [u64; 3], count: u16) {
        for index in 0..u64::from(count) {
            self.write(desc + 16 * index, &longs(&[BUFFER, 64]));
            self.write(avail + 4 + 2 * index, &(index as u16).to_le_bytes());
        }
        self.write(avail + 2, &count.to_le_bytes());
    }

    fn write(&self, at: u64, octets: &[u8]) {
        self.memory.write_all_at(octets, at).unwrap();
    }

    /// The device takes chains, and gives them back if it lives that long.
    fn burst(&self, count: usize, publishes: bool) {
        let mut queue = self.queue();
        let ring = queue.ring.as_mut().unwrap();
        let mut chain = Chain::default();
        for _ in 0..count {
            assert!(ring.take(&mut chain).unwrap());
            ring.complete(chain.id, 0);
        }
        if publishes {
            queue.publish();
        }
    }

    fn get_inflight(&mut self, payload: &[u8]) -> (Vec<u8>, File) {
        let reply = self.ask(Request::GET_INFLIGHT_FD, payload).unwrap();
        (reply.octets[12..].to_vec(), reply.fd.unwrap())
    }
}

fn memfd(len: u64) -> File {
    let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
    file.set_len(len).unwrap();
    file
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn inflight_spec(size: u64, offset: u64, queues: u16, queue_size: u16) -> Vec<u8> {
    [
        longs(&[size, offset]),
        words(&[u32::from(queues) | u32::from(queue_size) << 16]),
    ]
    .concat()
}

fn octets<const N: usize>(file: &File, at: u64) -> [u8; N] {
    let mut octets = [0; N];
    file.read_exact_at(&mut octets, at).unwrap();
    octets
}

const HERE: [u64; 3] = [0, 0x1000, 0x2000];
const THERE: [u64; 3] = [0x3000, 0x4000, 0x5000];
