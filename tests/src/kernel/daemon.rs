//! The interpreter for netkitd: its API, and a driver in this process behind each device.

use std::collections::BTreeMap;
use std::path::PathBuf;

use netkit_api::{
    AttachmentSpec, DeviceCreate, DeviceSet, LinkUpdate, MapRequest, Mode, NetkitChange, PeerCreate,
    ProgramAttach, ProgramDetach, ProgramLoad, SocketMode, VhostUserSpec,
};
use serde_json::{Value, json};
use vmm_glue::client::End;
use vmm_glue::{Client, ClientError};

use super::scenario::{
    Anchor, Counters, Failure, Interpreter, List, ObjectCode, Observation, PairSpec, Place, Step, hex,
    observed_frame,
};
use crate::driver::{NetDriver, Setup};
use crate::netkitd::Netkitd;
use crate::rig::base64;

/// Programs can make frames longer than the devices' MTU.
const LONGEST: usize = 16 * 1024;

/// A daemon, and what the scenario has made in it.
#[derive(Debug)]
pub struct Daemon<'a> {
    objects: &'a BTreeMap<String, (PathBuf, ObjectCode)>,
    client: Client,
    devices: BTreeMap<String, (Mode, NetDriver)>,
    programs: BTreeMap<String, u32>,
    maps: BTreeMap<String, u32>,
    links: BTreeMap<String, u32>,
    counters: Counters,
    netkitd: Netkitd,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Refused(problem) => Failure::Errno(problem.errno_number),
            other => Failure::Broken(other.to_string()),
        }
    }
}

impl<'a> Daemon<'a> {
    /// Starts a daemon. `objects` are files, as they are and parsed.
    pub fn start(objects: &'a BTreeMap<String, (PathBuf, ObjectCode)>) -> Daemon<'a> {
        let netkitd = Netkitd::start();
        Daemon {
            objects,
            client: netkitd.client(),
            devices: BTreeMap::new(),
            programs: BTreeMap::new(),
            maps: BTreeMap::new(),
            links: BTreeMap::new(),
            counters: Counters::default(),
            netkitd,
        }
    }

    fn make_pair(&mut self, pair: &PairSpec) -> Result<(), Failure> {
        let address = |address: Option<[u8; 6]>| address.map(|address| address_text(&address));
        self.client.create(&DeviceCreate {
            name: Some(pair.primary.name.clone()),
            ifindex: Some(pair.primary.ifindex),
            domain: Some(pair.primary.domain.clone()),
            address: address(pair.primary.address),
            mode: pair.mode,
            policy: pair.primary.policy,
            scrub: pair.primary.scrub,
            peer_policy: pair.peer.policy,
            peer_scrub: pair.peer.scrub,
            peer: Some(PeerCreate {
                name: Some(pair.peer.name.clone()),
                ifindex: Some(pair.peer.ifindex),
                domain: Some(pair.peer.domain.clone()),
                address: address(pair.peer.address),
                ..PeerCreate::default()
            }),
            ..DeviceCreate::default()
        })?;
        for end in [&pair.primary, &pair.peer] {
            let socket = self.netkitd.path(&format!("{}.sock", end.name));
            let spec = VhostUserSpec {
                path: socket.display().to_string(),
                mode: SocketMode::Server,
                queues: 1,
            };
            self.client.attach(&end.name, &AttachmentSpec::VhostUser(spec))?;
            let setup = Setup {
                mtu: LONGEST,
                ..Setup::plain()
            };
            let driver = NetDriver::connect(&socket, setup)?;
            let mode = pair.mode.unwrap_or(Mode::L3);
            self.devices.insert(end.name.clone(), (mode, driver));
        }
        Ok(())
    }

    fn set(&self, device: &str, changes: &DeviceSet) -> Result<(), Failure> {
        Ok(self.client.set(device, changes)?)
    }

    fn delete(&mut self, device: &str) -> Result<(), Failure> {
        self.client.delete(device)?;
        let left = self.client.devices()?;
        self.devices
            .retain(|name, _| left.iter().any(|device| device.name == *name));
        Ok(())
    }

    fn load(&mut self, object: &str, name: &str) -> Result<(), Failure> {
        let (path, code) = &self.objects[object];
        let load = ProgramLoad {
            object: base64(&std::fs::read(path)?),
            ..ProgramLoad::default()
        };
        let loaded = self.client.load(&load)?;
        for program in loaded.programs {
            self.programs
                .insert(format!("{name}.{}", program.name), program.id);
        }
        for (map, id) in code.maps.iter().zip(loaded.map_ids) {
            self.maps.insert(format!("{name}.{}", map.name), id);
        }
        Ok(())
    }

    fn put(&self, map: &str, index: u32, word: u32) -> Result<(), Failure> {
        let request = MapRequest {
            key: Some(hex(&index.to_ne_bytes())),
            value: Some(hex(&word.to_ne_bytes())),
            flags: None,
        };
        Ok(self.client.update(&self.map(map)?, &request)?)
    }

    fn read(&self, map: &str, words: &[(u32, String)]) -> Result<Observation, Failure> {
        let mut observed = serde_json::Map::new();
        for (index, label) in words {
            let request = MapRequest {
                key: Some(hex(&index.to_ne_bytes())),
                ..MapRequest::default()
            };
            let entry = self.client.lookup(&self.map(map)?, &request)?;
            let value = entry.value.unwrap_or_default();
            let word = u32::from_str_radix(&value, 16)
                .map_err(|error| Failure::Broken(format!("{value}: {error}")))?;
            observed.insert(label.clone(), json!(word.swap_bytes()));
        }
        Ok(Value::Object(observed))
    }

    fn map(&self, name: &str) -> Result<String, Failure> {
        number(&self.maps, name)
    }

    fn program(&self, name: &str) -> Result<String, Failure> {
        number(&self.programs, name)
    }

    fn link(&self, name: &str) -> Result<u32, Failure> {
        self.links.get(name).copied().ok_or(Failure::Errno(libc::ENOENT))
    }

    fn anchor(&self, anchor: Option<&Anchor>) -> Result<Option<String>, Failure> {
        Ok(match anchor {
            None => None,
            Some(Anchor::End) => Some(String::new()),
            Some(Anchor::Program(program)) => Some(self.program(program)?),
            Some(Anchor::Link(link)) => Some(format!("link:{}", self.link(link)?)),
        })
    }

    fn attach(
        &mut self,
        device: &str,
        list: List,
        program: &str,
        link: Option<&str>,
        place: &Place,
    ) -> Result<Observation, Failure> {
        let replace = place.replace.as_deref();
        let request = ProgramAttach {
            program: self.program(program)?,
            link: link.is_some(),
            before: self.anchor(place.before.as_ref())?,
            after: self.anchor(place.after.as_ref())?,
            replace: replace.map(|program| self.program(program)).transpose()?,
            expected_revision: place.revision,
        };
        let attached = self.client.attach_program(device, end(list), &request)?;
        if let (Some(name), Some(id)) = (link, attached.link_id) {
            self.links.insert(name.to_owned(), id);
        }
        Ok(json!({ "revision": attached.revision }))
    }

    fn detach(&self, device: &str, list: List, program: Option<&str>, place: &Place) -> Result<(), Failure> {
        let request = ProgramDetach {
            program: program.map(|program| self.program(program)).transpose()?,
            before: self.anchor(place.before.as_ref())?,
            after: self.anchor(place.after.as_ref())?,
            expected_revision: place.revision,
        };
        Ok(self.client.detach_program(device, end(list), &request)?)
    }

    fn query(&self, device: &str, list: List) -> Result<Observation, Failure> {
        let kind = match list {
            List::Primary => "netkit/primary",
            List::Peer => "netkit/peer",
        };
        let lists = self.client.lists(Some(device))?;
        let list = lists
            .into_iter()
            .find(|list| list.kind == kind && list.device == device);
        // The kernel shows lists by the primary only; the API shows a pair's lists by either end.
        let list = list.ok_or(Failure::Errno(libc::EACCES))?;
        let entry = |listed: &netkit_api::ListedProgram| {
            let program = name_of(&self.programs, listed.prog_id);
            match listed.link_id {
                Some(link) => format!("{program} by {}", name_of(&self.links, link)),
                None => program,
            }
        };
        let programs: Vec<String> = list.programs.iter().map(entry).collect();
        Ok(json!({ "revision": list.revision, "programs": programs }))
    }

    fn show_link(&self, link: &str) -> Result<Observation, Failure> {
        let link = self.client.link(self.link(link)?)?;
        let program = name_of(&self.programs, link.prog_id);
        Ok(json!({ "program": program, "attach_type": link.attach_type, "ifindex": link.ifindex }))
    }

    fn show(&self, device: &str) -> Result<Observation, Failure> {
        let device = self.client.device(device)?;
        let has = |flag: &str| device.flags.iter().any(|it| it == flag);
        Ok(json!({
            "up": has("UP"),
            "lower_up": has("LOWER_UP"),
            "noarp": has("NOARP"),
            "mtu": device.mtu,
            "address": device.address.replace(':', ""),
            "primary": device.primary,
            "mode": device.mode,
            "policy": device.policy,
            "peer_policy": device.peer_policy,
            "scrub": device.scrub,
        }))
    }

    fn send(&mut self, sender: &str, frame: &[u8], count: usize) -> Result<Observation, Failure> {
        let (_, driver) = self.devices.get_mut(sender).ok_or(Failure::Errno(libc::ENODEV))?;
        for _ in 0..count {
            driver.send_frame(frame);
        }
        // A transmitted buffer comes back when its frame has been delivered or dropped.
        driver.flush();
        let mut received = serde_json::Map::new();
        let mut changes = serde_json::Map::new();
        for (name, (mode, driver)) in &mut self.devices {
            let mut frames = Vec::new();
            while let Some(frame) = driver.poll() {
                frames.push(observed_frame(*mode, &frame.frame));
            }
            if !frames.is_empty() {
                received.insert(name.clone(), json!(frames));
            }
            let it = self.client.device(name)?.statistics;
            let now = [
                it.rx_packets,
                it.rx_bytes,
                it.rx_dropped,
                it.tx_packets,
                it.tx_bytes,
                it.tx_dropped,
            ];
            changes.extend(self.counters.change(name, now));
        }
        Ok(json!({ "received": received, "counters": changes }))
    }
}

impl Interpreter for Daemon<'_> {
    fn step(&mut self, step: &Step) -> Result<Observation, Failure> {
        match step {
            Step::Pair(pair) => self.make_pair(pair)?,
            Step::Up { device, up } => self.set(
                device,
                &DeviceSet {
                    up: Some(*up),
                    ..DeviceSet::default()
                },
            )?,
            Step::Move { device, domain } => self.set(
                device,
                &DeviceSet {
                    domain: Some(domain.clone()),
                    ..DeviceSet::default()
                },
            )?,
            Step::Address { device, address } => self.set(
                device,
                &DeviceSet {
                    address: Some(address_text(address)),
                    ..DeviceSet::default()
                },
            )?,
            Step::Change {
                device,
                policy,
                peer_policy,
            } => {
                let change = NetkitChange {
                    policy: *policy,
                    peer_policy: *peer_policy,
                    ..NetkitChange::default()
                };
                self.client.change(device, &change)?;
            }
            Step::Delete { device } => self.delete(device)?,
            Step::Show { device } => return self.show(device),
            Step::Load { object, name } => self.load(object, name)?,
            Step::Put { map, index, word } => self.put(map, *index, *word)?,
            Step::Read { map, words } => return self.read(map, words),
            Step::Attach {
                device,
                list,
                program,
                link,
                place,
            } => return self.attach(device, *list, program, link.as_deref(), place),
            Step::Detach {
                device,
                list,
                program,
                place,
            } => self.detach(device, *list, program.as_deref(), place)?,
            Step::Query { device, list } => return self.query(device, *list),
            Step::UpdateLink {
                link,
                program,
                expected,
            } => {
                let expected = expected
                    .as_deref()
                    .map(|program| self.program(program))
                    .transpose()?;
                let update = LinkUpdate {
                    program: self.program(program)?,
                    expected,
                };
                self.client.update_link(self.link(link)?, &update)?;
            }
            Step::DetachLink { link } => self.client.detach_link(self.link(link)?)?,
            Step::CloseLink { link } => {
                self.client.delete_link(self.link(link)?)?;
                self.links.remove(link);
            }
            Step::ShowLink { link } => return self.show_link(link),
            Step::Send { device, frame, count } => return self.send(device, frame, *count),
        }
        Ok(json!({}))
    }
}

fn end(list: List) -> End {
    match list {
        List::Primary => End::Primary,
        List::Peer => End::Peer,
    }
}

fn number(names: &BTreeMap<String, u32>, name: &str) -> Result<String, Failure> {
    let unknown = || Failure::Broken(format!("nothing is called {name}"));
    names.get(name).map(ToString::to_string).ok_or_else(unknown)
}

fn name_of(names: &BTreeMap<String, u32>, id: u32) -> String {
    let found = names.iter().find(|(_, other)| **other == id);
    found.map_or_else(|| "unknown".to_owned(), |(name, _)| name.clone())
}

fn address_text(address: &[u8; 6]) -> String {
    let octets: Vec<String> = address.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}
