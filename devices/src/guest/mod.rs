//! A guest's network device: virtio-net seen from behind its virtqueues.

mod alarm;
mod features;
mod notifier;
mod port;
mod queue;
mod receive;
mod transmit;

pub use features::{NetFeatures, OFFERED};
pub use notifier::{Notifier, NotifierError, check_eventfd};
pub use port::{GuestPort, MAX_QUEUE_PAIRS};
pub use queue::{Queue, QueueGuard, QueueState};
pub use receive::ReceiveBurst;
pub use transmit::{Transmitted, transmit};
