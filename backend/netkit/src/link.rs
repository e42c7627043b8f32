//! Links: what holds a program in a list until it is detached or its device goes away.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{AttachType, Error, Ifindex, LinkId, Program, ProgramId, SavedLink};

/// What is known of a link (`struct bpf_link_info`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its id.
    pub id: LinkId,
    /// The program it holds.
    pub program: ProgramId,
    /// The program's name.
    pub name: String,
    /// Which list it is for.
    pub attach_type: AttachType,
    /// The device that the list belongs to, so the peer's for a peer link. None if the link is
    /// defunct: detached, or its device deleted.
    pub ifindex: Option<Ifindex>,
}

/// A link (netkit.c: `struct netkit_link`).
#[derive(Debug)]
pub(crate) struct Link {
    pub program: Arc<dyn Program>,
    pub attach_type: AttachType,
    pub device: Option<Ifindex>,
}

/// All links, defunct ones included.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_id: BTreeMap<LinkId, Link>,
    last: u32,
}

impl Links {
    /// The id that the next link gets.
    pub fn next_id(&self) -> LinkId {
        LinkId(self.last + 1)
    }

    pub fn insert(&mut self, link: Link) -> LinkId {
        let id = self.next_id();
        self.last = id.0;
        self.by_id.insert(id, link);
        id
    }

    pub fn get(&self, link: LinkId) -> Result<&Link, Error> {
        self.by_id.get(&link).ok_or(Error::NoSuchLink { link })
    }

    pub fn get_mut(&mut self, link: LinkId) -> Result<&mut Link, Error> {
        self.by_id.get_mut(&link).ok_or(Error::NoSuchLink { link })
    }

    pub fn remove(&mut self, link: LinkId) {
        self.by_id.remove(&link);
    }

    /// Makes the links of a deleted device defunct (netkit.c: `netkit_release_all`).
    pub fn release_all(&mut self, device: Ifindex) {
        for link in self.by_id.values_mut().filter(|link| link.device == Some(device)) {
            link.device = None;
        }
    }

    pub fn last_id(&self) -> u32 {
        self.last
    }

    pub fn save(&self) -> Vec<SavedLink> {
        let save = |(id, link): (&LinkId, &Link)| SavedLink {
            id: *id,
            attach_type: link.attach_type,
            device: link.device,
            program: link.program.id(),
        };
        self.by_id.iter().map(save).collect()
    }

    /// A link as it was saved.
    pub fn restore(&mut self, id: LinkId, link: Link) {
        self.by_id.insert(id, link);
        self.last = self.last.max(id.0);
    }

    /// Links that were removed before the save keep their ids to themselves.
    pub fn restore_last_id(&mut self, last: u32) {
        self.last = self.last.max(last);
    }

    pub fn info(&self, id: LinkId) -> Result<LinkInfo, Error> {
        Ok(info(id, self.get(id)?))
    }

    pub fn iter(&self) -> impl Iterator<Item = LinkInfo> {
        self.by_id.iter().map(|(id, link)| info(*id, link))
    }
}

/// netkit.c: `netkit_link_fill_info`.
fn info(id: LinkId, link: &Link) -> LinkInfo {
    LinkInfo {
        id,
        program: link.program.id(),
        name: link.program.name().to_owned(),
        attach_type: link.attach_type,
        ifindex: link.device,
    }
}
