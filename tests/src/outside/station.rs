//! A TCP/IP stack on a wire.

use std::time::Duration;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::IpCidr;

use super::{Checker, Wire};
use crate::driver::Header;
use crate::driver::packet::{ETHERNET, complete};
use crate::driver::stack::{Line, Stack};

/// A stack on a wire, every frame of which is checked.
///
/// # Panics
/// Later, when a frame arrives or leaves that is wrong.
pub fn station(wire: Wire, checker: Checker, mac: [u8; 6], address: IpCidr) -> Stack<Watched> {
    Stack::new(Watched { wire, checker }, mac, &[address])
}

/// A wire that is watched.
#[derive(Debug)]
pub struct Watched {
    /// The wire.
    pub wire: Wire,
    /// What every frame has to pass.
    pub checker: Checker,
}

impl Watched {
    /// The next frame.
    ///
    /// # Panics
    /// If something is wrong with it.
    pub fn receive_checked(&mut self) -> Option<(Header, Vec<u8>)> {
        let (header, frame) = self.wire.receive()?;
        if let Err(fault) = self.checker.check(&header, &frame) {
            panic!("a wrong frame arrived: {fault}");
        }
        Some((header, frame))
    }
}

/// A frame that came.
#[derive(Debug)]
pub struct Receive(Vec<u8>);

/// Room for one that is to go.
#[derive(Debug)]
pub struct Transmit<'a>(&'a mut Watched);

impl Line for Watched {
    fn wait(&mut self, patience: Duration) {
        self.wire.wait(patience);
    }
}

impl Device for Watched {
    type RxToken<'a> = Receive;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Receive, Transmit<'_>)> {
        let (header, mut frame) = self.receive_checked()?;
        complete(&header, &mut frame);
        Some((Receive(frame), Transmit(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        Some(Transmit(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.checker.mtu() + ETHERNET;
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
        self.0
            .checker
            .check(&Header::default(), &frame)
            .expect("a stack sends right frames");
        // What the other side does not take is lost, as on any wire.
        self.0.wire.send(&Header::default(), &frame);
        result
    }
}
