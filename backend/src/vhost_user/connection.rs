//! The stream of messages on one socket: non-blocking, bounded in size and in time.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::FrontendReq;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::message::{HEADER_LEN, MAX_FDS, Message, Reply, Violation};

/// How long a front end may take over one message once it has begun it.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connected socket and the message that is being read from it.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    buffer: Vec<u8>,
    fds: Vec<File>,
    header: Option<(FrontendReq, bool, usize)>,
    begun: Option<Instant>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The front end hung up.
    #[error("the front end hung up")]
    Closed,
    /// It broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// It does not read its replies.
    #[error("the front end does not take its replies")]
    Stuck,
    /// It sent part of a message and no more.
    #[error("the front end did not finish a message within {} s", MESSAGE_TIMEOUT.as_secs())]
    Timeout,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

impl Connection {
    /// Takes over a connected socket.
    pub fn new(socket: UnixStream) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            buffer: Vec::new(),
            fds: Vec::new(),
            header: None,
            begun: None,
        })
    }

    /// The next whole message, or `None` if it has not arrived yet. `now` starts the clock of a message.
    pub fn receive(&mut self, now: Instant) -> Result<Option<Message>, ConnectionError> {
        loop {
            let wanted = HEADER_LEN + self.header.map_or(0, |(_, _, len)| len);
            if self.buffer.len() < wanted {
                if !self.fill(wanted, now)? {
                    return Ok(None);
                }
                continue;
            }
            match self.header.take() {
                None => {
                    let header: &[u8; HEADER_LEN] =
                        self.buffer.first_chunk().ok_or(ConnectionError::Closed)?;
                    self.header = Some(Message::parse_header(header)?);
                }
                Some((request, need_reply, _)) => {
                    self.begun = None;
                    let payload = self.buffer.split_off(HEADER_LEN);
                    self.buffer.clear();
                    let fds = std::mem::take(&mut self.fds);
                    return Ok(Some(Message {
                        request,
                        need_reply,
                        payload,
                        fds,
                    }));
                }
            }
        }
    }

    /// Sends a reply whole, or gives the connection up: a front end that lets its replies pile up is of no use.
    pub fn send(&self, reply: &Reply) -> Result<(), ConnectionError> {
        let Some(fd) = &reply.fd else {
            return send_whole(&self.socket, &reply.octets);
        };
        // The socket does not block.
        let sent = self.socket.send_with_fd(&reply.octets[..], fd.as_raw_fd());
        check_sent(sent.map_err(io::Error::from), reply.octets.len())
    }

    /// When the message that is being read must be complete.
    pub fn deadline(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + MESSAGE_TIMEOUT)
    }

    /// Reads towards `wanted` octets; false if there are none now. Descriptors come with the first octet of a message,
    /// so no read goes beyond the message's end.
    fn fill(&mut self, wanted: usize, now: Instant) -> Result<bool, ConnectionError> {
        let start = self.buffer.len();
        self.buffer.resize(wanted, 0);
        let mut fds = [-1 as RawFd; MAX_FDS];
        let mut parts = [libc::iovec {
            iov_base: self.buffer[start..].as_mut_ptr().cast(),
            iov_len: wanted - start,
        }];
        // SAFETY: the only part is the tail of `buffer`, which lives and is not touched during the call.
        let received = unsafe { self.socket.recv_with_fds(&mut parts, &mut fds) };
        let (len, count) = match received {
            Ok(received) => received,
            Err(error) => {
                self.buffer.truncate(start);
                return match error.errno() {
                    libc::EAGAIN | libc::EINTR => Ok(false),
                    libc::ECONNRESET => Err(ConnectionError::Closed),
                    // More descriptors than any message has.
                    libc::ENOBUFS => Err(Violation::TooLong(0).into()),
                    errno => Err(io::Error::from_raw_os_error(errno).into()),
                };
            }
        };
        self.buffer.truncate(start + len);
        for fd in &fds[..count] {
            // SAFETY: recvmsg has just made this descriptor for us, and nobody else owns it.
            self.fds.push(unsafe { File::from_raw_fd(*fd) });
        }
        if self.fds.len() > MAX_FDS {
            return Err(Violation::TooLong(self.fds.len() as u32).into());
        }
        if len == 0 {
            return Err(ConnectionError::Closed);
        }
        self.begun.get_or_insert(now);
        Ok(true)
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Sends octets whole and at once.
pub fn send_whole(socket: &UnixStream, octets: &[u8]) -> Result<(), ConnectionError> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: pointer and length describe `octets`.
    let sent = unsafe { libc::send(socket.as_raw_fd(), octets.as_ptr().cast(), octets.len(), flags) };
    let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error());
    check_sent(sent, octets.len())
}

fn check_sent(sent: io::Result<usize>, len: usize) -> Result<(), ConnectionError> {
    match sent {
        Ok(sent) if sent == len => Ok(()),
        Ok(_) => Err(ConnectionError::Stuck),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ConnectionError::Stuck),
        Err(error) if error.raw_os_error() == Some(libc::EPIPE) => Err(ConnectionError::Closed),
        Err(error) => Err(error.into()),
    }
}
