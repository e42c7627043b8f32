//! A guest that runs, under KVM, inside an outer guest.

use super::agent::Agent;
use super::config::Place;
use super::guest::{READY, last_lines};
use super::{Accel, Error, Guest, GuestConfig, Output, Result, Shell, cloud_hypervisor, outer, time};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A running nested guest. Its commands come from the machine straight through a line of the outer guest.
#[derive(Debug)]
pub struct Nested<'a> {
    outer: &'a Guest,
    name: String,
    place: Place,
    line: usize,
    agent: Mutex<Option<Agent>>,
    begun: Instant,
}

impl<'a> Nested<'a> {
    /// Starts QEMU in `outer` on agent line `line` (0 or 1) and returns while the nested guest boots.
    ///
    /// Of `config`, kernel and added files are not used: the nested guest boots the image that the outer one has.
    pub fn start(outer: &'a Guest, line: usize, mut config: GuestConfig) -> Result<Nested<'a>> {
        config.accel = Accel::Kvm;
        let place = place(line);
        let words: Vec<String> = config.arguments(&place).iter().map(|word| quote(word)).collect();
        let messages = place.messages();
        let command = format!("{} {} >{} 2>&1", outer::QEMU, words.join(" "), messages.display());
        Nested::launch(outer, line, config.name, place, &command)
    }

    /// The same with cloud-hypervisor, which the outer guest must have got with `cloud_hypervisor::files`.
    ///
    /// `vm_args` are its arguments for memory and cards, as `nkctl vm args` prints them.
    pub fn start_cloud_hypervisor(
        outer: &'a Guest,
        line: usize,
        name: &str,
        vm_args: &str,
    ) -> Result<Nested<'a>> {
        let place = place(line);
        let command = cloud_hypervisor::command(&place, line, vm_args);
        Nested::launch(outer, line, name.into(), place, &command)
    }

    fn launch(
        outer: &'a Guest,
        line: usize,
        name: String,
        place: Place,
        command: &str,
    ) -> Result<Nested<'a>> {
        outer.check(&format!("mkdir -p {}", place.directory.display()))?;
        outer.spawn(&format!("exec {command}"))?;
        Ok(Nested {
            outer,
            name,
            place,
            line,
            agent: Mutex::new(None),
            begun: Instant::now(),
        })
    }

    /// Waits until the nested guest has booted and takes commands. Running a command does so, too.
    pub fn wait_ready(&self) -> Result<()> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        if agent.is_some() {
            return Ok(());
        }
        let deadline = self.begun + time::scaled(time::BOOT);
        self.wait_for_boot(deadline)?;
        let mut connected = Agent::connect(&self.name, &self.outer.place().nested_agent(self.line))?;
        connected.greet(deadline)?;
        *agent = Some(connected);
        Ok(())
    }

    /// The nested kernel's log so far.
    pub fn console(&self) -> Result<String> {
        self.outer
            .check(&format!("cat {}", self.place.console().display()))
    }

    /// The VMM's own messages so far.
    pub fn messages(&self) -> Result<String> {
        self.outer
            .check(&format!("cat {}", self.place.messages().display()))
    }

    fn wait_for_boot(&self, deadline: Instant) -> Result<()> {
        let (console, messages) = (self.place.console(), self.place.messages());
        let question = format!("grep -q '{READY}' {}", console.display());
        while self.outer.run(&question)?.status != 0 {
            if Instant::now() > deadline {
                let logs = self
                    .outer
                    .run(&format!("cat {} {}", messages.display(), console.display()))?;
                return Err(Error::BootTimeout {
                    guest: self.name.clone(),
                    waited: self.begun.elapsed(),
                    console: last_lines(&logs.stdout),
                });
            }
            // Every look costs the outer guest time that the nested one could use.
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}

impl Shell for Nested<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run_within(&self, command: &str, limit: Duration) -> Result<Output> {
        self.wait_ready()?;
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        let no_agent = || Error::Program {
            program: "the nested agent".into(),
            reason: "not connected".into(),
        };
        agent.as_mut().ok_or_else(no_agent)?.run(command, limit)
    }
}

/// The files of the nested guest on `line`, as paths in the outer guest.
fn place(line: usize) -> Place {
    Place {
        directory: format!("/run/nested{line}").into(),
        kernel: outer::KERNEL.into(),
        initramfs: outer::INITRAMFS.into(),
        agent_chardev: format!("serial,id=agent,path={}", agent_line(line)),
    }
}

/// The outer guest's end of the line to the nested guest's agent.
pub(super) fn agent_line(line: usize) -> String {
    format!("/dev/hvc{line}")
}

/// The word as `sh` takes it literally.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
