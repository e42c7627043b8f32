//! What the API does to programs, program lists and links.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use netkit::{AttachOptions, AttachType, Device, DeviceKind, LinkId, ProgramId, Relative, Target};
use netkit_api as api;
use policy::engine::{LoadOptions, SavedEngine};
use policy::object::Object;
use policy::test_run::{TestError, TestResult, TestRun};
use sha1::{Digest, Sha1};

use super::{Daemon, DaemonError};
use crate::programs::LoadedProgram;

/// An object file that was parsed, with its octets.
#[derive(Debug)]
pub struct ParsedObject {
    octets: Vec<u8>,
    object: Object,
}

impl ParsedObject {
    /// Parses an object file. This takes a while, and needs no daemon.
    pub fn new(octets: Vec<u8>) -> Result<ParsedObject, DaemonError> {
        let object = Object::parse(&octets).map_err(policy::engine::LoadError::from)?;
        Ok(ParsedObject { octets, object })
    }

    /// What the file is known by.
    fn digest(&self) -> String {
        let digest = Sha1::digest(&self.octets);
        digest.iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

/// A program to be run on a frame of the caller's, while the daemon goes on.
#[derive(Debug)]
pub struct Trial {
    program: Arc<policy::Program>,
    shard: usize,
    turn: Arc<Mutex<()>>,
}

impl Trial {
    /// Runs it.
    pub fn run(&self, run: &TestRun) -> Result<TestResult, TestError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: this shard is used by those who hold the lock.
        unsafe { self.program.test_run(self.shard, run) }
    }
}

impl Daemon {
    /// All programs by id.
    pub fn programs(&self) -> Vec<api::Program> {
        self.engine
            .programs()
            .map(|program| self.shown_program(program))
            .collect()
    }

    /// One program.
    pub fn show_program(&self, wanted: &str) -> Result<api::Program, DaemonError> {
        Ok(self.shown_program(self.find_program(wanted)?))
    }

    /// The program of an id, a tag, or a name that only one program has.
    pub fn find_program(&self, wanted: &str) -> Result<&Arc<policy::Program>, DaemonError> {
        let by_id = wanted.parse().ok().and_then(|id| self.engine.program(id));
        if let Some(program) = by_id {
            return Ok(program);
        }
        let is_wanted =
            |program: &&Arc<policy::Program>| program.name == wanted || hex(&program.tag) == wanted;
        let mut found = self.engine.programs().filter(is_wanted);
        match (found.next(), found.next()) {
            (Some(program), None) => Ok(program),
            (None, _) => Err(DaemonError::NoSuchProgram {
                wanted: wanted.to_owned(),
            }),
            (Some(first), Some(second)) => Err(DaemonError::Ambiguous {
                what: "program",
                wanted: wanted.to_owned(),
                ids: (first.id, second.id),
            }),
        }
    }

    /// Loads the programs of an object.
    pub fn load_programs(
        &mut self,
        parsed: &ParsedObject,
        request: &api::ProgramLoad,
    ) -> Result<api::ProgramsLoaded, DaemonError> {
        let defines = |name: &str| parsed.object.maps.iter().any(|map| map.name == name);
        if let Some(unknown) = request.maps.iter().find(|map| !defines(&map.name)) {
            return Err(DaemonError::BadValue {
                what: "a map of the object",
                value: format!("\"{}\"", unknown.name),
                allowed: "the name of one that the object defines",
            });
        }
        let origin = parsed.digest();
        let options = LoadOptions {
            name: request.name.clone(),
            pin_maps: request.pin_maps,
            maps: request
                .maps
                .iter()
                .map(|map| (map.name.clone(), map.pinned.clone()))
                .collect(),
            origin: origin.clone(),
        };
        if !request.check_only
            && let Some(store) = &self.store
        {
            store.save_object(&origin, &parsed.octets)?;
        }
        let loaded = match request.check_only {
            true => self.engine.check(&parsed.object, &options)?,
            false => self.engine.load(&parsed.object, &options)?,
        };
        let mut answer = api::ProgramsLoaded {
            programs: loaded
                .programs
                .iter()
                .map(|program| self.shown_program(program))
                .collect(),
            map_ids: loaded.maps,
            notes: parsed.object.skipped.clone(),
        };
        if request.check_only {
            // They are gone already.
            answer.programs.iter_mut().for_each(|program| program.id = 0);
            answer.map_ids.clear();
            return Ok(answer);
        }
        self.save()?;
        Ok(answer)
    }

    /// Forgets a program that is attached nowhere.
    pub fn unload_program(&mut self, wanted: &str) -> Result<(), DaemonError> {
        let program = self.find_program(wanted)?.clone();
        let attached = self.attachments_of(program.id);
        if !attached.is_empty() {
            return Err(DaemonError::ProgramInUse {
                program: program.name.clone(),
                places: attached.join(", "),
            });
        }
        self.engine.unload(program.id);
        self.save()?;
        Ok(())
    }

    /// A program that a caller wants to try.
    pub fn trial(&self, wanted: &str) -> Result<Trial, DaemonError> {
        Ok(Trial {
            program: self.find_program(wanted)?.clone(),
            shard: self.engine.test_shard(),
            turn: self.test_run.clone(),
        })
    }

    /// Changes a program.
    pub fn set_program(&mut self, wanted: &str, request: &api::ProgramSet) -> Result<(), DaemonError> {
        let program = self.find_program(wanted)?;
        if request.quarantined == Some(false) {
            program.quarantine.release();
        }
        if request.quarantined == Some(true) {
            return Err(DaemonError::BadValue {
                what: "quarantined",
                value: "true".to_owned(),
                allowed: "false; a program goes into quarantine by what it does",
            });
        }
        Ok(())
    }

    /// Attaches a program to a list.
    pub fn attach_program(
        &mut self,
        device: &str,
        attach_type: AttachType,
        request: &api::ProgramAttach,
    ) -> Result<api::ProgramAttached, DaemonError> {
        let target = Target::new(self.model.find(device)?, attach_type);
        let program = self.model_program(&request.program)?;
        let options = self.options(
            request.before.as_deref(),
            request.after.as_deref(),
            request.replace.as_deref(),
            request.expected_revision,
        )?;
        let link = if request.link {
            Some(self.model.link_create(target, &program, &options)?)
        } else {
            self.model.prog_attach(target, &program, &options)?;
            None
        };
        self.commit()?;
        Ok(api::ProgramAttached {
            revision: self.model.prog_query(target)?.revision,
            link_id: link.map(|link| link.0),
        })
    }

    /// Detaches a program from a list.
    pub fn detach_program(
        &mut self,
        device: &str,
        attach_type: AttachType,
        request: &api::ProgramDetach,
    ) -> Result<(), DaemonError> {
        let target = Target::new(self.model.find(device)?, attach_type);
        let program = request
            .program
            .as_deref()
            .map(|wanted| self.find_program(wanted))
            .transpose()?;
        let program = program.map(|program| ProgramId(program.id));
        let options = self.options(
            request.before.as_deref(),
            request.after.as_deref(),
            None,
            request.expected_revision,
        )?;
        self.model.prog_detach(target, program, &options)?;
        self.commit()
    }

    /// The program lists of a pair, or all that have programs.
    pub fn program_lists(&self, device: Option<&str>) -> Result<Vec<api::ProgramList>, DaemonError> {
        let wanted = device.map(|name| self.model.find(name)).transpose()?;
        let mut lists = Vec::new();
        for device in self.model.devices() {
            if wanted.is_some_and(|wanted| wanted != device.ifindex && Some(wanted) != device.peer) {
                continue;
            }
            for attach_type in lists_of(device) {
                let listing = self.model.prog_query(Target::new(device.ifindex, *attach_type))?;
                if listing.programs.is_empty() && wanted.is_none() {
                    continue;
                }
                let listed = |listed: &netkit::Listed| api::ListedProgram {
                    name: listed.name.clone(),
                    prog_id: listed.program.0,
                    link_id: listed.link.map(|link| link.0),
                };
                lists.push(api::ProgramList {
                    device: device.name.clone(),
                    ifindex: device.ifindex.0,
                    kind: match device.kind() {
                        DeviceKind::Netkit => format!("netkit/{attach_type}"),
                        DeviceKind::Uplink => attach_type.word().replace("tcx_", "tcx/"),
                    },
                    revision: listing.revision,
                    programs: listing.programs.iter().map(listed).collect(),
                });
            }
        }
        Ok(lists)
    }

    /// All links by id.
    pub fn links(&self) -> Vec<api::Link> {
        self.model.links().map(|link| self.shown_link(&link)).collect()
    }

    /// One link.
    pub fn link(&self, id: u32) -> Result<api::Link, DaemonError> {
        Ok(self.shown_link(&self.model.link_info(LinkId(id))?))
    }

    /// Swaps a link's program.
    pub fn update_link(&mut self, id: u32, request: &api::LinkUpdate) -> Result<(), DaemonError> {
        let program = self.model_program(&request.program)?;
        let expected = request
            .expected
            .as_deref()
            .map(|wanted| self.find_program(wanted))
            .transpose()?;
        let expected = expected.map(|program| ProgramId(program.id));
        self.model.link_update(LinkId(id), &program, expected)?;
        self.commit()
    }

    /// Takes a link's program out of its list; with `close` the link is gone too.
    pub fn detach_link(&mut self, id: u32, close: bool) -> Result<(), DaemonError> {
        match close {
            true => self.model.link_close(LinkId(id))?,
            false => self.model.link_detach(LinkId(id))?,
        }
        self.commit()
    }

    /// The engine as it is to be saved.
    pub(super) fn saved_engine(&self) -> SavedEngine {
        self.engine.save()
    }

    /// A program as the model's.
    pub(super) fn model_program(&self, wanted: &str) -> Result<Arc<dyn netkit::Program>, DaemonError> {
        let program = self.find_program(wanted)?;
        Ok(Arc::new(LoadedProgram(program.clone())))
    }

    fn options(
        &self,
        before: Option<&str>,
        after: Option<&str>,
        replace: Option<&str>,
        expected_revision: Option<u64>,
    ) -> Result<AttachOptions, DaemonError> {
        let relative = match (before, after) {
            (Some(""), _) | (None, Some("") | None) => None,
            (Some(wanted), _) | (None, Some(wanted)) => Some(self.relative(wanted)?),
        };
        Ok(AttachOptions {
            before: before.is_some(),
            after: after.is_some(),
            relative,
            replace: replace.map(|wanted| self.model_program(wanted)).transpose()?,
            expected_revision: expected_revision.unwrap_or(0),
        })
    }

    fn relative(&self, wanted: &str) -> Result<Relative, DaemonError> {
        match wanted.strip_prefix("link:") {
            None => Ok(Relative::Program(self.model_program(wanted)?)),
            Some(id) => {
                let id = id.parse().map_err(|_| DaemonError::BadValue {
                    what: "a link",
                    value: wanted.to_owned(),
                    allowed: "link: and its number",
                })?;
                Ok(Relative::Link(LinkId(id)))
            }
        }
    }

    /// Where a program is attached, for a person.
    fn attachments_of(&self, id: u32) -> Vec<String> {
        let mut places = Vec::new();
        for device in self.model.devices() {
            for attach_type in lists_of(device) {
                let listing = self.model.prog_query(Target::new(device.ifindex, *attach_type));
                let listed = listing.is_ok_and(|it| it.programs.iter().any(|it| it.program.0 == id));
                if listed {
                    places.push(format!("{} {attach_type}", device.name));
                }
            }
        }
        let defunct = self
            .model
            .links()
            .filter(|link| link.ifindex.is_none() && link.program.0 == id);
        places.extend(defunct.map(|link| format!("link {}", link.id)));
        places
    }

    fn shown_program(&self, program: &Arc<policy::Program>) -> api::Program {
        let machine_code = program.compiled.as_ref().map(|it| it.machine_code().len() as u64);
        api::Program {
            id: program.id,
            kind: "sched_cls".to_owned(),
            name: program.name.clone(),
            section: program.section.clone(),
            tag: hex(&program.tag),
            license: program.license.clone(),
            gpl_compatible: is_gpl_compatible(&program.license),
            loaded_at: program.loaded_at,
            bytes_xlated: (program.code.instructions.len() * 8) as u64,
            jited: machine_code.is_some(),
            bytes_jited: machine_code.unwrap_or(0),
            map_ids: program.maps.iter().map(|map| map.id()).collect(),
            functions: program.code.functions.iter().map(|it| it.name.clone()).collect(),
            run_cnt: program.statistics.runs(),
            run_time_ns: program.statistics.nanoseconds(),
            faults: program.quarantine.faults(),
            last_fault: program.quarantine.last().map(|fault| fault.to_string()),
            quarantined: program.quarantine.is_active(),
            attached: self.attachments_of(program.id),
        }
    }

    fn shown_link(&self, link: &netkit::LinkInfo) -> api::Link {
        // Links are known by the device whose frames their program sees (netkit.c: `netkit_dev_fetch`).
        let device = link.ifindex.and_then(|ifindex| self.model.device(ifindex).ok());
        api::Link {
            id: link.id.0,
            kind: "netkit".to_owned(),
            prog_id: link.program.0,
            attach_type: format!("netkit_{}", link.attach_type),
            ifindex: link.ifindex.map_or(0, |ifindex| ifindex.0),
            device: device.map(|device| device.name.clone()),
        }
    }
}

/// Octets in hexadecimal.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// linux/license.h: `license_is_gpl_compatible`.
fn is_gpl_compatible(license: &str) -> bool {
    matches!(
        license,
        "GPL" | "GPL v2" | "GPL and additional rights" | "Dual BSD/GPL" | "Dual MIT/GPL" | "Dual MPL/GPL"
    )
}

/// Where the memory of maps is kept.
pub(super) fn map_directory(state_dir: Option<&PathBuf>) -> Option<PathBuf> {
    state_dir.map(|directory| directory.join("maps"))
}

/// The lists that are managed through a device.
fn lists_of(device: &Device) -> &'static [AttachType] {
    match device.kind() {
        DeviceKind::Uplink => &[AttachType::TcxIngress, AttachType::TcxEgress],
        DeviceKind::Netkit if device.primary && device.peer.is_some() => {
            &[AttachType::Primary, AttachType::Peer]
        }
        DeviceKind::Netkit => &[],
    }
}
