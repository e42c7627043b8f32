//! How long to wait: generous limits, stretched on slow machines by `NETKIT_TIMEOUT_SCALE`.

use std::env;
use std::time::{Duration, Instant};

/// From QEMU's start (or a reset) to the guest's ready line.
pub const BOOT: Duration = Duration::from_secs(180);

/// One shell command, unless the caller gives a limit of its own.
pub const COMMAND: Duration = Duration::from_secs(60);

/// One QMP reply.
pub const QMP: Duration = Duration::from_secs(30);

/// How often a condition without notification is looked at.
pub const POLL: Duration = Duration::from_millis(50);

/// The limit stretched for this machine.
pub fn scaled(limit: Duration) -> Duration {
    let scale = env::var("NETKIT_TIMEOUT_SCALE")
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    limit.mul_f64(scale.filter(|scale| *scale > 0.0).unwrap_or(1.0))
}

/// The moment at which the (scaled) limit is over.
pub fn deadline(limit: Duration) -> Instant {
    Instant::now() + scaled(limit)
}
