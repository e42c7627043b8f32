//! The event loop that the daemon lives on, and how other threads reach it.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use devices::memory::sigbus;
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use netkit::{Ifindex, Model, ProgramId};
use policy::engine::{Engine, SavedEngine};
use policy::object::Object;
use tokio::sync::oneshot;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use super::pace::Pace;
use super::store::{SavedState, Store, StoreError};
use super::{Config, Daemon, DaemonError, programs, uplinks};
use crate::dataplane::{Forwarder, Plan, Workers};
use crate::programs::LoadedProgram;

type Command = Box<dyn FnOnce(&mut Daemon, &mut Reactor) + Send>;

/// What an event is about.
#[derive(Debug, Clone, Copy)]
enum Source {
    Commands,
    Terminate,
    Timer,
    MemoryLost,
    HostRoutes,
    BusyWorker,
    Learnt,
    Nic(Ifindex),
    Listener(Ifindex),
    Connection(Ifindex),
}

/// Where the daemon says what it wants to hear of.
pub struct Reactor<'a, 'b> {
    ops: &'a mut EventOps<'b>,
    sources: &'a mut HashMap<RawFd, Source>,
}

/// The control thread's loop.
#[derive(Debug)]
pub struct Control {
    daemon: Daemon,
    restore: SavedState,
    sources: HashMap<RawFd, Source>,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    terminate: std::fs::File,
    memory_lost: EventFd,
    timer: TimerFd,
    /// When the timer is to go off.
    alarm: Option<Instant>,
    ended: Arc<std::sync::atomic::AtomicBool>,
}

/// Sends commands to the control thread.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

/// The daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused something that every daemon needs.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// The event loop cannot be made.
    #[error("cannot make the event loop: {0}")]
    Events(#[from] event_manager::Error),
}

impl Control {
    /// Starts the workers and takes up the saved state. Call it before other threads exist, as it blocks the signals
    /// that end the daemon.
    pub fn new(config: &Config) -> Result<(Control, ControlHandle), StartError> {
        let terminate = termination_signals()?;
        sigbus::install()?;
        let memory_lost = EventFd::new(EFD_NONBLOCK)?;
        sigbus::notify_on(memory_lost.as_raw_fd());
        let store = config.state_dir.as_deref().map(Store::open).transpose()?;
        let saved = store.as_ref().map(Store::load).transpose()?.unwrap_or_default();
        let shards = config.workers + 1;
        let mut engine = Engine::new(policy::engine::Config {
            // One for each worker, one for the control thread, one for runs that the API asks for.
            shards: shards + 1,
            fuel: config.programs.fuel,
            directory: programs::map_directory(config.state_dir.as_ref()),
            quarantine: config.programs.quarantine,
            interpreter_only: config.programs.interpreter_only,
        });
        if let Some(store) = &store {
            restore_programs(&mut engine, store, &saved.programs)?;
        }
        let find = |id: ProgramId| -> Option<Arc<dyn netkit::Program>> {
            Some(Arc::new(LoadedProgram(engine.program(id.0)?.clone())))
        };
        let restored = Model::restore(&saved.model, shards, seed()?).and_then(|mut model| {
            model.restore_lists(&saved.model, find)?;
            Ok(model)
        });
        let model = match restored {
            Ok(model) => model,
            Err(error) => match &store {
                Some(store) => return Err(store.corrupt(&error).into()),
                None => Model::new(shards, seed()?),
            },
        };
        let workers = Workers::start(config.workers, Arc::new(Plan::empty(model.view())))?;
        let daemon = Daemon {
            model,
            attachments: Default::default(),
            waiting: Default::default(),
            uplinks: Default::default(),
            passed: Vec::new(),
            learnt: Arc::new(EventFd::new(EFD_NONBLOCK)?),
            learning: Pace::new(uplinks::LEARN),
            looking: Pace::new(uplinks::LOOK),
            follower: Default::default(),
            workers,
            forwarder: Forwarder::new(config.workers),
            store,
            engine,
            test_run: Arc::default(),
        };
        let (sender, commands) = channel();
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let control = Control {
            daemon,
            restore: saved,
            sources: HashMap::new(),
            commands,
            wake: wake.clone(),
            terminate,
            memory_lost,
            timer: TimerFd::new().map_err(io::Error::from)?,
            alarm: None,
            ended: Arc::default(),
        };
        Ok((
            control,
            ControlHandle {
                commands: sender,
                wake,
            },
        ))
    }

    /// Works until SIGTERM or SIGINT.
    pub fn run(self) -> Result<(), StartError> {
        let ended = self.ended.clone();
        let mut manager = EventManager::<Control>::new()?;
        manager.add_subscriber(self);
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            manager.run()?;
        }
        Ok(())
    }

    fn dispatch(&mut self, source: Source, reactor: &mut Reactor) {
        match source {
            Source::Commands => {
                let _ = self.wake.read();
                while let Ok(command) = self.commands.try_recv() {
                    command(&mut self.daemon, reactor);
                }
            }
            Source::Terminate => self.ended.store(true, std::sync::atomic::Ordering::Relaxed),
            Source::Timer => {
                let _ = self.timer.wait();
                self.alarm = None;
                self.daemon.tick(reactor);
            }
            Source::MemoryLost => {
                let _ = self.memory_lost.read();
                self.daemon.check_memory(reactor);
            }
            Source::HostRoutes => self.daemon.hear_host(reactor),
            Source::BusyWorker => self.daemon.workers.balance(),
            Source::Learnt => self.daemon.hear_learnt(),
            Source::Nic(ifindex) => self.daemon.check_uplink(ifindex, reactor),
            Source::Listener(ifindex) => self.daemon.try_connect(ifindex, reactor),
            Source::Connection(ifindex) => self.daemon.converse(ifindex, reactor),
        }
    }

    /// Sets the clock for what is due next; an idle daemon has none running.
    fn set_timer(&mut self) {
        let now = Instant::now();
        let wanted = self.daemon.next_tick().map(|wait| now + wait);
        // What is set already is not put off: who calls the API often would put it off for ever.
        let earlier = self.alarm.filter(|alarm| *alarm > now);
        self.alarm = wanted.map(|at| earlier.map_or(at, |earlier| earlier.min(at)));
        let result = match self.alarm {
            Some(at) => {
                let wait = at.saturating_duration_since(now);
                self.timer.reset(wait.max(Duration::from_millis(1)), None)
            }
            None => self.timer.clear(),
        };
        if let Err(error) = result {
            tracing::error!("cannot set the timer: {error}");
        }
    }

    fn with_reactor(&mut self, ops: &mut EventOps, action: impl FnOnce(&mut Control, &mut Reactor)) {
        let mut sources = std::mem::take(&mut self.sources);
        action(
            self,
            &mut Reactor {
                ops,
                sources: &mut sources,
            },
        );
        self.sources = sources;
        self.set_timer();
    }
}

impl MutEventSubscriber for Control {
    fn init(&mut self, ops: &mut EventOps) {
        self.with_reactor(ops, |control, reactor| {
            reactor.add(control.wake.as_raw_fd(), Source::Commands);
            reactor.add(control.terminate.as_raw_fd(), Source::Terminate);
            reactor.add(control.timer.as_raw_fd(), Source::Timer);
            reactor.add(control.memory_lost.as_raw_fd(), Source::MemoryLost);
            reactor.add(control.daemon.workers.help().as_raw_fd(), Source::BusyWorker);
            reactor.add(control.daemon.learnt.as_raw_fd(), Source::Learnt);
            let saved = std::mem::take(&mut control.restore);
            control.daemon.restore_uplinks(saved.uplinks);
            control.daemon.restore_bindings(saved.bindings);
            control.daemon.restore(saved.attachments);
            control.daemon.check_uplinks(reactor);
            control.daemon.retry_waiting(reactor);
        });
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if let Some(source) = self.sources.get(&events.fd()).copied() {
            self.with_reactor(ops, |control, reactor| control.dispatch(source, reactor));
        }
    }
}

impl Reactor<'_, '_> {
    /// Hears of front ends that connect to a device's socket.
    pub(super) fn listen(&mut self, fd: RawFd, ifindex: Ifindex) {
        self.add(fd, Source::Listener(ifindex));
    }

    /// Hears what a device's front end says.
    pub(super) fn converse(&mut self, fd: RawFd, ifindex: Ifindex) {
        self.add(fd, Source::Connection(ifindex));
    }

    /// Hears when a NIC has something to say.
    pub(super) fn watch_nic(&mut self, fd: RawFd, ifindex: Ifindex) {
        self.add(fd, Source::Nic(ifindex));
    }

    /// Hears what changes of the host's routes.
    pub(super) fn hear_host(&mut self, fd: RawFd) {
        self.add(fd, Source::HostRoutes);
    }

    /// Hears no more of a descriptor, which may be closed then.
    pub(super) fn forget(&mut self, fd: RawFd) {
        if self.sources.remove(&fd).is_some()
            && let Err(error) = self.ops.remove(Events::empty_raw(fd))
        {
            tracing::error!("cannot stop waiting on descriptor {fd}: {error}");
        }
    }

    fn add(&mut self, fd: RawFd, source: Source) {
        match self.ops.add(Events::new_raw(fd, EventSet::IN)) {
            Ok(()) => {
                self.sources.insert(fd, source);
            }
            Err(error) => tracing::error!("cannot wait on descriptor {fd}: {error}"),
        }
    }
}

impl std::fmt::Debug for Reactor<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl ControlHandle {
    /// Runs `action` on the control thread and brings its result back.
    pub async fn call<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Daemon, &mut Reactor) -> Result<T, DaemonError> + Send + 'static,
    ) -> Result<T, DaemonError> {
        let receiver = self.send(action)?;
        receiver.await.map_err(|_| DaemonError::ShuttingDown)?
    }

    /// As [`Self::call`], for a thread that may wait.
    pub fn call_blocking<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Daemon, &mut Reactor) -> Result<T, DaemonError> + Send + 'static,
    ) -> Result<T, DaemonError> {
        let receiver = self.send(action)?;
        receiver.blocking_recv().map_err(|_| DaemonError::ShuttingDown)?
    }

    fn send<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Daemon, &mut Reactor) -> Result<T, DaemonError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, DaemonError>>, DaemonError> {
        let (sender, receiver) = oneshot::channel();
        let command: Command = Box::new(move |daemon, reactor| {
            let _ = sender.send(action(daemon, reactor));
        });
        self.commands
            .send(command)
            .map_err(|_| DaemonError::ShuttingDown)?;
        let _ = self.wake.write(1);
        Ok(receiver)
    }
}

/// Takes up the programs of the saved state with their maps.
fn restore_programs(engine: &mut Engine, store: &Store, saved: &SavedEngine) -> Result<(), StoreError> {
    let names = Engine::objects_of(saved);
    let mut objects = BTreeMap::new();
    for name in &names {
        let object = Object::parse(&store.load_object(name)?).map_err(|error| store.corrupt(&error))?;
        objects.insert(name.clone(), object);
    }
    engine
        .restore(saved, &objects)
        .map_err(|error| store.corrupt(&error))?;
    store.keep_objects(&names);
    Ok(())
}

/// Turns SIGTERM and SIGINT into something to wait on.
fn termination_signals() -> io::Result<std::fs::File> {
    // SAFETY: all-zero is a valid sigset_t to start from; the calls only use `set`, and the new descriptor is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        let error = libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(std::fs::File::from_raw_fd(fd))
        }
    }
}

fn seed() -> io::Result<u64> {
    let mut octets = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(u64::from_ne_bytes(octets))
}
