//! A model with a NIC, as the kernel's selftests make it of netdevsim.

use devices::packet::{Frame, MacAddress};
use netkit::{
    Clones, CreateRequest, Created, Errno, Ifindex, LeaseRequest, Mode, Model, NicState, Outcome, Pairing,
    PeerRequest, QueueInfo, QueueKind, QueueLease, Received, UplinkRequest, receive,
};

use super::{ETH_P_IP, errno, ethernet, slot};

pub const NIC: MacAddress = MacAddress([2, 0, 0, 0, 0xee, 1]);

/// A NIC whose queues can be leased.
pub fn uplink(name: &str, rx_queues: u32) -> UplinkRequest {
    UplinkRequest {
        name: name.into(),
        ifindex: None,
        domain: None,
        address: NIC,
        mtu: 1500,
        rx_queues,
        leasable: true,
    }
}

/// The NIC of [`uplink`] as it is at first.
pub fn nic(rx_queues: u32) -> NicState {
    NicState {
        address: NIC,
        mtu: 1500,
        rx_queues,
        running: true,
        present: true,
    }
}

/// An IPv4 packet of a device in L3 mode.
pub fn ipv4(destination: [u8; 4]) -> Vec<u8> {
    let mut octets = ethernet(MacAddress::ZERO, ETH_P_IP, 60);
    octets[6..12].fill(0);
    octets[14] = 0x45;
    octets[17] = 46;
    octets[22..24].copy_from_slice(&[64, 17]);
    octets[26..30].copy_from_slice(&[10, 0, 0, 2]);
    octets[30..34].copy_from_slice(&destination);
    octets
}

/// A model with a NIC in it, and the devices that a test adds.
pub struct Host {
    pub model: Model,
    pub nic: Ifindex,
}

impl Host {
    pub fn new(rx_queues: u32) -> Host {
        let mut model = Model::new(1, 1);
        let nic = model.create_uplink(&uplink("eth0", rx_queues)).unwrap();
        Host { model, nic }
    }

    /// A pair, both ends up, with the guest's end in `domain`.
    pub fn pair_in(&mut self, mode: Mode, rx_queues: u32, domain: &str) -> Created {
        let request = CreateRequest {
            mode: Some(mode),
            num_rx_queues: Some(rx_queues),
            peer: Some(PeerRequest {
                num_rx_queues: Some(rx_queues),
                domain: Some(domain.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let created = self.model.create(&request).unwrap();
        self.model.set_up(created.primary, true).unwrap();
        self.model.set_up(created.peer.unwrap(), true).unwrap();
        created
    }

    /// The host's end and the guest's.
    pub fn pair(&mut self, rx_queues: u32) -> (Ifindex, Ifindex) {
        let created = self.pair_in(Mode::L2, rx_queues, "guest");
        (created.primary, created.peer.unwrap())
    }

    /// The same with both ends in the host's domain.
    pub fn pair_in_host(&mut self, rx_queues: u32) -> (Ifindex, Ifindex) {
        let created = self.pair_in(Mode::L2, rx_queues, "host");
        (created.primary, created.peer.unwrap())
    }

    /// A single in the host's domain, up.
    pub fn single(&mut self, rx_queues: u32) -> Ifindex {
        let request = CreateRequest {
            mode: Some(Mode::L2),
            num_rx_queues: Some(rx_queues),
            pairing: Some(Pairing::Single),
            ..Default::default()
        };
        let single = self.model.create(&request).unwrap().primary;
        self.model.set_up(single, true).unwrap();
        single
    }

    /// What asks for a queue in the way of the selftests: from where the device is, with the NIC's domain given if it is
    /// another.
    pub fn request(&self, device: Ifindex, uplink: Ifindex, queue: u32) -> LeaseRequest {
        let domain = |ifindex| {
            self.model
                .device(ifindex)
                .ok()
                .map(|device| device.domain.clone())
        };
        let (caller_domain, lessor) = (domain(device), domain(uplink));
        LeaseRequest {
            device,
            uplink,
            queue,
            kind: QueueKind::Rx,
            queue_kind: QueueKind::Rx,
            uplink_domain: lessor
                .filter(|lessor| Some(lessor) != caller_domain.as_ref())
                .map(|lessor| lessor.as_str().to_owned()),
            caller_domain,
        }
    }

    pub fn lease_from(&mut self, uplink: Ifindex, device: Ifindex, queue: u32) -> Result<u32, Errno> {
        let request = self.request(device, uplink, queue);
        errno(self.model.lease(&request))
    }

    pub fn lease(&mut self, device: Ifindex, queue: u32) -> Result<u32, Errno> {
        self.lease_from(self.nic, device, queue)
    }

    pub fn queue(&self, ifindex: Ifindex, queue: u32) -> QueueInfo {
        self.model.queue(ifindex, queue).unwrap()
    }

    /// Who leases a queue of the NIC.
    pub fn lessee(&self, queue: u32) -> Option<QueueLease> {
        self.queue(self.nic, queue).lease
    }

    pub fn channels(&mut self, ifindex: Ifindex, count: u32) -> Result<(), Errno> {
        errno(self.model.set_channels(ifindex, count))
    }

    pub fn is_there(&self, ifindex: Ifindex) -> bool {
        self.model.device(ifindex).is_ok()
    }

    /// A frame arrives at the NIC, and is taken by whom it is redirected to.
    pub fn arrives(&self, octets: &[u8]) -> Received {
        let view = self.model.view();
        let mut frame = Frame::from_octets(octets);
        let received = receive(
            &view,
            slot(&view, self.nic),
            &mut frame,
            &mut Clones::default(),
            0,
        );
        if let Received::Outcome(Outcome::Deliver(delivery)) = &received {
            view.delivered(delivery, 1, 0);
        }
        received
    }
}
