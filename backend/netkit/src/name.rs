//! Device names: which are valid, and how `%d` becomes a number.

use crate::Error;

/// Most octets in a device name (`IFNAMSIZ - 1`).
pub const NAME_MAX: usize = 15;

/// The name a device gets when none is asked for (netkit.c: `netkit_new_link`).
pub(crate) const DEFAULT: &str = "nk%d";

/// Numbers that `%d` can become (dev.c: `__dev_alloc_name`, eight bits for each octet of a page).
const NUMBERS: u32 = 8 * 4096;

/// Checks a device's name (dev.c: `dev_valid_name`).
pub(crate) fn validate(name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "it is longer than 15 octets"
    } else if name == "." || name == ".." {
        "it is a directory"
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "it holds a slash, a colon, whitespace or a control character"
    } else if name.contains('%') {
        "a percent sign may only be part of one %d"
    } else {
        return Ok(());
    };
    Err(Error::NameInvalid {
        name: name.to_owned(),
        reason,
    })
}

/// The name a device gets: `wanted` itself, or with its one `%d` replaced by the lowest number that
/// is free (dev.c: `dev_get_valid_name`).
pub(crate) fn allocate(wanted: &str, taken: impl Fn(&str) -> bool) -> Result<String, Error> {
    let Some((prefix, suffix)) = wanted.split_once("%d") else {
        validate(wanted)?;
        return if taken(wanted) {
            Err(Error::NameTaken {
                name: wanted.to_owned(),
            })
        } else {
            Ok(wanted.to_owned())
        };
    };
    let numbered = |number: u32| format!("{prefix}{number}{suffix}");
    if wanted.len() > NAME_MAX {
        let reason = "it is longer than 15 octets";
        return Err(Error::NameInvalid {
            name: wanted.to_owned(),
            reason,
        });
    }
    validate(&numbered(0))?;
    (0..NUMBERS)
        .map(numbered)
        .take_while(|name| name.len() <= NAME_MAX)
        .find(|name| !taken(name))
        .ok_or_else(|| Error::NamesExhausted {
            template: wanted.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;

    fn errno(name: &str) -> Errno {
        allocate(name, |_| false).unwrap_err().errno()
    }

    #[test]
    fn valid_names_are_taken_as_they_are() {
        for name in ["nk0", "a", "eth0.100", "exactly15octets", "-x", "ü"] {
            assert_eq!(allocate(name, |_| false).unwrap(), name);
        }
    }

    #[test]
    fn invalid_names_are_einval() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:1",
            "a b",
            "a\tb",
            "sixteen-octets-x",
            "a%",
            "%s",
            "%d%d",
            "%%d",
            "d%",
        ] {
            assert_eq!(errno(name), Errno::EINVAL, "{name:?}");
        }
    }

    #[test]
    fn a_taken_name_is_eexist() {
        assert_eq!(
            allocate("nk0", |name| name == "nk0").unwrap_err().errno(),
            Errno::EEXIST
        );
    }

    #[test]
    fn percent_d_becomes_the_lowest_free_number() {
        assert_eq!(allocate("nk%d", |_| false).unwrap(), "nk0");
        assert_eq!(
            allocate("nk%d", |name| name == "nk0" || name == "nk2").unwrap(),
            "nk1"
        );
        assert_eq!(allocate("a%db", |name| name == "a0b").unwrap(), "a1b");
    }

    #[test]
    fn numbers_run_out_with_enfile() {
        assert_eq!(allocate("nk%d", |_| true).unwrap_err().errno(), Errno::ENFILE);
        assert_eq!(
            allocate("thirteen-oct%d", |name| name.len() < 14).unwrap(),
            "thirteen-oct10"
        );
        assert_eq!(
            allocate("fourteen-octe%d", |name| name.len() < 16)
                .unwrap_err()
                .errno(),
            Errno::ENFILE
        );
    }
}
