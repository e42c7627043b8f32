//! The table of what is measured, with whom, and what is aimed at.

use serde::Serialize;
use serde_json::Value;

use super::peers::Kind;
use super::share::Share;

/// What a measurement gives a number for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    FramesPerSecond,
    OctetsPerSecond,
    RoundTripMedian,
    RoundTripP99,
    WakeMedian,
    WakeP99,
    PercentOfACore,
}

impl Figure {
    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        matches!(self, Figure::FramesPerSecond | Figure::OctetsPerSecond)
    }

    /// A value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Figure::FramesPerSecond => format!("{:.3} Mframes/s", value / 1e6),
            Figure::OctetsPerSecond => format!("{:.2} Gbit/s", value * 8.0 / 1e9),
            Figure::RoundTripMedian | Figure::RoundTripP99 | Figure::WakeMedian | Figure::WakeP99 => {
                format!("{:.2} us", value / 1e3)
            }
            Figure::PercentOfACore => format!("{value:.2} % of a core"),
        }
    }

    /// What is added to a work's title where it has several figures.
    pub fn suffix(self) -> &'static str {
        match self {
            Figure::RoundTripMedian | Figure::WakeMedian => ", median",
            Figure::RoundTripP99 | Figure::WakeP99 => ", 99th percentile",
            _ => "",
        }
    }
}

/// How long a measurement takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// Seconds before it counts.
    pub warm_up: f64,
    /// Seconds that count.
    pub seconds: f64,
}

/// What one measurement gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub figures: Vec<(Figure, f64)>,
    /// The part of its processor that the generator had.
    pub generator: Option<f64>,
    /// What the back end's forwarding threads did meanwhile.
    pub back_end: Option<Share>,
    /// Everything that the generator said.
    pub raw: Value,
}

impl Measured {
    /// A figure, if it was measured.
    pub fn figure(&self, wanted: Figure) -> Option<f64> {
        let found = self.figures.iter().find(|(figure, _)| *figure == wanted);
        found.map(|(_, value)| *value)
    }
}

/// How a work is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    /// With `load`, and with these arguments of it.
    Load(&'static [&'static str]),
    /// With DPDK's virtio-user and flowgen.
    VirtioUser { packed: bool, size: u16 },
    /// Nothing is done, and the back end's processor time counts.
    Idle,
    /// With iperf3 between a guest of QEMU's and a namespace behind a NIC.
    WayOut { into_guest: bool },
}

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// So many times as good as the peer.
    Ratio(f64),
    /// No more than this, whatever the peer does.
    AtMost(f64),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// For the command line and the JSON.
    pub id: &'static str,
    pub title: &'static str,
    pub how: How,
    pub figures: &'static [Figure],
    /// Which of ours, and whom with. The goal is the same for each.
    pub ours: Kind,
    pub theirs: &'static [Kind],
    pub goal: Goal,
    /// Whether both sides are kept busy, so that who polls and has not all of its processor was disturbed.
    pub busy: bool,
    /// How many rounds at most; the long ones need fewer.
    pub rounds: usize,
}

const FRAMES: &[Figure] = &[Figure::FramesPerSecond];
const OCTETS: &[Figure] = &[Figure::OctetsPerSecond];
const ROUND_TRIP: &[Figure] = &[Figure::RoundTripMedian, Figure::RoundTripP99];
const SWITCHES: &[Kind] = &[Kind::Dpdk, Kind::Ovs];
const ALL_ROUNDS: usize = usize::MAX;

/// A work with another goal.
const fn aiming(ratio: f64, work: Work) -> Work {
    Work {
        goal: Goal::Ratio(ratio),
        ..work
    }
}

/// Both ways with `load`.
const fn both_ways(id: &'static str, title: &'static str, arguments: &'static [&'static str]) -> Work {
    Work {
        id,
        title,
        how: How::Load(arguments),
        figures: FRAMES,
        ours: Kind::Netkitd,
        theirs: SWITCHES,
        goal: Goal::Ratio(1.0),
        busy: true,
        rounds: ALL_ROUNDS,
    }
}

const fn closed_loop(id: &'static str, title: &'static str, arguments: &'static [&'static str]) -> Work {
    Work {
        figures: ROUND_TRIP,
        ..both_ways(id, title, arguments)
    }
}

const fn virtio_user(id: &'static str, title: &'static str, packed: bool, size: u16) -> Work {
    Work {
        how: How::VirtioUser { packed, size },
        theirs: &[Kind::Dpdk],
        ..both_ways(id, title, &[])
    }
}

const fn way_out(id: &'static str, title: &'static str, into_guest: bool) -> Work {
    Work {
        how: How::WayOut { into_guest },
        figures: OCTETS,
        ours: Kind::UplinkKernel,
        theirs: &[Kind::QemuTap, Kind::UplinkXdp],
        ..both_ways(id, title, &[])
    }
}

/// All of them, in the order of the report.
pub const WORKS: &[Work] = &[
    Work {
        theirs: &[Kind::Dpdk, Kind::Ovs, Kind::Stock],
        goal: Goal::Ratio(1.3),
        ..both_ways(
            "64-split",
            "both ways, 64 B, split ring",
            &["--mode", "both-ways", "--size", "64"],
        )
    },
    aiming(
        1.2,
        both_ways(
            "64-packed",
            "both ways, 64 B, packed ring",
            &["--mode", "both-ways", "--size", "64", "--ring", "packed"],
        ),
    ),
    both_ways(
        "256-split",
        "both ways, 256 B, split ring",
        &["--mode", "both-ways", "--size", "256"],
    ),
    aiming(
        1.5,
        both_ways(
            "1500-split",
            "both ways, 1500 B, split ring",
            &["--mode", "both-ways", "--size", "1500"],
        ),
    ),
    both_ways(
        "1518-split",
        "both ways, 1518 B, split ring",
        &["--mode", "both-ways", "--size", "1518"],
    ),
    both_ways(
        "imix-split",
        "both ways, IMIX, split ring",
        &["--mode", "both-ways", "--size", "imix"],
    ),
    Work {
        figures: OCTETS,
        theirs: &[Kind::Ovs, Kind::Veth],
        goal: Goal::Ratio(2.0),
        ..both_ways(
            "gso",
            "one way, 64 KB segments (OVS: userspace TSO; veth: iperf3)",
            // Open vSwitch writes the checksum field anew, so frames are not compared octet by octet.
            &["--mode", "one-way", "--size", "gso", "--verify", "none"],
        )
    },
    Work {
        ours: Kind::NetkitdPolicy,
        theirs: &[Kind::Dpdk],
        ..both_ways(
            "64-policy",
            "both ways, 64 B, split ring, ours with a program that looks flows up; DPDK without any policy",
            &["--mode", "both-ways", "--size", "64"],
        )
    },
    Work {
        theirs: &[Kind::Dpdk, Kind::Ovs, Kind::Stock, Kind::Veth, Kind::Netkit],
        ..closed_loop(
            "loop-1",
            "closed loop, 1 frame in flight",
            &["--mode", "closed-loop", "--size", "64", "--in-flight", "1"],
        )
    },
    closed_loop(
        "loop-4",
        "closed loop, 4 frames in flight",
        &["--mode", "closed-loop", "--size", "64", "--in-flight", "4"],
    ),
    closed_loop(
        "loop-32",
        "closed loop, 32 frames in flight",
        &["--mode", "closed-loop", "--size", "64", "--in-flight", "32"],
    ),
    Work {
        figures: &[Figure::WakeMedian, Figure::WakeP99],
        theirs: &[Kind::Stock],
        busy: false,
        ..both_ways(
            "wake",
            "from sleep: kick to delivery",
            &["--mode", "wake", "--size", "64"],
        )
    },
    Work {
        how: How::Idle,
        figures: &[Figure::PercentOfACore],
        theirs: &[Kind::Dpdk, Kind::Ovs],
        goal: Goal::AtMost(0.5),
        busy: false,
        rounds: 3,
        ..both_ways("idle", "idle: 64 guests behind ours, 2 behind the others", &[])
    },
    Work {
        ours: Kind::NetkitdCrowd,
        theirs: &[Kind::Netkitd],
        goal: Goal::Ratio(0.95),
        ..both_ways(
            "crowd",
            "both ways, 64 B, split ring, 2 busy among 1,000 devices, against 2 alone",
            &["--mode", "both-ways", "--size", "64"],
        )
    },
    Work {
        ours: Kind::NetkitdXdp,
        theirs: &[Kind::DpdkXdp],
        ..both_ways(
            "xdp-64",
            "both ways, 64 B, guest to NIC to NIC to guest, both NICs by AF_XDP (copy mode) on a veth",
            &["--mode", "both-ways", "--size", "64"],
        )
    },
    Work {
        ours: Kind::NetkitdXdp,
        theirs: &[Kind::DpdkXdp],
        ..both_ways(
            "xdp-1500",
            "the same with 1500 B",
            &["--mode", "both-ways", "--size", "1500"],
        )
    },
    Work {
        ours: Kind::NetkitdPackets,
        theirs: &[Kind::DpdkPackets],
        ..both_ways(
            "packets-64",
            "both ways, 64 B, guest to NIC to NIC to guest, both NICs by packet sockets on a veth",
            &["--mode", "both-ways", "--size", "64"],
        )
    },
    Work {
        ours: Kind::NetkitdPackets,
        theirs: &[Kind::NetkitdXdp],
        figures: OCTETS,
        ..both_ways(
            "packets-gso",
            "one way, 64 KB segments through two NICs: packet sockets against AF_XDP, which cuts and coalesces them",
            &["--mode", "one-way", "--size", "gso", "--verify", "none"],
        )
    },
    way_out(
        "way-out",
        "TCP from a guest under QEMU, through a NIC (veth) to a namespace; without KVM the guest's processor limits",
        false,
    ),
    way_out(
        "way-out-reverse",
        "the same from the namespace to the guest",
        true,
    ),
    aiming(
        1.3,
        virtio_user(
            "virtio-user-64-split",
            "virtio-user's flowgen, 64 B, split ring",
            false,
            64,
        ),
    ),
    aiming(
        1.2,
        virtio_user(
            "virtio-user-64-packed",
            "virtio-user's flowgen, 64 B, packed ring",
            true,
            64,
        ),
    ),
    aiming(
        1.5,
        virtio_user(
            "virtio-user-1500-split",
            "virtio-user's flowgen, 1500 B, split ring",
            false,
            1500,
        ),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_has_a_name_of_its_own() {
        let mut ids: Vec<_> = WORKS.iter().map(|work| work.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), WORKS.len());
    }

    #[test]
    fn every_work_is_ours_against_somebody_else() {
        for work in WORKS {
            assert!(work.ours.is_ours() && !work.theirs.is_empty(), "{}", work.id);
            assert!(!work.theirs.contains(&work.ours), "{}", work.id);
        }
    }

    #[test]
    fn the_ways_out_of_a_guest_are_compared_with_each_other_only() {
        for work in WORKS {
            let is_way_out = matches!(work.how, How::WayOut { .. });
            let mut all = std::iter::once(&work.ours).chain(work.theirs);
            assert!(
                all.all(|kind| kind.way_out().is_some() == is_way_out),
                "{}",
                work.id
            );
        }
    }

    #[test]
    fn figures_are_shown_with_their_units() {
        assert_eq!(Figure::FramesPerSecond.show(2_345_678.0), "2.346 Mframes/s");
        assert_eq!(Figure::OctetsPerSecond.show(1.25e9), "10.00 Gbit/s");
        assert_eq!(Figure::WakeP99.show(12_340.0), "12.34 us");
    }
}
