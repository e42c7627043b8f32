//! Scenarios, written down in few words.
//!
//! The pair `a` has the primary `a0` and the peer `a1`; numbers and Ethernet addresses follow from the names.

use netkit_api::{Mode, Policy, Scrub};
use netkit_tests::driver::packet::{self, Host};
use netkit_tests::kernel::scenario::{Anchor, EndSpec, List, PairSpec, Place, Scenario, Step};

/// The domains that pairs are in unless they are told otherwise.
pub const HOST: &str = "host";
pub const GUEST: &str = "guest";

/// Verdicts as the programs take them in a word (one more than they are).
pub const NEXT: u32 = 0;
pub const PASS: u32 = 1;
pub const DROP: u32 = 3;
pub const REDIRECT: u32 = 8;

pub const BPF_F_INGRESS: u32 = 1;

/// A scenario under construction.
pub struct Script(Scenario);

impl Script {
    pub fn new(name: impl Into<String>) -> Script {
        Script(Scenario {
            name: name.into(),
            steps: Vec::new(),
        })
    }

    pub fn end(self) -> Scenario {
        self.0
    }

    pub fn step(mut self, step: Step) -> Script {
        self.0.steps.push(step);
        self
    }

    /// Makes a pair, and sets both ends up. Programs are called by `a.` and their names.
    pub fn pair(self, letter: &str, pair: Pair) -> Script {
        let (a, b) = (format!("{letter}0"), format!("{letter}1"));
        self.step(Step::Pair(pair.spec(letter))).up(&a).up(&b)
    }

    pub fn up(self, device: &str) -> Script {
        self.set_up(device, true)
    }

    pub fn down(self, device: &str) -> Script {
        self.set_up(device, false)
    }

    fn set_up(self, device: &str, up: bool) -> Script {
        let device = device.into();
        self.step(Step::Up { device, up })
    }

    pub fn move_to(self, device: &str, domain: &str) -> Script {
        let (device, domain) = (device.into(), domain.into());
        self.step(Step::Move { device, domain })
    }

    pub fn address(self, device: &str, address: [u8; 6]) -> Script {
        let device = device.into();
        self.step(Step::Address { device, address })
    }

    pub fn change(self, device: &str, policy: Option<Policy>, peer_policy: Option<Policy>) -> Script {
        let device = device.into();
        self.step(Step::Change {
            device,
            policy,
            peer_policy,
        })
    }

    pub fn delete(self, device: &str) -> Script {
        let device = device.into();
        self.step(Step::Delete { device })
    }

    pub fn show(self, device: &str) -> Script {
        let device = device.into();
        self.step(Step::Show { device })
    }

    /// Loads an object, to be called by this name.
    pub fn load(self, object: &str, name: &str) -> Script {
        let (object, name) = (object.into(), name.into());
        self.step(Step::Load { object, name })
    }

    /// Gives the programs of a loaded object words, from the first on.
    pub fn give(mut self, name: &str, words: &[u32]) -> Script {
        for (index, word) in words.iter().enumerate() {
            self = self.give_at(name, index as u32, *word);
        }
        self
    }

    pub fn give_at(self, name: &str, index: u32, word: u32) -> Script {
        let map = format!("{name}.config");
        self.step(Step::Put { map, index, word })
    }

    /// Reads words that programs noted.
    pub fn notes(self, name: &str, words: &[(u32, &str)]) -> Script {
        let map = format!("{name}.notes");
        let words = words.iter().map(|(index, label)| (*index, (*label).to_owned()));
        self.step(Step::Read {
            map,
            words: words.collect(),
        })
    }

    /// Reads in which order programs ran, and forgets it.
    pub fn order(self, name: &str) -> Script {
        let map = format!("{name}.notes");
        self.notes(name, &[(0, "order")]).step(Step::Put {
            map,
            index: 0,
            word: 0,
        })
    }

    pub fn attach(self, device: &str, list: List, program: &str, place: Place) -> Script {
        self.attached(device, list, program, None, place)
    }

    pub fn link(self, device: &str, list: List, program: &str, link: &str, place: Place) -> Script {
        self.attached(device, list, program, Some(link.into()), place)
    }

    fn attached(self, device: &str, list: List, program: &str, link: Option<String>, place: Place) -> Script {
        let (device, program) = (device.into(), program.into());
        self.step(Step::Attach {
            device,
            list,
            program,
            link,
            place,
        })
    }

    pub fn detach(self, device: &str, list: List, program: Option<&str>, place: Place) -> Script {
        let (device, program) = (device.into(), program.map(Into::into));
        self.step(Step::Detach {
            device,
            list,
            program,
            place,
        })
    }

    pub fn query(self, device: &str, list: List) -> Script {
        let device = device.into();
        self.step(Step::Query { device, list })
    }

    pub fn update_link(self, link: &str, program: &str, expected: Option<&str>) -> Script {
        self.step(Step::UpdateLink {
            link: link.into(),
            program: program.into(),
            expected: expected.map(Into::into),
        })
    }

    pub fn detach_link(self, link: &str) -> Script {
        self.step(Step::DetachLink { link: link.into() })
    }

    pub fn close_link(self, link: &str) -> Script {
        self.step(Step::CloseLink { link: link.into() })
    }

    pub fn show_link(self, link: &str) -> Script {
        self.step(Step::ShowLink { link: link.into() })
    }

    pub fn send(self, device: &str, frame: Vec<u8>) -> Script {
        self.send_many(device, frame, 1)
    }

    pub fn send_many(self, device: &str, frame: Vec<u8>, count: usize) -> Script {
        let device = device.into();
        self.step(Step::Send { device, frame, count })
    }
}

/// What a pair is made of.
#[derive(Clone, Copy)]
pub struct Pair {
    pub mode: Option<Mode>,
    pub domains: [&'static str; 2],
    pub policies: [Option<Policy>; 2],
    pub scrubs: [Option<Scrub>; 2],
}

impl Pair {
    /// Its ends are in two domains.
    pub fn new(mode: Mode) -> Pair {
        Pair {
            mode: Some(mode),
            domains: [HOST, GUEST],
            policies: [None; 2],
            scrubs: [None; 2],
        }
    }

    pub fn l2() -> Pair {
        Pair::new(Mode::L2)
    }

    pub fn l3() -> Pair {
        Pair::new(Mode::L3)
    }

    pub fn domains(mut self, primary: &'static str, peer: &'static str) -> Pair {
        self.domains = [primary, peer];
        self
    }

    /// Both ends are in the same domain.
    pub fn together(self) -> Pair {
        self.domains(HOST, HOST)
    }

    pub fn policies(mut self, primary: Policy, peer: Policy) -> Pair {
        self.policies = [Some(primary), Some(peer)];
        self
    }

    pub fn scrubs(mut self, primary: Scrub, peer: Scrub) -> Pair {
        self.scrubs = [Some(primary), Some(peer)];
        self
    }

    pub fn spec(&self, letter: &str) -> PairSpec {
        let end = |index: usize| {
            let name = format!("{letter}{index}");
            EndSpec {
                ifindex: ifindex(&name),
                domain: self.domains[index].into(),
                address: (self.mode == Some(Mode::L2)).then(|| address(&name)),
                policy: self.policies[index],
                scrub: self.scrubs[index],
                name,
            }
        };
        PairSpec {
            mode: self.mode,
            primary: end(0),
            peer: end(1),
        }
    }
}

/// A device's number, which is given to it on both sides.
pub fn ifindex(device: &str) -> u32 {
    100 + u32::from(number(device))
}

/// A device's Ethernet address.
pub fn address(device: &str) -> [u8; 6] {
    [2, 0, 0, 0, 0, number(device)]
}

fn number(device: &str) -> u8 {
    let octets = device.as_bytes();
    (octets[0] - b'a') * 16 + (octets[1] - b'0')
}

pub const BROADCAST: [u8; 6] = [0xff; 6];

/// A frame of an EtherType for experiments.
pub fn frame(to: [u8; 6]) -> Vec<u8> {
    typed_frame(to, 0x88b5, 60)
}

pub fn typed_frame(to: [u8; 6], ether_type: u16, len: usize) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0xee, 0, 0, 0, 1], &ether_type.to_be_bytes()].concat();
    frame.extend((frame.len()..len).map(|index| index as u8));
    frame
}

/// A frame as the stack of a host sends it on a device in L3 mode: no addresses, and an IP packet.
pub fn packet() -> Vec<u8> {
    datagram([0; 6], [0; 6])
}

/// A UDP datagram.
pub fn datagram(from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    let host = |mac, last| Host {
        mac,
        ip: [10, 9, 0, last].into(),
        port: 5000 + u16::from(last),
    };
    packet::udp(host(from, 1), host(to, 2), b"as the kernel does")
}

pub fn place() -> Place {
    Place::default()
}

pub fn before(program: &str) -> Place {
    Place {
        before: Some(Anchor::Program(program.into())),
        ..place()
    }
}

pub fn after(program: &str) -> Place {
    Place {
        after: Some(Anchor::Program(program.into())),
        ..place()
    }
}

pub fn before_link(link: &str) -> Place {
    Place {
        before: Some(Anchor::Link(link.into())),
        ..place()
    }
}

pub fn after_link(link: &str) -> Place {
    Place {
        after: Some(Anchor::Link(link.into())),
        ..place()
    }
}

pub fn first() -> Place {
    Place {
        before: Some(Anchor::End),
        ..place()
    }
}

pub fn last() -> Place {
    Place {
        after: Some(Anchor::End),
        ..place()
    }
}

pub fn replace(program: &str) -> Place {
    Place {
        replace: Some(program.into()),
        ..place()
    }
}

pub fn revision(number: u64) -> Place {
    Place {
        revision: Some(number),
        ..place()
    }
}

pub fn by_id(mut place: Place) -> Place {
    place.by_id = true;
    place
}

pub fn at_revision(mut place: Place, number: u64) -> Place {
    place.revision = Some(number);
    place
}
