//! A guest under QEMU: start it, run commands in it, reboot it, plug cards into it.

use super::agent::Agent;
use super::config::{HOTPLUG_PORTS, Place, qemu_program};
use super::qmp::Qmp;
use super::{Error, GuestConfig, Nic, Output, Process, Result, Shell, image, time};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running guest; its QEMU is killed when it is dropped.
///
/// It may be used from several threads; its commands run one after the other.
#[derive(Debug)]
pub struct Guest {
    config: GuestConfig,
    // Before the directory, so that QEMU is gone when the files go.
    qemu: Process,
    place: Place,
    session: Mutex<Session>,
    monitor: Mutex<Option<Qmp>>,
    _directory: TempDir,
}

/// How far the guest has come.
#[derive(Debug)]
struct Session {
    /// Kept over reboots: QEMU would forget what the guest has not read yet if we hung up.
    agent: Option<Agent>,
    /// Whether this boot's agent has answered.
    ready: bool,
    /// How many boots the console will have seen the end of when this one is done.
    boots: usize,
    begun: Instant,
}

/// What the guest's init prints on the console when it is done.
pub(super) const READY: &str = "netkit-guest: ready";

impl Guest {
    /// Starts QEMU and returns at once; the guest boots meanwhile.
    pub fn start(config: GuestConfig) -> Result<Guest> {
        let directory = working_directory(&config.name)?;
        let path = directory.path().to_path_buf();
        let place = Place {
            kernel: image::kernel(config.kernel)?,
            initramfs: image::initramfs_with(config.kernel, &config.initrd_extra, &path)?,
            agent_chardev: format!(
                "socket,id=agent,path={},server=on,wait=off",
                path.join("agent.sock").display()
            ),
            directory: path,
        };
        let qemu = start_qemu(&config, &place)?;
        let session = Mutex::new(Session::new());
        Ok(Guest {
            config,
            qemu,
            place,
            session,
            monitor: Mutex::new(None),
            _directory: directory,
        })
    }

    /// Waits until the guest has booted and takes commands. Running a command does so, too.
    pub fn wait_ready(&self) -> Result<()> {
        self.agent(&mut lock(&self.session)).map(drop)
    }

    /// Resets the machine as its reset button does, and waits for it to boot again.
    pub fn reset(&self) -> Result<()> {
        let mut session = lock(&self.session);
        self.qmp("system_reset", &json!({}))?;
        session.begin_boot(self.boots());
        self.agent(&mut session).map(drop)
    }

    /// Reboots from the inside, drivers shutting their devices down, and waits for it to boot again.
    pub fn reboot(&self) -> Result<()> {
        let mut session = lock(&self.session);
        self.agent(&mut session)?.send("reboot -f")?;
        session.begin_boot(self.boots());
        self.agent(&mut session).map(drop)
    }

    /// Runs a QMP command and gives what it returns.
    pub fn qmp(&self, command: &str, arguments: &Value) -> Result<Value> {
        self.with_monitor(|qmp| qmp.execute(command, arguments))
    }

    /// Waits for a QMP event (one that came earlier counts) and gives its data.
    pub fn qmp_event(&self, name: &str, limit: Duration) -> Result<Value> {
        self.with_monitor(|qmp| qmp.event(name, limit))
    }

    /// The socket of a second monitor, free for another QMP client.
    pub fn qmp_socket(&self) -> PathBuf {
        self.place.second_qmp()
    }

    /// Takes the cable of card `index` out, or plugs it in again, as QEMU's `set_link` has it.
    pub fn set_link(&self, index: usize, up: bool) -> Result<()> {
        self.qmp("set_link", &json!({"name": format!("nic-net{index}"), "up": up}))
            .map(drop)
    }

    /// Hot-plugs a card into port 0 or 1. The guest's driver needs a moment to find it.
    pub fn plug(&self, port: usize, nic: &Nic) -> Result<()> {
        let (id, mac) = (format!("plugged{port}"), self.config.mac(0x80 + port));
        for (command, arguments) in nic.plug(&id, &mac, HOTPLUG_PORTS[port]) {
            self.qmp(command, &arguments)?;
        }
        Ok(())
    }

    /// Removes a hot-plugged card with the guest's consent, and waits until it is gone.
    pub fn unplug(&self, port: usize) -> Result<()> {
        let id = format!("plugged{port}");
        let device = format!("nic-{id}");
        self.qmp("device_del", &json!({"id": device}))?;
        while self.qmp_event("DEVICE_DELETED", time::QMP)?["device"] != device.as_str() {}
        // A vhost-user netdev takes its chardev with it.
        self.qmp("netdev_del", &json!({"id": id})).map(drop)
    }

    /// The kernel's log so far, of all boots.
    pub fn console(&self) -> String {
        read_log(&self.place.console())
    }

    /// The QEMU process, for tests that stop or kill it.
    pub fn qemu(&self) -> &Process {
        &self.qemu
    }

    /// What the guest was started with.
    pub fn config(&self) -> &GuestConfig {
        &self.config
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn agent<'a>(&self, session: &'a mut Session) -> Result<&'a mut Agent> {
        let deadline = session.begun + time::scaled(time::BOOT);
        if !session.ready {
            self.wait_for_boot(session.boots, session.begun, deadline)?;
        }
        let agent = match &mut session.agent {
            Some(agent) => agent,
            none => none.insert(Agent::connect(
                self.name(),
                &self.place.directory.join("agent.sock"),
            )?),
        };
        if !session.ready {
            agent.greet(deadline)?;
            session.ready = true;
        }
        Ok(agent)
    }

    fn wait_for_boot(&self, boots: usize, begun: Instant, deadline: Instant) -> Result<()> {
        loop {
            let console = self.console();
            if boots_in(&console) >= boots {
                return Ok(());
            }
            if console.contains("Kernel panic") {
                return Err(Error::Panic {
                    guest: self.name().into(),
                    console: last_lines(&console),
                });
            }
            if !matches!(self.qemu.status(), Ok(None)) {
                return Err(self.gone());
            }
            if Instant::now() > deadline {
                // QEMU may be what waits: for a vhost-user backend to connect.
                let words = read_log(&self.place.messages()) + &console;
                return Err(Error::BootTimeout {
                    guest: self.name().into(),
                    waited: begun.elapsed(),
                    console: last_lines(&words),
                });
            }
            thread::sleep(time::POLL);
        }
    }

    /// Boots that came to their end.
    fn boots(&self) -> usize {
        boots_in(&self.console())
    }

    fn with_monitor<T>(&self, act: impl FnOnce(&mut Qmp) -> Result<T>) -> Result<T> {
        let mut monitor = lock(&self.monitor);
        if monitor.is_none() {
            *monitor = Some(self.connect_monitor()?);
        }
        act(monitor.as_mut().ok_or_else(|| self.gone())?)
    }

    /// QEMU makes the socket a moment after its start.
    fn connect_monitor(&self) -> Result<Qmp> {
        let deadline = time::deadline(time::QMP);
        loop {
            match Qmp::connect(&self.place.qmp()) {
                Err(Error::Io { .. }) if !matches!(self.qemu.status(), Ok(None)) => return Err(self.gone()),
                Err(Error::Io { .. }) if Instant::now() < deadline => thread::sleep(time::POLL),
                other => return other,
            }
        }
    }

    fn gone(&self) -> Error {
        Error::QemuGone {
            guest: self.name().into(),
            status: self
                .qemu
                .status()
                .ok()
                .flatten()
                .map_or("its line broke".into(), |status| status.to_string()),
            messages: last_lines(&read_log(&self.place.messages())),
            console: last_lines(&self.console()),
        }
    }
}

impl Shell for Guest {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn run_within(&self, command: &str, limit: Duration) -> Result<Output> {
        let mut session = lock(&self.session);
        let result = self.agent(&mut session)?.run(command, limit);
        match result {
            // The line breaks when QEMU ends, and only then.
            Err(Error::Io { .. }) => Err(self.gone()),
            Err(_) if self.console().contains("Kernel panic") => Err(Error::Panic {
                guest: self.name().into(),
                console: last_lines(&self.console()),
            }),
            other => other,
        }
    }
}

impl Session {
    fn new() -> Session {
        Session {
            agent: None,
            ready: false,
            boots: 1,
            begun: Instant::now(),
        }
    }

    fn begin_boot(&mut self, completed: usize) {
        self.ready = false;
        self.boots = completed + 1;
        self.begun = Instant::now();
    }
}

fn working_directory(name: &str) -> Result<TempDir> {
    let mut directory = tempfile::Builder::new()
        .prefix(&format!("netkit-{name}-"))
        .tempdir()
        .map_err(Error::io("make a directory in", &std::env::temp_dir()))?;
    // For a look at the logs afterwards.
    directory.disable_cleanup(std::env::var_os("NETKIT_KEEP_GUESTS").is_some());
    Ok(directory)
}

fn start_qemu(config: &GuestConfig, place: &Place) -> Result<Process> {
    let (path, program) = (place.messages(), qemu_program());
    let messages = File::create(&path).map_err(Error::io("create", &path))?;
    let mut command = Command::new(&program);
    command.args(config.arguments(place));
    let errors = messages.try_clone().map_err(Error::io("share", &path))?;
    command.stdin(Stdio::null()).stdout(messages).stderr(errors);
    Process::spawn(command).map_err(|error| Error::Program {
        program: program.display().to_string(),
        reason: error.to_string(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked while it held a guest is no reason to fail the next one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn boots_in(console: &str) -> usize {
    console.matches(READY).count()
}

fn read_log(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The end of a log, as much as is of use in an error message.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
