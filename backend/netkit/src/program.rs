//! What the model knows of a program: an id, a kind, and a function from a frame to a verdict.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

use devices::packet::{Frame, PacketType};

use crate::clones::Clones;
use crate::{DeviceView, Domain, DropReason, Errno, Ifindex, NextHop, ProgramId, Slot, View};

/// The verdicts of programs (`enum netkit_action`, `enum tcx_action_base`). Every other code drops in a netkit list, and is
/// as good as NEXT after the last program in an uplink's.
pub mod verdict {
    /// Go on with the next program of the list; after the last one, pass.
    pub const NEXT: i32 = -1;
    /// Hand the frame to the other end.
    pub const PASS: i32 = 0;
    /// Drop the frame.
    pub const DROP: i32 = 2;
    /// Send the frame where the program asked for.
    pub const REDIRECT: i32 = 7;
}

/// `BPF_F_INGRESS`: deliver as if the target had received the frame.
const BPF_F_INGRESS: u64 = 1;

/// What kind of program it is (`enum bpf_prog_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_SCHED_CLS`, the only kind that netkit runs.
    SchedCls,
    /// Anything else.
    Other,
}

/// A loaded program.
///
/// Any number of threads may run it at once. Two programs are the same if their ids are.
pub trait Program: Send + Sync + Debug {
    /// Its id, unique among the programs of the daemon and not 0.
    fn id(&self) -> ProgramId;

    /// Its name.
    fn name(&self) -> &str;

    /// Its kind.
    fn kind(&self) -> ProgramKind;

    /// Looks at a frame, may change it, and says what is to happen to it (see [`verdict`]).
    fn run(&self, context: &mut Context<'_>) -> i32;
}

/// Where a program asked to send the frame (`struct bpf_redirect_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// `bpf_redirect(ifindex, 0)`.
    Egress(Ifindex),
    /// `bpf_redirect(ifindex, BPF_F_INGRESS)`.
    Ingress(Ifindex),
    /// `bpf_redirect_peer(ifindex)`: works at tc ingress alone, so from an uplink's ingress list.
    Peer(Ifindex),
    /// `bpf_redirect_neigh(ifindex)`: with the Ethernet header of a next hop.
    Neighbour(Ifindex, NextHop),
}

/// What a program sees of the frame and its surroundings (netkit.c: `netkit_run`).
#[derive(Debug)]
pub struct Context<'a> {
    /// The frame, with the metadata that programs may read and write.
    pub frame: &'a mut Frame,
    /// The devices around it, and what the program asks for.
    pub surroundings: Surroundings<'a>,
}

/// Which list a program is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// One of a netkit pair.
    Netkit,
    /// An uplink's, for what its NIC received.
    TcxIngress,
    /// An uplink's, for what it transmits.
    TcxEgress,
}

/// Where a program runs, and what it asks for there.
#[derive(Debug)]
pub struct Surroundings<'a> {
    view: &'a View,
    receiver: Slot,
    hook: Hook,
    ingress_ifindex: u32,
    shard: usize,
    redirect: Option<Redirect>,
    clones: &'a mut Clones,
    refusal: Option<DropReason>,
}

impl<'a> Deref for Context<'a> {
    type Target = Surroundings<'a>;

    fn deref(&self) -> &Surroundings<'a> {
        &self.surroundings
    }
}

impl DerefMut for Context<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.surroundings
    }
}

impl Context<'_> {
    /// `bpf_skb_change_type`: sticks, because netkit sets the type before programs run.
    pub fn change_type(&mut self, packet_type: PacketType) {
        self.frame.meta.packet_type = packet_type;
    }
}

impl<'a> Surroundings<'a> {
    pub(crate) fn new(
        view: &'a View,
        receiver: Slot,
        hook: Hook,
        ingress_ifindex: u32,
        shard: usize,
        clones: &'a mut Clones,
    ) -> Self {
        Surroundings {
            view,
            receiver,
            hook,
            ingress_ifindex,
            shard,
            redirect: None,
            clones,
            refusal: None,
        }
    }

    pub(crate) fn into_redirect(self) -> Option<Redirect> {
        self.redirect
    }

    /// Why the frame cannot go on, whatever the verdict.
    pub(crate) fn refusal(&self) -> Option<DropReason> {
        self.refusal
    }

    /// The frame is to be dropped for this reason, whatever the program's verdict: the program was stopped before its
    /// end, say, or left a frame that nobody can take.
    pub fn refuse(&mut self, reason: DropReason) {
        self.refusal = Some(reason);
    }

    /// All devices.
    pub fn view(&self) -> &'a View {
        self.view
    }

    /// The list that the program is in.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// `skb->dev`: the device that would receive the frame, or the uplink.
    pub fn device(&self) -> &'a DeviceView {
        self.view.device(self.receiver)
    }

    /// A device that programs can name here: one of the receiver's domain (`dev_get_by_index_rcu`).
    pub fn device_by_ifindex(&self, ifindex: u32) -> Option<&'a DeviceView> {
        let device = self.view.device(self.view.slot(Ifindex(ifindex))?);
        (device.domain == self.device().domain).then_some(device)
    }

    /// `__sk_buff.ifindex`: the receiver's, or the uplink's.
    pub fn ifindex(&self) -> Ifindex {
        self.device().ifindex
    }

    /// `__sk_buff.ingress_ifindex`: that of the uplink on which the frame arrived (dev.c: `__netif_receive_skb_core`);
    /// 0 if there was none, or a netkit device has scrubbed it.
    pub fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }

    /// The domain of that device, in which redirects and lookups resolve.
    pub fn domain(&self) -> &'a Domain {
        &self.device().domain
    }

    /// The number of the worker that runs the program, from 0.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// `bpf_redirect`: remembers a target for the verdict REDIRECT. Returns REDIRECT, or DROP, with
    /// nothing remembered, for any flag but `BPF_F_INGRESS` (1).
    pub fn redirect(&mut self, ifindex: u32, flags: u64) -> i32 {
        self.redirect = match flags {
            0 => Some(Redirect::Egress(Ifindex(ifindex))),
            BPF_F_INGRESS => Some(Redirect::Ingress(Ifindex(ifindex))),
            _ => return verdict::DROP,
        };
        verdict::REDIRECT
    }

    /// `bpf_redirect_peer`: remembers a target, whose other end is to receive the frame at once. Returns REDIRECT, but
    /// where the program does not run at tc ingress the redirect then fails silently. Returns DROP for any flag.
    pub fn redirect_peer(&mut self, ifindex: u32, flags: u64) -> i32 {
        if flags != 0 {
            return verdict::DROP;
        }
        self.redirect = Some(Redirect::Peer(Ifindex(ifindex)));
        verdict::REDIRECT
    }

    /// `bpf_redirect_neigh`: remembers a target and a next hop for the verdict REDIRECT. Returns DROP for any flag.
    pub fn redirect_neighbour(&mut self, ifindex: u32, next_hop: NextHop, flags: u64) -> i32 {
        if flags != 0 {
            return verdict::DROP;
        }
        self.redirect = Some(Redirect::Neighbour(Ifindex(ifindex), next_hop));
        verdict::REDIRECT
    }

    /// `bpf_clone_redirect`: takes a copy of a frame, which `fill` makes, and which is sent before the frame itself goes
    /// on.
    ///
    /// # Errors
    /// EINVAL for other flags than `BPF_F_INGRESS` or no such device in this domain, ENOMEM if the frame was copied too
    /// often (filter.c: `bpf_clone_redirect`). The error of `fill`. What becomes of the copy later is no error.
    pub fn clone_redirect(
        &mut self,
        ifindex: u32,
        flags: u64,
        fill: impl FnOnce(&mut Frame) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let redirect = match flags {
            0 => Redirect::Egress(Ifindex(ifindex)),
            BPF_F_INGRESS => Redirect::Ingress(Ifindex(ifindex)),
            _ => return Err(Errno::EINVAL),
        };
        self.device_by_ifindex(ifindex).ok_or(Errno::EINVAL)?;
        self.clones
            .push(self.receiver, redirect, self.ingress_ifindex, fill)
    }
}
