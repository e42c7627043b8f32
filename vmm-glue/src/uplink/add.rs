//! `uplink add`: a name, and the NIC that it stands for.

use netkit_api::{
    AfXdpMode, AfXdpNic, KernelNic, MacvtapMode, MacvtapNic, NicSpec, TapNic, UplinkCreate, VfioNic,
};

use super::stray;
use crate::help;
use crate::nic::pci_address;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, abbreviates_option, number, once, short};

/// `uplink add NAME KIND ...`
#[derive(Debug, PartialEq, Eq)]
pub struct Add(pub UplinkCreate);

/// What every kind of uplink has; may stand before the kind, as with `ip link add`, and behind it.
#[derive(Debug, Default)]
struct Common {
    domain: Option<String>,
    ifindex: Option<u32>,
}

impl Add {
    pub fn parse(words: &mut Words<'_>) -> Result<Add, UsageError> {
        let name = match words.next().ok_or(UsageError::Missing("name"))? {
            "name" => words.value()?,
            word if abbreviates_option(word, "help") => return Err(UsageError::Information(help::UPLINK)),
            word => word,
        };
        let mut common = Common::default();
        let kind = loop {
            match words.next().ok_or(UsageError::Missing("type"))? {
                "type" => break words.value()?,
                word if common.read(word, words)? => {}
                word => break word,
            }
        };
        let nic = match kind {
            _ if abbreviates(kind, "kernel") => {
                let (ifname, queues) = netdev(words, &mut common)?;
                NicSpec::Kernel(KernelNic { ifname, queues })
            }
            _ if abbreviates(kind, "tap") => {
                let (ifname, queues) = netdev(words, &mut common)?;
                NicSpec::Tap(TapNic { ifname, queues })
            }
            _ if abbreviates(kind, "macvtap") => NicSpec::Macvtap(macvtap(words, &mut common)?),
            _ if abbreviates(kind, "af_xdp") || kind == "af-xdp" => {
                NicSpec::AfXdp(af_xdp(words, &mut common)?)
            }
            _ if abbreviates(kind, "vfio") => NicSpec::Vfio(vfio(words, &mut common)?),
            _ if abbreviates(kind, "help") => return Err(UsageError::Information(help::UPLINK)),
            _ => {
                let why = "must be kernel, tap, macvtap, af_xdp or vfio";
                return Err(UsageError::invalid(kind, why));
            }
        };
        Ok(Add(UplinkCreate {
            name: name.into(),
            nic,
            domain: common.domain,
            ifindex: common.ifindex,
        }))
    }
}

impl Common {
    /// Whether `word` is one of these; if so, its value has been read too.
    fn read(&mut self, word: &str, words: &mut Words<'_>) -> Result<bool, UsageError> {
        match word {
            "domain" | "netns" => {
                let value = words.value()?;
                once(&mut self.domain, word, value, value.to_owned())?;
            }
            "index" => {
                let value = words.value()?;
                once(&mut self.ifindex, word, value, number(value, "index")?)?;
                if self.ifindex == Some(0) {
                    return Err(UsageError::invalid_value(value, "index"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `[dev] IFNAME [queues N]`
fn netdev(words: &mut Words<'_>, common: &mut Common) -> Result<(String, Option<u16>), UsageError> {
    let ifname = ifname(words)?;
    let mut queues = None;
    while let Some(word) = words.next() {
        match word {
            "queues" => read_queues(&mut queues, words)?,
            _ if common.read(word, words)? => {}
            _ => return Err(stray(word)),
        }
    }
    Ok((ifname, queues))
}

/// `[dev] IFNAME [link LOWER] [mode MODE] [queues N]`
fn macvtap(words: &mut Words<'_>, common: &mut Common) -> Result<MacvtapNic, UsageError> {
    let ifname = ifname(words)?;
    let (mut lower, mut mode, mut queues) = (None, None, None);
    while let Some(word) = words.next() {
        match word {
            "link" => {
                let value = words.value()?;
                once(&mut lower, word, value, value.to_owned())?;
            }
            "mode" => {
                let value = words.value()?;
                once(&mut mode, word, value, macvtap_mode(value)?)?;
            }
            "queues" => read_queues(&mut queues, words)?,
            _ if common.read(word, words)? => {}
            _ => return Err(stray(word)),
        }
    }
    Ok(MacvtapNic {
        ifname,
        lower,
        mode: mode.unwrap_or_default(),
        queues,
    })
}

/// `[dev] IFNAME [queue N] [queues N] [mode MODE] [busy-poll { on | off }]`
fn af_xdp(words: &mut Words<'_>, common: &mut Common) -> Result<AfXdpNic, UsageError> {
    let ifname = ifname(words)?;
    let (mut queue, mut queues, mut mode, mut busy_poll) = (None, None, None, None);
    while let Some(word) = words.next() {
        match word {
            "queue" => {
                let value = words.value()?;
                once(&mut queue, word, value, number(value, "queue")?)?;
            }
            "queues" => read_queues(&mut queues, words)?,
            "mode" => {
                let value = words.value()?;
                once(&mut mode, word, value, af_xdp_mode(value)?)?;
            }
            "busy-poll" => {
                let value = words.value()?;
                once(&mut busy_poll, word, value, on_off(value, "busy-poll")?)?;
            }
            _ if common.read(word, words)? => {}
            _ => return Err(stray(word)),
        }
    }
    Ok(AfXdpNic {
        ifname,
        queue: queue.unwrap_or(0),
        queues,
        mode: mode.unwrap_or_default(),
        busy_poll: busy_poll.unwrap_or(false),
    })
}

/// `[dev] ADDRESS [queues N] [bind] [unsafe-noiommu]`
fn vfio(words: &mut Words<'_>, common: &mut Common) -> Result<VfioNic, UsageError> {
    let mut vfio = VfioNic {
        address: pci_address(&ifname(words)?)?,
        queues: None,
        bind: false,
        unsafe_noiommu: false,
    };
    while let Some(word) = words.next() {
        match word {
            "queues" => read_queues(&mut vfio.queues, words)?,
            "bind" => vfio.bind = true,
            "unsafe-noiommu" => vfio.unsafe_noiommu = true,
            _ if common.read(word, words)? => {}
            _ => return Err(stray(word)),
        }
    }
    Ok(vfio)
}

/// `[dev] IFNAME`
fn ifname(words: &mut Words<'_>) -> Result<String, UsageError> {
    match words.next().ok_or(UsageError::Missing("dev"))? {
        "dev" => Ok(words.value()?.into()),
        "help" => Err(UsageError::Information(help::UPLINK)),
        word => Ok(word.into()),
    }
}

fn read_queues(slot: &mut Option<u16>, words: &mut Words<'_>) -> Result<(), UsageError> {
    let value = words.value()?;
    once(slot, "queues", value, short(value, "queues")?)
}

fn macvtap_mode(word: &str) -> Result<MacvtapMode, UsageError> {
    match word {
        "bridge" => Ok(MacvtapMode::Bridge),
        "vepa" => Ok(MacvtapMode::Vepa),
        "private" => Ok(MacvtapMode::Private),
        "passthru" => Ok(MacvtapMode::Passthru),
        _ => {
            let why = "\"mode\" must be bridge, vepa, private or passthru";
            Err(UsageError::invalid(word, why))
        }
    }
}

fn af_xdp_mode(word: &str) -> Result<AfXdpMode, UsageError> {
    match word {
        "auto" => Ok(AfXdpMode::Auto),
        "zero-copy" => Ok(AfXdpMode::ZeroCopy),
        "copy" => Ok(AfXdpMode::Copy),
        _ => Err(UsageError::invalid(
            word,
            "\"mode\" must be auto, zero-copy or copy",
        )),
    }
}

fn on_off(word: &str, name: &str) -> Result<bool, UsageError> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(UsageError::invalid(word, format!("\"{name}\" must be on or off"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn add(line: &str) -> UplinkCreate {
        match parse(line) {
            Ok(Command::Uplink(super::super::Command::Add(Add(create)))) => create,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn nic(line: &str) -> NicSpec {
        let create = add(line);
        assert_eq!(
            (create.name.as_str(), create.domain, create.ifindex),
            ("wan", None, None)
        );
        create.nic
    }

    #[test]
    fn a_netdev_by_packet_sockets_or_a_tap() {
        let kernel = |queues| {
            NicSpec::Kernel(KernelNic {
                ifname: "eth0".into(),
                queues,
            })
        };
        for line in [
            "uplink add wan kernel eth0",
            "up a wan k dev eth0",
            "uplink add name wan type kernel dev eth0",
        ] {
            assert_eq!(nic(line), kernel(None), "{line}");
        }
        assert_eq!(nic("uplink add wan kernel eth0 queues 4"), kernel(Some(4)));
        let tap = |ifname: &str, queues| {
            NicSpec::Tap(TapNic {
                ifname: ifname.into(),
                queues,
            })
        };
        assert_eq!(nic("uplink add wan tap tap0 queues 0x10"), tap("tap0", Some(16)));
        assert_eq!(nic("uplink add wan t dev queues"), tap("queues", None));
    }

    #[test]
    fn a_macvtap_is_a_bridge_by_default() {
        let macvtap = |lower: Option<&str>, mode, queues| {
            NicSpec::Macvtap(MacvtapNic {
                ifname: "mv0".into(),
                lower: lower.map(String::from),
                mode,
                queues,
            })
        };
        assert_eq!(
            nic("uplink add wan macvtap mv0"),
            macvtap(None, MacvtapMode::Bridge, None)
        );
        for (word, mode) in [
            ("bridge", MacvtapMode::Bridge),
            ("vepa", MacvtapMode::Vepa),
            ("private", MacvtapMode::Private),
            ("passthru", MacvtapMode::Passthru),
        ] {
            let line = format!("uplink add wan m mv0 queues 2 mode {word} link eth0");
            assert_eq!(nic(&line), macvtap(Some("eth0"), mode, Some(2)), "{line}");
        }
    }

    #[test]
    fn af_xdp_takes_one_queue_by_default() {
        let af_xdp = |queue, queues, mode, busy_poll| {
            NicSpec::AfXdp(AfXdpNic {
                ifname: "eth0".into(),
                queue,
                queues,
                mode,
                busy_poll,
            })
        };
        for line in [
            "uplink add wan af_xdp eth0",
            "uplink add wan af-xdp dev eth0",
            "uplink add wan a eth0 queue 0 mode auto busy-poll off",
        ] {
            assert_eq!(nic(line), af_xdp(0, None, AfXdpMode::Auto, false), "{line}");
        }
        assert_eq!(
            nic("uplink add wan af_xdp eth0 queue 12 queues 4 mode zero-copy busy-poll on"),
            af_xdp(12, Some(4), AfXdpMode::ZeroCopy, true)
        );
        assert_eq!(
            nic("uplink add wan af_xdp eth0 mode copy"),
            af_xdp(0, None, AfXdpMode::Copy, false)
        );
    }

    #[test]
    fn vfio_takes_a_pci_address_as_lspci_prints_it() {
        let vfio = |queues, bind, unsafe_noiommu| {
            NicSpec::Vfio(VfioNic {
                address: "0000:03:00.0".into(),
                queues,
                bind,
                unsafe_noiommu,
            })
        };
        for line in ["uplink add wan vfio 0000:03:00.0", "uplink add wan v dev 03:00.0"] {
            assert_eq!(nic(line), vfio(None, false, false), "{line}");
        }
        assert_eq!(
            nic("uplink add wan vfio 03:00.0 unsafe-noiommu queues 2 bind"),
            vfio(Some(2), true, true)
        );
    }

    #[test]
    fn domain_and_index_stand_before_the_kind_or_behind_it() {
        for line in [
            "uplink add wan domain red index 7 kernel eth0 queues 2",
            "uplink add wan index 7 type kernel eth0 netns red queues 2",
            "uplink add wan kernel eth0 domain red queues 2 index 7",
        ] {
            let create = add(line);
            assert_eq!(create.domain.as_deref(), Some("red"), "{line}");
            assert_eq!(create.ifindex, Some(7), "{line}");
            let NicSpec::Kernel(KernelNic { queues, .. }) = create.nic else {
                panic!("{line}: {:?}", create.nic)
            };
            assert_eq!(queues, Some(2), "{line}");
        }
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "uplink add",
                "Not enough information: \"name\" argument is required.",
            ),
            (
                "uplink add wan",
                "Not enough information: \"type\" argument is required.",
            ),
            (
                "uplink add wan veth eth0",
                "Error: argument \"veth\" is wrong: must be kernel, tap, macvtap, af_xdp or vfio",
            ),
            (
                "uplink add wan kernel",
                "Not enough information: \"dev\" argument is required.",
            ),
            (
                "uplink add wan kernel eth0 queues 65536",
                "Error: argument \"65536\" is wrong: Invalid \"queues\" value",
            ),
            (
                "uplink add wan kernel eth0 queue 1",
                "Garbage instead of arguments \"queue ...\". Try \"nkctl uplink help\".",
            ),
            (
                "uplink add wan kernel eth0 domain red netns blue",
                "Error: duplicate \"netns\": \"blue\" is the second value.",
            ),
            (
                "uplink add wan index 0 kernel eth0",
                "Error: argument \"0\" is wrong: Invalid \"index\" value",
            ),
            (
                "uplink add wan macvtap mv0 mode source",
                "Error: argument \"source\" is wrong: \"mode\" must be bridge, vepa, private or passthru",
            ),
            (
                "uplink add wan af_xdp eth0 mode skb",
                "Error: argument \"skb\" is wrong: \"mode\" must be auto, zero-copy or copy",
            ),
            (
                "uplink add wan af_xdp eth0 busy-poll yes",
                "Error: argument \"yes\" is wrong: \"busy-poll\" must be on or off",
            ),
            (
                "uplink add wan vfio eth0",
                "Error: argument \"eth0\" is wrong: a PCI address such as 0000:03:00.0 is expected; \"nkctl nic show\" \
                 lists those of NICs",
            ),
            (
                "uplink add wan vfio 03:00.0 mode copy",
                "Garbage instead of arguments \"mode ...\". Try \"nkctl uplink help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }
}
