//! A loaded program in a device's list.

use std::sync::Arc;

use netkit::{Context, DropReason, ProgramId, ProgramKind, verdict};
use policy::interpreter::Tracer;
use policy::machine::Packet;

use super::environment::Surrounded;
use super::frame::{FrameOctets, export_metadata, export_work, import_metadata, still_fits};

/// A program of the engine that runs on netkit's frames.
#[derive(Debug)]
pub struct LoadedProgram(pub Arc<policy::Program>);

impl netkit::Program for LoadedProgram {
    fn id(&self) -> ProgramId {
        ProgramId(self.0.id)
    }

    fn name(&self) -> &str {
        &self.0.name
    }

    fn kind(&self) -> ProgramKind {
        ProgramKind::SchedCls
    }

    fn run(&self, context: &mut Context<'_>) -> i32 {
        if self.0.quarantine.is_active() {
            return self.quarantined(context);
        }
        let shard = context.shard();
        // SAFETY: a shard is a thread (`netkit::xmit`), and nothing that the environment does runs a program.
        let (result, changed) = on_frame(context, |packet| unsafe { self.0.run(shard, packet) });
        match result {
            Ok(code) => self.conclude(context, code as i32, changed),
            Err(fault) => self.fault(context, fault),
        }
    }
}

/// Does the work of a run on the context's frame, and says whether the frame is another one then.
#[inline]
fn on_frame<T>(context: &mut Context<'_>, run: impl FnOnce(&mut Packet<'_>) -> T) -> (T, bool) {
    let mut octets = FrameOctets::new(context.frame);
    let work = export_work(&octets.frame().offload);
    let mut packet = Packet {
        metadata: export_metadata(octets.frame(), &context.surroundings),
        octets: &mut octets,
        environment: &mut Surrounded(&mut context.surroundings),
    };
    if let Some(work) = work {
        packet.metadata.offload = work;
    }
    let result = run(&mut packet);
    let metadata = packet.metadata;
    let other_offload = import_metadata(octets.frame_mut(), &metadata);
    (result, octets.changed() || other_offload)
}

impl LoadedProgram {
    /// Runs the program on a shard that the caller has to itself, watched. Faults are told, not counted.
    pub fn run_traced(
        &self,
        context: &mut Context<'_>,
        shard: usize,
        tracer: &mut impl Tracer,
    ) -> (i32, Option<policy::Fault>) {
        // SAFETY: the caller has the shard to itself.
        let (result, changed) = on_frame(context, |packet| unsafe {
            self.0.run_traced(shard, packet, tracer)
        });
        match result {
            Ok(code) => (self.conclude(context, code as i32, changed), None),
            Err(fault) => {
                context.refuse(DropReason::ProgramFault);
                (verdict::DROP, Some(fault))
            }
        }
    }

    /// What is left to do on the frame must still fit it, if it is to go on.
    fn conclude(&self, context: &mut Context<'_>, code: i32, changed: bool) -> i32 {
        let goes_on = matches!(code, verdict::NEXT | verdict::PASS | verdict::REDIRECT);
        if changed && goes_on && !still_fits(context.frame) {
            context.refuse(DropReason::BadOffloadHeader);
        }
        code
    }

    #[cold]
    fn quarantined(&self, context: &mut Context<'_>) -> i32 {
        self.0.quarantine.verdict().unwrap_or_else(|| {
            context.refuse(DropReason::ProgramFault);
            verdict::DROP
        })
    }

    #[cold]
    fn fault(&self, context: &mut Context<'_>, fault: policy::Fault) -> i32 {
        context.refuse(DropReason::ProgramFault);
        tracing::debug!("{fault}");
        let text = fault.to_string();
        if self.0.quarantine.record(fault) {
            tracing::warn!("{text}; it is in quarantine now, let it run again with `nkctl prog resume`");
        }
        verdict::DROP
    }
}
