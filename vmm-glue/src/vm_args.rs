//! `nkctl vm args`: what to tell a virtual machine monitor so that a guest gets a device.

use serde_json::Value;
use vmm_glue::Client;
use vmm_glue::vm::{GuestNic, cloud_hypervisor, libvirt, qemu, shell};

use crate::cli::Options;
use crate::command::Output;
use crate::error::{Error, showing};
use crate::help;
use crate::link::device_name;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, once};

/// `vm args DEV VMM [memory SIZE|none]`
#[derive(Debug, PartialEq, Eq)]
pub struct VmArgs {
    pub device: String,
    pub vmm: Vmm,
    pub memory: Memory,
}

/// A virtual machine monitor, or what drives one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vmm {
    Qemu,
    CloudHypervisor,
    Libvirt,
}

/// Whether the arguments for the guest's memory are wanted too. A guest needs them once, not for each device.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Memory {
    /// As suits the VMM.
    #[default]
    Usual,
    None,
    Of(String),
}

impl VmArgs {
    pub fn parse(words: &mut Words<'_>) -> Result<VmArgs, UsageError> {
        let command = words.value()?;
        match command {
            _ if abbreviates(command, "args") => VmArgs::parse_args(words),
            _ if abbreviates(command, "help") => Err(UsageError::Information(help::VM)),
            _ => Err(UsageError::UnknownCommand {
                word: command.into(),
                object: "vm",
            }),
        }
    }

    fn parse_args(words: &mut Words<'_>) -> Result<VmArgs, UsageError> {
        let device = device_name(words, help::VM)?;
        let vmm = Vmm::parse(words.value()?)?;
        let mut memory = None;
        while let Some(word) = words.next() {
            match word {
                "memory" if vmm != Vmm::Libvirt => {
                    let value = words.value()?;
                    once(&mut memory, word, value, Memory::parse(value)?)?;
                }
                _ if abbreviates(word, "help") => return Err(UsageError::Information(help::VM)),
                _ => {
                    return Err(UsageError::Garbage {
                        word: word.into(),
                        help: "vm help",
                    });
                }
            }
        }
        Ok(VmArgs {
            device,
            vmm,
            memory: memory.unwrap_or_default(),
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        let device = client.device(&self.device).map_err(showing(&self.device))?;
        self.print(&GuestNic::of(&device)?, options)
    }

    fn print(&self, nic: &GuestNic, options: Options) -> Result<Output, Error> {
        let mut output = match options.json {
            true => Output::json(&self.vmm.hot_plug(nic)?, options)?,
            false => Output::text(self.command_line(nic)?),
        };
        output.notes = self.notes(nic, options).into_iter().map(String::from).collect();
        Ok(output)
    }

    fn command_line(&self, nic: &GuestNic) -> Result<String, Error> {
        let memory = match (self.vmm, &self.memory) {
            (Vmm::Qemu, Memory::Of(size)) => qemu::memory(size),
            (Vmm::CloudHypervisor, Memory::Of(size)) => cloud_hypervisor::memory(size),
            (Vmm::CloudHypervisor, Memory::Usual) => {
                cloud_hypervisor::memory(cloud_hypervisor::DEFAULT_MEMORY)
            }
            _ => Vec::new(),
        };
        let device = match self.vmm {
            Vmm::Qemu => qemu::arguments(nic),
            Vmm::CloudHypervisor => cloud_hypervisor::arguments(nic)?,
            Vmm::Libvirt => return Ok(libvirt::interface(nic)),
        };
        Ok(shell::join(&[memory, device].concat()))
    }

    /// What the arguments cannot say.
    fn notes(&self, nic: &GuestNic, options: Options) -> Vec<&'static str> {
        let mut notes = Vec::new();
        if self.vmm == Vmm::Qemu && nic.vmm_listens() {
            notes.push(match options.json {
                true => QEMU_PLUGS_LATE,
                false => QEMU_STARTS_LATE,
            });
        }
        if self.vmm == Vmm::Qemu && self.memory == Memory::Usual && !options.json {
            notes.push(QEMU_MEMORY);
        }
        notes
    }
}

const QEMU_STARTS_LATE: &str = "Note: QEMU listens on this socket, and will not start before netkitd has connected. \
     \"nkctl attach DEV vhost-user path SOCKET mode server\" avoids this.";

const QEMU_PLUGS_LATE: &str = "Note: send netdev_add only when query-chardev shows that netkitd has connected; until \
     then it would stop all of QEMU. \"nkctl attach DEV vhost-user path SOCKET mode server\" avoids this.";

const QEMU_MEMORY: &str = "Note: the guest's memory must be shared: -object \
     memory-backend-memfd,id=mem0,size=SIZE,share=on -machine memory-backend=mem0. Add \"memory SIZE\" to have these \
     arguments printed too, or \"memory none\" to be spared this note.";

impl Vmm {
    fn parse(word: &str) -> Result<Vmm, UsageError> {
        match word {
            _ if abbreviates(word, "qemu") => Ok(Vmm::Qemu),
            _ if abbreviates(word, "cloud-hypervisor") => Ok(Vmm::CloudHypervisor),
            _ if abbreviates(word, "libvirt") => Ok(Vmm::Libvirt),
            _ if abbreviates(word, "help") => Err(UsageError::Information(help::VM)),
            _ => Err(UsageError::invalid(
                word,
                "must be qemu, cloud-hypervisor or libvirt",
            )),
        }
    }

    fn hot_plug(self, nic: &GuestNic) -> Result<Value, UsageError> {
        match self {
            Vmm::Qemu => Ok(qemu::hot_plug(nic)),
            Vmm::CloudHypervisor => Ok(cloud_hypervisor::add_net(nic)),
            Vmm::Libvirt => Err(UsageError::NotSupported {
                word: "-json".into(),
                instead: "libvirt takes XML, which \"nkctl vm args DEV libvirt\" prints.",
            }),
        }
    }
}

impl Memory {
    /// The unit must be said: without one, QEMU's options disagree on what a number means.
    fn parse(word: &str) -> Result<Memory, UsageError> {
        let number = word.strip_suffix(['K', 'M', 'G']).unwrap_or_default();
        match word {
            "none" => Ok(Memory::None),
            _ if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Memory::Of(word.into()))
            }
            _ => Err(UsageError::invalid(
                word,
                "\"memory\" must be a size such as 512M or 2G, or none",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use netkit_api::SocketMode;

    use super::*;
    use crate::command::Command;
    use crate::link::tests::{parse, refusal};

    fn args(line: &str) -> VmArgs {
        match parse(line) {
            Ok(Command::VmArgs(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn nic(daemon_side: SocketMode) -> GuestNic {
        GuestNic {
            name: "nk1".into(),
            socket: "/run/a.sock".into(),
            daemon_side,
            queues: 1,
            address: None,
            mtu: 1500,
        }
    }

    fn print(line: &str, json: bool, daemon_side: SocketMode) -> Output {
        let options = Options {
            json,
            ..Options::default()
        };
        args(line)
            .print(&nic(daemon_side), options)
            .expect("the path is plain")
    }

    #[test]
    fn words() {
        let expected = VmArgs {
            device: "nk1".into(),
            vmm: Vmm::Qemu,
            memory: Memory::Usual,
        };
        assert_eq!(args("vm args nk1 qemu"), expected);
        assert_eq!(args("v a dev nk1 q"), expected);
        assert_eq!(args("vm args nk1 cloud-hypervisor").vmm, Vmm::CloudHypervisor);
        assert_eq!(args("vm args nk1 libvirt").vmm, Vmm::Libvirt);
        assert_eq!(args("vm args nk1 qemu memory 2G").memory, Memory::Of("2G".into()));
        assert_eq!(args("vm args nk1 qemu memory none").memory, Memory::None);
    }

    #[test]
    fn refusals() {
        let incomplete = "Command line is not complete. Try option \"help\"";
        let cases = [
            ("vm", incomplete),
            ("vm args nk1", incomplete),
            ("vm args nk1 qemu memory", incomplete),
            ("vm args", "Not enough information: \"dev\" argument is required."),
            (
                "vm args nk1 xen",
                "Error: argument \"xen\" is wrong: must be qemu, cloud-hypervisor or libvirt",
            ),
            (
                "vm args nk1 qemu memory 512",
                "Error: argument \"512\" is wrong: \"memory\" must be a size such as 512M or 2G, or none",
            ),
            (
                "vm args nk1 libvirt memory 2G",
                "Garbage instead of arguments \"memory ...\". Try \"nkctl vm help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }

    #[test]
    fn memory_belongs_to_the_guest_and_not_to_the_device() {
        let print = |line: &str| print(line, false, SocketMode::Server);
        let usual = print("vm args nk1 qemu");
        assert!(usual.text.starts_with("-chardev ") && usual.text.ends_with('\n'));
        assert_eq!(usual.notes, [QEMU_MEMORY]);
        let sized = print("vm args nk1 qemu memory 1G");
        let memory = "-m 1G -object memory-backend-memfd,id=mem0,size=1G,share=on -machine memory-backend=mem0 -chardev ";
        assert!(
            sized.text.starts_with(memory) && sized.notes.is_empty(),
            "{sized:?}"
        );
        assert!(print("vm args nk1 qemu memory none").notes.is_empty());
        let cloud_hypervisor = [
            ("", "--memory size=512M,shared=on --net "),
            (" memory 2G", "--memory size=2G,shared=on --net "),
            (" memory none", "--net "),
        ];
        for (memory, start) in cloud_hypervisor {
            let output = print(&format!("vm args nk1 cloud-hypervisor{memory}"));
            assert!(
                output.text.starts_with(start) && output.notes.is_empty(),
                "{output:?}"
            );
        }
    }

    #[test]
    fn a_qemu_that_listens_is_warned_of() {
        let notes = |json| print("vm args nk1 qemu memory none", json, SocketMode::Client).notes;
        assert_eq!(notes(false), [QEMU_STARTS_LATE]);
        assert_eq!(notes(true), [QEMU_PLUGS_LATE]);
        let usual = print("vm args nk1 qemu", false, SocketMode::Client).notes;
        assert_eq!(usual, [QEMU_STARTS_LATE, QEMU_MEMORY]);
        assert!(
            print("vm args nk1 qemu", true, SocketMode::Server)
                .notes
                .is_empty()
        );
    }

    #[test]
    fn libvirt_has_no_json() {
        let error = Vmm::Libvirt
            .hot_plug(&nic(SocketMode::Server))
            .expect_err("libvirt takes XML");
        assert_eq!(error.exit_code(), 255);
    }
}
