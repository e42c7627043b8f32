//! The load generator `load`: both guests of a pair in one thread on one core.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::peers::Peer;
use super::share::{Habit, Watch, threads};
use super::works::{Figure, Measured, Timing};
use super::{Error, GENERATOR_CPU, Result};
use crate::rig::Process;

/// Beyond the time that is measured: connecting takes Open vSwitch a second.
const PATIENCE: Duration = Duration::from_secs(20);
const PRINTED: &str = "printed";
const SAID: &str = "said";

/// The program, and what goes for all of its runs.
#[derive(Debug, Clone)]
pub struct Generator {
    /// Where it is.
    pub program: PathBuf,
    /// Whether the memory of its guests is of huge pages.
    pub huge_pages: bool,
}

impl Generator {
    /// Makes load through a peer and says what came of it. `arguments` is what kind of load, `busy` whether it keeps
    /// both sides from sleep.
    pub fn measure(&self, peer: &Peer, busy: bool, arguments: &[&str], timing: Timing) -> Result<Measured> {
        let habit = if busy { peer.habit } else { Habit::Sleeps };
        let length = Duration::from_secs_f64(timing.seconds);
        let back_end = Watch::start(peer.forwarding_threads()?, habit);
        let (process, files) = self.start(peer, arguments, timing)?;
        let own = Watch::start(threads(process.id(), "")?, Habit::Sleeps);
        let printed = finish(&process, &files, timing)?;
        let (back_end, own) = (back_end.finish(length), own.finish(length));
        let mut measured = read(&printed)?;
        measured.back_end = back_end;
        if !busy {
            measured.generator = own.map(|share| share.part());
        }
        Ok(measured)
    }

    /// Whether a peer carries frames over packed rings. A generator that prefers them takes split ones without a word.
    pub fn demand_packed_rings(&self, peer: &Peer) -> Result<()> {
        let moment = Timing {
            warm_up: 0.05,
            seconds: 0.05,
        };
        let arguments = ["--mode", "both-ways", "--size", "64", "--ring", "packed"];
        let (process, files) = self.start(peer, &arguments, moment)?;
        finish(&process, &files, moment).map(drop)
    }

    /// Starts guests that do nothing on two sockets.
    pub fn guests_that_wait(&self, sockets: [&PathBuf; 2], connects: bool, seconds: u64) -> Result<Process> {
        let mut command = Command::new(&self.program);
        command.arg("--a").arg(sockets[0]).arg("--b").arg(sockets[1]);
        command.args(connects.then_some("--server"));
        command.args(["--mode", "wait", "--cpu", &GENERATOR_CPU.to_string()]);
        command.args(["--seconds", &seconds.to_string(), "--huge", "false"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.spawn(command)
    }

    /// Starts it, with what it prints and what it says going into two files of a directory.
    fn start(&self, peer: &Peer, arguments: &[&str], timing: Timing) -> Result<(Process, TempDir)> {
        let directory = tempfile::tempdir().map_err(Error::io("make", "a temporary directory"))?;
        let file =
            |name: &str| std::fs::File::create(directory.path().join(name)).map_err(Error::io("make", name));
        let mut command = Command::new(&self.program);
        command.args(self.arguments(peer, arguments, timing));
        command.stdout(file(PRINTED)?).stderr(file(SAID)?);
        Ok((self.spawn(command)?, directory))
    }

    fn arguments(&self, peer: &Peer, arguments: &[&str], timing: Timing) -> Vec<String> {
        let [a, b] = peer.sockets.each_ref().map(|socket| socket.display().to_string());
        let mut all = vec!["--a".to_owned(), a, "--b".to_owned(), b];
        if peer.connects {
            all.push("--server".to_owned());
        }
        all.extend(arguments.iter().map(ToString::to_string));
        for (option, value) in [
            ("--warm-up", timing.warm_up.to_string()),
            ("--seconds", timing.seconds.to_string()),
            ("--cpu", GENERATOR_CPU.to_string()),
            ("--huge", self.huge_pages.to_string()),
        ] {
            all.extend([option.to_owned(), value]);
        }
        all
    }

    fn spawn(&self, command: Command) -> Result<Process> {
        Process::spawn(command).map_err(|source| Error::Start {
            program: self.program.display().to_string(),
            source,
        })
    }
}

/// What it printed when it has ended.
fn finish(process: &Process, files: &TempDir, timing: Timing) -> Result<String> {
    let read = |name: &str| std::fs::read_to_string(files.path().join(name)).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE + Duration::from_secs_f64(timing.warm_up + timing.seconds);
    loop {
        match process.status().map_err(Error::io("wait for", "load"))? {
            Some(status) if status.success() => return Ok(read(PRINTED)),
            Some(_) => return Err(failed(&read(SAID))),
            None if Instant::now() > deadline => return Err(failed("it does not end")),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn failed(said: &str) -> Error {
    Error::Failed {
        program: "load".to_owned(),
        said: Error::tail(said),
    }
}

/// What `load` prints, as figures. What it has no number for has no figure.
fn read(printed: &str) -> Result<Measured> {
    let unreadable = || Error::Unreadable {
        program: "load".to_owned(),
        wanted: "JSON object with what was received",
        printed: Error::tail(printed),
    };
    let raw: Value = serde_json::from_str(printed.trim()).map_err(|_| unreadable())?;
    let number = |pointer: &str| raw.pointer(pointer).and_then(Value::as_f64);
    if number("/received").ok_or_else(unreadable)? == 0.0 {
        return Err(failed("no frame came through"));
    }
    let corrupt = number("/corrupt").unwrap_or(0.0);
    if corrupt > 0.0 {
        return Err(failed(&format!("{corrupt} frames came through damaged")));
    }
    let figures = [
        (Figure::FramesPerSecond, "/frames_per_second"),
        (Figure::OctetsPerSecond, "/octets_per_second"),
        (Figure::RoundTripMedian, "/round_trip_ns/median"),
        (Figure::RoundTripP99, "/round_trip_ns/p99"),
        (Figure::WakeMedian, "/wake_ns/median"),
        (Figure::WakeP99, "/wake_ns/p99"),
    ];
    Ok(Measured {
        figures: figures
            .into_iter()
            .filter_map(|(figure, pointer)| Some((figure, number(pointer)?)))
            .collect(),
        generator: number("/cpu_share"),
        back_end: None,
        raw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"{"mode":"closed-loop","sent":10,"received":10,"lost":0,"corrupt":0,"cpu_share":0.99,
        "frames_per_second":5.0,"octets_per_second":320.0,"round_trip_ns":{"median":900,"p99":2000},"wake_ns":null}"#;

    #[test]
    fn what_load_prints_becomes_figures() {
        let measured = read(PRINTED).unwrap();
        assert_eq!(measured.generator, Some(0.99));
        assert_eq!(measured.figure(Figure::FramesPerSecond), Some(5.0));
        assert_eq!(measured.figure(Figure::RoundTripP99), Some(2000.0));
        assert_eq!(measured.figure(Figure::WakeMedian), None);
    }

    #[test]
    fn nothing_received_is_no_measurement() {
        let printed = PRINTED.replace("\"received\":10", "\"received\":0");
        assert!(
            read(&printed)
                .unwrap_err()
                .to_string()
                .contains("no frame came through")
        );
    }

    #[test]
    fn a_damaged_frame_is_no_measurement() {
        let printed = PRINTED.replace("\"corrupt\":0", "\"corrupt\":1");
        assert!(read(&printed).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn what_is_no_json_is_shown() {
        assert!(read("no socket").unwrap_err().to_string().ends_with("no socket"));
    }
}
