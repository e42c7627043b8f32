//! Running a program on a frame of the caller's (`BPF_PROG_TEST_RUN`, test_run.c: `bpf_prog_test_run_skb`).

use std::time::{Duration, Instant};

use crate::context::SkBuff;
use crate::machine::{Executor, Packet};
use crate::packet::{Gso, GsoKind, Layers, Metadata, Offload, OneDevice};
use crate::{Errno, Fault, Program};

/// The longest frame.
const FRAME_MAX: usize = 65_535;
/// Octets of an Ethernet header.
const ETH_HLEN: usize = 14;
/// The device that test runs are on, as in the kernel (loopback.c: `gen_lo_setup`).
const LOOPBACK: u32 = 1;
const LOOPBACK_MTU: u32 = 64 * 1024;
/// The longest that runs are repeated for, whatever their number.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Runs between two looks at the clock.
const RUNS_PER_LOOK: u32 = 64;

/// What a run is given.
#[derive(Debug, Clone, Default)]
pub struct TestRun {
    /// The frame.
    pub data: Vec<u8>,
    /// `struct __sk_buff`, or the start of it.
    pub context: Option<Vec<u8>>,
    /// How often to run; 0 is once. The frame is not set back in between. After ten seconds it is enough.
    pub repeat: u32,
    /// Use the interpreter.
    pub interpreter: bool,
}

/// What a run made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestResult {
    /// What the program returned.
    pub retval: u32,
    /// The time that a run took, on average.
    pub duration: Duration,
    /// The frame.
    pub data: Vec<u8>,
    /// `struct __sk_buff`.
    pub context: Vec<u8>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// The frame is too short or too long.
    #[error("a frame of {0} octets cannot be run on; use 14 to 65535")]
    Length(usize),
    /// The context is longer than `struct __sk_buff`, and not with zeros.
    #[error("the context has something behind the {} octets of struct __sk_buff", size_of::<SkBuff>())]
    Context,
    /// The program was stopped.
    #[error("{0}")]
    Fault(Fault),
}

impl TestError {
    /// What bpf(2) would say.
    pub fn errno(&self) -> Errno {
        match self {
            TestError::Length(_) => Errno::EINVAL,
            TestError::Context => Errno::E2BIG,
            TestError::Fault(_) => Errno::EFAULT,
        }
    }
}

impl Program {
    /// Runs the program as a caller asks for it, outside of any device.
    ///
    /// # Safety
    /// As [`Program::run`].
    pub unsafe fn test_run(&self, shard: usize, run: &TestRun) -> Result<TestResult, TestError> {
        if !(ETH_HLEN..=FRAME_MAX).contains(&run.data.len()) {
            return Err(TestError::Length(run.data.len()));
        }
        let executor = match self.compiled {
            Some(_) if !run.interpreter => Executor::Compiled,
            _ => Executor::Interpreter,
        };
        let mut data = run.data.clone();
        let mut packet = Packet {
            metadata: metadata(&run.data, run.context.as_deref().unwrap_or_default())?,
            octets: &mut data,
            environment: &mut OneDevice {
                ifindex: LOOPBACK,
                mtu: LOOPBACK_MTU,
            },
        };
        let wanted = run.repeat.max(1);
        let mut count = 0;
        let start = Instant::now();
        let mut retval = 0;
        while count < wanted && !(count.is_multiple_of(RUNS_PER_LOOK) && start.elapsed() > TIME_MAX) {
            // Each run is entered anew, so that nobody waits for all of them.
            // SAFETY: the caller guarantees what `enter` needs.
            let ran = unsafe {
                self.domain
                    .enter(shard, |machine| self.run_on(machine, executor, &mut packet))
            };
            retval = ran.map_err(|fault| TestError::Fault(*fault))?;
            count += 1;
        }
        let duration = start.elapsed() / count;
        let given = given_context(run.context.as_deref().unwrap_or_default())?;
        let context = context_out(given, &packet.metadata, run.data.len());
        Ok(TestResult {
            retval,
            duration,
            data,
            context,
        })
    }
}

/// What travels beside the frame, by the context that the caller gave (test_run.c: `convert___skb_to_skb`).
fn metadata(frame: &[u8], given: &[u8]) -> Result<Metadata, TestError> {
    let context = given_context(given)?;
    let gso = (context.gso_size > 0).then_some(Gso {
        kind: GsoKind::TcpV4,
        size: context.gso_size as u16,
        segments: context.gso_segs as u16,
        header_len: 54,
        ecn: false,
        encapsulation: None,
    });
    Ok(Metadata {
        packet_type: packet_type(frame),
        mark: context.mark,
        queue_mapping: context.queue_mapping as u16,
        protocol: u16::from_be_bytes([frame[12], frame[13]]),
        vlan: None,
        priority: context.priority,
        ingress_ifindex: context.ingress_ifindex,
        ifindex: if context.ifindex == 0 {
            LOOPBACK
        } else {
            context.ifindex
        },
        tc_index: context.tc_index as u16,
        cb: context.cb,
        hash: context.hash,
        tc_classid: context.tc_classid,
        tstamp: context.tstamp,
        tstamp_type: 0,
        layers: Layers::default(),
        offload: Offload {
            gso,
            ..Offload::default()
        },
    })
}

/// The context that the caller gave; what it does not reach is zero.
fn given_context(given: &[u8]) -> Result<SkBuff, TestError> {
    let mut octets = [0; size_of::<SkBuff>()];
    let len = given.len().min(octets.len());
    octets[..len].copy_from_slice(&given[..len]);
    if given[len..].iter().any(|octet| *octet != 0) {
        return Err(TestError::Context);
    }
    // SAFETY: any octets are a context, and there are as many as one has.
    Ok(unsafe { octets.as_ptr().cast::<SkBuff>().read_unaligned() })
}

/// The context that the caller gets: its own, with what the kernel fills in (test_run.c: `convert_skb_to___skb`).
/// `len` is the frame's length before the run.
fn context_out(given: SkBuff, metadata: &Metadata, len: usize) -> Vec<u8> {
    let context = SkBuff {
        mark: metadata.mark,
        priority: metadata.priority,
        ingress_ifindex: metadata.ingress_ifindex,
        ifindex: metadata.ifindex,
        tstamp: metadata.tstamp,
        cb: metadata.cb,
        wire_len: if given.wire_len == 0 {
            len as u32
        } else {
            given.wire_len
        },
        gso_segs: metadata.offload.gso.map_or(0, |gso| u32::from(gso.segments)),
        ..given
    };
    // SAFETY: a context has no octets but those of its fields, padding included.
    unsafe { std::slice::from_raw_parts((&raw const context).cast::<u8>(), size_of::<SkBuff>()) }.to_vec()
}

/// Who a frame is addressed to, seen from a device with the address zero (eth.c: `eth_skb_pkt_type`).
fn packet_type(frame: &[u8]) -> u32 {
    const HOST: u32 = 0;
    const BROADCAST: u32 = 1;
    const MULTICAST: u32 = 2;
    const OTHER_HOST: u32 = 3;
    match &frame[..6] {
        [0, 0, 0, 0, 0, 0] => HOST,
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => BROADCAST,
        [first, ..] if first & 1 == 1 => MULTICAST,
        _ => OTHER_HOST,
    }
}
