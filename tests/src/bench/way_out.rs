//! TCP between a guest of QEMU's and a namespace behind a NIC of the host: through uplinks of netkitd's, and the stock
//! way, through QEMU's tap in a bridge with the NIC.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netkit_api::NicSpec;
use serde_json::json;

use super::kernel::pin;
use super::peers::{af_xdp, behind_nic, packet_sockets};
use super::share::{Habit, Watch, threads};
use super::works::{Figure, How, Measured, Timing, Work};
use super::{BACK_END_CPU, Error, GENERATOR_CPU, Result};
use crate::needs;
use crate::netkitd::Netkitd;
use crate::outside::{FAR, Lab, LabConfig, NIC, Namespace};
use crate::rig::{Guest, GuestConfig, Iperf, Nic, Shell};

/// QEMU makes it where QEMU runs; it is taken to its bridge afterwards.
const TAP: &str = "nkqt0";

/// How the guest's frames get to the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// vhost-user, netkitd, packet sockets.
    Kernel,
    /// vhost-user, netkitd, AF_XDP sockets.
    AfXdp,
    /// No back end: QEMU's tap, which QEMU serves itself.
    Tap,
}

/// The guest, with a card for each way. Dropped in this order: each still uses what comes after it.
#[derive(Debug)]
pub struct WayOut {
    guest: Guest,
    exits: Vec<Exit>,
}

/// What is behind one of the guest's cards.
#[derive(Debug)]
struct Exit {
    daemon: Option<Netkitd>,
    lab: Lab,
}

impl Way {
    /// In the order of the guest's cards.
    const ALL: [Way; 3] = [Way::Kernel, Way::AfXdp, Way::Tap];

    fn card(self) -> String {
        format!("eth{}", self as u8)
    }

    /// Each way leads into a network of its own, so that the guest goes by the right card.
    fn guest(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self as u8, 2)
    }

    fn outside(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self as u8, 1)
    }

    /// The NIC of its uplink.
    fn uplink(self) -> Option<NicSpec> {
        match self {
            Way::Kernel => Some(packet_sockets(NIC)),
            Way::AfXdp => Some(af_xdp(NIC)),
            Way::Tap => None,
        }
    }
}

impl WayOut {
    /// Boots the guest, and sees that it reaches all three namespaces.
    pub fn start() -> Result<WayOut> {
        if !needs::taps("way-out") {
            return Err(Error::Missing("namespaces and taps cannot be made".to_owned()));
        }
        let mut config = GuestConfig::new("way-out");
        let mut exits = Vec::new();
        for way in Way::ALL {
            let (exit, nic) = Exit::new(way)?;
            config = config.nic(nic);
            exits.push(exit);
        }
        let way_out = WayOut {
            guest: Guest::start(config)?,
            exits,
        };
        way_out.guest.wait_ready()?;
        way_out.pin()?;
        way_out.exits[Way::Tap as usize].bridge()?;
        for way in Way::ALL {
            way_out.connect(way)?;
        }
        Ok(way_out)
    }

    /// Gives both sides their addresses, and waits until they hear each other.
    fn connect(&self, way: Way) -> Result<()> {
        let (guest, outside) = (way.guest(), way.outside());
        self.guest.set_up(&way.card(), &[&format!("{guest}/24")])?;
        self.outside(way).set_up(FAR, &[&format!("{outside}/24")])?;
        self.guest
            .check(&format!("until ping -q -c 1 -W 1 {outside}; do sleep 0.1; done"))?;
        Ok(())
    }

    /// Sends at full speed one way.
    pub fn measure(&self, way: Way, work: &Work, timing: Timing) -> Result<Measured> {
        let How::WayOut { into_guest } = work.how else {
            return Err(Error::Missing(format!("{} is not done with a guest", work.id)));
        };
        let length = Duration::from_secs_f64(timing.seconds.ceil());
        let guest = Watch::start(vec![self.processor()?], Habit::Sleeps);
        let forwarding = Watch::start(self.forwarding(way)?, Habit::Sleeps);
        let address = way.outside().to_string();
        let result = iperf(into_guest, timing).run(&self.guest, self.outside(way), &address);
        let (guest, forwarding) = (guest.finish(length), forwarding.finish(length));
        let result = result?;
        Ok(Measured {
            figures: vec![(Figure::OctetsPerSecond, result.bits_per_second / 8.0)],
            generator: guest.map(|share| share.part()),
            // It shares its processor with iperf3, and what it waited for that one is no disturbance.
            back_end: None,
            raw: json!({
                "bits_per_second": result.bits_per_second,
                "retransmits": result.retransmits,
                "percent_of_a_core": {
                    "guest": guest.map(|share| share.percent_of_a_core()),
                    "forwarding": forwarding.map(|share| share.percent_of_a_core()),
                },
            }),
        })
    }

    /// The guest's processor is a thread of QEMU's, and gets what the generator has elsewhere; what else QEMU does is a back
    /// end's work.
    fn pin(&self) -> Result<()> {
        for task in threads(self.guest.qemu().id(), "")? {
            pin(thread(&task)?, BACK_END_CPU)?;
        }
        pin(thread(&self.processor()?)?, GENERATOR_CPU)
    }

    /// QEMU's thread that is the guest's processor.
    fn processor(&self) -> Result<PathBuf> {
        let answer = self.guest.qmp("query-cpus-fast", &json!({}))?;
        match answer[0]["thread-id"].as_u64() {
            Some(id) => Ok(self.task(id)),
            None => Err(Error::Unreadable {
                program: "QEMU".to_owned(),
                wanted: "thread of the guest's processor",
                printed: answer.to_string(),
            }),
        }
    }

    /// netkitd's workers, or the main loop of QEMU.
    fn forwarding(&self, way: Way) -> Result<Vec<PathBuf>> {
        match &self.exits[way as usize].daemon {
            Some(daemon) => threads(daemon.process().id(), "worker-"),
            None => Ok(vec![self.task(self.guest.qemu().id().into())]),
        }
    }

    fn outside(&self, way: Way) -> &Namespace {
        &self.exits[way as usize].lab.outside
    }

    fn task(&self, thread: u64) -> PathBuf {
        format!("/proc/{}/task/{thread}", self.guest.qemu().id()).into()
    }
}

impl Exit {
    /// The other side of a card, and the card.
    fn new(way: Way) -> Result<(Exit, Nic)> {
        let lab = Lab::new(LabConfig {
            // A program on a veth does not see which checksums are left to be done, so nothing is left then.
            offloads: way != Way::AfXdp,
            ..LabConfig::default()
        });
        let Some(uplink) = way.uplink() else {
            let tap = format!("tap,ifname={TAP},script=no,downscript=no,vhost=off");
            return Ok((Exit { daemon: None, lab }, Nic::netdev(tap)));
        };
        let namespace = lab.inside.name();
        let daemon = Netkitd::under(&format!(
            "exec ip netns exec {namespace} taskset -c {BACK_END_CPU} \"$@\" --workers 1"
        ));
        let guest = behind_nic(&daemon, 0, uplink)?;
        let mut nic = Nic::vhost_user(&guest.socket);
        if let Some(mac) = guest.shown().attachment.guest_address {
            nic = nic.mac(mac);
        }
        let daemon = Some(daemon);
        Ok((Exit { daemon, lab }, nic))
    }

    /// Joins QEMU's tap and the NIC.
    fn bridge(&self) -> Result<()> {
        let inside = &self.lab.inside;
        super::veth::ip(&["link", "set", TAP, "netns", inside.name()])?;
        inside.check(&format!(
            "ip link add br0 type bridge && ip link set br0 up && ip link set {NIC} master br0 && \
             ip link set {TAP} master br0 up"
        ))?;
        Ok(())
    }
}

/// The guest calls. The program in the namespace runs where the back ends do.
fn iperf(into_guest: bool, timing: Timing) -> Iperf {
    let (warm_up, seconds) = (timing.warm_up.ceil() as u32, timing.seconds.ceil() as u32);
    let iperf = Iperf::tcp()
        .seconds(seconds)
        .options(&format!("-O {warm_up} -A 0,{BACK_END_CPU}"));
    if into_guest { iperf.reverse() } else { iperf }
}

/// The number at the end of a task's directory.
fn thread(task: &Path) -> Result<libc::pid_t> {
    let name = task.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.parse().ok());
    number.ok_or_else(|| Error::Missing(format!("{} is no thread", task.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_its_card_and_its_network() {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            assert_eq!(way.card(), format!("eth{index}"));
            let network = |address: Ipv4Addr| address.octets()[..3].to_vec();
            assert_eq!(network(way.guest()), network(way.outside()));
            let others = Way::ALL.into_iter().filter(|other| *other != way);
            assert!(
                others
                    .map(Way::outside)
                    .all(|it| network(it) != network(way.guest()))
            );
        }
    }

    #[test]
    fn only_the_stock_way_has_no_uplink() {
        let without = Way::ALL.into_iter().filter(|way| way.uplink().is_none());
        assert_eq!(without.collect::<Vec<_>>(), [Way::Tap]);
    }

    #[test]
    fn a_thread_is_known_by_its_directory() {
        assert_eq!(thread(Path::new("/proc/17/task/23")).unwrap(), 23);
        assert!(thread(Path::new("/proc/17/task")).is_err());
    }
}
