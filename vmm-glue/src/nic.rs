//! `nkctl nic`: PCI NICs of the host, and guests that get one whole.

mod pass;
mod show;

use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates, abbreviates_option};

/// What follows `nic`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Show { address: Option<String> },
    Pass(pass::Pass),
    Return(pass::Return),
}

impl Command {
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let command = words.next().unwrap_or("show");
        let is = |full| abbreviates(command, full);
        match command {
            _ if is("show") || is("lst") || is("list") => {
                let address = match words.peek() {
                    None => None,
                    Some(_) => Some(address(words)?),
                };
                words.end("nic help")?;
                Ok(Command::Show { address })
            }
            _ if is("pass") => Ok(Command::Pass(pass::Pass::parse(words)?)),
            _ if is("return") => Ok(Command::Return(pass::Return::parse(words)?)),
            _ if is("help") => Err(UsageError::Information(help::NIC)),
            _ => Err(UsageError::UnknownCommand {
                word: command.into(),
                object: "nic",
            }),
        }
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show { address } => show::run(client, address.as_deref(), options),
            Command::Pass(pass) => pass.run(client, options),
            Command::Return(back) => back.run(client, options),
        }
    }
}

/// `[dev] ADDRESS`
fn address(words: &mut Words<'_>) -> Result<String, UsageError> {
    match words.next().ok_or(UsageError::Missing("ADDRESS"))? {
        "dev" => pci_address(words.value()?),
        word if abbreviates_option(word, "help") => Err(UsageError::Information(help::NIC)),
        word => pci_address(word),
    }
}

/// `DOMAIN:BUS:DEVICE.FUNCTION` as sysfs has it; lspci leaves domain 0000 out.
pub fn pci_address(word: &str) -> Result<String, UsageError> {
    let full = match word.matches(':').count() {
        1 => format!("0000:{word}"),
        _ => word.to_owned(),
    }
    .to_lowercase();
    let hexadecimal = |text: &str| text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let parts: Vec<&str> = full.split([':', '.']).collect();
    match parts[..] {
        [domain, bus, device, function]
            // Bridges such as Intel's VMD have domains of more than four digits.
            if (4..=8).contains(&domain.len())
                && [bus.len(), device.len(), function.len()] == [2, 2, 1]
                && parts.iter().all(|part| hexadecimal(part))
                && full == format!("{domain}:{bus}:{device}.{function}") =>
        {
            Ok(full)
        }
        _ => Err(UsageError::invalid(
            word,
            "a PCI address such as 0000:03:00.0 is expected; \"nkctl nic show\" lists those of NICs",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command as Any;
    use crate::link::tests::{parse, refusal};

    #[test]
    fn an_address_is_that_of_sysfs_or_of_lspci() {
        let read = |word| pci_address(word).ok();
        assert_eq!(read("0000:03:00.0").as_deref(), Some("0000:03:00.0"));
        assert_eq!(read("03:1F.7").as_deref(), Some("0000:03:1f.7"));
        assert_eq!(read("10000:e1:00.0").as_deref(), Some("10000:e1:00.0"));
        for wrong in [
            "",
            "eth0",
            "03:00",
            "03.00:0",
            "3:0.0",
            "000:03:00.0",
            "0000:03:00:0",
            "0000:03:00.00",
            "0000:03:00.0/..",
            "../../03:00.0",
            "0000:0g:00.0",
            "+000:03:00.0",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn show_one_or_all() {
        let shown = |line| match parse(line) {
            Ok(Any::Nic(Command::Show { address })) => address,
            other => panic!("{line}: {other:?}"),
        };
        for line in ["nic", "ni", "nic show", "nic list", "nic l"] {
            assert_eq!(shown(line), None, "{line}");
        }
        assert_eq!(shown("nic show 03:00.0").as_deref(), Some("0000:03:00.0"));
        assert_eq!(shown("nic s dev 0000:03:00.0").as_deref(), Some("0000:03:00.0"));
    }

    #[test]
    fn refusals() {
        let address = "Error: argument \"eth0\" is wrong: a PCI address such as 0000:03:00.0 is expected; \
                       \"nkctl nic show\" lists those of NICs";
        let cases = [
            ("nic show eth0", address),
            ("nic pass eth0", address),
            ("nic return eth0", address),
            (
                "nic pass",
                "Not enough information: \"ADDRESS\" argument is required.",
            ),
            (
                "nic show 03:00.0 03:00.1",
                "Garbage instead of arguments \"03:00.1 ...\". Try \"nkctl nic help\".",
            ),
            (
                "nic bogus",
                "Command \"bogus\" is unknown, try \"nkctl nic help\".",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(refusal(line), (text.into(), 255), "{line}");
        }
    }
}
