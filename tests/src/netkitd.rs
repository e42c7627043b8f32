//! A running netkitd, and nkctl against it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmm_glue::Client;

use crate::rig::Process;

/// A daemon in a directory of its own, killed when dropped.
#[derive(Debug)]
pub struct Netkitd {
    // Dropped first: a daemon that still runs would write into the directory that is being removed.
    process: Option<Process>,
    dir: TempDir,
    script: String,
    arguments: Vec<String>,
}

/// For [`Netkitd::under`]: the daemon runs as the user `nobody`, to whom the directory and a copy of the program belong.
pub const AS_NOBODY: &str = "chown 65534:65534 . && chmod 711 . && cp \"$1\" netkitd && shift && \
    exec setpriv --reuid=65534 --regid=65534 --clear-groups --pdeathsig=KILL ./netkitd \"$@\"";

/// How long a program may take to end that has nothing more to do.
const PROMPTLY: Duration = Duration::from_secs(5);

impl Netkitd {
    /// Starts a daemon with no devices.
    pub fn start() -> Netkitd {
        Netkitd::with(&[])
    }

    /// Starts a daemon with further arguments.
    pub fn with(arguments: &[&str]) -> Netkitd {
        Netkitd::made("exec \"$@\"", arguments)
    }

    /// Starts a daemon from a shell script, which gets the command as its arguments and runs in the daemon's directory.
    pub fn under(script: &str) -> Netkitd {
        Netkitd::made(script, &[])
    }

    fn made(script: &str, arguments: &[&str]) -> Netkitd {
        let dir = tempfile::Builder::new()
            .prefix("netkitd-")
            .tempdir()
            .expect("a temporary directory");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut daemon = Netkitd {
            dir,
            process: None,
            script: script.to_owned(),
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
        let mut command = Command::new("sh");
        command
            .current_dir(self.dir.path())
            .args(["-c", &self.script, "sh"])
            .arg(program("netkitd"))
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

    /// Ends the daemon with SIGTERM, which must not take long.
    pub fn terminate(&mut self) -> ExitStatus {
        let process = self.process.take().expect("netkitd runs");
        process.signal(libc::SIGTERM).expect("netkitd runs");
        ends(&process)
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

    /// Runs nkctl, which must fail with this exit code, print nothing and say why; gives what it said.
    pub fn fails(&self, code: i32, words: &str) -> String {
        let output = self.nkctl(words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "nkctl {words}: {text}");
        assert!(output.stdout.is_empty() && !text.is_empty(), "nkctl {words}");
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

/// How a process ends that must not run for much longer.
pub fn ends(process: &Process) -> ExitStatus {
    let deadline = Instant::now() + PROMPTLY;
    loop {
        if let Some(status) = process.status().expect("its status") {
            return status;
        }
        assert!(Instant::now() < deadline, "it still runs after {PROMPTLY:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs netkitd with arguments with which it ends at once: its exit code, standard output and standard error.
pub fn run_to_end(arguments: &[&str]) -> (i32, String, String) {
    let child = Command::new(program("netkitd"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("netkitd starts");
    let deadline = Instant::now() + PROMPTLY;
    while child.try_wait().expect("its status").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("netkitd can be killed");
            panic!("netkitd {arguments:?} still runs after {PROMPTLY:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("what it printed");
    let text = |octets| String::from_utf8(octets).expect("netkitd prints text");
    let code = output.status.code().expect("netkitd was not killed");
    (code, text(output.stdout), text(output.stderr))
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
