//! DPDK's testpmd, as a back end and as a generator, driven by its prompt.

use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Error, Result};
use crate::rig::Process;

const PATIENCE: Duration = Duration::from_secs(20);
const BINARY: &str = "dpdk-testpmd";

/// What one is to be.
#[derive(Debug)]
pub struct Config<'a> {
    /// Unlike that of any other that runs.
    pub name: &'a str,
    /// Of its main thread and of the one that forwards.
    pub cpu: usize,
    /// Its virtual devices.
    pub devices: Vec<String>,
    /// What is forwarded, and how.
    pub options: &'a [&'a str],
    /// Whether its memory is of huge pages.
    pub huge_pages: bool,
}

/// A running testpmd.
#[derive(Debug)]
pub struct Testpmd {
    process: Process,
    prompt: PipeWriter,
    log: PathBuf,
}

impl Testpmd {
    /// Starts one, with its log in `directory`.
    pub fn start(config: &Config, directory: &Path) -> Result<Testpmd> {
        let log = directory.join(format!("{}.log", config.name));
        let (input, prompt) = std::io::pipe().map_err(Error::io("make", "a pipe"))?;
        let output = std::fs::File::create(&log).map_err(Error::io("make", log.display().to_string()))?;
        let errors = output
            .try_clone()
            .map_err(Error::io("share", log.display().to_string()))?;
        let mut command = Command::new("stdbuf");
        command.args(["-oL", BINARY]).args(arguments(config));
        command.stdin(Stdio::from(input)).stdout(output).stderr(errors);
        let process = Process::spawn(command).map_err(|source| Error::Start {
            program: BINARY.to_owned(),
            source,
        })?;
        let testpmd = Testpmd { process, prompt, log };
        // "Press enter to exit" is what it says without -i; with it, the last step before the prompt is this.
        testpmd.wait_for("Done", 1)?;
        Ok(testpmd)
    }

    /// Its process, for signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Says a line at the prompt, and gives everything that is printed from then until `wanted` was printed `times`.
    pub fn ask(&mut self, line: &str, wanted: &str, times: usize) -> Result<String> {
        let before = self.said().len();
        writeln!(self.prompt, "{line}").map_err(Error::io("write to", "testpmd's prompt"))?;
        self.wait(before, wanted, times)
    }

    fn wait_for(&self, wanted: &str, times: usize) -> Result<String> {
        self.wait(0, wanted, times)
    }

    fn wait(&self, from: usize, wanted: &str, times: usize) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said().get(from..).unwrap_or_default().to_owned();
            if said.matches(wanted).count() >= times {
                return Ok(said);
            }
            let ended = self.process.status().ok().flatten().is_some();
            if ended || Instant::now() > deadline {
                return Err(Error::NotReady {
                    program: BINARY.to_owned(),
                    seconds: PATIENCE.as_secs(),
                    said: Error::tail(&said),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn said(&self) -> String {
        let octets = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }
}

fn arguments(config: &Config) -> Vec<String> {
    let cpu = config.cpu;
    let mut arguments = vec![
        format!("--lcores=0@{cpu},1@{cpu}"),
        format!("--file-prefix={}-{}", config.name, std::process::id()),
    ];
    let memory: &[&str] = match config.huge_pages {
        true => &["--in-memory", "--single-file-segments", "-m", "256"],
        false => &["--no-huge", "-m", "512"],
    };
    arguments.extend(memory.iter().map(ToString::to_string));
    arguments.extend(["--no-pci", "--no-telemetry"].map(str::to_owned));
    arguments.extend(config.devices.iter().map(|device| format!("--vdev={device}")));
    let own = [
        "--",
        "-i",
        "--nb-cores=1",
        "--auto-start",
        "--total-num-mbufs=16384",
    ];
    arguments.extend(own.iter().chain(config.options).map(ToString::to_string));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_its_threads_are_on_one_processor() {
        let config = Config {
            name: "be",
            cpu: 1,
            devices: vec!["net_vhost0,iface=a".to_owned()],
            options: &["--forward-mode=io"],
            huge_pages: false,
        };
        let arguments = arguments(&config);
        assert_eq!(arguments[0], "--lcores=0@1,1@1");
        assert!(arguments.contains(&"--no-huge".to_owned()));
        let own = arguments.iter().position(|it| it == "--").unwrap();
        assert!(arguments[..own].contains(&"--vdev=net_vhost0,iface=a".to_owned()));
        assert!(arguments[own..].contains(&"--forward-mode=io".to_owned()));
    }
}
