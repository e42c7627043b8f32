//! Frames that are sent from a guest's memory.

use std::fs::File;
use std::os::fd::FromRawFd;

use devices::memory::{GuestMemory, Region, RegionSpec};
use devices::nic::xdp::open_with_guest_memory;
use devices::packet::Slice;

use super::*;

#[test]
fn a_frame_is_sent_from_where_it_lies_in_a_guests_memory() {
    with_cable("a guest's memory", "mtu 9000", |cable| {
        assert!(run("ethtool", &format!("-K {NEAR} tx off")).status.success());
        let guest = guest_memory(64 << 20);
        let mut nic = open_with_guest_memory(&config(), &guest).unwrap_or_else(|error| panic!("{error}"));
        nic.control.claim(&Claim::Addresses(vec![GUEST])).unwrap();
        let station = cable.station();
        // The headers are private; what follows lies in two places that are no neighbours, the second across a page.
        for (first, second) in [(1450, 1450), (1, 4000), (4096, 4000), (700, 0), (100, 8000)] {
            let whole = udp(first + second);
            let mut frame = Frame::from_octets(&whole[..42]);
            leave_checksum(&mut frame, whole.len());
            let (one, other) = whole[42..].split_at(first);
            let places = [(0x3000, one), (0x21f00, other)];
            let at = |offset| (guest.regions()[0].host() + offset) as *mut u8;
            for (offset, octets) in places {
                let ptr = at(offset);
                // SAFETY: the place lies in the guest's memory, which outlives the frame.
                unsafe {
                    frame.push_slice(Slice {
                        ptr,
                        len: octets.len(),
                    })
                };
            }
            let mut transmit = nic.port.queue(0).transmit();
            transmit.transmit(&frame).expect("room");
            // Written only now, so that a copy made before would not have it.
            for (offset, octets) in places {
                // SAFETY: as above.
                unsafe { at(offset).copy_from_nonoverlapping(octets.as_ptr(), octets.len()) };
            }
            transmit.flush();
            for (offset, octets) in places {
                // SAFETY: as above. The guest has its memory back.
                unsafe { at(offset).write_bytes(0xee, octets.len()) };
            }
            let received = station.receive_that(1000, |frame| frame[..6] == [2, 0, 0, 0, 0, 9]);
            assert_eq!(received.expect("a frame"), whole, "{first} and {second} octets");
        }
        // What lies elsewhere is copied, and what arrives does as before.
        echo(&nic, &station, 5000, |number| random_len(number, 18, 9014));
    });
}

fn guest_memory(size: u64) -> GuestMemory {
    // SAFETY: plain system call; the descriptor is ours.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC)) };
    file.set_len(size).unwrap();
    let spec = RegionSpec {
        guest: 0,
        size,
        user: 0,
        file_offset: 0,
    };
    GuestMemory::new(vec![Region::map(spec, file).unwrap()]).unwrap()
}
