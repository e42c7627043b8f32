//! A blocking client of netkitd's API: HTTP/1 with JSON over a unix socket.

mod maps;
mod programs;
mod uplinks;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use netkit_api::{
    AttachmentSpec, Daemon, Device, DeviceCreate, DeviceCreated, DeviceDrops, DeviceSet, NetkitChange,
    Problem, Worker, WorkerChoice,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::{Fault, exchange};

pub use programs::End;

/// Where netkitd listens unless it was told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/netkitd/api.sock";

/// Long enough for a change that waits for every worker, short enough for a person.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// One netkitd, named by its API socket. Every call opens a connection of its own and blocks, so that a
/// client can be kept across a restart of the daemon. Not for use inside an asynchronous task.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// Nothing is opened before the first call.
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client {
            socket: socket.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Gives up on a call after this long; the default is 30 seconds.
    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    /// The API socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Every device, by ifindex.
    pub fn devices(&self) -> Result<Vec<Device>, ClientError> {
        self.get("/v1/devices")
    }

    /// One device.
    pub fn device(&self, name: &str) -> Result<Device, ClientError> {
        self.get(device_path(name))
    }

    /// Makes a pair or a single.
    pub fn create(&self, device: &DeviceCreate) -> Result<DeviceCreated, ClientError> {
        let call = Call::new(Method::POST, "/v1/devices").with_body(device)?;
        call.decode(&self.perform(&call)?)
    }

    /// What `ip link set` does.
    pub fn set(&self, name: &str, changes: &DeviceSet) -> Result<(), ClientError> {
        self.send(&Call::new(Method::PATCH, device_path(name)).with_body(changes)?)
    }

    /// What `ip link change type netkit` does.
    pub fn change(&self, name: &str, changes: &NetkitChange) -> Result<(), ClientError> {
        let path = format!("{}/netkit", device_path(name));
        self.send(&Call::new(Method::PATCH, path).with_body(changes)?)
    }

    /// Deletes a device and its other end.
    pub fn delete(&self, name: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, device_path(name)))
    }

    /// Puts a guest or a host netdev behind a device.
    pub fn attach(&self, name: &str, attachment: &AttachmentSpec) -> Result<(), ClientError> {
        self.send(&Call::new(Method::PUT, attachment_path(name)).with_body(attachment)?)
    }

    /// Takes away what stands behind a device.
    pub fn detach(&self, name: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, attachment_path(name)))
    }

    /// Why frames were dropped: those of one device, or of all.
    pub fn drops(&self, name: Option<&str>) -> Result<Vec<DeviceDrops>, ClientError> {
        match name {
            Some(name) => self.get(format!("{}/drops", device_path(name))),
            None => self.get("/v1/drops"),
        }
    }

    /// The workers and what each serves.
    pub fn workers(&self) -> Result<Vec<Worker>, ClientError> {
        self.get("/v1/workers")
    }

    /// Has another worker serve a queue.
    pub fn move_queue(&self, device: &str, queue: u32, worker: u32) -> Result<(), ClientError> {
        let path = format!("{}/queues/{queue}/worker", device_path(device));
        self.send(&Call::new(Method::PUT, path).with_body(&WorkerChoice { worker })?)
    }

    /// The daemon itself.
    pub fn daemon(&self) -> Result<Daemon, ClientError> {
        self.get("/v1/daemon")
    }

    fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T, ClientError> {
        let call = Call::new(Method::GET, path);
        call.decode(&self.perform(&call)?)
    }

    fn send(&self, call: &Call) -> Result<(), ClientError> {
        self.perform(call).map(drop)
    }

    /// The body of a successful answer.
    fn perform(&self, call: &Call) -> Result<Bytes, ClientError> {
        let answer = exchange(&self.socket, &call.method, &call.path, &call.body, self.timeout);
        let (status, body) = answer.map_err(|fault| self.fault(call, fault))?;
        match status.is_success() {
            true => Ok(body),
            false => Err(refusal(call, status, &body)),
        }
    }

    fn fault(&self, call: &Call, fault: Fault) -> ClientError {
        let request = call.to_string();
        match fault {
            Fault::Runtime(source) => ClientError::Runtime { source },
            Fault::Connect(source) => ClientError::connect(&self.socket, source),
            Fault::Request(source) => ClientError::Request { request, source },
            Fault::Broken(source) => ClientError::Broken { request, source },
            Fault::Timeout => ClientError::Timeout {
                request,
                socket: self.socket.clone(),
                after: self.timeout,
            },
        }
    }
}

/// One request.
struct Call {
    method: Method,
    path: String,
    body: Vec<u8>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Call {
        Call {
            method,
            path: path.into(),
            body: Vec::new(),
        }
    }

    fn with_body<T: Serialize>(mut self, body: &T) -> Result<Call, ClientError> {
        self.body = serde_json::to_vec(body).map_err(|source| ClientError::Body {
            request: self.to_string(),
            source,
        })?;
        Ok(self)
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|source| ClientError::Answer {
            request: self.to_string(),
            source,
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn refusal(call: &Call, status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(problem) => ClientError::Refused(problem),
        Err(_) => ClientError::Status {
            request: call.to_string(),
            status: status.as_u16(),
            body: String::from_utf8_lossy(body).trim().to_owned(),
        },
    }
}

fn device_path(name: &str) -> String {
    format!("/v1/devices/{}", path_segment(name))
}

fn attachment_path(name: &str) -> String {
    format!("{}/attachment", device_path(name))
}

/// Percent-encodes what may not stand between two slashes of a path.
fn path_segment(name: &str) -> String {
    let encode = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    name.bytes().map(encode).collect()
}

/// `File exists` for 17.
fn errno_text(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon answered no, and why.
    #[error("{} ({}: {})", .0.detail, .0.errno, errno_text(.0.errno_number))]
    Refused(Problem),
    /// There is no socket.
    #[error(
        "there is no netkitd at {socket:?}: start it with \"netkitd --api {}\", or name the socket of one \
         that runs with --api SOCK or NETKITD_API",
        socket.display()
    )]
    NoSocket {
        /// The API socket.
        socket: PathBuf,
    },
    /// There is a socket, and no process that listens on it.
    #[error(
        "netkitd has ended: nothing listens at {socket:?}; start it again with \"netkitd --api {}\"",
        socket.display()
    )]
    NobodyListens {
        /// The API socket.
        socket: PathBuf,
    },
    /// The socket is someone else's.
    #[error("no permission to connect to netkitd at {socket:?}: be root, or the user that netkitd runs as")]
    NoPermission {
        /// The API socket.
        socket: PathBuf,
    },
    /// Another failure to connect.
    #[error("cannot connect to netkitd at {socket:?}: {source}")]
    Connect {
        /// The API socket.
        socket: PathBuf,
        /// What connect(2) said.
        source: io::Error,
    },
    /// No answer in time; whether the daemon did what it was asked is unknown.
    #[error("netkitd at {socket:?} did not answer {request} within {after:?}: is it stopped or overloaded?")]
    Timeout {
        /// Method and path.
        request: String,
        /// The API socket.
        socket: PathBuf,
        /// The client's limit.
        after: Duration,
    },
    /// The connection broke; whether the daemon did what it was asked is unknown.
    #[error("the connection to netkitd broke during {request}: {source}")]
    Broken {
        /// Method and path.
        request: String,
        /// What HTTP or the socket said.
        source: hyper::Error,
    },
    /// A refusal without a problem document.
    #[error("netkitd answered {request} with status {status}: {body:?}; is something else listening there?")]
    Status {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// What came with it.
        body: String,
    },
    /// The answer is not of the API's types.
    #[error(
        "the answer to {request} is not of this version's API: {source}; are nkctl and netkitd of one version?"
    )]
    Answer {
        /// Method and path.
        request: String,
        /// What the JSON decoder said.
        source: serde_json::Error,
    },
    /// The request is not valid HTTP; no device name causes it.
    #[error("cannot write the request {request}: {source}")]
    Request {
        /// Method and path.
        request: String,
        /// What the HTTP library said.
        source: hyper::http::Error,
    },
    /// The body of a request could not be written; the API's types never cause it.
    #[error("cannot write the body of {request}: {source}")]
    Body {
        /// Method and path.
        request: String,
        /// What the JSON encoder said.
        source: serde_json::Error,
    },
    /// This process cannot get what it needs to wait for a socket.
    #[error("cannot set up this process to talk to netkitd: {source}; is it out of file descriptors?")]
    Runtime {
        /// What the system said.
        source: io::Error,
    },
}

impl ClientError {
    /// The daemon knows no device of that name.
    pub fn is_no_such_device(&self) -> bool {
        matches!(self, ClientError::Refused(problem) if problem.status == 404 && problem.errno == "ENODEV")
    }

    fn connect(socket: &Path, source: io::Error) -> ClientError {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => ClientError::NoSocket { socket },
            io::ErrorKind::ConnectionRefused => ClientError::NobodyListens { socket },
            io::ErrorKind::PermissionDenied => ClientError::NoPermission { socket },
            _ => ClientError::Connect { socket, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_is_one_path_segment() {
        assert_eq!(device_path("nk0"), "/v1/devices/nk0");
        assert_eq!(device_path("a b%?#/é"), "/v1/devices/a%20b%25%3F%23%2F%C3%A9");
    }

    #[test]
    fn a_refusal_says_the_errno_in_words() {
        let refused = ClientError::Refused(Problem {
            status: 409,
            title: "Name in use".into(),
            detail: "cannot create nk0: the name is in use".into(),
            errno: "EEXIST".into(),
            errno_number: 17,
        });
        assert_eq!(
            refused.to_string(),
            "cannot create nk0: the name is in use (EEXIST: File exists)"
        );
        assert!(!refused.is_no_such_device());
    }

    #[test]
    fn a_failure_to_connect_says_which_socket_and_what_to_do() {
        let path = Path::new("/run/x.sock");
        let text = |kind: io::ErrorKind| ClientError::connect(path, kind.into()).to_string();
        assert!(
            text(io::ErrorKind::NotFound).starts_with("there is no netkitd at \"/run/x.sock\": start it")
        );
        assert!(text(io::ErrorKind::ConnectionRefused).contains("nothing listens at \"/run/x.sock\""));
        assert!(text(io::ErrorKind::PermissionDenied).contains("be root"));
        assert!(text(io::ErrorKind::Other).starts_with("cannot connect to netkitd at \"/run/x.sock\": "));
    }
}
