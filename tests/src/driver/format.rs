//! The two formats of a virtqueue, between which tests of everything else are not to see a difference.

use super::device::Setup;
use super::feature;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// virtio 1.3, 2.7.
    Split,
    /// virtio 1.3, 2.8.
    Packed,
}

impl Format {
    /// Both.
    pub const BOTH: [Format; 2] = [Format::Split, Format::Packed];

    /// The feature that says so.
    pub fn feature(self) -> u64 {
        match self {
            Format::Split => 0,
            Format::Packed => feature::RING_PACKED,
        }
    }

    /// What a current Linux guest chooses.
    pub fn linux(self) -> Setup {
        self.with(feature::LINUX)
    }

    /// A driver that takes nothing but what it must.
    pub fn plain(self) -> Setup {
        self.with(feature::VERSION_1)
    }

    /// A driver that takes these features.
    pub fn with(self, features: u64) -> Setup {
        Setup::with(features | self.feature())
    }

    /// The base of a ring that has just been set up (U8).
    pub fn start(self) -> u32 {
        match self {
            Format::Split => 0,
            Format::Packed => 1 << 15 | 1 << 31,
        }
    }
}

/// Makes of each of these functions, which take a [`Format`], two tests: `split::name` and `packed::name`.
#[macro_export]
macro_rules! in_both_formats {
    ($($name:ident),* $(,)?) => {
        mod split {
            $(#[test] fn $name() { super::$name(netkit_tests::driver::Format::Split) })*
        }
        mod packed {
            $(#[test] fn $name() { super::$name(netkit_tests::driver::Format::Packed) })*
        }
    };
}
