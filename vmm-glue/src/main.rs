//! `nkctl`: netkitd's devices in the grammar of iproute2.

mod attach;
mod cli;
mod command;
mod drops;
mod error;
mod files;
mod follow;
mod help;
mod link;
mod map;
mod names;
mod neighbour;
mod net;
mod nic;
mod octets;
mod prog;
mod queue;
mod route;
mod trace;
mod uplink;
mod usage;
mod utc;
mod vm_args;
mod words;
mod worker;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use vmm_glue::Client;

use crate::cli::Invocation;
use crate::command::Output;
use crate::error::Error;
use crate::usage::UsageError;

/// Names the API socket for every nkctl of a shell.
const SOCKET_VARIABLE: &str = "NETKITD_API";

fn main() -> ExitCode {
    let output = match run() {
        Err(Error::Usage(UsageError::Information(text))) => Output::text(text),
        Ok(output) => output,
        Err(error) => {
            eprintln!("{}", error.to_string().trim_end());
            return ExitCode::from(error.exit_code());
        }
    };
    for note in output.notes {
        eprintln!("{note}");
    }
    // A reader that has seen enough, such as head(1), is no failure.
    match std::io::stdout().write_all(output.text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("Error: cannot write to standard output: {error}");
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run() -> Result<Output, Error> {
    let words: Result<Vec<String>, _> = std::env::args_os()
        .skip(1)
        .map(|word| word.into_string())
        .collect();
    let words = words.map_err(UsageError::NotUnicode)?;
    let socket = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
    let invocation = Invocation::parse(&words, socket.map(PathBuf::from))?;
    let client = Client::new(invocation.socket);
    invocation.command.run(&client, invocation.options)
}
