//! A wire between two guests as the stock rust-vmm crates give it: what the benchmark compares netkitd with.
//!
//! `stock-net SOCKET SOCKET` serves one endpoint on each socket, until it is killed. Each endpoint has the crate's daemon
//! and its one worker thread, which sleeps until its guest kicks, copies each frame through a buffer of its own, and
//! delivers it under the lock of the other endpoint's receive ring.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use netkit_tests::driver::feature;
use vhost::vhost_user::{Listener, VhostUserProtocolFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

const RECEIVE: usize = 0;
const TRANSMIT: u16 = 1;
const QUEUE_SIZE: usize = 1024;
/// virtio-net's header with `num_buffers`, and the place of that field.
const HEADER_LEN: usize = 12;
const NUM_BUFFERS: usize = 10;
const LONGEST: usize = HEADER_LEN + 65_550;

/// Where an endpoint receives.
#[derive(Clone)]
struct Inlet {
    memory: Memory,
    receive: VringRwLock,
}

/// The inlets of both endpoints, as far as their guests are there.
type Wire = Arc<[Mutex<Option<Inlet>>; 2]>;

/// One endpoint for the time of one connection.
struct Endpoint {
    wire: Wire,
    side: usize,
    memory: Option<Memory>,
    buffer: Vec<u8>,
}

fn main() -> ExitCode {
    let sockets: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [a, b] = <[PathBuf; 2]>::try_from(sockets).unwrap_or_default();
    if a.as_os_str().is_empty() {
        eprintln!("usage: stock-net SOCKET SOCKET");
        return ExitCode::from(2);
    }
    let wire = Wire::default();
    let other = wire.clone();
    thread::spawn(move || serve(&b, 1, &other));
    serve(&a, 0, &wire);
    ExitCode::FAILURE
}

/// Serves one front end after the other. A daemon of the crate serves one connection, so each gets a new one.
fn serve(socket: &PathBuf, side: usize, wire: &Wire) {
    let mut listener = match Listener::new(socket, true) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("stock-net: cannot listen on {}: {error}", socket.display());
            std::process::exit(1);
        }
    };
    loop {
        if let Err(error) = serve_one(&mut listener, side, wire) {
            eprintln!("stock-net: {}: {error}", socket.display());
        }
        *lock(&wire[side]) = None;
    }
}

fn serve_one(listener: &mut Listener, side: usize, wire: &Wire) -> Result<(), vhost_user_backend::Error> {
    let endpoint = Endpoint {
        wire: wire.clone(),
        side,
        memory: None,
        buffer: vec![0; LONGEST],
    };
    let memory = Memory::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("stock-net".to_owned(), Arc::new(Mutex::new(endpoint)), memory)?;
    daemon.start(listener)?;
    match daemon.wait() {
        Err(vhost_user_backend::Error::HandleRequest(vhost::vhost_user::Error::Disconnected)) => Ok(()),
        result => result,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    /// Takes every frame that the guest has made available to the other side.
    fn forward(&mut self, transmit: &VringRwLock) -> io::Result<()> {
        let Some(memory) = self.memory.clone() else {
            return Ok(());
        };
        let inlet = lock(&self.wire[1 - self.side]).clone();
        let mut delivered = false;
        let mut consumed = false;
        while let Some(len) = self.next_frame(transmit, &memory)? {
            consumed = true;
            if let Some(inlet) = &inlet {
                delivered |= inlet.deliver(&mut self.buffer[..len])?;
            }
        }
        if consumed && transmit.needs_notification().map_err(io::Error::other)? {
            transmit.signal_used_queue()?;
        }
        match inlet {
            Some(inlet) if delivered => inlet.notify(),
            _ => Ok(()),
        }
    }

    /// Copies the next chain into the buffer and gives it back to the guest: its length with the header.
    fn next_frame(&mut self, transmit: &VringRwLock, memory: &Memory) -> io::Result<Option<usize>> {
        let mut ring = transmit.get_mut();
        let guard = memory.memory();
        let Some(chain) = ring.get_queue_mut().pop_descriptor_chain(guard.clone()) else {
            return Ok(None);
        };
        let head = chain.head_index();
        let mut reader = chain.reader(&*guard).map_err(io::Error::other)?;
        let len = reader.available_bytes().min(self.buffer.len());
        reader.read_exact(&mut self.buffer[..len])?;
        ring.add_used(head, 0).map_err(io::Error::other)?;
        Ok(Some(len))
    }
}

impl Inlet {
    /// Puts a frame into the guest's next buffers, as many as it takes; false if there is no room.
    fn deliver(&self, frame: &mut [u8]) -> io::Result<bool> {
        let mut ring = self.receive.get_mut();
        let guard = self.memory.memory();
        let mut chains = Vec::new();
        let mut room = 0;
        // Before the first octet is written the number of buffers has to be known.
        while room < frame.len() {
            let Some(chain) = ring.get_queue_mut().pop_descriptor_chain(guard.clone()) else {
                for _ in &chains {
                    ring.get_queue_mut().go_to_previous_position();
                }
                return Ok(false);
            };
            room += chain
                .clone()
                .writer(&*guard)
                .map_err(io::Error::other)?
                .available_bytes();
            chains.push(chain);
        }
        let count = chains.len() as u16;
        frame[NUM_BUFFERS..HEADER_LEN].copy_from_slice(&count.to_le_bytes());
        let mut rest = &*frame;
        for chain in chains {
            let head = chain.head_index();
            let mut writer = chain.writer(&*guard).map_err(io::Error::other)?;
            let len = writer.available_bytes().min(rest.len());
            writer.write_all(&rest[..len])?;
            rest = &rest[len..];
            ring.add_used(head, len as u32).map_err(io::Error::other)?;
        }
        Ok(true)
    }

    fn notify(&self) -> io::Result<()> {
        match self.receive.needs_notification().map_err(io::Error::other)? {
            true => self.receive.signal_used_queue(),
            false => Ok(()),
        }
    }
}

impl VhostUserBackendMut for Endpoint {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    // Frames are carried as they are, so what one guest may send the other must be able to receive: no offload.
    fn features(&self) -> u64 {
        feature::VERSION_1 | feature::MRG_RXBUF | feature::EVENT_IDX | feature::PROTOCOL_FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
    }

    // Front ends ask for it, and no feature that is offered has a field in it.
    fn get_config(&self, _: u32, size: u32) -> Vec<u8> {
        vec![0; size as usize]
    }

    fn set_event_idx(&mut self, _: bool) {}

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    // Without it, the daemon waits for its worker for ever when it is dropped.
    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(&mut self, event: u16, _: EventSet, rings: &[VringRwLock], _: usize) -> io::Result<()> {
        // The crate tells of rings in no other way than by events.
        let (Some(memory), Some(receive)) = (&self.memory, rings.get(RECEIVE)) else {
            return Ok(());
        };
        let inlet = Inlet {
            memory: memory.clone(),
            receive: receive.clone(),
        };
        lock(&self.wire[self.side]).get_or_insert(inlet);
        let Some(transmit) = rings.get(usize::from(TRANSMIT)).filter(|_| event == TRANSMIT) else {
            return Ok(());
        };
        loop {
            transmit.disable_notification().map_err(io::Error::other)?;
            self.forward(transmit)?;
            // What came between the last look and this is seen here; what comes later kicks.
            if !transmit.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}
