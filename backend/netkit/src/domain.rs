//! Domains, which stand for network namespaces in netkit's rules.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The name of a domain. Cheap to clone; equal names are the same domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Arc<str>);

impl Domain {
    /// Most octets in a name.
    pub const NAME_MAX: usize = 128;

    /// A domain by name: 1 to 128 octets, neither `.` nor `..`, without `/`, whitespace or control
    /// characters (the names `ip netns` can have).
    pub fn new(name: &str) -> Result<Domain, Error> {
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > Self::NAME_MAX {
            "it is longer than 128 octets"
        } else if name == "." || name == ".." {
            "it is a directory"
        } else if name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            "it holds a slash, whitespace or a control character"
        } else {
            return Ok(Domain(name.into()));
        };
        Err(Error::DomainInvalid {
            name: name.to_owned(),
            reason,
        })
    }

    /// The daemon's own domain, where primaries are unless told otherwise.
    pub fn host() -> Domain {
        Domain("host".into())
    }

    /// A domain whose name the model chose.
    pub(crate) fn own(name: &str) -> Domain {
        Domain(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for Domain {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Domain::new(&name)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> String {
        domain.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;

    #[test]
    fn names_are_those_of_ip_netns() {
        for name in ["host", "foo", "tenant-a.vm_1", "cni-0a:1@x", &"x".repeat(128)] {
            assert_eq!(Domain::new(name).unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a/b", "a b", "a\n", "\0", &"x".repeat(129)] {
            assert_eq!(Domain::new(name).unwrap_err().errno(), Errno::EINVAL, "{name:?}");
        }
    }
}
