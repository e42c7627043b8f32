//! Putting something behind a device, and taking it away.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use devices::guest::{MAX_QUEUE_PAIRS, OFFERED};
use devices::packet::MacAddress;
use devices::tap::Tap;
use netkit::Ifindex;
use netkit_api::{AttachmentSpec, SocketMode, TapSpec, VhostUserSpec};

use super::attachment::{Attachment, TapAttachment, VhostUserAttachment};
use super::follow::HostNetdev;
use super::store::SavedAttachment;
use super::{Daemon, DaemonError, Reactor};
use crate::dataplane::{GuestAddress, Token};
use crate::vhost_user::Endpoint;

/// An attachment that could not be restored yet.
#[derive(Debug)]
pub struct Waiting {
    pub saved: SavedAttachment,
    /// Why it could not, at the last attempt.
    why: String,
}

impl Waiting {
    /// Whether it is to be attached to the uplink of this name.
    pub fn is_for_uplink(&self, name: &str) -> bool {
        matches!(&self.saved.spec, AttachmentSpec::Uplink(spec) if spec.uplink == name)
    }
}

impl Daemon {
    /// Puts something behind a device.
    pub fn attach(
        &mut self,
        name: &str,
        spec: AttachmentSpec,
        reactor: &mut Reactor,
    ) -> Result<(), DaemonError> {
        let ifindex = self.model.find(name)?;
        if self.uplinks.contains_key(&ifindex) {
            return Err(DaemonError::IsUplink {
                uplink: name.to_owned(),
            });
        }
        if self.attachments.contains_key(&ifindex) || self.waiting.contains_key(&ifindex) {
            return Err(DaemonError::Attached {
                device: name.to_owned(),
            });
        }
        let assigned = random_address();
        self.attach_as(ifindex, spec, assigned, OFFERED, reactor)?;
        self.save()
    }

    /// Takes away what stands behind a device. The VMM may connect again after another attach.
    pub fn detach(&mut self, name: &str, reactor: &mut Reactor) -> Result<(), DaemonError> {
        let ifindex = self.model.find(name)?;
        if !self.remove_attachment(ifindex, reactor) {
            return Err(DaemonError::NotAttached {
                device: name.to_owned(),
            });
        }
        self.commit()
    }

    /// Takes up what was saved, to be opened by [`Self::retry_waiting`]. From now on it is saved again with the rest.
    pub fn restore(&mut self, saved: Vec<SavedAttachment>) {
        for saved in saved {
            let (ifindex, lost) = (saved.ifindex, saved.features & !OFFERED);
            if lost != 0 {
                tracing::warn!(
                    "ifindex {ifindex}: the features {lost:#x} are no longer offered; restart its guest"
                );
            }
            let why = String::new();
            self.waiting.insert(ifindex, Waiting { saved, why });
        }
    }

    /// Tries again what could not be restored. A reason is logged once, however often it is met.
    pub fn retry_waiting(&mut self, reactor: &mut Reactor) {
        for (ifindex, Waiting { saved, why }) in std::mem::take(&mut self.waiting) {
            if self.model.device(ifindex).is_err() {
                continue;
            }
            let address = saved.guest_address.parse().unwrap_or_else(|_| random_address());
            let features = saved.features & OFFERED;
            if let Err(error) = self.attach_as(ifindex, saved.spec.clone(), address, features, reactor) {
                let error = error.to_string();
                if error != why {
                    tracing::warn!("ifindex {ifindex}: cannot attach it as before, will try again: {error}");
                }
                self.waiting.insert(ifindex, Waiting { saved, why: error });
            }
        }
    }

    fn attach_as(
        &mut self,
        ifindex: Ifindex,
        spec: AttachmentSpec,
        assigned: MacAddress,
        features: u64,
        reactor: &mut Reactor,
    ) -> Result<(), DaemonError> {
        let attachment = match spec {
            AttachmentSpec::VhostUser(spec) => {
                Attachment::VhostUser(Box::new(self.open_vhost_user(spec, assigned, features)?))
            }
            AttachmentSpec::Tap(spec) => Attachment::Tap(open_tap(&spec)?),
            AttachmentSpec::Uplink(spec) => Attachment::Uplink(self.share_uplink(ifindex, &spec)?),
        };
        self.insert_attachment(ifindex, attachment, reactor);
        Ok(())
    }

    /// Attaches an endpoint that was opened elsewhere.
    pub fn attach_endpoint(
        &mut self,
        name: &str,
        endpoint: Endpoint,
        queues: u16,
        reactor: &mut Reactor,
    ) -> Result<(), DaemonError> {
        let ifindex = self.model.find(name)?;
        let spec = VhostUserSpec {
            path: String::new(),
            mode: SocketMode::Server,
            queues,
        };
        let attachment = VhostUserAttachment::new(spec, random_address(), OFFERED, endpoint);
        self.insert_attachment(ifindex, Attachment::VhostUser(Box::new(attachment)), reactor);
        Ok(())
    }

    /// Puts an attachment in force.
    fn insert_attachment(&mut self, ifindex: Ifindex, attachment: Attachment, reactor: &mut Reactor) {
        let tap = match &attachment {
            Attachment::VhostUser(vhost_user) => {
                if let Some(fd) = vhost_user.endpoint.listener_fd() {
                    reactor.listen(fd, ifindex);
                }
                None
            }
            Attachment::Tap(tap) => {
                self.follow(ifindex, HostNetdev::Tap(tap.tap.clone()), reactor);
                Some(tap.tap.clone())
            }
            Attachment::Uplink(_) => None,
        };
        self.attachments.insert(ifindex, attachment);
        // The workers must know the device before its first event reaches them, and a client connects at once.
        self.publish();
        if let Some(tap) = tap {
            self.watch_tap(ifindex, &tap);
        }
        self.try_connect(ifindex, reactor);
    }

    fn open_vhost_user(
        &self,
        spec: VhostUserSpec,
        assigned: MacAddress,
        features: u64,
    ) -> Result<VhostUserAttachment, DaemonError> {
        if spec.queues == 0 || spec.queues > MAX_QUEUE_PAIRS {
            let value = spec.queues.to_string();
            return Err(DaemonError::BadValue {
                what: "the number of queue pairs",
                value,
                allowed: "1 to 128",
            });
        }
        self.check_path_is_free(&spec.path)?;
        let path = Path::new(&spec.path);
        let endpoint = match spec.mode {
            SocketMode::Server => Endpoint::listen(path)?,
            SocketMode::Client => Endpoint::client(path)?,
        };
        Ok(VhostUserAttachment::new(spec, assigned, features, endpoint))
    }

    fn check_path_is_free(&self, path: &str) -> Result<(), DaemonError> {
        for (ifindex, attachment) in &self.attachments {
            if let Attachment::VhostUser(other) = attachment
                && other.spec.path == path
            {
                let device = self.model.device(*ifindex)?.name.clone();
                return Err(DaemonError::SocketTaken {
                    path: path.to_owned(),
                    device,
                });
            }
        }
        Ok(())
    }

    /// Takes an attachment away, if there is one, in an order that leaves no event without a receiver.
    pub fn remove_attachment(&mut self, ifindex: Ifindex, reactor: &mut Reactor) -> bool {
        if self.waiting.remove(&ifindex).is_some() {
            return true;
        }
        self.disconnect(ifindex, reactor);
        let Some(attachment) = self.attachments.remove(&ifindex) else {
            return false;
        };
        self.unfollow(ifindex, reactor);
        self.publish();
        match attachment {
            Attachment::VhostUser(vhost_user) => {
                if let Some(fd) = vhost_user.endpoint.listener_fd() {
                    reactor.forget(fd);
                }
                vhost_user.endpoint.remove();
            }
            Attachment::Tap(_) => self.workers.release(ifindex),
            Attachment::Uplink(_) => {}
        }
        true
    }

    fn watch_tap(&mut self, ifindex: Ifindex, tap: &Tap) {
        for (index, queue) in tap.queues.iter().enumerate() {
            let token = Token::new(ifindex, index);
            if let Err(error) = self.workers.watch(token, queue.as_raw_fd()) {
                tracing::error!("{}: cannot wait for frames of queue {index}: {error}", tap.name);
            }
        }
    }
}

fn open_tap(spec: &TapSpec) -> Result<TapAttachment, DaemonError> {
    let tap = match spec.fd {
        Some(fd) => Tap::from_inherited(fd)?,
        None => Tap::open(spec.ifname.as_deref(), spec.queues.unwrap_or(1))?,
    };
    let address = Arc::new(GuestAddress::new(tap.address()?));
    Ok(TapAttachment {
        tap: Arc::new(tap),
        address,
    })
}

/// A locally administered address for a guest whose device has none: L3 mode.
fn random_address() -> MacAddress {
    let mut octets = [0u8; 4];
    // SAFETY: pointer and length describe `octets`. Where the call fails the octets stay zero, which is an address too.
    unsafe { libc::getrandom(octets.as_mut_ptr().cast(), octets.len(), 0) };
    let [a, b, c, d] = octets;
    MacAddress([0x52, 0x54, a, b, c, d])
}
