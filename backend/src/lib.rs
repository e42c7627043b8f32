//! netkitd: gives virtual machines netkit devices over vhost-user.

pub mod api;
pub mod daemon;
pub mod dataplane;
pub mod programs;
mod rtnetlink;
pub mod vhost_user;
