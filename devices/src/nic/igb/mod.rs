//! Intel's gigabit NICs of the 82576 family: the 82576, and its successors I350, I210 and I211.

mod control;
mod driver;
mod filter;
mod interrupts;
mod model;
mod offload;
mod receive;
mod registers;
#[cfg(test)]
mod tests;
mod transmit;

pub use driver::open;
pub use model::{Model, VENDOR};
