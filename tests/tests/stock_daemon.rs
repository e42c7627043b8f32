//! Why the session engine is ours: the stock daemon hangs up on QEMU's opening, which netkitd serves.

use std::io;
use std::path::Path;

use netkit_tests::driver::{FrontEnd, NetDriver, Opening, Pair, Setup, feature};
use netkit_tests::netkitd::Netkitd;
use vhost::vhost_user::{
    Error as ProtocolError, Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost_user_backend::{Error, VhostUserBackendMut, VhostUserDaemon, VringRwLock};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

const LOOK_AGAIN: &str =
    "the stock daemon does not refuse QEMU's opening as it did: look at docs/decisions/0001 again";

/// The least that the stock daemon serves: a receive and a transmit queue that nobody looks at.
struct Idle;

impl VhostUserBackendMut for Idle {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        feature::LINUX | feature::MAC | feature::PROTOCOL_FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
    }

    fn set_event_idx(&mut self, _: bool) {}

    fn get_config(&self, _: u32, size: u32) -> Vec<u8> {
        vec![0; size as usize]
    }

    fn update_memory(&mut self, _: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        Ok(())
    }

    // Without it, the daemon waits for its worker for ever when it is dropped.
    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(&mut self, _: u16, _: EventSet, _: &[VringRwLock], _: usize) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a session as this front end does: how it went for the front end, and why the stock daemon ended it.
fn open_with_stock_daemon(opening: Opening) -> (io::Result<()>, Result<(), Error>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("stock.sock");
    let backend = std::sync::Arc::new(std::sync::RwLock::new(Idle));
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("stock".to_owned(), backend, memory).expect("a daemon");
    let mut listener = Listener::new(&socket, true).expect("a listener");
    let front_end = FrontEnd::connect(&socket).expect("a place in the backlog");
    daemon.start(&mut listener).expect("a connection");
    let opened = open(front_end, opening).map(drop);
    (opened, daemon.wait())
}

fn open(front_end: FrontEnd, opening: Opening) -> io::Result<NetDriver> {
    let setup = Setup {
        opening,
        ..Setup::default()
    };
    NetDriver::open(front_end, setup)
}

fn open_with_netkitd(socket: &Path, opening: Opening) -> io::Result<NetDriver> {
    open(FrontEnd::connect(socket)?, opening)
}

#[test]
fn the_stock_daemon_hangs_up_on_qemu() {
    let (opened, ended) = open_with_stock_daemon(Opening::Qemu);
    let error = opened.expect_err(LOOK_AGAIN);
    let hung_up = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
    ];
    assert!(hung_up.contains(&error.kind()), "{LOOK_AGAIN}: {error}");
    let missing = VhostUserVirtioFeatures::PROTOCOL_FEATURES;
    assert!(
        matches!(&ended, Err(Error::HandleRequest(ProtocolError::InactiveFeature(it))) if *it == missing),
        "{LOOK_AGAIN}: {ended:?}"
    );
}

#[test]
fn the_stock_daemon_serves_a_front_end_that_sets_features_first() {
    let (opened, ended) = open_with_stock_daemon(Opening::CloudHypervisor);
    opened.expect("a session");
    assert!(
        matches!(&ended, Err(Error::HandleRequest(ProtocolError::Disconnected))),
        "{ended:?}"
    );
}

#[test]
fn netkitd_serves_both() {
    let daemon = Netkitd::start();
    let pair = Pair::new(&daemon, "nk");
    for opening in [Opening::Qemu, Opening::CloudHypervisor] {
        let mut a = open_with_netkitd(&pair.a.socket, opening).expect("a session");
        let mut b = open_with_netkitd(&pair.b.socket, opening).expect("a session");
        let frame = netkit_tests::driver::packet::ethernet([2; 6], [4; 6], b"served");
        a.send_frame(&frame);
        assert_eq!(b.receive().frame, frame, "{opening:?}");
    }
}
