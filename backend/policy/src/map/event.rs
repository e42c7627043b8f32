//! What programs tell those who listen.

/// A record of a ring buffer or a perf event array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The shard that made it.
    pub cpu: u32,
    /// Records of that shard that were lost in front of this one for want of room.
    pub lost: u64,
    /// What the program said.
    pub data: Vec<u8>,
}
