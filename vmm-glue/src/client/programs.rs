//! Programs, the lists and links that hold them, and what they look up.

use hyper::Method;
use netkit_api::{
    DumpLine, Link, LinkUpdate, Neighbour, Program, ProgramAttach, ProgramAttached, ProgramDetach,
    ProgramList, ProgramLoad, ProgramRan, ProgramRun, ProgramSet, ProgramsLoaded, Route, TraceLines,
    TraceRequest, Traced,
};

use super::{Call, Client, ClientError, device_path, path_segment};

/// The end of a pair, or the direction of an uplink, whose frames the programs of a list see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `netkit/primary`
    Primary,
    /// `netkit/peer`
    Peer,
    /// `tcx/ingress`
    TcxIngress,
    /// `tcx/egress`
    TcxEgress,
}

/// A program is named by its id, its tag, or its name where only one program has it.
impl Client {
    /// Every program.
    pub fn programs(&self) -> Result<Vec<Program>, ClientError> {
        self.get("/v1/programs")
    }

    /// One program.
    pub fn program(&self, program: &str) -> Result<Program, ClientError> {
        self.get(program_path(program))
    }

    /// Loads an object file, or checks it.
    pub fn load(&self, load: &ProgramLoad) -> Result<ProgramsLoaded, ClientError> {
        let call = Call::new(Method::POST, "/v1/programs").with_body(load)?;
        call.decode(&self.perform(&call)?)
    }

    /// Changes a program.
    pub fn set_program(&self, program: &str, changes: &ProgramSet) -> Result<(), ClientError> {
        self.send(&Call::new(Method::PATCH, program_path(program)).with_body(changes)?)
    }

    /// Unloads a program that is not attached.
    pub fn unload(&self, program: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, program_path(program)))
    }

    /// The instructions of a program.
    pub fn xlated(&self, program: &str) -> Result<Vec<DumpLine>, ClientError> {
        self.get(format!("{}/xlated", program_path(program)))
    }

    /// The native code of a program.
    pub fn jited(&self, program: &str) -> Result<Vec<DumpLine>, ClientError> {
        self.get(format!("{}/jited", program_path(program)))
    }

    /// Runs a program on a frame of the caller's.
    pub fn run(&self, program: &str, run: &ProgramRun) -> Result<ProgramRan, ClientError> {
        let call = Call::new(Method::POST, format!("{}/run", program_path(program))).with_body(run)?;
        call.decode(&self.perform(&call)?)
    }

    /// What programs printed, from the line of this number on.
    pub fn trace_lines(&self, from: u64) -> Result<TraceLines, ClientError> {
        self.get(format!("/v1/tracelog?from={from}"))
    }

    /// The program lists of one device, or of all.
    pub fn lists(&self, device: Option<&str>) -> Result<Vec<ProgramList>, ClientError> {
        match device {
            Some(name) => self.get(format!("{}/lists", device_path(name))),
            None => self.get("/v1/lists"),
        }
    }

    /// Puts a program into a list.
    pub fn attach_program(
        &self,
        device: &str,
        end: End,
        attach: &ProgramAttach,
    ) -> Result<ProgramAttached, ClientError> {
        let call = Call::new(Method::POST, list_path(device, end)).with_body(attach)?;
        call.decode(&self.perform(&call)?)
    }

    /// Takes a program out of a list.
    pub fn detach_program(&self, device: &str, end: End, detach: &ProgramDetach) -> Result<(), ClientError> {
        let path = format!("{}/detach", list_path(device, end));
        self.send(&Call::new(Method::POST, path).with_body(detach)?)
    }

    /// Every link.
    pub fn links(&self) -> Result<Vec<Link>, ClientError> {
        self.get("/v1/links")
    }

    /// One link.
    pub fn link(&self, id: u32) -> Result<Link, ClientError> {
        self.get(format!("/v1/links/{id}"))
    }

    /// Puts another program into a link.
    pub fn update_link(&self, id: u32, update: &LinkUpdate) -> Result<(), ClientError> {
        self.send(&Call::new(Method::PATCH, format!("/v1/links/{id}")).with_body(update)?)
    }

    /// Takes a link's program out of its list; the link stays, without effect.
    pub fn detach_link(&self, id: u32) -> Result<(), ClientError> {
        self.send(&Call::new(Method::POST, format!("/v1/links/{id}/detach")))
    }

    /// Deletes a link.
    pub fn delete_link(&self, id: u32) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, format!("/v1/links/{id}")))
    }

    /// Follows a frame that a device transmits, without delivering it.
    pub fn trace(&self, device: &str, request: &TraceRequest) -> Result<Traced, ClientError> {
        let path = format!("{}/trace", device_path(device));
        let call = Call::new(Method::POST, path).with_body(request)?;
        call.decode(&self.perform(&call)?)
    }

    /// The routes of a domain.
    pub fn routes(&self, domain: &str) -> Result<Vec<Route>, ClientError> {
        self.get(format!("{}/routes", domain_path(domain)))
    }

    /// Makes or changes a route.
    pub fn add_route(&self, domain: &str, route: &Route) -> Result<(), ClientError> {
        let path = format!("{}/routes", domain_path(domain));
        self.send(&Call::new(Method::POST, path).with_body(route)?)
    }

    /// Deletes a route.
    pub fn delete_route(&self, domain: &str, route: &Route) -> Result<(), ClientError> {
        let path = format!("{}/routes/delete", domain_path(domain));
        self.send(&Call::new(Method::POST, path).with_body(route)?)
    }

    /// The neighbours of a domain.
    pub fn neighbours(&self, domain: &str) -> Result<Vec<Neighbour>, ClientError> {
        self.get(format!("{}/neighbours", domain_path(domain)))
    }

    /// Makes or changes a neighbour.
    pub fn add_neighbour(&self, domain: &str, neighbour: &Neighbour) -> Result<(), ClientError> {
        let path = format!("{}/neighbours", domain_path(domain));
        self.send(&Call::new(Method::POST, path).with_body(neighbour)?)
    }

    /// Deletes a neighbour.
    pub fn delete_neighbour(&self, domain: &str, neighbour: &Neighbour) -> Result<(), ClientError> {
        let path = format!("{}/neighbours/delete", domain_path(domain));
        self.send(&Call::new(Method::POST, path).with_body(neighbour)?)
    }
}

fn program_path(program: &str) -> String {
    format!("/v1/programs/{}", path_segment(program))
}

fn list_path(device: &str, end: End) -> String {
    let end = match end {
        End::Primary => "primary",
        End::Peer => "peer",
        End::TcxIngress => "tcx_ingress",
        End::TcxEgress => "tcx_egress",
    };
    format!("{}/lists/{end}", device_path(device))
}

fn domain_path(domain: &str) -> String {
    format!("/v1/domains/{}", path_segment(domain))
}
