//! Helpers that send frames elsewhere or ask about them, and those about time and place.

use super::super::testing::{World, assert_refused, call, octets_at, on_stack};
use crate::Errno;
use crate::layout::CONTEXT;
use crate::packet::{Environment, Metadata, NextHop, Octets};

const EINVAL: u64 = -22i64 as u64;
const SHOT: u64 = 2;
const REDIRECT: u64 = 7;

/// Surroundings that remember what they were asked.
#[derive(Debug, Default)]
struct Recorder {
    redirects: Vec<(u32, u64)>,
    peers: Vec<u32>,
    neighbours: Vec<(u32, NextHop)>,
    clones: Vec<(Vec<u8>, u32, u32, u64)>,
    lookups: Vec<u32>,
}

impl Environment for Recorder {
    fn redirect(&mut self, ifindex: u32, flags: u64) -> i64 {
        self.redirects.push((ifindex, flags));
        7
    }
    fn redirect_peer(&mut self, ifindex: u32, _flags: u64) -> i64 {
        self.peers.push(ifindex);
        7
    }
    fn redirect_neigh(&mut self, ifindex: u32, next_hop: NextHop, _flags: u64) -> i64 {
        self.neighbours.push((ifindex, next_hop));
        7
    }
    fn clone_redirect(
        &mut self,
        linear: &[u8],
        _octets: &dyn Octets,
        metadata: &Metadata,
        ifindex: u32,
        flags: u64,
    ) -> Result<(), Errno> {
        self.clones.push((linear.to_vec(), metadata.mark, ifindex, flags));
        if ifindex == 9 { Err(Errno::EINVAL) } else { Ok(()) }
    }
    fn fib_lookup(&mut self, parameters: &mut [u8; 64], flags: u32) -> Result<u32, Errno> {
        self.lookups.push(flags);
        parameters[8..12].copy_from_slice(&5u32.to_ne_bytes());
        parameters[63] = 0xee;
        match parameters[1] {
            0 => Ok(0),
            1 => Ok(4),
            _ => Err(Errno::ENODEV),
        }
    }
    fn mtu(&self, ifindex: u32) -> Option<u32> {
        (ifindex == 5).then_some(50)
    }
}

fn record(work: impl FnOnce(&mut crate::machine::Machine)) -> Recorder {
    let world = World::new(&[]);
    let mut recorder = Recorder::default();
    let mut frame = b"frame".to_vec();
    world.run_on(&mut frame, &mut recorder, work);
    recorder
}

#[test]
fn redirects_reach_the_surroundings_and_return_the_verdict() {
    let recorder = record(|machine| {
        assert_eq!(call(machine, 23, [3, 1, 0, 0, 0]), REDIRECT);
        assert_eq!(call(machine, 23, [3, 2, 0, 0, 0]), SHOT);
        assert_eq!(call(machine, 155, [4, 0, 0, 0, 0]), REDIRECT);
        assert_eq!(call(machine, 155, [4, 1, 0, 0, 0]), SHOT);
    });
    assert_eq!(recorder.redirects, [(3, 1)]);
    assert_eq!(recorder.peers, [4]);
}

#[test]
fn neighbours_are_taken_as_the_program_names_them() {
    let recorder = record(|machine| {
        let mut parameters = [0; 20];
        parameters[4..].copy_from_slice(b"0123456789abcdef");
        for (offset, family) in [(0, 2), (32, 10), (64, 1)] {
            parameters[0] = family;
            let address = on_stack(machine, offset, &parameters);
            assert_eq!(call(machine, 152, [6, address, 20, 0, 0]), REDIRECT);
        }
        assert_eq!(call(machine, 152, [6, 0, 0, 0, 0]), REDIRECT);
        assert_eq!(call(machine, 152, [6, 0, 0, 1, 0]), SHOT);
        assert_eq!(call(machine, 152, [6, 0, 19, 0, 0]), SHOT);
        assert_eq!(machine.words.stopped, 0);
        assert_refused(machine, 152, [6, 0, 20, 0, 0], 2);
    });
    let expected = [
        (6, NextHop::Ipv4(*b"0123")),
        (6, NextHop::Ipv6(*b"0123456789abcdef")),
        (6, NextHop::FromFrame),
    ];
    assert_eq!(recorder.neighbours, expected);
    assert_eq!(recorder.redirects, [(0, 0)], "an unknown family leads nowhere");
}

#[test]
fn a_clone_takes_along_what_the_program_wrote() {
    let recorder = record(|machine| {
        let mark = machine.slice(u64::from(CONTEXT) + 8, 4, true).unwrap();
        // SAFETY: the octets are accessible, and nobody else uses this window.
        unsafe { mark.cast::<u32>().write(77) };
        assert_eq!(call(machine, 13, [CONTEXT.into(), 2, 1, 0, 0]), 0);
        assert_eq!(call(machine, 13, [CONTEXT.into(), 9, 0, 0, 0]), EINVAL);
        assert_eq!(call(machine, 13, [CONTEXT.into(), 2, 2, 0, 0]), EINVAL);
    });
    assert_eq!(recorder.clones[0], (b"frame".to_vec(), 77, 2, 1));
    assert_eq!(recorder.clones.len(), 2);
}

#[test]
fn routes_are_looked_up_in_a_copy_that_the_program_gets_back() {
    let context = u64::from(CONTEXT);
    let recorder = record(|machine| {
        let mut parameters = [0; 64];
        parameters[0] = 2;
        let address = on_stack(machine, 0, &parameters);
        assert_eq!(call(machine, 69, [context, address, 64, 1, 0]), 0);
        let answer = octets_at(machine, address, 64);
        assert_eq!((answer[63], answer[8]), (0xee, 5));
        assert_eq!(
            answer[6..8],
            50u16.to_ne_bytes(),
            "the MTU takes the length's place"
        );

        parameters[1] = 1;
        let address = on_stack(machine, 0, &parameters);
        assert_eq!(call(machine, 69, [context, address, 64, 0, 0]), 4);
        parameters[1] = 2;
        let address = on_stack(machine, 0, &parameters);
        assert_eq!(
            call(machine, 69, [context, address, 64, 0, 0]),
            Errno::ENODEV.to_register()
        );
        parameters[0] = 7;
        let address = on_stack(machine, 0, &parameters);
        assert_eq!(
            call(machine, 69, [context, address, 64, 0, 0]),
            Errno::EAFNOSUPPORT.to_register()
        );
        assert_eq!(call(machine, 69, [context, address, 63, 0, 0]), EINVAL);
        assert_eq!(call(machine, 69, [context, address, 64, 0x40, 0]), EINVAL);
        assert_eq!(machine.words.stopped, 0);
        assert_refused(machine, 69, [context, address, 1 << 20, 0, 0], 2);
    });
    assert_eq!(recorder.lookups, [1, 0, 0]);
}

#[test]
fn a_frame_that_does_not_fit_the_route_is_told() {
    let world = World::new(&[]);
    let mut frame = vec![0; 69];
    world.run_on(&mut frame, &mut Recorder::default(), |machine| {
        let mut parameters = [0; 64];
        parameters[0] = 10;
        let address = on_stack(machine, 0, &parameters);
        assert_eq!(call(machine, 69, [CONTEXT.into(), address, 64, 0, 0]), 8);
        // With a length of the program's own, the surroundings have checked it.
        parameters[6] = 1;
        let address = on_stack(machine, 0, &parameters);
        assert_eq!(call(machine, 69, [CONTEXT.into(), address, 64, 0, 0]), 0);
    });
}

#[test]
fn without_sockets_and_tunnels_the_answers_are_the_kernels() {
    let world = World::new(&[]);
    world.run(|machine| {
        let context = u64::from(CONTEXT);
        let memory = on_stack(machine, 0, &[0; 44]);
        for id in [17, 24, 46, 79, 83, 86, 95, 96, 98, 107, 137, 151] {
            assert_eq!(call(machine, id, [context, 0, 0, 0, 0]), 0);
        }
        for id in [84, 85, 99] {
            assert_eq!(call(machine, id, [context, memory, 12, u64::MAX, 0]), 0);
        }
        assert_eq!(call(machine, 47, [context, 0, 0, 0, 0]), 65534);
        assert_eq!(call(machine, 122, [context, 0, 0, 0, 0]), 1);
        assert_eq!(
            call(machine, 33, [context, 0, 0, 0, 0]),
            Errno::ENOENT.to_register()
        );
        assert_eq!(call(machine, 124, [context, 0, 0, 0, 0]), EINVAL);
        assert_eq!(call(machine, 108, [0; 5]), EINVAL);
        assert_eq!(call(machine, 100, [0, memory, 20, memory, 20]), EINVAL);
        assert_eq!(call(machine, 110, [0, memory, 20, memory, 20]), EINVAL);
        assert_eq!(
            call(machine, 204, [memory, memory, 20, 0, 0]),
            EINVAL,
            "not the header's length"
        );
        assert_eq!(
            call(machine, 206, [memory, memory, 0, 0, 0]),
            Errno::EACCES.to_register()
        );
        assert_eq!(machine.words.stopped, 0);
        assert_refused(machine, 84, [context, 0, 12, 0, 0], 2);
    });
}

#[test]
fn tunnel_keys_are_checked_and_nothing_is_found() {
    let world = World::new(&[]);
    world.run(|machine| {
        let context = u64::from(CONTEXT);
        let key = on_stack(machine, 0, &[0xff; 48]);
        assert_eq!(call(machine, 20, [context, key, 44, 0, 0]), EINVAL);
        assert_eq!(octets_at(machine, key, 45)[..44], [0; 44]);
        assert_eq!(octets_at(machine, key + 44, 1), [0xff]);
        assert_eq!(call(machine, 21, [context, key, 44, 0, 0]), 0);
        assert_eq!(call(machine, 21, [context, key, 28, 0x1f, 0]), 0);
        assert_eq!(call(machine, 21, [context, key, 43, 0, 0]), EINVAL);
        assert_eq!(call(machine, 21, [context, key, 44, 0x20, 0]), EINVAL);
        on_stack(machine, 24, &[1]);
        assert_eq!(
            call(machine, 21, [context, key, 44, 0, 0]),
            EINVAL,
            "a label needs IPv6"
        );
        assert_eq!(call(machine, 21, [context, key, 44, 1, 0]), 0);
        assert_eq!(
            call(machine, 29, [context, key, 8, 0, 0]),
            Errno::ENOENT.to_register()
        );
        assert_eq!(call(machine, 30, [context, key, 8, 0, 0]), EINVAL);
        assert_refused(machine, 20, [context, key, 1 << 20, 0, 0], 2);
    });
}

#[test]
fn clocks_go_forward_and_places_are_known() {
    let world = World::new(&[]);
    world.run(|machine| {
        for id in [5, 125, 160, 208, 118] {
            let first = call(machine, id, [0; 5]);
            assert!(first > 0 && call(machine, id, [0; 5]) >= first, "{id}");
        }
        assert!(call(machine, 118, [0; 5]) >= (1 << 32) - 75_000);
        assert_eq!(call(machine, 8, [0; 5]), 0);
        assert_eq!(call(machine, 42, [0; 5]), 0);
        let numbers: std::collections::HashSet<u64> = (0..64).map(|_| call(machine, 7, [0; 5])).collect();
        assert!(numbers.len() > 60 && numbers.iter().all(|number| *number <= u64::from(u32::MAX)));
    });
}
