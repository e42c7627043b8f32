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
//! | `GET /v1/daemon` | | `Daemon` |
//! | `GET /openapi.json` | | the OpenAPI document |
//!
//! Every refusal is an RFC 9457 `Problem` (`application/problem+json`) that carries the errno name.

mod attachment;
mod device;
mod object;
mod problem;

pub use attachment::{Attachment, AttachmentKind, AttachmentSpec, SocketMode, TapSpec, VhostUserSpec};
pub use device::{
    Daemon, Device, DeviceCreate, DeviceCreated, DeviceDrops, DeviceSet, Drop, Mode, NetkitChange, Pairing,
    PeerCreate, Policy, Scrub, Statistics,
};
pub use object::Object;
pub use problem::Problem;
