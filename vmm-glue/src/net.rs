//! `nkctl net`: the programs of devices, as `bpftool net` has them.

mod attach;
mod show;

use vmm_glue::Client;
use vmm_glue::client::End;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;
use crate::help;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates};

/// What follows `net`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Show(show::Show),
    Attach(attach::Attach),
    Detach(attach::Detach),
}

impl Command {
    /// The order of the arms is bpftool's, and decides what an abbreviation means.
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let Some(command) = words.next() else {
            return Ok(Command::Show(show::Show::default()));
        };
        let is = |full| abbreviates(command, full);
        Ok(match command {
            _ if is("show") || is("list") => Command::Show(show::Show::parse(words)?),
            _ if is("attach") => Command::Attach(attach::Attach::parse(words)?),
            _ if is("detach") => Command::Detach(attach::Detach::parse(words)?),
            _ if is("help") => return Err(UsageError::Information(help::NET)),
            _ => {
                return Err(UsageError::UnknownCommand {
                    word: command.into(),
                    object: "net",
                });
            }
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Show(show) => show.run(client, options),
            Command::Attach(attach) => attach.run(client, options),
            Command::Detach(detach) => detach.run(client),
        }
    }
}

/// The attach type.
fn end(words: &mut Words<'_>) -> Result<End, UsageError> {
    let word = words.value()?;
    match word {
        "netkit_primary" | "primary" => Ok(End::Primary),
        "netkit_peer" | "peer" => Ok(End::Peer),
        "tcx_ingress" => Ok(End::TcxIngress),
        "tcx_egress" => Ok(End::TcxEgress),
        "help" => Err(UsageError::Information(help::NET)),
        _ => Err(UsageError::invalid(
            word,
            "the attach type must be netkit_primary, netkit_peer, tcx_ingress or tcx_egress",
        )),
    }
}

fn stray(word: &str) -> UsageError {
    match word {
        "help" => UsageError::Information(help::NET),
        _ => UsageError::Garbage {
            word: word.into(),
            help: "net help",
        },
    }
}
