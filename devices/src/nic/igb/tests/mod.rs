//! The queues of a NIC whose registers and descriptors the tests write.

mod control;
mod filter;
mod receive;
mod transmit;
