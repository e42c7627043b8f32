//! The front end's side of a vhost-user socket: any octets, any descriptors, and every message by name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::memory::SharedRegion;
use super::message::{
    HEADER_LEN, Message, NEED_REPLY, NO_FD, REPLY, VERSION, longs, protocol, request, words,
};

/// How long the back end may take over an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a back end.
#[derive(Debug)]
pub struct FrontEnd {
    socket: UnixStream,
    acknowledged: bool,
}

/// A ring's addresses in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct RingAddresses {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    /// Guest address of the used ring, if its writes are to be logged.
    pub log: Option<u64>,
}

impl FrontEnd {
    /// Connects to a back end that listens.
    pub fn connect(path: &Path) -> io::Result<FrontEnd> {
        FrontEnd::from_stream(UnixStream::connect(path)?)
    }

    /// Takes a connection, as a front end that listens gets it.
    pub fn from_stream(socket: UnixStream) -> io::Result<FrontEnd> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(FrontEnd {
            socket,
            acknowledged: false,
        })
    }

    /// The socket.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends octets as they are.
    pub fn send_octets(&self, octets: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(octets)
    }

    /// Sends octets with descriptors beside their first one.
    pub fn send_octets_with(&self, octets: &[u8], fds: &[RawFd]) -> io::Result<()> {
        if fds.is_empty() {
            return self.send_octets(octets);
        }
        let sent = self.socket.send_with_fds(&[octets], fds)?;
        self.send_octets(&octets[sent..])
    }

    /// Sends a message.
    pub fn send(&self, request: u32, flags: u32, payload: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let message = Message {
            request,
            flags,
            payload: payload.to_vec(),
        };
        self.send_octets_with(&message.encode(), fds)
    }

    /// The next message of the back end's.
    pub fn receive(&self) -> io::Result<Message> {
        receive(&self.socket)
    }

    /// Sends a request that has an answer of its own, and gives the answer's payload.
    pub fn ask(&self, request: u32, payload: &[u8]) -> io::Result<Message> {
        self.send(request, VERSION, payload, &[])?;
        self.answer_to(request)
    }

    /// As [`Self::ask`], and gives the descriptor that came beside the answer's header, if one did.
    pub fn ask_for_file(&self, request: u32, payload: &[u8]) -> io::Result<(Message, Option<File>)> {
        self.send(request, VERSION, payload, &[])?;
        let mut header = [0; HEADER_LEN];
        let (received, file) = self.socket.recv_with_fd(&mut header)?;
        (&self.socket).read_exact(&mut header[received..])?;
        let message = payload_behind(&self.socket, header)?;
        Ok((self.as_answer_to(request, message)?, file))
    }

    /// Sends a request without an answer of its own, and gives what the back end acknowledges it with.
    pub fn acknowledge(&self, request: u32, payload: &[u8], fds: &[RawFd]) -> io::Result<u64> {
        self.send(request, VERSION | NEED_REPLY, payload, fds)?;
        let number = self.answer_to(request)?.u64();
        number.ok_or_else(|| io::Error::other("an acknowledgement that is no number"))
    }

    /// Sends a request without an answer of its own, which the back end must accept. Without REPLY_ACK there is no
    /// telling.
    pub fn tell(&self, request: u32, payload: &[u8], fds: &[RawFd]) -> io::Result<()> {
        if !self.acknowledged {
            return self.send(request, VERSION, payload, fds);
        }
        match self.acknowledge(request, payload, fds)? {
            0 => Ok(()),
            refusal => Err(io::Error::other(format!(
                "request {request} was refused with {refusal}"
            ))),
        }
    }

    /// Returns when the back end has done everything that it was told so far.
    pub fn settle(&self) -> io::Result<()> {
        self.features().map(drop)
    }

    /// Whether the back end hangs up within `patience`; what it says until then is thrown away.
    pub fn is_hung_up_on(&self, patience: Duration) -> bool {
        let end = std::time::Instant::now() + patience;
        let mut octets = [0; 4096];
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() || self.socket.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match (&self.socket).read(&mut octets) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return true,
                Err(_) => return false,
            }
        }
    }

    fn answer_to(&self, request: u32) -> io::Result<Message> {
        self.as_answer_to(request, self.receive()?)
    }

    fn as_answer_to(&self, request: u32, message: Message) -> io::Result<Message> {
        // DPDK's front end insists on exactly these flags.
        if (message.request, message.flags) != (request, VERSION | REPLY) {
            return Err(io::Error::other(format!(
                "{message:?} is no answer to request {request}"
            )));
        }
        Ok(message)
    }

    fn number(&self, request: u32) -> io::Result<u64> {
        let number = self.ask(request, &[])?.u64();
        number.ok_or_else(|| io::Error::other("an answer that is no number"))
    }
}

/// Every message by name.
impl FrontEnd {
    pub fn features(&self) -> io::Result<u64> {
        self.number(request::GET_FEATURES)
    }

    pub fn set_features(&self, features: u64) -> io::Result<()> {
        self.tell(request::SET_FEATURES, &longs(&[features]), &[])
    }

    pub fn protocol_features(&self) -> io::Result<u64> {
        self.number(request::GET_PROTOCOL_FEATURES)
    }

    /// From here on everything is acknowledged, if that is among the features.
    pub fn set_protocol_features(&mut self, features: u64) -> io::Result<()> {
        self.send(request::SET_PROTOCOL_FEATURES, VERSION, &longs(&[features]), &[])?;
        self.acknowledged = features & protocol::REPLY_ACK != 0;
        Ok(())
    }

    /// Asks for acknowledgements, or does without them although they were negotiated.
    pub fn set_acknowledged(&mut self, acknowledged: bool) {
        self.acknowledged = acknowledged;
    }

    pub fn set_owner(&self) -> io::Result<()> {
        self.tell(request::SET_OWNER, &[], &[])
    }

    pub fn reset_owner(&self) -> io::Result<()> {
        self.tell(request::RESET_OWNER, &[], &[])
    }

    pub fn reset_device(&self) -> io::Result<()> {
        self.tell(request::RESET_DEVICE, &[], &[])
    }

    pub fn queue_num(&self) -> io::Result<u64> {
        self.number(request::GET_QUEUE_NUM)
    }

    pub fn max_mem_slots(&self) -> io::Result<u64> {
        self.number(request::GET_MAX_MEM_SLOTS)
    }

    pub fn set_mem_table(&self, regions: &[SharedRegion]) -> io::Result<()> {
        let mut payload = words(&[regions.len() as u32, 0]);
        let fds: Vec<RawFd> = regions.iter().map(|region| region.fd).collect();
        regions
            .iter()
            .for_each(|region| payload.extend(region_fields(region)));
        self.tell(request::SET_MEM_TABLE, &payload, &fds)
    }

    pub fn add_mem_reg(&self, region: &SharedRegion) -> io::Result<()> {
        self.tell(request::ADD_MEM_REG, &single_region(region), &[region.fd])
    }

    pub fn rem_mem_reg(&self, region: &SharedRegion) -> io::Result<()> {
        self.tell(request::REM_MEM_REG, &single_region(region), &[])
    }

    pub fn set_log_base(&self, file: &impl AsRawFd, size: u64, offset: u64) -> io::Result<Message> {
        self.send(
            request::SET_LOG_BASE,
            VERSION,
            &longs(&[size, offset]),
            &[file.as_raw_fd()],
        )?;
        self.answer_to(request::SET_LOG_BASE)
    }

    pub fn set_vring_num(&self, ring: usize, size: u32) -> io::Result<()> {
        self.tell(request::SET_VRING_NUM, &words(&[ring as u32, size]), &[])
    }

    pub fn set_vring_addr(&self, ring: usize, addresses: &RingAddresses) -> io::Result<()> {
        let mut payload = words(&[ring as u32, u32::from(addresses.log.is_some())]);
        payload.extend(longs(&[
            addresses.descriptors,
            addresses.used,
            addresses.available,
            addresses.log.unwrap_or(0),
        ]));
        self.tell(request::SET_VRING_ADDR, &payload, &[])
    }

    /// Where a ring starts: the next available index, or what U8 says of a packed ring.
    pub fn set_vring_base(&self, ring: usize, base: u32) -> io::Result<()> {
        let payload = words(&[ring as u32, base]);
        self.tell(request::SET_VRING_BASE, &payload, &[])
    }

    /// Stops a ring and gives the base that it is to go on from.
    pub fn vring_base(&self, ring: usize) -> io::Result<u32> {
        let answer = self.ask(request::GET_VRING_BASE, &words(&[ring as u32, 0]))?;
        match answer.payload.split_first_chunk::<4>() {
            Some((index, base)) if u32::from_ne_bytes(*index) == ring as u32 && base.len() == 4 => {
                Ok(u32::from_ne_bytes([base[0], base[1], base[2], base[3]]))
            }
            _ => Err(io::Error::other(format!("{answer:?} is no ring base"))),
        }
    }

    pub fn set_vring_kick(&self, ring: usize, fd: Option<RawFd>) -> io::Result<()> {
        self.ring_fd(request::SET_VRING_KICK, ring, fd)
    }

    pub fn set_vring_call(&self, ring: usize, fd: Option<RawFd>) -> io::Result<()> {
        self.ring_fd(request::SET_VRING_CALL, ring, fd)
    }

    pub fn set_vring_err(&self, ring: usize, fd: Option<RawFd>) -> io::Result<()> {
        self.ring_fd(request::SET_VRING_ERR, ring, fd)
    }

    pub fn set_vring_enable(&self, ring: usize, enable: bool) -> io::Result<()> {
        let payload = words(&[ring as u32, u32::from(enable)]);
        self.tell(request::SET_VRING_ENABLE, &payload, &[])
    }

    /// Has the guest's presence announced.
    pub fn send_rarp(&self, address: [u8; 6]) -> io::Result<()> {
        let [a, b, c, d, e, f] = address;
        self.tell(request::SEND_RARP, &[a, b, c, d, e, f, 0, 0], &[])
    }

    pub fn set_status(&self, status: u8) -> io::Result<()> {
        self.tell(request::SET_STATUS, &longs(&[u64::from(status)]), &[])
    }

    pub fn status(&self) -> io::Result<u64> {
        self.number(request::GET_STATUS)
    }

    /// Reads the configuration space; `None` if the back end refuses.
    pub fn config(&self, offset: u32, len: u32) -> io::Result<Option<Vec<u8>>> {
        let payload = config_payload(offset, 0, &vec![0; len as usize]);
        let answer = self.ask(request::GET_CONFIG, &payload)?.payload;
        if answer.is_empty() {
            return Ok(None);
        }
        if answer.len() != payload.len() || answer[..8] != payload[..8] {
            return Err(io::Error::other("configuration of another place or length"));
        }
        Ok(Some(answer[12..].to_vec()))
    }

    fn ring_fd(&self, request: u32, ring: usize, fd: Option<RawFd>) -> io::Result<()> {
        match fd {
            Some(fd) => self.tell(request, &longs(&[ring as u64]), &[fd]),
            None => self.tell(request, &longs(&[ring as u64 | NO_FD]), &[]),
        }
    }
}

/// Payload of an access to the configuration space.
pub fn config_payload(offset: u32, flags: u32, octets: &[u8]) -> Vec<u8> {
    let mut payload = words(&[offset, octets.len() as u32, flags]);
    payload.extend_from_slice(octets);
    payload
}

/// Payload of a message about one region.
pub fn single_region(region: &SharedRegion) -> Vec<u8> {
    let mut payload = longs(&[0]);
    payload.extend(region_fields(region));
    payload
}

fn region_fields(region: &SharedRegion) -> Vec<u8> {
    longs(&[region.guest, region.size, region.user, region.file_offset])
}

/// Reads one message whole.
pub fn receive(mut socket: &UnixStream) -> io::Result<Message> {
    let mut header = [0; HEADER_LEN];
    socket.read_exact(&mut header)?;
    payload_behind(socket, header)
}

fn payload_behind(mut socket: &UnixStream, header: [u8; HEADER_LEN]) -> io::Result<Message> {
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let mut payload = vec![0; word(8) as usize];
    socket.read_exact(&mut payload)?;
    Ok(Message {
        request: word(0),
        flags: word(4),
        payload,
    })
}
