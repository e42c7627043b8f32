//! The same traffic through a pair with split rings and through one with packed rings: what arrives is the same.

use netkit_tests::driver::packet::{self, Host};
use netkit_tests::driver::{Format, Header, NetDriver, Pair, Random, Received, Setup, feature};
use netkit_tests::netkitd::Netkitd;

/// What of a received frame does not depend on the ring.
type Seen = (Header, Vec<u8>, Vec<u32>);

fn seen(received: Received) -> Seen {
    (received.header, received.frame, received.buffers)
}

/// Chains of a sender and of a receiver, whatever their rings are.
struct Guests {
    sender: Setup,
    receiver: Setup,
}

impl Guests {
    fn drawn(random: &mut Random) -> Guests {
        let mut draw = |of: &[u64]| of[(random.number() >> 40) as usize % of.len()];
        let ring = [
            0,
            feature::INDIRECT,
            feature::EVENT_IDX,
            feature::IN_ORDER,
            feature::RING,
        ];
        let offers = [0, feature::GUEST_CSUM, feature::GUEST_OFFLOADS];
        let merge = draw(&[0, feature::MRG_RXBUF]);
        let sender = feature::VERSION_1 | feature::HOST_OFFLOADS | draw(&ring);
        let receiver = feature::VERSION_1 | merge | draw(&offers) | draw(&ring);
        let cuts: [&[usize]; 6] = [
            &[],
            &[12],
            &[1, 2, 3, 4, 5],
            &[12, 14, 20, 20],
            &[300],
            &[10, 2, 700],
        ];
        let parts: [&[usize]; 3] = [&[], &[12, 100, 70_000], &[5, 7, 66_000]];
        // Parts of a mergeable buffer are small ones.
        let small: [&[usize]; 3] = [&[], &[100, 200], &[12, 1000, 36]];
        let parts = if merge == 0 { parts } else { small };
        Guests {
            sender: Setup {
                size: draw(&[64, 128, 256]) as u16,
                transmit_cuts: cuts[draw(&[0, 1, 2, 3, 4, 5]) as usize],
                ..Setup::with(sender)
            },
            receiver: Setup {
                size: 256,
                receive_parts: parts[draw(&[0, 1, 2]) as usize],
                kicks: draw(&[0, 1]) == 1,
                ..Setup::with(receiver)
            },
        }
    }

    fn connect(&self, pair: &Pair, format: Format) -> (NetDriver, NetDriver) {
        let with = |setup: &Setup| Setup {
            features: setup.features | format.feature(),
            ..setup.clone()
        };
        let b = pair.b.connect(with(&self.receiver)).expect("a receiver");
        (pair.a.connect(with(&self.sender)).expect("a sender"), b)
    }
}

fn host(last: u8) -> Host {
    Host {
        mac: [2, 0, 0, 0, 0, last],
        ip: std::net::Ipv4Addr::new(10, 1, 0, last).into(),
        port: 1000,
    }
}

/// Any frame: of no protocol, with a checksum left to do, or to be cut; sometimes with a header that is refused.
fn drawn_frame(random: &mut Random) -> (Header, Vec<u8>) {
    let len = (random.number() >> 32) as usize;
    let mut frame = match random.number() % 4 {
        0 => packet::ethernet([2; 6], [4; 6], &random.octets(len % 1400)),
        1 => packet::udp(host(1), host(2), &random.octets(len % 1400)),
        2 => packet::udp(host(1), host(2), &random.octets(1 + len % 20_000)),
        _ => packet::tcp(host(1), host(2), len as u32, &random.octets(1 + len % 30_000)),
    };
    let mut header = match frame.len() {
        ..=1514 if len.is_multiple_of(2) => Header::default(),
        ..=1514 => packet::leave_checksum(&mut frame),
        _ => packet::leave_segmentation(&mut frame, [1400, 500, 777][len % 3]),
    };
    if random.number().is_multiple_of(16) {
        header.csum_start = header.csum_start.wrapping_add(random.number() as u16);
    }
    (header, frame)
}

#[test]
fn what_arrives_does_not_depend_on_the_format() {
    let daemon = Netkitd::start();
    let pairs = [(Format::Split, "sp"), (Format::Packed, "pa")]
        .map(|(format, name)| (format, Pair::new(&daemon, name)));
    let mut random = Random::new(28);
    let mut arrived = 0;
    for round in 0..40 {
        let guests = Guests::drawn(&mut random);
        let frames: Vec<_> = (0..25).map(|_| drawn_frame(&mut random)).collect();
        let [split, packed] = [0, 1].map(|index: usize| {
            let (format, pair) = &pairs[index];
            let (mut a, mut b) = guests.connect(pair, *format);
            let mut all: Vec<Seen> = Vec::new();
            for (header, frame) in &frames {
                a.send(0, header, frame);
                a.flush();
                while let Some(it) = b.poll() {
                    all.push(seen(it));
                }
            }
            (all, pair.a.drops(), pair.a.statistics())
        });
        assert_eq!(split.0.len(), packed.0.len(), "round {round}");
        for (number, (one, other)) in split.0.iter().zip(&packed.0).enumerate() {
            assert!(
                one == other,
                "round {round}, frame {number}: {:?} and {:?}",
                one.0,
                other.0
            );
        }
        assert_eq!(split.1, packed.1, "round {round}: drops");
        assert_eq!(split.2.tx_bytes, packed.2.tx_bytes, "round {round}: octets");
        arrived += split.0.len();
    }
    assert!(arrived > 1000, "{arrived} frames are no traffic");
}
