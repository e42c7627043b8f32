//! The stock rust-vmm daemon, with the back end in `tests/src/bin/stock-net.rs`.

use std::process::Command;
use std::time::{Duration, Instant};

use super::super::share::Habit;
use super::super::{BACK_END_CPU, Error, Result};
use super::{Kind, Peer, Program, directory};
use crate::netkitd::program;
use crate::rig::Process;

const PATIENCE: Duration = Duration::from_secs(5);

pub fn start() -> Result<Peer> {
    let directory = directory()?;
    let sockets = ["a", "b"].map(|name| directory.path().join(name));
    let mut command = Command::new("taskset");
    command
        .args(["-c", &BACK_END_CPU.to_string()])
        .arg(program("stock-net"))
        .args(&sockets);
    let process = Process::spawn(command).map_err(|source| Error::Start {
        program: "stock-net".to_owned(),
        source,
    })?;
    let deadline = Instant::now() + PATIENCE;
    while !sockets.iter().all(|socket| socket.exists()) {
        if Instant::now() > deadline {
            return Err(Error::NotReady {
                program: "stock-net".to_owned(),
                seconds: PATIENCE.as_secs(),
                said: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Peer {
        kind: Kind::Stock,
        sockets,
        connects: false,
        forwarding: "vring_worker",
        habit: Habit::Sleeps,
        program: Program::Processes(vec![process], directory),
    })
}
