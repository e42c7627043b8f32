//! One frame's way through the daemon's data path: guest's transmit ring, xmit, guest's receive ring, on one core.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use devices::guest::{GuestPort, NetFeatures, OFFERED};
use devices::memory::{GuestMemory, Region, RegionCache, RegionSpec};
use devices::packet::MacAddress;
use devices::ring::{Ring, RingConfig};
use netkit::{CreateRequest, Mode, Model, Slot};
use netkitd::dataplane::{Forwarder, GuestAddress, Plan, Port};

const SIZE: u16 = 256;
const BURST: u16 = 64;
const RING: u64 = 0x4000;
const BUFFERS: u64 = 0x1_0000;
const BUFFER: u64 = 2048;
const MEMORY: u64 = BUFFERS + SIZE as u64 * BUFFER;
/// virtio_net_hdr of a frame that asks for nothing.
const HEADER: usize = 12;

/// A ring whose descriptors never change: the driver only moves the available index.
struct Driver {
    memory: Arc<GuestMemory>,
}

impl Driver {
    /// Starts a ring in memory of its own and puts it in a queue of a device.
    fn start(port: &GuestPort, queue: usize, len: usize, writable: bool) -> Driver {
        // SAFETY: plain system call; the descriptor that it makes is ours.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"bench".as_ptr(), 0)) };
        file.set_len(MEMORY).expect("memory");
        for index in 0..SIZE {
            let address = BUFFERS + u64::from(index) * BUFFER;
            let len = if writable { BUFFER } else { len as u64 };
            let rest = len | u64::from(if writable { 2u16 } else { 0 }) << 32;
            file.write_all_at(&address.to_le_bytes(), 16 * u64::from(index))
                .expect("descriptor");
            file.write_all_at(&rest.to_le_bytes(), 16 * u64::from(index) + 8)
                .expect("descriptor");
            file.write_all_at(&index.to_le_bytes(), RING + 4 + 2 * u64::from(index))
                .expect("entry");
        }
        let spec = RegionSpec {
            guest: 0,
            size: MEMORY,
            user: 0,
            file_offset: 0,
        };
        let region = Region::map(spec, file).expect("region");
        let memory = Arc::new(GuestMemory::new(vec![region]).expect("memory"));
        let config = RingConfig {
            size: SIZE.into(),
            avail: RING,
            used: 2 * RING,
            ..RingConfig::default()
        };
        let mut state = port.queues()[queue].lock();
        state.ring = Some(Ring::start(&config, memory.clone(), None).expect("ring"));
        state.enabled = true;
        state.features = NetFeatures(OFFERED);
        Driver { memory }
    }

    fn offer(&self, count: u16) {
        let (ring, _) = self
            .memory
            .run_at(RING + 2, &mut RegionCache::default())
            .expect("the index");
        // SAFETY: two aligned octets of the mapping that `memory` keeps.
        unsafe { AtomicU16::from_ptr(ring.cast()) }.fetch_add(count, Ordering::Release);
    }
}

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("guest to guest, split ring");
    for len in [64, 1500] {
        let mut model = Model::new(1, 1);
        let request = CreateRequest {
            mode: Some(Mode::L2),
            ..CreateRequest::default()
        };
        let created = model.create(&request).expect("a pair");
        let ends = [created.peer.expect("a peer"), created.primary];
        for end in ends {
            model.set_up(end, true).expect("up");
        }
        let guests = [Arc::new(GuestPort::new(1)), Arc::new(GuestPort::new(1))];
        let sender = Driver::start(&guests[0], 1, HEADER + len, false);
        let receiver = Driver::start(&guests[1], 0, 0, true);
        let address = || Arc::new(GuestAddress::new(MacAddress([2, 0, 0, 0, 0, 1])));
        let port = |port| Port::Guest {
            port,
            address: address(),
            gateway: MacAddress::ZERO,
        };
        let plan = Plan {
            view: model.view(),
            ports: guests.map(port).into(),
        };
        let slot: Slot = plan.view.slot(ends[0]).expect("a slot");
        let mut forwarder = Forwarder::new(0);

        group.throughput(Throughput::Elements(BURST.into()));
        group.bench_function(format!("{len} octets, burst of {BURST}"), |bencher| {
            bencher.iter(|| {
                receiver.offer(BURST);
                sender.offer(BURST);
                assert_eq!(forwarder.poll(&plan, slot, 0), usize::from(BURST));
            });
        });
        let counted = model.statistics(ends[0]).expect("statistics");
        assert_eq!(counted.tx_dropped, 0, "a benchmark of drops is none");
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
