//! Generates and sinks frames on the two vhost-user ports of a back end, and prints what became of them as JSON.

use std::process::ExitCode;

use clap::Parser;
use netkit_tests::load::{LoadError, Options, Report, run};

fn main() -> ExitCode {
    let result = run(&Options::parse()).and_then(|report| print(&report).map(|()| report));
    match result.as_ref().map(Report::fault) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(fault)) => {
            eprintln!("load: {fault}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(report: &Report) -> Result<(), LoadError> {
    eprintln!("{report}");
    let json = serde_json::to_string(report).map_err(std::io::Error::other)?;
    println!("{json}");
    Ok(())
}
