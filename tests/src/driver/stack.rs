//! A real TCP/IP stack (smoltcp) as the guest behind a driver, using the offloads that the driver negotiated; or as
//! whoever else can send and receive frames.

use std::num::{NonZeroU16, NonZeroUsize};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::socket::AnySocket;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::device::NetDriver;
use super::feature;
use super::packet::{ETHERNET, complete, leave_checksum, leave_segmentation};

/// How long a conversation may last, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait for the device when the stack has no deadline.
const NAP: Duration = Duration::from_millis(100);

/// What carries a stack's frames.
pub trait Line: Device {
    /// Sleeps until a frame has come, or this long.
    fn wait(&mut self, patience: Duration);
}

/// Somebody who has to be let act for a conversation to go on.
pub trait Party {
    /// Receives and sends what there is; false if there was nothing.
    fn act(&mut self) -> bool;

    /// When it wants to act again although nothing comes.
    fn patience(&mut self) -> Duration;
}

/// Somebody outside of this thread, who acts without being let.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere;

/// A guest with a network stack.
pub struct Stack<L = NetDriver> {
    /// Its driver.
    pub driver: L,
    interface: Interface,
    sockets: SocketSet<'static>,
    begun: Instant,
}

impl<L> std::fmt::Debug for Stack<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("address", &self.interface.hardware_addr())
            .finish_non_exhaustive()
    }
}

impl<L: Line> Stack<L> {
    /// A guest with these addresses.
    pub fn new(mut driver: L, mac: [u8; 6], addresses: &[IpCidr]) -> Stack<L> {
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = u64::from(mac[5]);
        let mut interface = Interface::new(config, &mut driver, StackInstant::ZERO);
        interface.update_ip_addrs(|all| {
            for address in addresses {
                all.push(*address).expect("room for an address");
            }
        });
        Stack {
            driver,
            interface,
            sockets: SocketSet::new(Vec::new()),
            begun: Instant::now(),
        }
    }

    /// Opens a socket.
    pub fn add<T: AnySocket<'static>>(&mut self, socket: T) -> SocketHandle {
        self.sockets.add(socket)
    }

    /// A socket.
    pub fn socket<T: AnySocket<'static>>(&mut self, handle: SocketHandle) -> &mut T {
        self.sockets.get_mut(handle)
    }

    /// A socket, and the context that a connection is opened in.
    pub fn socket_and_context<T: AnySocket<'static>>(
        &mut self,
        handle: SocketHandle,
    ) -> (&mut T, &mut smoltcp::iface::Context) {
        (self.sockets.get_mut(handle), self.interface.context())
    }

    /// Receives and sends what there is; false if there was nothing.
    pub fn poll(&mut self) -> bool {
        let now = self.now();
        let result = self.interface.poll(now, &mut self.driver, &mut self.sockets);
        result == PollResult::SocketStateChanged
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(self.begun.elapsed().as_micros() as i64)
    }
}

impl<L: Line> Party for Stack<L> {
    fn act(&mut self) -> bool {
        self.poll()
    }

    fn patience(&mut self) -> Duration {
        let now = self.now();
        let delay = self.interface.poll_delay(now, &self.sockets);
        delay.map_or(NAP, |delay| Duration::from_micros(delay.total_micros()).min(NAP))
    }
}

impl Party for Elsewhere {
    fn act(&mut self) -> bool {
        false
    }

    fn patience(&mut self) -> Duration {
        NAP
    }
}

/// Lets a guest and somebody else talk until `done`.
///
/// # Panics
/// If they do not come to an end.
pub fn talk<L: Line, P: Party>(
    a: &mut Stack<L>,
    b: &mut P,
    mut done: impl FnMut(&mut Stack<L>, &mut P) -> bool,
) {
    let end = Instant::now() + PATIENCE;
    while !done(a, b) {
        assert!(Instant::now() < end, "the guests do not come to an end");
        if a.act() | b.act() {
            continue;
        }
        // The one answers what the other sends, so either may be waited for; the pauses stay short.
        let nap = a.patience().min(b.patience()).min(Duration::from_millis(1));
        a.driver.wait(nap);
    }
}

/// Lets one guest talk to somebody outside of this thread until `done`.
///
/// # Panics
/// If they do not come to an end.
pub fn serve<L: Line>(stack: &mut Stack<L>, mut done: impl FnMut(&mut Stack<L>) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done(stack) {
        assert!(Instant::now() < end, "the guest does not come to an end");
        if !stack.poll() {
            let nap = stack.patience();
            stack.driver.wait(nap);
        }
    }
}

/// A frame that the driver received.
#[derive(Debug)]
pub struct Receive(Vec<u8>);

/// Room for a frame that the driver is to send.
#[derive(Debug)]
pub struct Transmit<'a> {
    driver: &'a mut NetDriver,
    gso_size: Option<NonZeroU16>,
}

impl Line for NetDriver {
    fn wait(&mut self, patience: Duration) {
        NetDriver::wait(self, patience);
    }
}

impl Device for NetDriver {
    type RxToken<'a> = Receive;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, now: StackInstant) -> Option<(Receive, Transmit<'_>)> {
        if !self.has_room() {
            return None;
        }
        let mut received = self.poll()?;
        // The stack verifies the checksum whoever computed it: here, that the device left a right beginning of it.
        complete(&received.header, &mut received.frame);
        Some((Receive(received.frame), self.transmit(now)?))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Transmit<'_>> {
        self.has_room().then_some(Transmit {
            driver: self,
            gso_size: None,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.setup().mtu + ETHERNET;
        if self.has(feature::CSUM) {
            capabilities.checksum.tcp = Checksum::Rx;
            capabilities.checksum.udp = Checksum::Rx;
        }
        // smoltcp 0.14 throws large IPv6 segments away itself.
        if self.has(feature::HOST_TSO4) {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(ETHERNET + usize::from(u16::MAX));
        }
        capabilities
    }
}

impl RxToken for Receive {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        let header = match self.gso_size {
            Some(size) => leave_segmentation(&mut frame, size.get()),
            None if self.driver.has(feature::CSUM) => leave_checksum(&mut frame),
            None => Default::default(),
        };
        let pair = queue_of(&frame) % self.driver.setup().pairs;
        assert!(
            self.driver.try_send(pair, &header, &frame),
            "room was there when the token was given"
        );
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.gso_size = meta.segmentation_offload_size;
    }
}

/// Spreads flows over queues: by the lowest bits of the ports, or what stands in their place.
fn queue_of(frame: &[u8]) -> usize {
    let transport = match frame.get(12..14) {
        Some([0x08, 0x00]) => ETHERNET + 20,
        Some([0x86, 0xdd]) => ETHERNET + 40,
        _ => return 0,
    };
    let octet = |at: usize| usize::from(frame.get(at).copied().unwrap_or(0));
    octet(transport + 1) + octet(transport + 3)
}
