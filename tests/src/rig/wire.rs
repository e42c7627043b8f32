//! A byte stream on a unix socket that is read up to a mark, and never longer than a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The stream, with the bytes read ahead.
#[derive(Debug)]
pub struct Wire {
    stream: UnixStream,
    ahead: Vec<u8>,
}

impl Wire {
    /// Connects to a listening socket.
    pub fn connect(path: &Path) -> io::Result<Wire> {
        let stream = UnixStream::connect(path)?;
        Ok(Wire {
            stream,
            ahead: Vec::new(),
        })
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Takes what comes up to and including `mark`, which is left out of the result.
    ///
    /// `Ok(None)` means that the deadline passed; nothing is lost by trying again.
    pub fn receive_until(&mut self, mark: &[u8], deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.ahead[searched..], mark) {
                let rest = self.ahead.split_off(searched + at + mark.len());
                let mut taken = std::mem::replace(&mut self.ahead, rest);
                taken.truncate(searched + at);
                return Ok(Some(taken));
            }
            searched = (self.ahead.len() + 1).saturating_sub(mark.len());
            if !self.fill(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Everything read so far and not yet taken.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads some more; `false` when the deadline has passed.
    fn fill(&mut self, deadline: Instant) -> io::Result<bool> {
        let mut bytes = [0; 16384];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left < Duration::from_millis(1) {
                return Ok(false);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.ahead.extend_from_slice(&bytes[..count]);
                    return Ok(true);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn pair() -> (Wire, UnixStream, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let wire = Wire::connect(&path).unwrap();
        (wire, listener.accept().unwrap().0, directory)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[test]
    fn a_mark_is_found_across_reads_and_the_rest_is_kept() {
        let (mut wire, mut far, _directory) = pair();
        far.write_all(b"out\nma").unwrap();
        assert_eq!(wire.receive_until(b"mark", soon()).unwrap(), None);
        far.write_all(b"rk 0\nnext").unwrap();
        assert_eq!(wire.receive_until(b"mark", soon()).unwrap().unwrap(), b"out\n");
        assert_eq!(wire.receive_until(b"\n", soon()).unwrap().unwrap(), b" 0");
        assert_eq!(wire.ahead(), b"next");
    }

    #[test]
    fn a_closed_stream_is_an_error() {
        let (mut wire, far, _directory) = pair();
        drop(far);
        assert_eq!(
            wire.receive_until(b"x", soon()).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }
}
