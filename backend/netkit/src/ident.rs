//! The numbers by which devices, programs and links are known.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

macro_rules! ident {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

ident! {
    /// A device's interface index: 1 to 2147483647, unique in the daemon, handed out in rising order.
    Ifindex
}
ident! {
    /// A loaded program's id; 0 names none.
    ProgramId
}
ident! {
    /// A link's id: 1 and up, never used twice.
    LinkId
}

impl Ifindex {
    /// The largest.
    pub const MAX: Ifindex = Ifindex(i32::MAX as u32);

    /// An ifindex that a user gives.
    pub fn new(ifindex: u32) -> Result<Ifindex, Error> {
        if (1..=Self::MAX.0).contains(&ifindex) {
            Ok(Ifindex(ifindex))
        } else {
            Err(Error::IfindexInvalid { ifindex })
        }
    }
}
