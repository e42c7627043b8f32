//! The wire types of netkitd's HTTP API: JSON over a unix socket, described by the OpenAPI document that is
//! generated from them and served at `/openapi.json`.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/devices` | | `[Device]` by ifindex |
//! | `GET /v1/devices/{name}` | | `Device` |
//! | `POST /v1/devices` | `DeviceCreate` | 201 `DeviceCreated`: both ends of a pair, or a single |
//! | `PATCH /v1/devices/{name}` | `DeviceSet` | 204: what `ip link set` does |
//! | `PATCH /v1/devices/{name}/netkit` | `NetkitChange` | 204: what `ip link change type netkit` does |
//! | `DELETE /v1/devices/{name}` | | 204: both ends are gone |
//! | `PUT /v1/devices/{name}/attachment` | `AttachmentSpec` | 204 |
//! | `DELETE /v1/devices/{name}/attachment` | | 204 |
//! | `GET /v1/drops`, `GET /v1/devices/{name}/drops` | | `[DeviceDrops]` |
//! | `GET /v1/programs`, `GET /v1/programs/{program}` | | `[Program]`, `Program` |
//! | `POST /v1/programs` | `ProgramLoad` | 201 `ProgramsLoaded` |
//! | `PATCH /v1/programs/{program}` | `ProgramSet` | 204 |
//! | `DELETE /v1/programs/{program}` | | 204; refused while it is attached |
//! | `GET /v1/programs/{program}/xlated`, `…/jited` | | `[DumpLine]` |
//! | `POST /v1/programs/{program}/run` | `ProgramRun` | `ProgramRan` |
//! | `GET /v1/tracelog?from=N` | | `TraceLines` |
//! | `GET /v1/lists`, `GET /v1/devices/{name}/lists` | | `[ProgramList]` |
//! | `POST /v1/devices/{name}/lists/{primary or peer}` | `ProgramAttach` | `ProgramAttached` |
//! | `POST /v1/devices/{name}/lists/{primary or peer}/detach` | `ProgramDetach` | 204 |
//! | `GET /v1/links`, `GET /v1/links/{id}` | | `[Link]`, `Link` |
//! | `PATCH /v1/links/{id}` | `LinkUpdate` | 204 |
//! | `POST /v1/links/{id}/detach` | | 204: the link stays, defunct |
//! | `DELETE /v1/links/{id}` | | 204 |
//! | `POST /v1/devices/{name}/trace` | `TraceRequest` | `Traced` |
//! | `GET /v1/maps`, `GET /v1/maps/{map}` | | `[Map]`, `Map` |
//! | `DELETE /v1/maps/{map}/pin` | | 204: the map goes when no program uses it |
//! | `GET /v1/maps/{map}/entries?after=KEY` | | `MapEntries`, at most 4096 |
//! | `POST /v1/maps/{map}/{lookup, next, take, pop, peek}` | `MapRequest` | `MapEntry` |
//! | `POST /v1/maps/{map}/{update, delete, push}` | `MapRequest` | 204 |
//! | `POST /v1/maps/{map}/freeze` | | 204 |
//! | `POST /v1/maps/{map}/events` | | `[MapEvent]`, which are gone then |
//! | `GET /v1/domains/{domain}/routes`, `…/neighbours` | | `[Route]`, `[Neighbour]` |
//! | `POST /v1/domains/{domain}/routes`, `…/neighbours` | `Route`, `Neighbour` | 204: made or changed |
//! | `POST /v1/domains/{domain}/routes/delete`, `…/neighbours/delete` | the same | 204 |
//! | `GET /v1/uplinks`, `GET /v1/uplinks/{name}` | | `[Uplink]`, `Uplink` |
//! | `POST /v1/uplinks` | `UplinkCreate` | 201 |
//! | `PATCH /v1/uplinks/{name}` | `UplinkSet` | 204 |
//! | `DELETE /v1/uplinks/{name}` | | 204: the devices that lease its queues go with it |
//! | `POST /v1/devices/{name}/leases` | `LeaseCreate` | 201, `LeaseCreated` |
//! | `GET /v1/nics`, `GET /v1/nics/{address}` | | `[PciNic]`, `PciNic` |
//! | `PUT /v1/nics/{address}/pass` | `NicPass` | `PciNic`: it is with vfio-pci, for a guest |
//! | `DELETE /v1/nics/{address}/pass` | | `PciNic`: it is back with its driver |
//! | `GET /v1/workers` | | `[Worker]` |
//! | `PUT /v1/devices/{name}/queues/{queue}/worker` | `WorkerChoice` | 204: that worker serves the queue |
//! | `GET /v1/daemon` | | `Daemon` |
//!
//! A program in a path or a request is its id, its tag, or its name where only one program has it; a map is its id or
//! its name, likewise.
//! | `GET /openapi.json` | | the OpenAPI document |
//!
//! Every refusal is an RFC 9457 `Problem` (`application/problem+json`) that carries the errno name.

mod attachment;
mod device;
mod map;
mod object;
mod problem;
mod program;
mod uplink;
mod worker;

pub use attachment::{Attachment, AttachmentKind, AttachmentSpec, SocketMode, TapSpec, VhostUserSpec};
pub use device::{
    Daemon, Device, DeviceCreate, DeviceCreated, DeviceDrops, DeviceSet, Drop, Mode, NetkitChange, Pairing,
    PeerCreate, Policy, Scrub, Statistics,
};
pub use map::{Map, MapEntries, MapEntry, MapEvent, MapRequest};
pub use object::Object;
pub use problem::Problem;
pub use program::{
    DumpLine, Link, LinkUpdate, ListedProgram, MapChoice, Neighbour, Origin, Program, ProgramAttach,
    ProgramAttached, ProgramDetach, ProgramList, ProgramLoad, ProgramRan, ProgramRun, ProgramSet,
    ProgramsLoaded, Route, TraceLines, TraceRequest, TraceStep, Traced,
};
pub use uplink::{
    AfXdpMode, AfXdpNic, KernelNic, LeaseCreate, LeaseCreated, MacvtapMode, MacvtapNic, NicPass, NicSpec,
    PciNic, QueueKind, QueueLease, Share, TapNic, Uplink, UplinkCreate, UplinkQueue, UplinkSet, UplinkShare,
    UplinkSpec, UplinkState, VfioNic,
};
pub use worker::{ServedQueue, Worker, WorkerChoice};
