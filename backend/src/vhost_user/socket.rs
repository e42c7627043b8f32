//! The unix socket of one device: listening for the front end, or connecting to it again and again.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path that fits in a socket address, without its final zero.
const MAX_PATH: usize = 107;

/// Our side of a device's socket.
#[derive(Debug)]
pub enum Endpoint {
    /// The front end connects to us.
    Server {
        /// Listens, non-blocking.
        listener: UnixListener,
        /// Where; removed on detach. Absent if the listener was inherited.
        path: Option<PathBuf>,
    },
    /// We connect to the front end.
    Client {
        /// Where.
        path: PathBuf,
    },
}

/// A socket could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit in a socket address.
    #[error("the socket path \"{0}\" has {len} octets; a socket address holds {MAX_PATH}", len = .0.as_os_str().len())]
    PathTooLong(PathBuf),
    /// The path is not absolute.
    #[error("the socket path \"{0}\" is not absolute; the daemon's working directory may not be yours")]
    NotAbsolute(PathBuf),
    /// The path has an octet that no path has.
    #[error("the socket path {0:?} holds a zero octet")]
    ZeroInPath(PathBuf),
    /// Somebody listens there.
    #[error("another program listens on \"{0}\"; choose another path, or end that program")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("\"{0}\" exists and is not a socket; choose another path, or remove it")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {step} \"{path}\": {source}{hint}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
}

impl SocketError {
    /// The errno of the refusal.
    pub fn errno(&self) -> i32 {
        match self {
            SocketError::PathTooLong(_) => libc::ENAMETOOLONG,
            SocketError::NotAbsolute(_) | SocketError::ZeroInPath(_) => libc::EINVAL,
            SocketError::InUse(_) => libc::EADDRINUSE,
            SocketError::NotASocket(_) => libc::EEXIST,
            SocketError::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl Endpoint {
    /// Listens on a path. A socket that a daemon left behind is taken over.
    pub fn listen(path: &Path) -> Result<Endpoint, SocketError> {
        let listener = listen(path)?;
        Ok(Endpoint::Server {
            listener,
            path: Some(path.to_owned()),
        })
    }

    /// Connects to a path, when told to.
    pub fn client(path: &Path) -> Result<Endpoint, SocketError> {
        check(path)?;
        Ok(Endpoint::Client {
            path: path.to_owned(),
        })
    }

    /// Takes over a listening socket that was inherited as a descriptor.
    pub fn inherited(fd: RawFd) -> io::Result<Endpoint> {
        let is_unix = socket_option(fd, libc::SO_DOMAIN)? == libc::AF_UNIX;
        if !is_unix || socket_option(fd, libc::SO_ACCEPTCONN)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not a listening unix socket",
            ));
        }
        // SAFETY: the descriptor is a socket, and it was given to us to own.
        let listener = unsafe { UnixListener::from_raw_fd(fd) };
        listener.set_nonblocking(true)?;
        Ok(Endpoint::Server { listener, path: None })
    }

    /// A connected front end, if there is one now.
    pub fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Endpoint::Server { listener, .. } => Ok(listener.accept()?.0),
            // A unix socket connects at once or not at all, unless the listener's backlog is full.
            Endpoint::Client { path } => connect_now(path),
        }
    }

    /// What to wait on for a connection; a client tries by the clock.
    pub fn listener_fd(&self) -> Option<RawFd> {
        match self {
            Endpoint::Server { listener, .. } => Some(listener.as_raw_fd()),
            Endpoint::Client { .. } => None,
        }
    }

    /// Ends it for good: nobody shall connect to a socket that nobody listens on.
    pub fn remove(self) {
        if let Endpoint::Server { path: Some(path), .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Listens on a path, taking over what a daemon that died left behind.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    check(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) if !is_abandoned(path) => return Err(SocketError::InUse(path.to_owned())),
        // Nobody listens, so nobody loses a connection.
        Ok(_) => {
            std::fs::remove_file(path).map_err(|source| failed("remove the stale socket", path, source))?
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|source| failed("listen on", path, source))?;
    listener
        .set_nonblocking(true)
        .map_err(|source| failed("listen on", path, source))?;
    Ok(listener)
}

/// An integer option of a socket.
fn socket_option(fd: RawFd, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`.
    let status = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &mut len) };
    if status == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether nobody listens on a socket. A listener whose backlog is full does not answer either, but is there.
fn is_abandoned(path: &Path) -> bool {
    connect_now(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn check(path: &Path) -> Result<(), SocketError> {
    if path.as_os_str().len() > MAX_PATH {
        return Err(SocketError::PathTooLong(path.to_owned()));
    }
    if !path.is_absolute() {
        return Err(SocketError::NotAbsolute(path.to_owned()));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(SocketError::ZeroInPath(path.to_owned()));
    }
    Ok(())
}

/// Connects without waiting, so that a listener that does not accept cannot hold up the control thread.
fn connect_now(path: &Path) -> io::Result<UnixStream> {
    use std::os::unix::ffi::OsStrExt;
    // SAFETY: all-zero is a valid sockaddr_un, and its path is filled below its length.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let octets = path.as_os_str().as_bytes();
    if octets.len() > MAX_PATH {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (target, octet) in address.sun_path.iter_mut().zip(octets) {
        *target = *octet as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: plain system call.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made for us.
    let stream = unsafe { UnixStream::from_raw_fd(fd) };
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: pointer and length describe `address`.
    if unsafe { libc::connect(fd, (&raw const address).cast(), len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stream)
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> SocketError {
    let hint = match source.kind() {
        io::ErrorKind::NotFound => "; create its directory first",
        io::ErrorKind::NotADirectory => "; a part of the path is no directory",
        io::ErrorKind::PermissionDenied => "; netkitd's user may not write there",
        _ => "",
    };
    SocketError::Io {
        step,
        path: path.to_owned(),
        source,
        hint,
    }
}
