//! NICs that the host's kernel drives: what is sent through packet sockets arrives as it was, and nothing else does.

mod nic_namespace;

use std::collections::HashMap;

use devices::Refusal;
use devices::nic::{Claim, Nic, kernel};
use devices::packet::{Frame, GsoType, MacAddress, VlanTag};
use nic_namespace::frames::{GUEST, OTHER, THERE, packet, plain, tcp};
use nic_namespace::{Received, drain, in_namespace, ip, open, pair, receive, send, veth};

const GROUP: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
const TAG: [u8; 4] = [0x81, 0, 0x20, 5];

fn octets(received: &[Received]) -> Vec<Vec<u8>> {
    received.iter().map(|received| received.octets.clone()).collect()
}

#[test]
fn frames_go_both_ways_in_order() {
    in_namespace("frames_go_both_ways_in_order", || {
        veth(4000, 1);
        let (here, there) = pair(1);
        for (from, to) in [(&here, &there), (&there, &here)] {
            // Some are sent in bursts, and some, which are long, alone.
            let len = |n: u8| {
                if n.is_multiple_of(7) {
                    3000
                } else {
                    60 + usize::from(n)
                }
            };
            let frames: Vec<Frame> = (0..200).map(|n| plain(THERE, len(n), n)).collect();
            send(from, &frames);
            let expected: Vec<Vec<u8>> = frames.iter().map(Frame::to_vec).collect();
            assert_eq!(octets(&receive(to, 0, frames.len())), expected);
        }
    });
}

#[test]
fn a_frame_of_64_kib_stays_whole_with_what_is_left_to_do() {
    in_namespace("a_frame_of_64_kib_stays_whole_with_what_is_left_to_do", || {
        veth(1500, 1);
        let (here, there) = pair(1);
        for payload in [3000, 65_000] {
            let sent = packet(&[], 6, 5000, payload);
            send(&here, &[tcp(&sent, 0, 1448)]);
            let received = receive(&there, 0, 1).remove(0);
            assert!(received.octets == sent, "{payload} octets");
            let offload = received.offload;
            assert!(offload.needs_csum);
            assert_eq!((offload.gso_type, offload.gso_size), (GsoType::TcpV4, 1448));
            assert_eq!((offload.csum_start, offload.csum_offset), (34, 16));
        }
    });
}

#[test]
fn a_checksum_that_is_undone_stays_so_and_is_said() {
    in_namespace("a_checksum_that_is_undone_stays_so_and_is_said", || {
        veth(1500, 1);
        let (here, there) = pair(1);
        let sent = packet(&[], 6, 5000, 100);
        send(&here, &[tcp(&sent, 0, 0), plain(THERE, 60, 1)]);
        let received = receive(&there, 0, 2);
        assert_eq!(received[0].octets, sent);
        assert!(received[0].offload.needs_csum && received[0].offload.gso_type == GsoType::None);
        assert!(!received[1].offload.needs_csum);
    });
}

#[test]
fn a_tag_arrives_beside_its_frame_and_moves_nothing() {
    in_namespace("a_tag_arrives_beside_its_frame_and_moves_nothing", || {
        veth(1500, 1);
        let (here, there) = pair(1);
        for (payload, gso_size) in [(1460, 0), (60_000, 1448)] {
            let sent = packet(&TAG, 6, 5000, payload);
            send(&here, &[tcp(&sent, 4, gso_size)]);
            let received = receive(&there, 0, 1).remove(0);
            let tag = VlanTag {
                protocol: 0x8100,
                tci: 0x2005,
            };
            assert_eq!(received.vlan, Some(tag));
            assert!(received.octets == [&sent[..12], &sent[16..]].concat());
            assert_eq!(
                (received.offload.needs_csum, received.offload.csum_start),
                (true, 34)
            );
            assert_eq!(received.offload.gso_size, gso_size);
        }
        send(&here, &[plain(THERE, 60, 1)]);
        assert_eq!(
            receive(&there, 0, 1)[0].vlan,
            None,
            "not that of the frame before"
        );
    });
}

#[test]
fn what_the_host_itself_sends_is_not_received() {
    in_namespace("what_the_host_itself_sends_is_not_received", || {
        veth(1500, 2);
        for queues in [1, 2] {
            let (here, there) = pair(queues);
            let host = open("nkk0", 1);
            let frames: Vec<Frame> = (0..10).map(|n| plain(GROUP, 60, n)).collect();
            send(&host, &frames);
            send(&here, &frames);
            let count = |nic: &Nic| {
                (0..queues)
                    .map(|queue| drain(nic, queue.into()).len())
                    .sum::<usize>()
            };
            assert_eq!(
                (count(&there), count(&here), count(&host)),
                (20, 0, 0),
                "{queues} queues"
            );
        }
    });
}

#[test]
fn only_what_is_claimed_arrives() {
    in_namespace("only_what_is_claimed_arrives", || {
        veth(1500, 2);
        let here = open("nkk0", 1);
        for queues in [1, 2] {
            let mut there = kernel::open("nkk1", queues).unwrap();
            let to = [THERE, GUEST, OTHER, GROUP, MacAddress::BROADCAST];
            let mut arriving = |claim: Option<Claim>| -> Vec<MacAddress> {
                if let Some(claim) = claim {
                    there.control.claim(&claim).unwrap();
                }
                send(&here, &to.map(|to| plain(to, 60, 0)));
                let received = (0..queues).flat_map(|queue| drain(&there, queue.into()));
                let mut to: Vec<MacAddress> = received
                    .map(|frame| MacAddress(*frame.octets.first_chunk().unwrap()))
                    .collect();
                to.sort();
                to
            };
            assert_eq!(arriving(None), [], "before anything is claimed");
            let groups = [GROUP, MacAddress::BROADCAST];
            let of = |claim: &[MacAddress]| Some(Claim::Addresses(claim.to_vec()));
            assert_eq!(arriving(of(&[GUEST])), [GUEST, GROUP, MacAddress::BROADCAST]);
            assert_eq!(
                arriving(of(&[OTHER, GUEST])),
                [GUEST, OTHER, GROUP, MacAddress::BROADCAST]
            );
            assert_eq!(arriving(of(&[])), groups);
            assert_eq!(arriving(Some(Claim::Everything)).len(), to.len());
            // As many as a filter holds, the last of which counts.
            let mut many: Vec<MacAddress> = (0..63).map(|n| MacAddress([2, 0, 0, 0, 7, n])).collect();
            many.push(GUEST);
            assert_eq!(arriving(of(&many)), [GUEST, GROUP, MacAddress::BROADCAST]);
            many.push(OTHER);
            assert_eq!(arriving(of(&many)).len(), to.len(), "too many for a filter: all");
        }
    });
}

#[test]
fn frames_are_as_long_as_the_mtu_allows() {
    in_namespace("frames_are_as_long_as_the_mtu_allows", || {
        veth(9000, 1);
        let (here, there) = pair(1);
        assert_eq!(
            here.port.queue(0).transmit().transmit(&plain(THERE, 9019, 0)),
            Err(Refusal::TooLong)
        );
        send(&here, &[plain(THERE, 9014, 7)]);
        assert_eq!(octets(&receive(&there, 0, 1)), [plain(THERE, 9014, 7).to_vec()]);
        ip("link set nkk0 mtu 1500");
        let mut queue = here.port.queue(0).transmit();
        // Too long, and short enough to be sent in one burst with others.
        for len in [60, 1519, 1600, 61] {
            queue.transmit(&plain(THERE, len, 0)).unwrap();
        }
        queue.flush();
        assert_eq!(
            (queue.refused(), queue.refused()),
            (Some((Refusal::TooLong, 2)), None)
        );
        let lengths: Vec<usize> = octets(&drain(&there, 0)).iter().map(Vec::len).collect();
        assert_eq!(lengths, [60, 61]);
    });
}

#[test]
fn a_flow_arrives_at_one_of_several_queues() {
    in_namespace("a_flow_arrives_at_one_of_several_queues", || {
        veth(1500, 4);
        let (here, there) = pair(4);
        let mut frames = Vec::new();
        for _ in 0..5 {
            frames.extend((0..64).map(|port| Frame::from_octets(&packet(&[], 17, 6000 + port, 10))));
        }
        send(&here, &frames);
        let mut queue_of = HashMap::new();
        let mut counts = [0; 4];
        for (queue, count) in counts.iter_mut().enumerate() {
            for frame in drain(&there, queue) {
                let port = [frame.octets[34], frame.octets[35]];
                assert_eq!(*queue_of.entry(port).or_insert(queue), queue, "port {port:?}");
                *count += 1;
            }
        }
        assert_eq!((counts.iter().sum::<usize>(), queue_of.len()), (frames.len(), 64));
        assert!(
            counts.iter().filter(|count| **count > 0).count() >= 2,
            "{counts:?}"
        );
    });
}
