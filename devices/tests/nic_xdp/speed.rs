//! How fast it is here and now, for who runs it by name in a release build.

use devices::nic::NicPort;

use super::*;

const SPAN: Duration = Duration::from_secs(3);

/// Not a promise. Time is this thread's on a processor, which others that run do not take away from it.
#[test]
#[ignore = "it measures, for several seconds"]
fn frames_per_second() {
    with_cable("frames per second", "", |cable| {
        let near = open_for(&Claim::Addresses(vec![GUEST]));
        println!("{}, frames of 64 octets:", near.control.driver());
        let (mut sent, start, mut spent) = (0, Instant::now(), Duration::ZERO);
        while start.elapsed() < SPAN {
            let before = processor_time();
            sent += burst(&near.port, 64);
            spent += processor_time() - before;
        }
        print_rate("sent, and dropped by the other end's kernel", sent, spent);

        let config = XdpConfig {
            ifname: FAR.to_owned(),
            ..config()
        };
        let far = cable.far(|| open(&config).unwrap());
        let mut arrivals = Arrivals::default();
        let (mut received, mut there, mut here) = (0, Duration::ZERO, Duration::ZERO);
        let start = Instant::now();
        while start.elapsed() < SPAN {
            let before = processor_time();
            for _ in 0..16 {
                burst(&far.port, 64);
            }
            let between = processor_time();
            let mut receive = near.port.queue(0).receive();
            loop {
                arrivals.clear();
                receive.receive(&mut arrivals);
                received += arrivals.frames().len();
                receive.release();
                if arrivals.frames().is_empty() {
                    break;
                }
            }
            there += between - before;
            here += processor_time() - between;
        }
        print_rate("sent, and brought to our ring by our kernel", received, there);
        print_rate("taken from our ring", received, here);
        print_rate("both", received, there + here);
    });
}

fn burst(port: &NicPort, count: usize) -> usize {
    thread_local!(static OCTETS: Frame = Frame::from_octets(&frame(GUEST, 0, 64)));
    OCTETS.with(|octets| {
        let mut transmit = port.queue(0).transmit();
        let sent = (0..count).filter(|_| transmit.transmit(octets).is_ok()).count();
        transmit.flush();
        sent
    })
}

fn print_rate(what: &str, frames: usize, time: Duration) {
    let rate = frames as f64 / time.as_secs_f64();
    println!("{rate:>10.0}/s {what}");
}

fn processor_time() -> Duration {
    // SAFETY: all-zero is a valid time, and it outlives the call.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}
