//! A child process that cannot outlive the test, however the test ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// A running program, killed when dropped or when the test process dies.
#[derive(Debug)]
pub struct Process(Mutex<Child>);

impl Process {
    /// Starts `command`.
    pub fn spawn(command: Command) -> io::Result<Process> {
        let (reply, answer) = channel();
        // The spawner never ends, so neither of the two can fail.
        spawner().send((command, reply)).map_err(io::Error::other)?;
        answer
            .recv()
            .map_err(io::Error::other)?
            .map(|child| Process(Mutex::new(child)))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.lock().id()
    }

    /// How it ended, if it has.
    pub fn status(&self) -> io::Result<Option<ExitStatus>> {
        self.lock().try_wait()
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&self) -> io::Result<ExitStatus> {
        let mut child = self.lock();
        child.kill()?;
        child.wait()
    }

    /// Sends it a signal, such as `libc::SIGTERM` or `libc::SIGSTOP`.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let child = self.lock();
        // SAFETY: kill(2) touches no memory; the child is not reaped while the lock is held, so the id is its own.
        match unsafe { libc::kill(child.id() as i32, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to do about any other failure.
        let _ = self.kill();
    }
}

type Request = (Command, Sender<io::Result<Child>>);

/// The thread that starts every process. The kernel's "kill me when my parent dies" means the parent *thread*,
/// and a test's thread may end long before the guest that it started for others.
fn spawner() -> Sender<Request> {
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let start = || {
        let (sender, requests) = channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                die_with_parent(&mut command);
                let _ = reply.send(command.spawn());
            }
        });
        sender
    };
    SPAWNER.get_or_init(start).clone()
}

fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and takes no pointer here.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    };
}
