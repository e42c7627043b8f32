//! The objects of the command line, and what each does.

use serde::Serialize;
use vmm_glue::Client;

use crate::cli::Options;
use crate::error::Error;
use crate::usage::UsageError;
use crate::words::{Words, abbreviates};
use crate::{
    attach, drops, help, link, map, neighbour, net, nic, prog, queue, route, trace, uplink, vm_args, worker,
};

/// A command that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Link(link::Command),
    Attach(attach::Attach),
    Detach(attach::Detach),
    Drops(drops::Drops),
    VmArgs(vm_args::VmArgs),
    Prog(prog::Command),
    Map(map::Command),
    Net(net::Command),
    Trace(trace::Trace),
    Route(route::Command),
    Neighbour(neighbour::Command),
    Worker(worker::Command),
    Uplink(uplink::Command),
    Queue(queue::Command),
    Nic(nic::Command),
}

/// What a command that succeeded has to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// For the next program.
    pub text: String,
    /// For a person, each a line.
    pub notes: Vec<String>,
}

impl Command {
    pub fn parse(words: &mut Words<'_>) -> Result<Command, UsageError> {
        let object = words.next().ok_or(UsageError::NoCommand)?;
        Ok(match object {
            _ if abbreviates(object, "link") => Command::Link(link::Command::parse(words)?),
            _ if abbreviates(object, "attach") => Command::Attach(attach::Attach::parse(words)?),
            _ if abbreviates(object, "detach") => Command::Detach(attach::Detach::parse(words)?),
            _ if abbreviates(object, "drops") => Command::Drops(drops::Drops::parse(words)?),
            _ if abbreviates(object, "vm") => Command::VmArgs(vm_args::VmArgs::parse(words)?),
            _ if abbreviates(object, "prog") => Command::Prog(prog::Command::parse(words)?),
            _ if abbreviates(object, "map") => Command::Map(map::Command::parse(words)?),
            _ if abbreviates(object, "net") => Command::Net(net::Command::parse(words)?),
            _ if abbreviates(object, "trace") => Command::Trace(trace::Trace::parse(words)?),
            _ if abbreviates(object, "route") => Command::Route(route::Command::parse(words)?),
            _ if abbreviates(object, "neighbour") || abbreviates(object, "neighbor") => {
                Command::Neighbour(neighbour::Command::parse(words)?)
            }
            _ if abbreviates(object, "worker") => Command::Worker(worker::Command::parse(words)?),
            _ if abbreviates(object, "uplink") => Command::Uplink(uplink::Command::parse(words)?),
            _ if abbreviates(object, "queue") => Command::Queue(queue::Command::parse(words)?),
            _ if abbreviates(object, "nic") => Command::Nic(nic::Command::parse(words)?),
            _ if abbreviates(object, "help") => return Err(UsageError::Information(help::GENERAL)),
            _ => return Err(UsageError::UnknownObject(object.into())),
        })
    }

    pub fn run(&self, client: &Client, options: Options) -> Result<Output, Error> {
        match self {
            Command::Link(link) => link.run(client, options),
            Command::Attach(attach) => attach.run(client),
            Command::Detach(detach) => detach.run(client),
            Command::Drops(drops) => drops.run(client, options),
            Command::VmArgs(args) => args.run(client, options),
            Command::Prog(prog) => prog.run(client, options.as_bpftool()),
            Command::Map(map) => map.run(client, options.as_bpftool()),
            Command::Net(net) => net.run(client, options.as_bpftool()),
            Command::Trace(trace) => trace.run(client, options.as_bpftool()),
            Command::Route(route) => route.run(client, options),
            Command::Neighbour(neighbour) => neighbour.run(client, options),
            Command::Worker(worker) => worker.run(client, options),
            Command::Uplink(uplink) => uplink.run(client, options),
            Command::Queue(queue) => queue.run(client, options),
            Command::Nic(nic) => nic.run(client, options),
        }
    }
}

impl Output {
    pub fn nothing() -> Output {
        Output::default()
    }

    /// Ends with a line feed unless it is empty.
    pub fn text(text: impl Into<String>) -> Output {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Output {
            text,
            notes: Vec::new(),
        }
    }

    pub fn json<T: Serialize>(value: &T, options: Options) -> Result<Output, Error> {
        Ok(Output::text(match options.pretty {
            true => serde_json::to_string_pretty(value)?,
            false => serde_json::to_string(value)?,
        }))
    }
}
