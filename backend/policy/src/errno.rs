//! The errno that helpers and map operations answer with, as the kernel's do.

use std::fmt;

/// A positive errno.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident)+) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: Errno = Errno(libc::$name);)+

            /// Its symbol.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $(libc::$name => stringify!($name),)+
                    // The kernel's own ENOTSUPP has no symbol in user space.
                    524 => "ENOTSUPP",
                    _ => "errno",
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV EINVAL EFBIG ENOSPC
    EDOM ERANGE EDEADLK ENAMETOOLONG ENOSYS ELOOP EOVERFLOW EPROTO EMSGSIZE EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT
    ENETDOWN ENETUNREACH ENOBUFS EHOSTUNREACH EALREADY ESTALE ECANCELED
}

impl Errno {
    /// The kernel's own "not supported" (linux/errno.h), which leaks to programs.
    pub const ENOTSUPP: Errno = Errno(524);

    /// As a helper returns it: negative, in 64 bits.
    pub fn to_register(self) -> u64 {
        i64::from(-self.0) as u64
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "errno" => write!(f, "errno {}", self.0),
            name => f.write_str(name),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
