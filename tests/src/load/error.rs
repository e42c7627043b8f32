//! Why a run cannot be made, or came to nothing.

use std::io;
use std::path::PathBuf;

use super::ring::RingError;

/// What was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option that means nothing.
    #[error("{0}")]
    Options(String),
    /// The guest's memory.
    #[error(
        "cannot get {len} octets of memory for a guest: {source}; reserve huge pages or use --huge false"
    )]
    Memory { len: usize, source: io::Error },
    /// The connection.
    #[error(
        "cannot reach the back end at {path:?}: {source}; is it there, and on the right side of the socket?"
    )]
    Connect { path: PathBuf, source: io::Error },
    /// A message.
    #[error("the back end at {path:?} did not do {what}: {source}; see its log")]
    Message {
        path: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    /// A feature.
    #[error("the back end at {path:?} does not offer {feature}; it offers {offered:#x}")]
    Feature {
        path: PathBuf,
        feature: &'static str,
        offered: u64,
    },
    /// The two ends of a wire differ.
    #[error("the ports took different features, {0:#x} and {1:#x}; ask for them by option")]
    Unlike(u64, u64),
    /// A rule of virtio rings.
    #[error("the back end broke a ring: {0}")]
    Ring(#[from] RingError),
    /// A frame was made visible in parts (R4).
    #[error("the back end showed some buffers of a frame and not the rest")]
    Torn,
    /// A frame in more buffers than any has.
    #[error("the back end claims that a frame takes {0} buffers")]
    Buffers(usize),
    /// Frames do not come through.
    #[error(
        "no frame that was sent at {from} came out at {to} within {seconds} s; are the ports wired together?"
    )]
    NoWay {
        from: &'static str,
        to: &'static str,
        seconds: u64,
    },
    /// A call that was asked for and did not come.
    #[error("the back end delivered a frame and did not call, although it was to")]
    NoCall,
    /// The operating system.
    #[error("{0}")]
    System(#[from] io::Error),
}
