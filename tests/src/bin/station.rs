//! A guest without a virtual machine, as a program: for hosts in which no test runs.
//!
//! `station SOCKET MAC ADDRESS/PREFIX COMMAND` connects to a vhost-user socket, and again whenever the back end has gone.
//! It ends with status 0 when the command is done.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use netkit_tests::driver::conversation::{self, Exchange};
use netkit_tests::driver::device::wait_readable;
use netkit_tests::driver::stack::{Elsewhere, Line, Receive, Transmit, serve};
use netkit_tests::driver::{Header, NetDriver, Setup, Stack, packet};
use netkit_tests::outside::samples;
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpAddress, Ipv4Cidr};

/// How long a back end may be away, or an answer.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Options {
    /// The vhost-user socket, on which the back end listens.
    socket: PathBuf,
    /// The guest's Ethernet address.
    mac: String,
    /// The guest's IPv4 address and prefix length.
    address: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends echo requests.
    Ping { to: Ipv4Addr, count: u16 },
    /// Connects, and sends and receives a stream.
    Connect { to: Ipv4Addr, port: u16, octets: usize },
    /// Waits for a connection, and sends and receives a stream.
    Listen { port: u16, octets: usize },
    /// Sends one frame of each kind to an Ethernet address, and waits for a tagged one from there.
    Frames { to: String },
    /// Sends the shortest frames for some time, and prints how many.
    Flood { to: String, seconds: u64 },
}

fn main() {
    let options = Options::parse();
    let own = mac(&options.mac);
    let address: Ipv4Cidr = options
        .address
        .parse()
        .expect("an address with its prefix length");
    let driver = NetDriver::connect(&options.socket, Setup::default()).expect("a back end");
    let lasting = Lasting {
        driver,
        socket: options.socket,
    };
    let mut stack = Stack::new(lasting, own, &[address.into()]);
    match options.command {
        Command::Ping { to, count } => {
            let (from, to) = (address.address().into(), to.into());
            conversation::ping(&mut stack, &mut Elsewhere, from, to, count);
        }
        Command::Connect { to, port, octets } => {
            let handle = stack.add(conversation::tcp_socket());
            let (socket, context) = stack.socket_and_context::<tcp::Socket>(handle);
            let to = (IpAddress::from(to), port);
            socket
                .connect(context, to, 40_000 + port % 10_000)
                .expect("a way");
            exchange(&mut stack, handle, octets);
        }
        Command::Listen { port, octets } => {
            let handle = stack.add(conversation::tcp_socket());
            let socket = stack.socket::<tcp::Socket>(handle);
            socket.listen(port).expect("a free port");
            exchange(&mut stack, handle, octets);
        }
        Command::Frames { to } => frames(&mut stack.driver.driver, own, mac(&to)),
        Command::Flood { to, seconds } => flood(&mut stack.driver.driver, own, mac(&to), seconds),
    }
}

fn exchange(stack: &mut Stack<Lasting>, handle: smoltcp::iface::SocketHandle, octets: usize) {
    let mut exchange = Exchange::new(octets);
    serve(stack, |stack| exchange.advance(stack.socket(handle)));
    println!("{octets} octets each way");
}

fn frames(driver: &mut NetDriver, own: [u8; 6], to: [u8; 6]) {
    for version in [4, 6] {
        for (header, frame) in [
            samples::large(version, own, to),
            samples::datagram(version, own, to),
        ] {
            driver.send(0, &header, &frame);
        }
    }
    driver.send_frame(&samples::tagged(own, to));
    driver.flush();
    let expected = samples::tagged(to, own);
    let end = Instant::now() + PATIENCE;
    while driver.receive_within(PATIENCE).map(|it| it.frame).as_ref() != Some(&expected) {
        assert!(Instant::now() < end, "the tagged frame did not come");
    }
}

fn flood(driver: &mut NetDriver, own: [u8; 6], to: [u8; 6], seconds: u64) {
    let frame = packet::ethernet(own, to, b"flood");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0u64;
    while Instant::now() < end {
        if driver.try_send(0, &Header::default(), &frame) {
            count += 1;
        } else {
            driver.wait(Duration::from_millis(10));
        }
    }
    driver.flush();
    println!("{count}");
}

fn mac(text: &str) -> [u8; 6] {
    let address: EthernetAddress = text.parse().expect("an Ethernet address");
    address.0
}

/// A driver that looks for its back end when that has gone.
struct Lasting {
    driver: NetDriver,
    socket: PathBuf,
}

impl Line for Lasting {
    fn wait(&mut self, patience: Duration) {
        self.driver.wait(patience);
        let front_end = &self.driver.front_end;
        let is_readable = wait_readable(&[front_end.socket().as_raw_fd()], Duration::ZERO);
        if !is_readable || !front_end.is_hung_up_on(Duration::from_millis(1)) {
            return;
        }
        let end = Instant::now() + PATIENCE;
        while let Err(error) = self.driver.reconnect(&self.socket) {
            assert!(Instant::now() < end, "the back end stays away: {error}");
            thread::sleep(Duration::from_millis(50));
        }
        println!("connected again");
    }
}

impl Device for Lasting {
    type RxToken<'a> = Receive;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, now: smoltcp::time::Instant) -> Option<(Receive, Transmit<'_>)> {
        Device::receive(&mut self.driver, now)
    }

    fn transmit(&mut self, now: smoltcp::time::Instant) -> Option<Transmit<'_>> {
        self.driver.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.driver.capabilities()
    }
}
