use std::sync::Arc;

use crate::Refusal;
use crate::nic::Transmit;
use crate::nic::igb::driver::Adapter;
use crate::nic::igb::registers as r;
use crate::nic::igb::transmit::{IgbTransmit, MEMORY};
use crate::nic::vfio::DmaMemory;
use crate::packet::{Checksum, Frame, OffloadFeatures, VirtioNetHeader, accept, complete_checksum};

const RING: usize = 512;

/// Queue 0 of a NIC, and the NIC's view of its memory.
struct Nic {
    adapter: Arc<Adapter>,
    queue: IgbTransmit,
    memory: DmaMemory,
    head: usize,
}

/// A frame as the NIC finds it: context if there is a new one, octets, command and options.
#[derive(Debug)]
struct Sent {
    context: Option<[u32; 4]>,
    octets: Vec<u8>,
    command: u32,
    options: u32,
    pieces: usize,
}

impl Nic {
    fn new() -> Nic {
        let adapter = Adapter::without_device(1);
        let whole = DmaMemory::without_device(MEMORY);
        let queue = IgbTransmit::new(&adapter, 0, &mut whole.alias());
        Nic {
            adapter,
            queue,
            memory: whole,
            head: 0,
        }
    }

    /// Takes all frames that it was told of, and says so where it is asked to.
    fn send(&mut self) -> Vec<Sent> {
        let tail = self.adapter.registers.read::<u32>(r::TDT) as usize;
        let mut sent = Vec::new();
        let (mut context, mut octets, mut pieces) = (None, Vec::new(), 0);
        while self.head != tail {
            let at = 16 * self.head;
            let [a, b, command, options]: [u32; 4] =
                std::array::from_fn(|word| self.memory.read(at + 4 * word));
            self.head = (self.head + 1) % RING;
            assert!(command & r::TX_DEXT != 0, "advanced descriptors only");
            if command & r::TX_DTYP_DATA == r::TX_DTYP_CONTEXT {
                context = Some([a, b, command, options]);
                continue;
            }
            let address = u64::from(a) | u64::from(b) << 32;
            let from = (address - self.memory.iova(0)) as usize;
            let len = (command & 0xffff) as usize;
            assert!(from % 4096 + len <= 4096, "no piece reaches over a page");
            octets.extend((from..from + len).map(|octet| self.memory.read::<u8>(octet)));
            pieces += 1;
            if command & r::TX_RS != 0 {
                self.memory.write(at + 12, options | r::TX_DD);
            }
            if command & r::TX_EOP != 0 {
                sent.push(Sent {
                    context: context.take(),
                    octets: std::mem::take(&mut octets),
                    command: command & !(0xffff | r::TX_RS | r::TX_EOP),
                    options,
                    pieces: std::mem::take(&mut pieces),
                });
            }
        }
        assert!(octets.is_empty(), "whole frames only");
        sent
    }
}

const PLAIN: u32 = r::TX_DTYP_DATA | r::TX_DEXT | r::TX_IFCS;

/// A TCP or UDP packet with this payload whose checksum is left to others, perhaps to be cut.
fn packet(ipv6: bool, tcp: bool, payload: usize, mss: u16) -> Frame {
    let (header, protocol) = if tcp { (20, 6) } else { (8, 17) };
    let mut octets = vec![2; 12];
    let len = (header + payload) as u16;
    let sum = if ipv6 {
        octets.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        octets.extend(len.to_be_bytes());
        octets.extend([protocol, 64]);
        octets.extend([1; 16]);
        octets.extend([2; 16]);
        Checksum::pseudo_header_v6([1; 16], [2; 16], protocol, u32::from(len))
    } else {
        octets.extend([8, 0, 0x45, 0]);
        octets.extend((20 + len).to_be_bytes());
        octets.extend([0, 0, 0, 0, 64, protocol, 0xab, 0xcd, 1, 1, 1, 1, 2, 2, 2, 2]);
        Checksum::pseudo_header_v4([1; 4], [2; 4], protocol, len)
    };
    let l4 = octets.len();
    octets.resize(l4 + header + payload, 7);
    octets[l4 + 12] = 0x50;
    let field = if tcp { 16 } else { 6 };
    octets[l4 + field..l4 + field + 2].copy_from_slice(&sum.fold().to_be_bytes());
    let mut frame = Frame::from_octets(&octets);
    let header = VirtioNetHeader {
        flags: 1,
        gso_type: if mss == 0 { 0 } else { [1, 4][usize::from(ipv6)] },
        gso_size: mss,
        csum_start: l4 as u16,
        csum_offset: field as u16,
        ..VirtioNetHeader::default()
    };
    accept(&mut frame, &header, OffloadFeatures::ALL).unwrap();
    frame
}

#[test]
fn a_frame_that_is_whole_is_sent_as_it_is() {
    let mut nic = Nic::new();
    let frame = Frame::from_octets(&(0..100).collect::<Vec<u8>>());
    nic.queue.transmit(&frame).unwrap();
    assert!(nic.send().is_empty(), "not before the flush");
    nic.queue.flush();
    let sent = nic.send();
    assert_eq!((sent.len(), sent[0].octets.clone()), (1, frame.to_vec()));
    assert_eq!((sent[0].command, sent[0].options), (PLAIN, 100 << 14));
    assert!(sent[0].context.is_none());
}

#[test]
fn a_checksum_is_left_to_the_nic_and_its_place_is_told_once() {
    let mut nic = Nic::new();
    for _ in 0..2 {
        nic.queue.transmit(&packet(false, false, 50, 0)).unwrap();
    }
    nic.queue.transmit(&packet(true, true, 50, 0)).unwrap();
    nic.queue.flush();
    let sent = nic.send();
    let options = |len: u32| len << 14 | r::TX_TXSM;
    let kind = r::TX_DTYP_CONTEXT | r::TX_DEXT;
    let udp4 = [14 << 9 | 20, 0, kind | r::TX_CONTEXT_IPV4, 0];
    assert_eq!((sent[0].context, sent[0].options), (Some(udp4), options(92)));
    assert_eq!(sent[1].context, None, "the same as before");
    let tcp6 = [14 << 9 | 40, 0, kind | r::TX_CONTEXT_TCP, 0];
    assert_eq!((sent[2].context, sent[2].options), (Some(tcp6), options(124)));
    assert_eq!(
        sent[0].octets,
        packet(false, false, 50, 0).to_vec(),
        "nothing else is changed"
    );
}

#[test]
fn tcp_is_left_to_the_nic_to_be_cut() {
    for ipv6 in [false, true] {
        let mut nic = Nic::new();
        let frame = packet(ipv6, true, 20000, 1448);
        nic.queue.transmit(&frame).unwrap();
        nic.queue.flush();
        let sent = nic.send().pop().unwrap();
        let (l3, ip, network, ip_sum) = match ipv6 {
            false => (14, 20, r::TX_CONTEXT_IPV4, r::TX_IXSM),
            true => (14, 40, 0, 0),
        };
        let kind = r::TX_DTYP_CONTEXT | r::TX_DEXT | r::TX_CONTEXT_TCP | network;
        assert_eq!(
            sent.context,
            Some([(l3 as u32) << 9 | ip as u32, 0, kind, 1448 << 16 | 20 << 8])
        );
        assert_eq!(sent.command, PLAIN | r::TX_TSE);
        assert_eq!(sent.options, 20000 << 14 | r::TX_TXSM | ip_sum);
        // No IP length and checksum, a pseudo-header sum without a length, all else as it was.
        let mut expected = frame.to_vec();
        let sum = match ipv6 {
            false => {
                expected[l3 + 2..l3 + 4].fill(0);
                expected[l3 + 10..l3 + 12].fill(0);
                Checksum::pseudo_header_v4([1; 4], [2; 4], 6, 0)
            }
            true => {
                expected[l3 + 4..l3 + 6].fill(0);
                Checksum::pseudo_header_v6([1; 16], [2; 16], 6, 0)
            }
        };
        expected[l3 + ip + 16..l3 + ip + 18].copy_from_slice(&sum.fold().to_be_bytes());
        assert!(sent.octets == expected);
        assert_eq!(sent.pieces, 5, "pages");
    }
}

#[test]
fn a_checksum_in_a_tunnel_is_complete_before_the_nic_sees_it() {
    let mut nic = Nic::new();
    let inner = packet(false, true, 50, 0);
    // IPv4 in IPv4, behind an odd number of octets: UDP with one more in front.
    for (protocol, between) in [(4, vec![]), (17, vec![0; 9])] {
        let mut octets = vec![2; 12];
        octets.extend([
            8, 0, 0x45, 0, 0, 100, 0, 0, 0, 0, 64, protocol, 0, 0, 3, 3, 3, 3, 4, 4, 4, 4,
        ]);
        octets.extend(&between);
        let csum_start = octets.len() + 20;
        octets.extend(&inner.to_vec()[14..]);
        let mut frame = Frame::from_octets(&octets);
        let header = VirtioNetHeader {
            flags: 1,
            csum_start: csum_start as u16,
            csum_offset: 16,
            ..VirtioNetHeader::default()
        };
        accept(&mut frame, &header, OffloadFeatures::ALL).unwrap();
        nic.queue.transmit(&frame).unwrap();
        nic.queue.flush();
        let sent = nic.send().pop().unwrap();
        assert!(sent.context.is_none() && sent.options == (octets.len() as u32) << 14);
        complete_checksum(&mut frame).unwrap();
        assert!(sent.octets != octets && sent.octets == frame.to_vec());
    }
}

#[test]
fn frames_that_the_nic_cannot_send_are_refused() {
    let mut nic = Nic::new();
    let long = Frame::from_octets(&[0; 9300]);
    assert_eq!(nic.queue.transmit(&long), Err(Refusal::TooLong));
    assert_eq!(nic.queue.transmit(&Frame::new()), Err(Refusal::TooLong));
    let tiny = packet(false, true, 5000, 8);
    assert_eq!(
        nic.queue.transmit(&tiny),
        Err(Refusal::BadOffload),
        "tiny segments"
    );
    let huge = packet(false, true, 60000, 20000);
    assert_eq!(nic.queue.transmit(&huge), Err(Refusal::TooLong), "huge segments");
    nic.queue.flush();
    assert!(nic.send().is_empty());
}

#[test]
fn a_nic_that_does_not_send_fills_up_and_goes_on_later() {
    let mut nic = Nic::new();
    let frame = Frame::from_octets(&[5; 60]);
    let mut taken = 0;
    while nic.queue.transmit(&frame).is_ok() {
        taken += 1;
        assert!(taken < RING, "it has only so many descriptors");
    }
    assert_eq!(nic.queue.transmit(&frame), Err(Refusal::Full));
    assert_eq!(nic.send().len(), taken, "it was told of all of them");
    nic.queue.transmit(&frame).unwrap();
}

#[test]
fn frames_of_all_lengths_keep_their_octets_round_and_round() {
    let mut nic = Nic::new();
    for round in 0..2000usize {
        let len = 60 + round * 37 % 9000;
        let frame = Frame::from_octets(&vec![round as u8; len]);
        nic.queue.transmit(&frame).unwrap();
        if round % 7 == 6 {
            nic.queue.flush();
            let sent = nic.send();
            assert_eq!(sent.len(), 7);
            for (index, sent) in sent.iter().enumerate() {
                assert!(
                    sent.octets
                        .iter()
                        .all(|octet| *octet == (round - 6 + index) as u8)
                );
            }
        }
    }
}
