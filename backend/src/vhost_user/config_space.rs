//! The device's configuration space, as the front end reads and writes it.

use super::message::{Message, Reply, Violation};
use super::session::Session;

const CONFIG_SPACE: usize = 256;
const LIVE_MIGRATION: u32 = 2;

impl Session {
    // U11: the same octets back with the answer in them; no payload is the way to refuse.
    pub(super) fn get_config(&self, message: &Message) -> Result<Option<Reply>, Violation> {
        let (offset, _, octets) = message.config()?;
        let start = offset as usize;
        let Some(end) = start.checked_add(octets.len()).filter(|end| *end <= CONFIG_SPACE) else {
            return Ok(Some(message.reply(&[])));
        };
        let mut payload = message.payload[..12].to_vec();
        payload.extend_from_slice(&self.config_space()[start..end]);
        Ok(Some(message.reply(&payload)))
    }

    // virtio 1.3, 5.1.4
    pub(super) fn config_space(&self) -> [u8; CONFIG_SPACE] {
        let mut space = [0; CONFIG_SPACE];
        space[..6].copy_from_slice(&self.identity.address.0);
        space[6..8].copy_from_slice(&u16::from(self.identity.link_up).to_le_bytes());
        space[8..10].copy_from_slice(&(self.port.pairs() as u16).to_le_bytes());
        space[10..12].copy_from_slice(&self.mtu.unwrap_or(self.identity.mtu).to_le_bytes());
        // Speed and duplex are unknown.
        space[12..17].fill(0xff);
        space
    }

    // U11: all fields are read-only; a migration's destination sets them from the source's.
    pub(super) fn set_config(message: &Message) -> Result<(), Violation> {
        let (offset, flags, _) = message.config()?;
        if flags & LIVE_MIGRATION == 0 {
            return Err(Violation::BadValue {
                request: message.request,
                value: u64::from(offset),
            });
        }
        Ok(())
    }
}
