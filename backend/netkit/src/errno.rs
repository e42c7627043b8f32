//! The error numbers that netkit, rtnetlink and bpf(2) answer with.

use std::fmt;

/// An error number, named and numbered as in Linux' `errno.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Errno {
    /// Operation not permitted.
    EPERM = 1,
    /// No such file or directory.
    ENOENT = 2,
    /// No such device or address: the device is of another kind.
    ENXIO = 6,
    /// Cannot allocate memory.
    ENOMEM = 12,
    /// Permission denied.
    EACCES = 13,
    /// Device or resource busy.
    EBUSY = 16,
    /// File exists.
    EEXIST = 17,
    /// No such device.
    ENODEV = 19,
    /// Invalid argument.
    EINVAL = 22,
    /// File table overflow; `dev_alloc_name` says so when every number of a `%d` name is taken.
    ENFILE = 23,
    /// No space left on device.
    ENOSPC = 28,
    /// Numerical result out of range.
    ERANGE = 34,
    /// Machine is not on the network: there is no such domain.
    ENONET = 64,
    /// Link has been severed.
    ENOLINK = 67,
    /// Operation not supported.
    EOPNOTSUPP = 95,
    /// Cannot assign requested address.
    EADDRNOTAVAIL = 99,
    /// Network is down.
    ENETDOWN = 100,
    /// Stale file handle.
    ESTALE = 116,
}

impl Errno {
    /// The symbol, such as `"EEXIST"`.
    pub fn name(self) -> &'static str {
        match self {
            Errno::EPERM => "EPERM",
            Errno::ENOENT => "ENOENT",
            Errno::ENXIO => "ENXIO",
            Errno::ENOMEM => "ENOMEM",
            Errno::EACCES => "EACCES",
            Errno::EBUSY => "EBUSY",
            Errno::EEXIST => "EEXIST",
            Errno::ENODEV => "ENODEV",
            Errno::EINVAL => "EINVAL",
            Errno::ENFILE => "ENFILE",
            Errno::ENOSPC => "ENOSPC",
            Errno::ERANGE => "ERANGE",
            Errno::ENONET => "ENONET",
            Errno::ENOLINK => "ENOLINK",
            Errno::EOPNOTSUPP => "EOPNOTSUPP",
            Errno::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            Errno::ENETDOWN => "ENETDOWN",
            Errno::ESTALE => "ESTALE",
        }
    }

    /// The positive number, as in `errno.h`.
    pub fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_linux() {
        for (errno, number, name) in [
            (Errno::EPERM, 1, "EPERM"),
            (Errno::ENOENT, 2, "ENOENT"),
            (Errno::ENXIO, 6, "ENXIO"),
            (Errno::ENOMEM, 12, "ENOMEM"),
            (Errno::EACCES, 13, "EACCES"),
            (Errno::EBUSY, 16, "EBUSY"),
            (Errno::EEXIST, 17, "EEXIST"),
            (Errno::ENODEV, 19, "ENODEV"),
            (Errno::EINVAL, 22, "EINVAL"),
            (Errno::ENFILE, 23, "ENFILE"),
            (Errno::ENOSPC, 28, "ENOSPC"),
            (Errno::ERANGE, 34, "ERANGE"),
            (Errno::ENONET, 64, "ENONET"),
            (Errno::ENOLINK, 67, "ENOLINK"),
            (Errno::EOPNOTSUPP, 95, "EOPNOTSUPP"),
            (Errno::EADDRNOTAVAIL, 99, "EADDRNOTAVAIL"),
            (Errno::ENETDOWN, 100, "ENETDOWN"),
            (Errno::ESTALE, 116, "ESTALE"),
        ] {
            assert_eq!((errno.number(), errno.to_string().as_str()), (number, name));
        }
    }
}
