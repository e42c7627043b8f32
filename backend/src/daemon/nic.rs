//! From what is asked for to a NIC.

use devices::nic::tap::{self, MacvlanMode};
use devices::nic::vfio::{self, VfioConfig};
use devices::nic::xdp::{self, Mode, XdpConfig};
use devices::nic::{Nic, NicError, kernel};
use netkit_api as api;
use netkit_api::NicSpec;

/// Opens a NIC. `workers` is how many threads there are to serve it.
pub fn open(spec: &NicSpec, workers: usize) -> Result<Nic, NicError> {
    match spec {
        NicSpec::Kernel(spec) => kernel::open(&spec.ifname, spec.queues.unwrap_or(1)),
        NicSpec::Tap(spec) => tap::open_tap(&spec.ifname, spec.queues.unwrap_or(1)),
        NicSpec::Macvtap(spec) => {
            let lower = spec
                .lower
                .as_deref()
                .map(|lower| (lower, macvlan_mode(spec.mode)));
            tap::open_macvtap(&spec.ifname, lower, spec.queues.unwrap_or(1))
        }
        NicSpec::AfXdp(spec) => xdp::open(&XdpConfig {
            ifname: spec.ifname.clone(),
            first_queue: spec.queue,
            queues: spec.queues.unwrap_or(1),
            mode: match spec.mode {
                api::AfXdpMode::Auto => Mode::Auto,
                api::AfXdpMode::ZeroCopy => Mode::ZeroCopy,
                api::AfXdpMode::Copy => Mode::Copy,
            },
            busy_poll: spec.busy_poll,
        }),
        NicSpec::Vfio(spec) => vfio::open(&VfioConfig {
            address: spec.address.parse().map_err(|_| {
                let hint = "use an address such as 0000:03:00.0";
                NicError::new("find the PCI device", &spec.address, libc::EINVAL, hint)
            })?,
            queues: spec.queues.unwrap_or(workers as u16),
            unsafe_noiommu: spec.unsafe_noiommu,
        }),
    }
}

/// The number of the first hardware queue that is ours.
pub fn first_queue(spec: &NicSpec) -> u32 {
    match spec {
        NicSpec::AfXdp(spec) => spec.queue,
        _ => 0,
    }
}

/// Whether its queues can be leased: they are the hardware's, and only ours.
pub fn is_leasable(spec: &NicSpec) -> bool {
    matches!(spec, NicSpec::AfXdp(_) | NicSpec::Vfio(_))
}

/// What the NIC is called on the host.
pub fn name(spec: &NicSpec) -> &str {
    match spec {
        NicSpec::Kernel(spec) => &spec.ifname,
        NicSpec::Tap(spec) => &spec.ifname,
        NicSpec::Macvtap(spec) => &spec.ifname,
        NicSpec::AfXdp(spec) => &spec.ifname,
        NicSpec::Vfio(spec) => &spec.address,
    }
}

fn macvlan_mode(mode: api::MacvtapMode) -> MacvlanMode {
    match mode {
        api::MacvtapMode::Bridge => MacvlanMode::Bridge,
        api::MacvtapMode::Vepa => MacvlanMode::Vepa,
        api::MacvtapMode::Private => MacvlanMode::Private,
        api::MacvtapMode::Passthru => MacvlanMode::Passthru,
    }
}
