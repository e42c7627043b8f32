//! `nic pass` and `nic return`: a NIC goes to a guest, through its VMM, and comes back.

use std::path::PathBuf;

use netkit_api::{NicPass, PciNic};
use serde::Serialize;
use serde_json::Value;
use vmm_glue::Client;
use vmm_glue::vm::hot_plug::{HotPlug, Patience, Vmm};
use vmm_glue::vm::{PassedNic, cloud_hypervisor, qemu, shell};

use super::address;
use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, abbreviates_option, once};

/// `nic pass ADDRESS ...`
#[derive(Debug, PartialEq, Eq)]
pub struct Pass {
    pub address: String,
    pub dry_run: bool,
    pub guest: Guest,
}

/// `nic return ADDRESS ...`
#[derive(Debug, PartialEq, Eq)]
pub struct Return {
    pub address: String,
    pub guest: Guest,
}

/// How the guest's VMM is reached, and what it calls the NIC.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Guest {
    pub vmm: Option<Vmm>,
    pub socket: Option<PathBuf>,
    pub bus: Option<String>,
    pub id: Option<String>,
}

impl Pass {
    pub fn parse(words: &mut Words<'_>) -> Result<Pass, UsageError> {
        let address = address(words)?;
        let (mut guest, mut dry_run) = (Guest::default(), false);
        while let Some(word) = words.next() {
            match word {
                "dry-run" => dry_run = true,
                _ => guest.read(word, words)?,
            }
        }
        guest.check()?;
        Ok(Pass {
            address,
            dry_run,
            guest,
        })
    }

    /// The VMM is asked first whether it is there, so that the host does not lose the NIC for nothing.
    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let guest = match self.dry_run {
            true => None,
            false => self.guest.open()?,
        };
        let pass = NicPass {
            dry_run: self.dry_run,
        };
        let plugged = guest.is_some();
        let nic = match guest {
            Some(guest) => self.plug(client, guest, &pass)?,
            None => client.pass_nic(&self.address, &pass)?,
        };
        match self.dry_run && !nic.refusals.is_empty() {
            true => Err(Error::NotPassable {
                address: self.address.clone(),
                refusals: nic.refusals,
            }),
            false => self.print(&nic, plugged, options),
        }
    }

    /// Gives the NIC back if the guest did not get it; one that was not the host's before stays with vfio-pci.
    fn plug(&self, client: &Client, mut guest: HotPlug, pass: &NicPass) -> Result<PciNic, Error> {
        let was_of_host = client.nic(&self.address)?.user == HOST;
        let nic = client.pass_nic(&self.address, pass)?;
        let Err(plug) = guest.plug(&self.guest.nic(&self.address)) else {
            return Ok(nic);
        };
        let address = self.address.clone();
        if !was_of_host || !plug.left_nothing() {
            return Err(Error::StillPassed { address, plug });
        }
        Err(match client.give_back_nic(&address) {
            Ok(_) => Error::GivenBack { address, plug },
            Err(client) => Error::NotGivenBack {
                address,
                plug,
                client: Box::new(client),
            },
        })
    }

    fn print(&self, nic: &PciNic, plugged: bool, options: Options) -> Result<Output, Error> {
        let passed = self.guest.nic(&self.address);
        let mut output = match options.json {
            true => Output::json(&Passed::new(nic, &passed, plugged, self.guest.vmm), options)?,
            false if plugged => Output::nothing(),
            false => Output::text(lines(&passed, self.guest.vmm)),
        };
        output.notes = nic.warnings.iter().map(|what| format!("Note: {what}")).collect();
        Ok(output)
    }
}

impl Return {
    pub fn parse(words: &mut Words<'_>) -> Result<Return, UsageError> {
        let address = address(words)?;
        let mut guest = Guest::default();
        while let Some(word) = words.next() {
            guest.read(word, words)?;
        }
        guest.check()?;
        match (guest.vmm, &guest.socket) {
            (Some(_), None) => Err(UsageError::Missing("socket")),
            _ => Ok(Return { address, guest }),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        if let Some(mut guest) = self.guest.open()? {
            guest.unplug(&self.guest.nic(&self.address).id)?;
        }
        let nic = client.give_back_nic(&self.address)?;
        match options.json {
            true => Output::json(&nic, options),
            false => Ok(Output::nothing()),
        }
    }
}

impl Guest {
    fn read(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), UsageError> {
        match word {
            "socket" => {
                let value = words.value()?;
                once(&mut self.socket, word, value, value.into())
            }
            "bus" => {
                let value = words.value()?;
                once(&mut self.bus, word, value, value.into())
            }
            "id" => {
                let value = words.value()?;
                once(&mut self.id, word, value, id(value)?)
            }
            _ if abbreviates(word, "qemu") => once(&mut self.vmm, "VMM", word, Vmm::Qemu),
            _ if abbreviates(word, "cloud-hypervisor") => {
                once(&mut self.vmm, "VMM", word, Vmm::CloudHypervisor)
            }
            _ if abbreviates_option(word, "help") => Err(UsageError::Information(help::NIC)),
            _ => Err(UsageError::Garbage {
                word: word.into(),
                help: "nic help",
            }),
        }
    }

    fn check(&self) -> Result<(), UsageError> {
        if self.socket.is_some() && self.vmm.is_none() {
            return Err(UsageError::invalid(
                "socket",
                "say whose it is, qemu or cloud-hypervisor",
            ));
        }
        if self.bus.is_some() && self.vmm != Some(Vmm::Qemu) {
            return Err(UsageError::invalid("bus", "only qemu can be told the bus"));
        }
        Ok(())
    }

    fn open(&self) -> Result<Option<HotPlug>, Error> {
        match (self.vmm, &self.socket) {
            (Some(vmm), Some(socket)) => Ok(Some(HotPlug::open(vmm, socket, Patience::default())?)),
            _ => Ok(None),
        }
    }

    fn nic(&self, address: &str) -> PassedNic {
        let default = || format!("nic-{}", address.replace(':', "-"));
        PassedNic {
            address: address.into(),
            id: self.id.clone().unwrap_or_else(default),
            bus: self.bus.clone(),
        }
    }
}

/// Whom the daemon names as the user of a NIC that nobody has taken.
const HOST: &str = "host";

/// What both VMMs take for an id, so that it needs no quotes either.
fn id(word: &str) -> Result<String, UsageError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    match word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(allowed) {
        true => Ok(word.into()),
        false => Err(UsageError::invalid(
            word,
            "an id is a letter, then letters, digits, \"-\", \".\" and \"_\"",
        )),
    }
}

/// For one VMM its arguments, else those for each.
fn lines(nic: &PassedNic, vmm: Option<Vmm>) -> String {
    match vmm {
        Some(vmm) => shell::join(&arguments(vmm, nic)),
        None => BOTH
            .map(|vmm| format!("# {vmm}\n{}\n", shell::join(&arguments(vmm, nic))))
            .concat(),
    }
}

const BOTH: [Vmm; 2] = [Vmm::Qemu, Vmm::CloudHypervisor];

fn arguments(vmm: Vmm, nic: &PassedNic) -> Vec<String> {
    match vmm {
        Vmm::Qemu => qemu::pass_arguments(nic),
        Vmm::CloudHypervisor => cloud_hypervisor::pass_arguments(nic),
    }
}

/// The NIC, and how each VMM is told of it.
#[derive(Debug, Serialize)]
struct Passed<'a> {
    nic: &'a PciNic,
    id: &'a str,
    plugged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    qemu: Option<Told>,
    #[serde(rename = "cloud-hypervisor", skip_serializing_if = "Option::is_none")]
    cloud_hypervisor: Option<Told>,
}

/// For a guest that is to be started, and for one that runs.
#[derive(Debug, Serialize)]
struct Told {
    arguments: Vec<String>,
    hot_plug: Value,
}

impl<'a> Passed<'a> {
    fn new(nic: &'a PciNic, passed: &'a PassedNic, plugged: bool, wanted: Option<Vmm>) -> Passed<'a> {
        let told = |vmm, hot_plug| {
            let arguments = arguments(vmm, passed);
            wanted
                .is_none_or(|wanted| wanted == vmm)
                .then_some(Told { arguments, hot_plug })
        };
        Passed {
            nic,
            id: &passed.id,
            plugged,
            qemu: told(Vmm::Qemu, qemu::device_add(passed)),
            cloud_hypervisor: told(Vmm::CloudHypervisor, cloud_hypervisor::add_device(passed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};
    use crate::nic::Command;

    fn pass(line: &str) -> Pass {
        match parse(line) {
            Ok(Any::Nic(Command::Pass(pass))) if pass.address == "0000:03:00.0" => pass,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn pass_needs_no_more_than_an_address() {
        let plain = pass("nic pass 03:00.0");
        assert_eq!((plain.dry_run, plain.guest), (false, Guest::default()));
        assert!(pass("nic p dev 0000:03:00.0 dry-run").dry_run);
        let guest = |vmm, socket: Option<&str>, bus: Option<&str>, id: Option<&str>| Guest {
            vmm: Some(vmm),
            socket: socket.map(PathBuf::from),
            bus: bus.map(String::from),
            id: id.map(String::from),
        };
        assert_eq!(
            pass("nic pass 03:00.0 qemu").guest,
            guest(Vmm::Qemu, None, None, None)
        );
        assert_eq!(
            pass("nic pass 03:00.0 qemu socket /run/qmp bus port1 id nic0").guest,
            guest(Vmm::Qemu, Some("/run/qmp"), Some("port1"), Some("nic0"))
        );
        assert_eq!(
            pass("nic pass 03:00.0 id nic0 cloud socket ch.sock").guest,
            guest(Vmm::CloudHypervisor, Some("ch.sock"), None, Some("nic0"))
        );
    }

    #[test]
    fn return_asks_a_vmm_only_through_its_socket() {
        let back = |line: &str| match parse(line) {
            Ok(Any::Nic(Command::Return(back))) if back.address == "0000:03:00.0" => back.guest,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(back("nic return 03:00.0"), Guest::default());
        let guest = back("nic r 03:00.0 cloud-hypervisor socket /run/ch id nic0");
        assert_eq!(
            (guest.vmm, guest.id.as_deref()),
            (Some(Vmm::CloudHypervisor), Some("nic0"))
        );
        assert_eq!(guest.socket, Some("/run/ch".into()));
        let text = "Not enough information: \"socket\" argument is required.";
        assert_eq!(refusal("nic return 03:00.0 qemu"), (text.into(), 255));
        let text = "Garbage instead of arguments \"dry-run ...\". Try \"nkctl nic help\".";
        assert_eq!(refusal("nic return 03:00.0 dry-run"), (text.into(), 255));
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                "nic pass 03:00.0 socket /run/qmp",
                "Error: argument \"socket\" is wrong: say whose it is, qemu or cloud-hypervisor",
            ),
            (
                "nic pass 03:00.0 cloud-hypervisor bus port1",
                "Error: argument \"bus\" is wrong: only qemu can be told the bus",
            ),
            (
                "nic pass 03:00.0 qemu cloud-hypervisor",
                "Error: duplicate \"VMM\": \"cloud-hypervisor\" is the second value.",
            ),
            (
                "nic pass 03:00.0 qemu socket",
                "Command line is not complete. Try option \"help\"",
            ),
            (
                "nic pass 03:00.0 id 0nic",
                "Error: argument \"0nic\" is wrong: an id is a letter, then letters, digits, \"-\", \".\" and \"_\"",
            ),
            (
                "nic pass 03:00.0 id nic,addr=3",
                "Error: argument \"nic,addr=3\" is wrong: an id is a letter, then letters, digits, \"-\", \".\" and \
                 \"_\"",
            ),
            (
                "nic pass 03:00.0 libvirt",
                "Garbage instead of arguments \"libvirt ...\". Try \"nkctl nic help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn arguments_are_those_of_one_vmm_or_of_both() {
        let text = |line: &str| {
            let pass = pass(line);
            lines(&pass.guest.nic(&pass.address), pass.guest.vmm)
        };
        assert_eq!(
            text("nic pass 03:00.0"),
            "\
# QEMU
-device vfio-pci,host=0000:03:00.0,id=nic-0000-03-00.0
# cloud-hypervisor
--device path=/sys/bus/pci/devices/0000:03:00.0/,id=nic-0000-03-00.0
"
        );
        assert_eq!(
            text("nic pass 03:00.0 qemu id nic0 bus port1"),
            "-device vfio-pci,host=0000:03:00.0,id=nic0,bus=port1"
        );
        assert_eq!(
            text("nic pass 03:00.0 cloud-hypervisor id nic0"),
            "--device path=/sys/bus/pci/devices/0000:03:00.0/,id=nic0"
        );
    }
}
