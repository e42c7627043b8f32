//! Boots real guests under QEMU and drives them: the ground on which the guest-level tests stand.
//!
//! ```no_run
//! use netkit_tests::rig::{Guest, GuestConfig, Nic, Shell, ping};
//!
//! let a = Guest::start(GuestConfig::new("a").nic(Nic::vhost_user("/run/netkit/a.sock")))?;
//! let b = Guest::start(GuestConfig::new("b").nic(Nic::vhost_user("/run/netkit/b.sock")))?;
//! a.set_up("eth0", &["10.0.0.1/24"])?;
//! b.set_up("eth0", &["10.0.0.2/24"])?;
//! assert_eq!(ping(&a, "10.0.0.2", 3)?.received, 3);
//! # Ok::<(), netkit_tests::rig::Error>(())
//! ```

mod agent;
pub mod cloud_hypervisor;
mod config;
mod error;
mod guest;
pub mod image;
mod iperf;
mod libraries;
mod nested;
mod newc;
mod nic;
pub mod outer;
mod ping;
mod process;
mod qmp;
mod shell;
mod time;
mod wire;

pub(crate) use agent::base64;
pub use config::{Accel, GuestConfig, Kernel};
pub use error::{Error, Result};
pub use guest::Guest;
pub use image::GuestFile;
pub use iperf::{Iperf, IperfResult};
pub use nested::Nested;
pub use nic::Nic;
pub use ping::{PingResult, ping, ping6};
pub use process::Process;
pub use shell::{Output, Shell};
