//! What packet sockets carry over a veth pair, one thread sending and receiving in turns: small frames, and large ones.

#[path = "../tests/nic_namespace/mod.rs"]
mod nic_namespace;

use std::time::{Duration, Instant};

use devices::nic::Arrivals;
use devices::packet::LINEAR_LEN;
use nic_namespace::frames::{packet, tcp};
use nic_namespace::{in_namespace, pair, veth};

const TIME: Duration = Duration::from_secs(2);

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    in_namespace("nic_kernel", || {
        veth(1500, 1);
        let (here, there) = pair(1);
        for len in [64, 512, 1514, 65_000] {
            let octets = packet(&[], 6, 5000, len - 54);
            let mut frame = tcp(&octets, 0, if len > 1514 { 1448 } else { 0 });
            frame.pull(LINEAR_LEN.min(len));
            let mut arrivals = Arrivals::default();
            let (mut sent, mut received) = (0u64, 0u64);
            let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
            let start = Instant::now();
            while start.elapsed() < TIME {
                let before = processor_time();
                let mut queue = here.port.queue(0).transmit();
                for _ in 0..64 {
                    sent += u64::from(queue.transmit(&frame).is_ok());
                }
                queue.flush();
                drop(queue);
                let between = processor_time();
                let mut queue = there.port.queue(0).receive();
                loop {
                    arrivals.clear();
                    queue.receive(&mut arrivals);
                    received += arrivals.frames().len() as u64;
                    if arrivals.frames().is_empty() {
                        break;
                    }
                    queue.release();
                }
                sending += between - before;
                receiving += processor_time() - between;
            }
            let each = |time: Duration| time.as_nanos() as f64 / received as f64;
            // Of a processor of its own.
            let rate = received as f64 / (sending + receiving).as_secs_f64();
            println!(
                "{len} octets: {:.0} kframes/s, {:.2} Gbit/s; {:.0} ns to send, {:.0} ns to receive; {} lost",
                rate / 1e3,
                rate * len as f64 * 8.0 / 1e9,
                each(sending),
                each(receiving),
                sent - received,
            );
        }
    });
}
