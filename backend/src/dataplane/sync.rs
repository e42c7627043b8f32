//! What the cross-thread parts are built on. The model checker's tests put its own in their place.

pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Arc, Condvar, Mutex, MutexGuard};
