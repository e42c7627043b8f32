//! The guest-level tests of netkitd and what they stand on.

pub mod netkitd;
pub mod rig;
