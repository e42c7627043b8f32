//! The kernel's netkit beside netkitd: the same scenarios run on both, and what is observed is compared.

mod bpf;
mod daemon;
mod machine;
mod netlink;
pub mod scenario;
mod tap;

pub use daemon::Daemon;
pub use machine::Kernel;
