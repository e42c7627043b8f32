//! netkitd's command line.

use std::fs::Permissions;
use std::io::IsTerminal;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use netkit_api::{AttachmentSpec, DeviceCreate, DeviceSet, Mode, TapSpec};
use netkitd::daemon::{Config, Control, ControlHandle, DaemonError, ProgramRules, StartError};
use netkitd::vhost_user::{self, Endpoint, SocketError};
use policy::QuarantineRule;
use policy::engine::DEFAULT_FUEL;
use tracing_subscriber::EnvFilter;

/// Gives virtual machines netkit devices over vhost-user.
///
/// With --api the daemon serves any number of devices and is driven with nkctl. With --socket-path or --fd it is a
/// vhost-user back-end program for a single guest, whose device is paired with a tap of the host.
#[derive(Debug, Parser)]
#[command(version, group(ArgGroup::new("single").args(["socket_path", "fd"])))]
struct Arguments {
    /// Unix socket of the API
    #[arg(long, value_name = "SOCK")]
    api: Option<PathBuf>,
    /// Directory of the saved devices and attachments; without it they are forgotten at the end
    // A single guest's device is made anew at every start, so it must not be found there too.
    #[arg(long, value_name = "DIR", conflicts_with = "single")]
    state_dir: Option<PathBuf>,
    /// Data-path threads [default: half of the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Instructions that a BPF program may take for one frame, counted at loops and calls
    #[arg(long, value_name = "N", default_value_t = DEFAULT_FUEL, value_parser = clap::value_parser!(i64).range(1..=1 << 40))]
    fuel: i64,
    /// Faults within a second that put a BPF program into quarantine; 0 is never
    #[arg(long, value_name = "N", default_value_t = QuarantineRule::default().faults_per_second)]
    quarantine_after: u32,
    /// What becomes of frames that a program in quarantine should have judged
    #[arg(long, value_enum, default_value_t = QuarantineVerdict::Drop)]
    quarantine_verdict: QuarantineVerdict,
    /// Interpret BPF programs instead of compiling them
    #[arg(long)]
    interpret: bool,
    /// Serve one guest on this vhost-user socket
    #[arg(long, value_name = "PATH")]
    socket_path: Option<PathBuf>,
    /// Serve one guest on this inherited listening vhost-user socket
    #[arg(long, value_name = "FDNUM")]
    fd: Option<RawFd>,
    /// Name of the tap that the single guest's device is paired with
    #[arg(long, value_name = "IF", requires = "single")]
    tap: Option<String>,
    /// Print what this vhost-user back-end program can do, as JSON, and exit
    #[arg(long)]
    print_capabilities: bool,
}

/// What becomes of frames that a program in quarantine should have judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum QuarantineVerdict {
    /// They are dropped
    Drop,
    /// They go on to the next program
    Next,
}

/// Why the daemon ends with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("nothing to serve; give --api SOCK for the daemon, or --socket-path PATH for a single guest")]
    NothingToServe,
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot make the path {path:?} absolute: {source}; give it in full")]
    Path { path: PathBuf, source: std::io::Error },
    #[error("cannot serve the API: {0}")]
    Api(std::io::Error),
    #[error("--fd {fd}: {source}; pass a listening unix socket")]
    Fd { fd: RawFd, source: std::io::Error },
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.print_capabilities {
        println!("{}", serde_json::json!({ "type": "net", "features": [] }));
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_env("NETKITD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    die_on_panic();
    raise_descriptor_limit();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("netkitd: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let single = single_guest(&arguments)?;
    if arguments.api.is_none() && single.is_none() {
        return Err(Failure::NothingToServe);
    }
    let workers = arguments.workers.map_or_else(default_workers, usize::from);
    let (control, handle) = Control::new(&Config {
        state_dir: arguments.state_dir,
        workers,
        programs: ProgramRules {
            fuel: arguments.fuel,
            quarantine: QuarantineRule {
                faults_per_second: arguments.quarantine_after,
                verdict: match arguments.quarantine_verdict {
                    QuarantineVerdict::Drop => None,
                    QuarantineVerdict::Next => Some(netkit::verdict::NEXT),
                },
            },
            interpreter_only: arguments.interpret,
        },
    })?;
    if let Some(path) = &arguments.api {
        netkitd::api::serve(listen_for_calls(path)?, handle.clone()).map_err(Failure::Api)?;
    }
    if let Some(endpoint) = single {
        serve_single(handle, endpoint, arguments.tap)?;
    }
    tracing::info!("ready with {workers} workers");
    Ok(control.run()?)
}

/// A thread that is gone would leave guests without service and API calls without an answer, so the daemon ends whole:
/// its supervisor starts it again, and guests resume.
fn die_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// A guest takes a dozen descriptors and more; the usual soft limit is made for programs that use select.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// The API's socket. Whoever may call may connect, and nobody else.
fn listen_for_calls(path: &Path) -> Result<UnixListener, Failure> {
    let path = absolute(path)?;
    let listener = vhost_user::listen(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(Failure::Api)?;
    Ok(listener)
}

/// The socket of the single guest, if the program is to serve one.
fn single_guest(arguments: &Arguments) -> Result<Option<Endpoint>, Failure> {
    if let Some(fd) = arguments.fd {
        return Endpoint::inherited(fd)
            .map(Some)
            .map_err(|source| Failure::Fd { fd, source });
    }
    let Some(path) = &arguments.socket_path else {
        return Ok(None);
    };
    Ok(Some(Endpoint::listen(&absolute(path)?)?))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::Path {
        path: path.to_owned(),
        source,
    })
}

/// Pairs the single guest's device with a tap. The control thread does it as its first work.
fn serve_single(handle: ControlHandle, endpoint: Endpoint, ifname: Option<String>) -> Result<(), Failure> {
    let work = move || {
        let result = handle.call_blocking(move |daemon, reactor| {
            let created = daemon.create(&DeviceCreate {
                mode: Some(Mode::L2),
                ..DeviceCreate::default()
            })?;
            let peer = created.peer.as_deref().unwrap_or_default();
            daemon.attach(
                &created.primary,
                AttachmentSpec::Tap(TapSpec {
                    ifname,
                    ..TapSpec::default()
                }),
                reactor,
            )?;
            daemon.attach_endpoint(peer, endpoint, 1, reactor)?;
            let up = DeviceSet {
                up: Some(true),
                ..DeviceSet::default()
            };
            daemon.set(&created.primary, &up)?;
            daemon.set(peer, &up)
        });
        match result {
            // Told to end before it had begun.
            Ok(()) | Err(DaemonError::ShuttingDown) => {}
            Err(error) => {
                eprintln!("netkitd: {error}");
                std::process::exit(1);
            }
        }
    };
    std::thread::Builder::new()
        .name("single".to_owned())
        .spawn(work)
        .map_err(Failure::Api)?;
    Ok(())
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}
