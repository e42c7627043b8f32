//! Attaching programs and links to the lists of a pair, always by its primary, and to those of an uplink.

use std::sync::Arc;

use crate::link::Link;
use crate::mprog::{Entry, Key, Place, ProgramList};
use crate::{
    AttachOptions, AttachType, Device, Domain, Error, Ifindex, LinkId, LinkInfo, ListError, Model, Pairing,
    Program, ProgramId, ProgramKind, ProgramListing, Relative,
};

/// A list, as a caller names it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The pair's primary, or the uplink.
    pub ifindex: Ifindex,
    /// Which of its two lists.
    pub attach_type: AttachType,
    /// The caller's domain, outside of which it sees no device. None sees all.
    pub caller: Option<&'a Domain>,
}

impl Target<'_> {
    /// A list, named by a caller that sees all domains.
    pub fn new(ifindex: Ifindex, attach_type: AttachType) -> Target<'static> {
        Target {
            ifindex,
            attach_type,
            caller: None,
        }
    }
}

impl Model {
    /// Attaches a program without a link (netkit.c: `netkit_prog_attach`).
    pub fn prog_attach(
        &mut self,
        target: Target<'_>,
        program: &Arc<dyn Program>,
        options: &AttachOptions,
    ) -> Result<(), Error> {
        require_sched_cls(program)?;
        let device = self.device_of_list(target)?;
        let operation = || format!("attach program {} to", program.id());
        if let Some(old) = options
            .replace
            .as_ref()
            .filter(|old| old.kind() != program.kind())
        {
            let error = ListError::KindDiffers { program: old.id() };
            return Err(self.list_error(operation(), target, error));
        }
        let replace = options.replace.as_ref().map(|old| {
            Ok(Key {
                program: old.id(),
                link: None,
            })
        });
        let place = self.place(options);
        let new = Entry {
            program: program.clone(),
            link: None,
        };
        let list = self.device_mut(device)?.list_mut(target.attach_type);
        let result = list.attach(new, replace, place);
        result.map_err(|error| self.list_error(operation(), target, error))
    }

    /// Detaches a program that no link holds; without a program, the one that the options say, or
    /// the last (netkit.c: `netkit_prog_detach`).
    pub fn prog_detach(
        &mut self,
        target: Target<'_>,
        program: Option<ProgramId>,
        options: &AttachOptions,
    ) -> Result<(), Error> {
        let device = self.device_of_list(target)?;
        let key = program.map(|program| Key { program, link: None });
        let place = self.place(options);
        let list = self.device_mut(device)?.list_mut(target.attach_type);
        let result = detach(list, target.attach_type, key, options.replace.is_some(), place);
        result.map_err(|error| {
            let operation = program.map_or("detach a program from".to_owned(), |id| {
                format!("detach program {id} from")
            });
            self.list_error(operation, target, error)
        })
    }

    /// Lists the programs (netkit.c: `netkit_prog_query`).
    pub fn prog_query(&self, target: Target<'_>) -> Result<ProgramListing, Error> {
        let device = self.device_of_list(target)?;
        Ok(self.device(device)?.list(target.attach_type).query())
    }

    /// Attaches a program by a new link (netkit.c: `netkit_link_attach`).
    pub fn link_create(
        &mut self,
        target: Target<'_>,
        program: &Arc<dyn Program>,
        options: &AttachOptions,
    ) -> Result<LinkId, Error> {
        require_sched_cls(program)?;
        let device = self.device_of_list(target)?;
        let replace = options
            .replace
            .as_ref()
            .map(|_| Err(ListError::LinkCannotReplace));
        let place = self.place(options);
        let new = Entry {
            program: program.clone(),
            link: Some(self.links.next_id()),
        };
        let list = self.device_mut(device)?.list_mut(target.attach_type);
        let result = list.attach(new, replace, place);
        result
            .map_err(|error| self.list_error(format!("link program {} to", program.id()), target, error))?;
        let link = Link {
            program: program.clone(),
            attach_type: target.attach_type,
            device: Some(device),
        };
        Ok(self.links.insert(link))
    }

    /// Swaps a link's program in place; `expected`, if given, is the program it must hold now
    /// (netkit.c: `netkit_link_update`).
    pub fn link_update(
        &mut self,
        id: LinkId,
        program: &Arc<dyn Program>,
        expected: Option<ProgramId>,
    ) -> Result<(), Error> {
        let link = self.links.get(id)?;
        let device = link.device.ok_or(Error::LinkDefunct { link: id })?;
        let old = Entry {
            program: link.program.clone(),
            link: Some(id),
        };
        let attach_type = link.attach_type;
        let current = old.program.id();
        if let Some(expected) = expected.filter(|expected| *expected != current) {
            return Err(Error::LinkProgramDiffers {
                link: id,
                expected,
                current,
            });
        }
        if program.id() == current {
            return Ok(());
        }
        let new = Entry {
            program: program.clone(),
            link: Some(id),
        };
        let replace = Key {
            program: current,
            link: Some(id),
        };
        // The old program is also the relative object, which makes the list compare their kinds.
        let place = Place {
            relative: Ok(Some(old)),
            ..Place::anywhere()
        };
        let list = self.device_mut(device)?.list_mut(attach_type);
        let result = list.attach(new, Some(Ok(replace)), place);
        result.map_err(|error| {
            let target = Target::new(device, attach_type);
            self.list_error(
                format!("put program {} into link {id} of", program.id()),
                target,
                error,
            )
        })?;
        self.links.get_mut(id)?.program = program.clone();
        Ok(())
    }

    /// Takes a link's program out of its list and leaves the link defunct; nothing happens to a
    /// link that is so already (netkit.c: `netkit_link_detach`).
    pub fn link_detach(&mut self, id: LinkId) -> Result<(), Error> {
        let link = self.links.get_mut(id)?;
        let Some(device) = link.device.take() else {
            return Ok(());
        };
        let key = Key {
            program: link.program.id(),
            link: Some(id),
        };
        let attach_type = link.attach_type;
        let list = self.device_mut(device)?.list_mut(attach_type);
        let result = detach(list, attach_type, Some(key), false, Place::anywhere());
        result.map_err(|error| {
            self.list_error(
                format!("detach link {id} from"),
                Target::new(device, attach_type),
                error,
            )
        })
    }

    /// Detaches a link and forgets it, as closing its last file descriptor does.
    pub fn link_close(&mut self, id: LinkId) -> Result<(), Error> {
        self.link_detach(id)?;
        self.links.remove(id);
        Ok(())
    }

    /// What is known of a link, defunct or not.
    pub fn link_info(&self, id: LinkId) -> Result<LinkInfo, Error> {
        self.links.info(id)
    }

    /// All links by id, defunct ones included.
    pub fn links(&self) -> impl Iterator<Item = LinkInfo> {
        self.links.iter()
    }

    /// The device whose list is meant (netkit.c: `netkit_dev_fetch`; tcx.c: `tcx_prog_attach`).
    fn device_of_list(&self, target: Target<'_>) -> Result<Ifindex, Error> {
        let visible = |device: &&Device| target.caller.is_none_or(|domain| *domain == device.domain);
        let unseen = || Error::NoSuchDevice {
            what: format!("with ifindex {}", target.ifindex),
        };
        let device = self
            .devices
            .get(&target.ifindex)
            .filter(visible)
            .ok_or_else(unseen)?;
        match (target.attach_type, &device.uplink) {
            (AttachType::TcxIngress | AttachType::TcxEgress, Some(_)) => return Ok(device.ifindex),
            (AttachType::TcxIngress | AttachType::TcxEgress, None) => {
                // The kernel has tcx lists on any device; here nothing receives on a netkit device but a guest.
                return Err(Error::ListOfNetkit {
                    device: device.name.clone(),
                    attach_type: target.attach_type,
                });
            }
            (AttachType::Primary | AttachType::Peer, Some(_)) => {
                return Err(Error::ListOfUplink {
                    device: device.name.clone(),
                    attach_type: target.attach_type,
                });
            }
            (AttachType::Primary | AttachType::Peer, None) => {}
        }
        if !device.primary {
            let primary = device.peer.and_then(|peer| self.devices.get(&peer));
            let primary = primary.map_or("the primary".to_owned(), |primary| primary.name.clone());
            return Err(Error::ListOfPeer {
                device: device.name.clone(),
                primary,
            });
        }
        if device.pairing == Pairing::Single {
            return Err(Error::ListOfSingle {
                device: device.name.clone(),
            });
        }
        match target.attach_type {
            AttachType::Peer => device.peer.ok_or_else(unseen),
            _ => Ok(device.ifindex),
        }
    }

    fn place(&self, options: &AttachOptions) -> Place {
        Place {
            before: options.before,
            after: options.after,
            relative: options
                .relative
                .as_ref()
                .map(|relative| self.resolve(relative))
                .transpose(),
            expected_revision: options.expected_revision,
        }
    }

    /// mprog.c: `bpf_mprog_tuple_relative`.
    fn resolve(&self, relative: &Relative) -> Result<Entry, ListError> {
        match relative {
            Relative::Program(program) => Ok(Entry {
                program: program.clone(),
                link: None,
            }),
            Relative::Link(id) => match self.links.get(*id) {
                Ok(link) => Ok(Entry {
                    program: link.program.clone(),
                    link: Some(*id),
                }),
                Err(_) => Err(ListError::NoSuchLink { link: *id }),
            },
        }
    }

    fn list_error(&self, operation: String, target: Target<'_>, source: ListError) -> Error {
        let device = self
            .devices
            .get(&target.ifindex)
            .map_or(String::new(), |device| device.name.clone());
        Error::List {
            operation,
            attach_type: target.attach_type,
            device,
            source,
        }
    }
}

/// Takes a program out of a list. An empty list of an uplink is freed, so that its revision begins anew, where netkit's
/// goes on (tcx.c: `tcx_prog_detach`, `tcx_link_release`).
fn detach(
    list: &mut ProgramList,
    attach_type: AttachType,
    key: Option<Key>,
    replace: bool,
    place: Place,
) -> Result<(), ListError> {
    list.detach(key, replace, place)?;
    let of_uplink = matches!(attach_type, AttachType::TcxIngress | AttachType::TcxEgress);
    if of_uplink && list.entries().is_empty() {
        *list = ProgramList::new();
    }
    Ok(())
}

fn require_sched_cls(program: &Arc<dyn Program>) -> Result<(), Error> {
    match program.kind() {
        ProgramKind::SchedCls => Ok(()),
        ProgramKind::Other => Err(Error::ProgramKind {
            program: program.id(),
        }),
    }
}
