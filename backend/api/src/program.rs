//! Programs: loading them, looking at them, running them on a frame of the caller's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `nkctl prog load` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgramLoad {
    /// The object file, in base64.
    pub object: String,
    /// Load this program of the object only; or, if the object has just one program, call it so.
    #[serde(default)]
    pub name: Option<String>,
    /// Leave every map of the object under its name, as if it were declared with `LIBBPF_PIN_BY_NAME`.
    #[serde(default)]
    pub pin_maps: bool,
    /// Use the pinned map of the second name for the object's map of the first.
    #[serde(default)]
    pub maps: Vec<MapChoice>,
    /// Check the object as if it were loaded, and keep nothing.
    #[serde(default)]
    pub check_only: bool,
}

/// A pinned map in place of one of the object's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MapChoice {
    /// The map's name in the object.
    pub name: String,
    /// The name that a map is pinned under, or its id.
    pub pinned: String,
}

/// What loading made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgramsLoaded {
    /// The programs, in the object's order. Of a check they have no id (0).
    pub programs: Vec<Program>,
    /// The ids of the maps that were made or found.
    pub map_ids: Vec<u32>,
    /// What a person should know: sections that were left out, say.
    pub notes: Vec<String>,
}

/// A program as `nkctl prog show` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Program {
    /// Unique in the daemon, never used again.
    pub id: u32,
    /// `sched_cls`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its function's name, or what it was called when it was loaded.
    pub name: String,
    /// The section of the object that it comes from.
    pub section: String,
    /// Eight octets in hexadecimal that are the same for the same instructions.
    pub tag: String,
    /// The object's licence.
    pub license: String,
    /// Whether that licence is compatible with the GPL.
    pub gpl_compatible: bool,
    /// When it was loaded, in seconds since 1970.
    pub loaded_at: u64,
    /// Octets of its instructions.
    pub bytes_xlated: u64,
    /// Whether it runs as native code.
    pub jited: bool,
    /// Octets of native code.
    pub bytes_jited: u64,
    /// The maps that it uses.
    pub map_ids: Vec<u32>,
    /// Its functions, itself first.
    pub functions: Vec<String>,
    /// How often it ran.
    pub run_cnt: u64,
    /// Time that it ran for in nanoseconds, estimated from samples.
    pub run_time_ns: u64,
    /// How often it was stopped because of what it did.
    pub faults: u64,
    /// The last time.
    pub last_fault: Option<String>,
    /// Whether it is kept from running because it was stopped too often.
    pub quarantined: bool,
    /// Where it is attached: `nk0 primary`, say.
    pub attached: Vec<String>,
}

/// Changes to a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProgramSet {
    /// False lets a quarantined program run again.
    pub quarantined: Option<bool>,
}

/// One line of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DumpLine {
    /// The instruction's number, or the offset in native code.
    pub at: u64,
    /// The function that starts here.
    pub function: Option<String>,
    /// The source line that starts here, with its place in front: `filter.c:12: text`.
    pub source: Option<String>,
    /// The instruction.
    pub text: String,
    /// Its octets in hexadecimal.
    pub octets: String,
}

/// What a run on a frame of the caller's is given (`BPF_PROG_TEST_RUN`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProgramRun {
    /// The frame, in base64.
    pub data_in: String,
    /// `struct __sk_buff`, in base64; what it does not reach is zero.
    pub ctx_in: Option<String>,
    /// How often to run; 0 is once. The frame is not set back in between. After ten seconds it is enough.
    pub repeat: u32,
    /// Use the interpreter.
    pub interpreter: bool,
}

/// What a run made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgramRan {
    /// What the program returned.
    pub retval: u32,
    /// Nanoseconds that a run took, on average.
    pub duration: u64,
    /// The frame, in base64.
    pub data_out: String,
    /// `struct __sk_buff`, in base64.
    pub ctx_out: String,
    /// Why the program was stopped, if it was: then it returned nothing.
    pub fault: Option<String>,
}

/// Lines of `bpf_trace_printk`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceLines {
    /// The lines, oldest first.
    pub lines: Vec<String>,
    /// What to ask from next time.
    pub next: u64,
    /// Lines that were lost before the first one.
    pub lost: u64,
}

/// What `nkctl net attach` and `nkctl link create` say. A program is named by id, name or tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProgramAttach {
    /// The program.
    pub program: String,
    /// Attach it by a link, which keeps it until the link is detached.
    pub link: bool,
    /// In front of this one; an empty string is the front of the list. A program, or `link:ID`.
    pub before: Option<String>,
    /// Behind this one; an empty string is the end of the list. A program, or `link:ID`.
    pub after: Option<String>,
    /// In place of this program.
    pub replace: Option<String>,
    /// Only if the list has this revision.
    pub expected_revision: Option<u64>,
}

/// What an attach made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgramAttached {
    /// The list's revision now.
    pub revision: u64,
    /// The id of the new link, if one was asked for.
    pub link_id: Option<u32>,
}

/// What `nkctl net detach` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProgramDetach {
    /// The program; the last one of the list if absent and no place is given.
    pub program: Option<String>,
    /// The one in front of this one.
    pub before: Option<String>,
    /// The one behind this one.
    pub after: Option<String>,
    /// Only if the list has this revision.
    pub expected_revision: Option<u64>,
}

/// A program list as `nkctl net show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgramList {
    /// The name of the primary, or of the uplink.
    pub device: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// `netkit/primary` or `netkit/peer`; of an uplink `tcx/ingress` or `tcx/egress`.
    pub kind: String,
    /// Changes with every change of the list.
    pub revision: u64,
    /// The programs in the order in which they run.
    pub programs: Vec<ListedProgram>,
}

/// A program in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedProgram {
    /// Its name.
    pub name: String,
    /// Its id.
    pub prog_id: u32,
    /// The link that holds it.
    pub link_id: Option<u32>,
}

/// A link as `nkctl link show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Unique in the daemon.
    pub id: u32,
    /// `netkit`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The program's id.
    pub prog_id: u32,
    /// `netkit_primary` or `netkit_peer`.
    pub attach_type: String,
    /// The ifindex of the device whose frames the program sees; 0 for a link that is detached.
    pub ifindex: u32,
    /// That device's name.
    pub device: Option<String>,
}

/// What `nkctl link update` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkUpdate {
    /// The new program.
    pub program: String,
    /// Only if the link holds this program now.
    #[serde(default)]
    pub expected: Option<String>,
}

/// A frame that is to be followed through the devices without being delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceRequest {
    /// The frame, in base64.
    pub frame: String,
    /// `skb->mark`.
    pub mark: u32,
    /// `skb->priority`.
    pub priority: u32,
    /// Payload octets of a segment, for a frame that is still to be cut.
    pub gso_size: u16,
    /// Leave out the instructions, and show only what calls and verdicts do.
    pub brief: bool,
    /// The most instructions to show, up to 100000; 0 is 10000.
    pub limit: u32,
}

/// What became of a traced frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traced {
    /// What happened, in order.
    pub steps: Vec<TraceStep>,
    /// How it ended, in a sentence.
    pub outcome: String,
    /// The device that would have received the frame.
    pub receiver: Option<String>,
    /// Why it would have been dropped: a drop reason's name.
    pub drop: Option<String>,
    /// The frame as it would have been delivered, in base64.
    pub frame: String,
}

/// One thing that happened to a traced frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TraceStep {
    /// A device transmits the frame: what it is, who would receive it, how many programs it has.
    Device { device: String, text: String },
    /// A program starts.
    Program { id: u32, name: String },
    /// An instruction was run: the registers that it changed, and its source line where that changes.
    Instruction {
        at: u32,
        text: String,
        registers: String,
        source: Option<String>,
    },
    /// A helper was called.
    Helper { text: String },
    /// A program ended with a verdict, or was stopped.
    Verdict { code: i32, text: String },
    /// Anything else worth a line.
    Note { text: String },
}

/// A route or neighbour of a domain, which `bpf_fib_lookup` and `bpf_redirect_neigh` use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination, such as `10.1.0.0/16`, `2001:db8::/32` or `default`.
    pub destination: String,
    /// The gateway; absent for what is on the link.
    #[serde(default)]
    pub via: Option<String>,
    /// The device that it leads to.
    pub device: String,
    /// The address that frames of ours would come from.
    #[serde(default)]
    pub source: Option<String>,
    /// The MTU of the route.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Of routes to one destination the one with the smallest metric counts; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Who has set it. What is asked for is the API's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Who has set a route or a neighbour. Of two for the same destination the API's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A caller of this API.
    Api,
    /// The host, for the netdev that the device stands for. Only the host can change or delete it.
    Host,
}

/// A neighbour of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Its IP address.
    pub address: String,
    /// The device that it is reached through.
    pub device: String,
    /// Its Ethernet address.
    pub lladdr: String,
    /// Who has set it. What is asked for is the API's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}
