//! A running netkitd, and nkctl against it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmm_glue::Client;

use crate::rig::Process;

/// A daemon in a directory of its own, killed when dropped.
#[derive(Debug)]
pub struct Netkitd {
    dir: TempDir,
    process: Option<Process>,
    arguments: Vec<String>,
}

impl Netkitd {
    /// Starts a daemon with no devices.
    pub fn start() -> Netkitd {
        Netkitd::with(&[])
    }

    /// Starts a daemon with further arguments.
    pub fn with(arguments: &[&str]) -> Netkitd {
        let dir = tempfile::Builder::new()
            .prefix("netkitd-")
            .tempdir()
            .expect("a temporary directory");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut daemon = Netkitd {
            dir,
            process: None,
            arguments,
        };
        daemon.run();
        daemon
    }

    /// Starts the daemon again in the same directory, and waits until its API answers.
    pub fn run(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("the log");
        let mut command = Command::new(program("netkitd"));
        command
            .arg("--api")
            .arg(self.api())
            .arg("--state-dir")
            .arg(self.path("state"))
            .args(&self.arguments);
        command.stdout(log.try_clone().expect("the log")).stderr(log);
        self.process = Some(Process::spawn(command).expect("netkitd starts"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.client().daemon().is_err() {
            assert!(
                Instant::now() < deadline,
                "netkitd does not answer:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().expect("netkitd can be killed");
        }
    }

    /// The daemon's process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("netkitd runs")
    }

    /// A client of its API.
    pub fn client(&self) -> Client {
        Client::new(self.api())
    }

    /// The API's socket.
    pub fn api(&self) -> PathBuf {
        self.path("api.sock")
    }

    /// A path in the daemon's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs nkctl with these words, separated by spaces.
    pub fn nkctl(&self, words: &str) -> Output {
        let mut command = Command::new(program("nkctl"));
        command
            .arg("--api")
            .arg(self.api())
            .args(words.split_whitespace());
        command.output().expect("nkctl starts")
    }

    /// Runs nkctl, which must succeed, and gives what it printed.
    pub fn ok(&self, words: &str) -> String {
        let output = self.nkctl(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "nkctl {words}: {text}{errors}\n{}",
            self.log()
        );
        text
    }

    /// How often a device's frames were dropped for a reason.
    pub fn drops(&self, device: &str, reason: &str) -> u64 {
        let drops = self.client().drops(Some(device)).expect("drops");
        drops
            .iter()
            .flat_map(|it| &it.drops)
            .filter(|it| it.reason == reason)
            .map(|it| it.frames)
            .sum()
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Processor time that the daemon has used, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process().id())).expect("its stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("a number of ticks");
        (ticks(11) + ticks(12)) / 100.0
    }
}

/// A program of this workspace, built beside the one that runs.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let found = own
        .ancestors()
        .map(|dir| dir.join(name))
        .find(|path| is_program(path));
    found.unwrap_or_else(|| panic!("{name} is not built; run `cargo build --workspace` first"))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}
