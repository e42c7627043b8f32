//! The interpreter for the kernel's netkit. It needs a machine of its own: it makes namespaces and devices at will.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use netkit_api::Mode;
use serde_json::{Value, json};

use super::bpf::{self, Options};
use super::netlink::{Link, Netlink};
use super::scenario::{
    Anchor, Counters, Failure, Interpreter, List, ObjectCode, Observation, PairSpec, Place, Step, hex,
    observed_frame,
};
use super::tap::Tap;

/// How long a frame may take over the loopback device.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel, and what the scenario has made in it.
#[derive(Debug)]
pub struct Kernel<'a> {
    objects: &'a BTreeMap<String, ObjectCode>,
    namespaces: BTreeMap<String, Namespace>,
    devices: BTreeMap<String, Device>,
    programs: BTreeMap<String, File>,
    maps: BTreeMap<String, File>,
    links: BTreeMap<String, File>,
    counters: Counters,
}

#[derive(Debug)]
struct Namespace {
    file: File,
    netlink: Netlink,
    loopback: Tap,
}

#[derive(Debug)]
struct Device {
    domain: String,
    mode: Mode,
    tap: Tap,
}

impl<'a> Kernel<'a> {
    /// Nothing is made yet.
    pub fn new(objects: &'a BTreeMap<String, ObjectCode>) -> Kernel<'a> {
        Kernel {
            objects,
            namespaces: BTreeMap::new(),
            devices: BTreeMap::new(),
            programs: BTreeMap::new(),
            maps: BTreeMap::new(),
            links: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// Enters a namespace, which is made if it is not there.
    fn enter(&mut self, domain: &str) -> io::Result<&Namespace> {
        if !self.namespaces.contains_key(domain) {
            // SAFETY: plain system call; it concerns the calling thread only.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // IPv6 would send frames of its own.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            let netlink = Netlink::open()?;
            let loopback = netlink.show("lo")?.ifindex;
            netlink.set_up(loopback, true)?;
            let namespace = Namespace {
                file: File::open("/proc/thread-self/ns/net")?,
                netlink,
                loopback: Tap::open(loopback)?,
            };
            self.namespaces.insert(domain.to_owned(), namespace);
        }
        let namespace = &self.namespaces[domain];
        // SAFETY: plain system call.
        match unsafe { libc::setns(namespace.file.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(namespace),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Enters a device's namespace and looks at the device.
    fn look(&mut self, device: &str) -> io::Result<(&Namespace, Link)> {
        let domain = self.devices.get(device).map(|it| it.domain.clone());
        let domain = domain.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let namespace = self.enter(&domain)?;
        let link = namespace.netlink.show(device)?;
        Ok((namespace, link))
    }

    fn ifindex(&mut self, device: &str) -> io::Result<u32> {
        Ok(self.look(device)?.1.ifindex)
    }

    fn make_pair(&mut self, pair: &PairSpec) -> Result<(), Failure> {
        self.enter(&pair.peer.domain)?;
        self.enter(&pair.primary.domain)?;
        let (primary, peer) = (
            &self.namespaces[&pair.primary.domain],
            &self.namespaces[&pair.peer.domain],
        );
        primary
            .netlink
            .create(pair.mode, &pair.primary, &pair.peer, &peer.file)?;
        for end in [&pair.primary, &pair.peer] {
            let namespace = self.enter(&end.domain)?;
            let tap = Tap::open(namespace.netlink.show(&end.name)?.ifindex)?;
            let device = Device {
                domain: end.domain.clone(),
                mode: pair.mode.unwrap_or(Mode::L3),
                tap,
            };
            self.devices.insert(end.name.clone(), device);
        }
        Ok(())
    }

    fn move_device(&mut self, name: &str, domain: &str) -> Result<(), Failure> {
        self.enter(domain)?;
        let ifindex = self.ifindex(name)?;
        let from = &self.namespaces[&self.devices[name].domain];
        from.netlink.move_to(ifindex, &self.namespaces[domain].file)?;
        let tap = Tap::open(self.enter(domain)?.netlink.show(name)?.ifindex)?;
        if let Some(device) = self.devices.get_mut(name) {
            device.tap = tap;
            domain.clone_into(&mut device.domain);
        }
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<(), Failure> {
        let (namespace, link) = self.look(name)?;
        namespace.netlink.delete(link.ifindex)?;
        let names: Vec<String> = self.devices.keys().cloned().collect();
        for name in names {
            if self.look(&name).is_err() {
                self.devices.remove(&name);
            }
        }
        Ok(())
    }

    fn load(&mut self, object: &str, name: &str) -> Result<(), Failure> {
        let object = &self.objects[object];
        let maps = object.maps.iter().map(bpf::create_map);
        let maps: Vec<File> = maps.collect::<Result<_, _>>()?;
        for program in &object.programs {
            let loaded = bpf::load(program, &object.license, &maps).map_err(Failure::Broken)?;
            self.programs.insert(format!("{name}.{}", program.name), loaded);
        }
        let names = object.maps.iter().map(|map| format!("{name}.{}", map.name));
        self.maps.extend(names.zip(maps));
        Ok(())
    }

    fn read(&self, map: &str, words: &[(u32, String)]) -> Result<Observation, Failure> {
        let mut observed = serde_json::Map::new();
        for (index, label) in words {
            let word = bpf::lookup(self.map(map)?, *index)?;
            observed.insert(label.clone(), json!(word));
        }
        Ok(Value::Object(observed))
    }

    fn options(&self, place: &Place) -> Result<Options, Failure> {
        let mut options = Options {
            revision: place.revision.unwrap_or(0),
            ..Options::default()
        };
        if place.before.is_some() {
            options.flags |= bpf::BEFORE;
        }
        if place.after.is_some() {
            options.flags |= bpf::AFTER;
        }
        if let Some(replace) = &place.replace {
            options.flags |= bpf::REPLACE;
            options.replace = self.program(replace)?.as_raw_fd();
        }
        let anchors = [&place.before, &place.after];
        match anchors
            .into_iter()
            .flatten()
            .find(|anchor| **anchor != Anchor::End)
        {
            Some(Anchor::Program(program)) => {
                let program = self.program(program)?;
                options.relative = match place.by_id {
                    true => bpf::program_id(program)?,
                    false => program.as_raw_fd() as u32,
                };
            }
            Some(Anchor::Link(link)) => {
                options.flags |= bpf::LINK;
                let link = self.link(link)?;
                options.relative = match place.by_id {
                    true => bpf::link_info(link)?.id,
                    false => link.as_raw_fd() as u32,
                };
            }
            _ => return Ok(options),
        }
        if place.by_id {
            options.flags |= bpf::ID;
        }
        Ok(options)
    }

    fn program(&self, name: &str) -> Result<&File, Failure> {
        let unknown = || Failure::Broken(format!("no program {name}"));
        self.programs.get(name).ok_or_else(unknown)
    }

    fn map(&self, name: &str) -> Result<&File, Failure> {
        let unknown = || Failure::Broken(format!("no map {name}"));
        self.maps.get(name).ok_or_else(unknown)
    }

    fn link(&self, name: &str) -> Result<&File, Failure> {
        self.links.get(name).ok_or(Failure::Errno(libc::ENOENT))
    }

    fn attach(
        &mut self,
        device: &str,
        list: List,
        program: &str,
        link: Option<&str>,
        place: &Place,
    ) -> Result<Observation, Failure> {
        let ifindex = self.ifindex(device)?;
        let options = self.options(place)?;
        let program = self.program(program)?;
        match link {
            None => bpf::attach(ifindex, list, program, options)?,
            Some(name) => {
                let link = bpf::create_link(ifindex, list, program, options)?;
                self.links.insert(name.to_owned(), link);
            }
        }
        Ok(json!({ "revision": bpf::query(ifindex, list)?.revision }))
    }

    fn query(&mut self, device: &str, list: List) -> Result<Observation, Failure> {
        let ifindex = self.ifindex(device)?;
        let listing = bpf::query(ifindex, list)?;
        let mut listed = Vec::new();
        for (program, link) in listing.entries {
            let mut entry = self.program_of(program)?;
            if link != 0 {
                entry += &format!(" by {}", self.link_of(link)?);
            }
            listed.push(entry);
        }
        Ok(json!({ "revision": listing.revision, "programs": listed }))
    }

    fn program_of(&self, id: u32) -> Result<String, Failure> {
        for (name, program) in &self.programs {
            if bpf::program_id(program)? == id {
                return Ok(name.clone());
            }
        }
        Ok("unknown".to_owned())
    }

    fn link_of(&self, id: u32) -> Result<String, Failure> {
        for (name, link) in &self.links {
            if bpf::link_info(link)?.id == id {
                return Ok(name.clone());
            }
        }
        Ok("unknown".to_owned())
    }

    fn show_link(&mut self, link: &str) -> Result<Observation, Failure> {
        let info = bpf::link_info(self.link(link)?)?;
        let list = if info.attach_type == bpf::attach_type(List::Peer) {
            "netkit_peer"
        } else {
            "netkit_primary"
        };
        let program = self.program_of(info.program)?;
        Ok(json!({ "program": program, "attach_type": list, "ifindex": info.ifindex }))
    }

    fn show(&mut self, device: &str) -> Result<Observation, Failure> {
        let (_, link) = self.look(device)?;
        let has = |flag: i32| link.flags & flag as u32 != 0;
        let policy = |number: u32| if number == 2 { "blackhole" } else { "forward" };
        Ok(json!({
            "up": has(libc::IFF_UP),
            "lower_up": has(libc::IFF_LOWER_UP),
            "noarp": has(libc::IFF_NOARP),
            "mtu": link.mtu,
            "address": hex(&link.address),
            "primary": link.primary,
            "mode": if link.mode == 0 { "l2" } else { "l3" },
            "policy": policy(link.policy),
            "peer_policy": link.peer_policy.map(policy),
            "scrub": if link.scrub == 0 { "none" } else { "default" },
        }))
    }

    fn send(&mut self, sender: &str, frame: &[u8], count: usize) -> Result<Observation, Failure> {
        let device = self.devices.get(sender).ok_or(Failure::Errno(libc::ENODEV))?;
        for _ in 0..count {
            // ENOBUFS is how a dropped frame shows here, ENETDOWN a device that is down: the counters tell.
            match device.tap.send(frame).map_err(|error| error.raw_os_error()) {
                Ok(()) | Err(Some(libc::ENOBUFS | libc::ENETDOWN)) => (),
                Err(errno) => return Err(Failure::Broken(format!("send: errno {errno:?}"))),
            }
        }
        self.wait_for_receivers(sender)?;
        let received = self.collect();
        let names: Vec<String> = self.devices.keys().cloned().collect();
        let mut changes = serde_json::Map::new();
        for name in names {
            let [
                rx_packets,
                tx_packets,
                rx_bytes,
                tx_bytes,
                _,
                _,
                rx_dropped,
                tx_dropped,
                ..,
            ] = self.look(&name)?.1.statistics[..]
            else {
                return Err(Failure::Broken("no statistics".to_owned()));
            };
            let now = [rx_packets, rx_bytes, rx_dropped, tx_packets, tx_bytes, tx_dropped];
            changes.extend(self.counters.change(&name, now));
        }
        Ok(json!({ "received": received, "counters": changes }))
    }

    /// Waits until everything that was sent has been received. That is the work of a softirq, which takes all devices'
    /// frames in their order: what is sent over the loopback device now comes last. The machine has one processor.
    fn wait_for_receivers(&self, sender: &str) -> Result<(), Failure> {
        let loopback = &self.namespaces[&self.devices[sender].domain].loopback;
        loopback.send(&[0; 60])?;
        let deadline = Instant::now() + PATIENCE;
        while loopback.receive().is_none() {
            if Instant::now() > deadline {
                return Err(Failure::Broken(
                    "no frame comes over the loopback device".to_owned(),
                ));
            }
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Takes what the devices have received.
    fn collect(&self) -> serde_json::Map<String, Value> {
        let mut received = serde_json::Map::new();
        for (name, device) in &self.devices {
            let frames = std::iter::from_fn(|| device.tap.receive());
            let frames: Vec<String> = frames.map(|frame| observed_frame(device.mode, &frame)).collect();
            if !frames.is_empty() {
                received.insert(name.clone(), json!(frames));
            }
        }
        received
    }
}

impl Interpreter for Kernel<'_> {
    fn step(&mut self, step: &Step) -> Result<Observation, Failure> {
        let done = Ok(json!({}));
        match step {
            Step::Pair(pair) => self.make_pair(pair)?,
            Step::Up { device, up } => {
                let (namespace, link) = self.look(device)?;
                namespace.netlink.set_up(link.ifindex, *up)?;
            }
            Step::Move { device, domain } => self.move_device(device, domain)?,
            Step::Address { device, address } => {
                let (namespace, link) = self.look(device)?;
                namespace.netlink.set_address(link.ifindex, address)?;
            }
            Step::Change {
                device,
                policy,
                peer_policy,
            } => {
                let (namespace, link) = self.look(device)?;
                namespace.netlink.change(link.ifindex, *policy, *peer_policy)?;
            }
            Step::Delete { device } => self.delete(device)?,
            Step::Show { device } => return self.show(device),
            Step::Load { object, name } => self.load(object, name)?,
            Step::Put { map, index, word } => bpf::update(self.map(map)?, *index, *word)?,
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
            } => {
                let ifindex = self.ifindex(device)?;
                let program = program.as_deref().map(|name| self.program(name)).transpose()?;
                bpf::detach(ifindex, *list, program, self.options(place)?)?;
            }
            Step::Query { device, list } => return self.query(device, *list),
            Step::UpdateLink {
                link,
                program,
                expected,
            } => {
                let expected = expected.as_deref().map(|name| self.program(name)).transpose()?;
                bpf::update_link(self.link(link)?, self.program(program)?, expected)?;
            }
            Step::DetachLink { link } => bpf::detach_link(self.link(link)?)?,
            Step::CloseLink { link } => {
                self.link(link)?;
                self.links.remove(link);
            }
            Step::ShowLink { link } => return self.show_link(link),
            Step::Send { device, frame, count } => return self.send(device, frame, *count),
        }
        done
    }
}
