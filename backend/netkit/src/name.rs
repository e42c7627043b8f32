//! Device names: which are valid, which are taken, and how `%d` becomes a number.

use std::collections::HashMap;

use crate::{Error, Ifindex};

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

/// The names that are taken, and by which device.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: HashMap<String, Ifindex>,
    /// Every number below it is taken in [`DEFAULT`], so that thousands of devices that leave their names to the model
    /// are not counted through for each new one.
    lowest_default: u32,
}

impl Names {
    /// The device of that name.
    pub fn get(&self, name: &str) -> Option<Ifindex> {
        self.taken.get(name).copied()
    }

    /// Whether a device has that name.
    pub fn contains(&self, name: &str) -> bool {
        self.taken.contains_key(name)
    }

    /// Gives a device a name.
    pub fn insert(&mut self, name: String, ifindex: Ifindex) {
        self.taken.insert(name, ifindex);
        while self.taken.contains_key(&numbered(DEFAULT, self.lowest_default)) {
            self.lowest_default += 1;
        }
    }

    /// Takes a name back.
    pub fn remove(&mut self, name: &str) {
        self.taken.remove(name);
        let number = name.strip_prefix("nk").and_then(|number| number.parse().ok());
        self.lowest_default = self.lowest_default.min(number.unwrap_or(u32::MAX));
    }

    /// A name for a new device, as [`allocate`] makes it; `reserved` names are as good as taken.
    pub fn allocate(&self, wanted: &str, reserved: impl Fn(&str) -> bool) -> Result<String, Error> {
        let lowest = if wanted == DEFAULT { self.lowest_default } else { 0 };
        allocate(wanted, lowest, |name| self.contains(name) || reserved(name))
    }
}

fn numbered(template: &str, number: u32) -> String {
    template.replacen("%d", &number.to_string(), 1)
}

/// The name a device gets: `wanted` itself, or with its one `%d` replaced by the lowest number that
/// is free (dev.c: `dev_get_valid_name`). All numbers below `lowest` are known to be taken.
fn allocate(wanted: &str, lowest: u32, taken: impl Fn(&str) -> bool) -> Result<String, Error> {
    if !wanted.contains("%d") {
        validate(wanted)?;
        return if taken(wanted) {
            Err(Error::NameTaken {
                name: wanted.to_owned(),
            })
        } else {
            Ok(wanted.to_owned())
        };
    }
    if wanted.len() > NAME_MAX {
        let reason = "it is longer than 15 octets";
        return Err(Error::NameInvalid {
            name: wanted.to_owned(),
            reason,
        });
    }
    validate(&numbered(wanted, 0))?;
    (lowest..NUMBERS)
        .map(|number| numbered(wanted, number))
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
        allocate(name, 0, |_| false).unwrap_err().errno()
    }

    #[test]
    fn valid_names_are_taken_as_they_are() {
        for name in ["nk0", "a", "eth0.100", "exactly15octets", "-x", "ü"] {
            assert_eq!(allocate(name, 0, |_| false).unwrap(), name);
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
            allocate("nk0", 0, |name| name == "nk0").unwrap_err().errno(),
            Errno::EEXIST
        );
    }

    #[test]
    fn percent_d_becomes_the_lowest_free_number() {
        assert_eq!(allocate("nk%d", 0, |_| false).unwrap(), "nk0");
        assert_eq!(
            allocate("nk%d", 0, |name| name == "nk0" || name == "nk2").unwrap(),
            "nk1"
        );
        assert_eq!(allocate("a%db", 0, |name| name == "a0b").unwrap(), "a1b");
    }

    #[test]
    fn numbers_run_out_with_enfile() {
        assert_eq!(allocate("nk%d", 0, |_| true).unwrap_err().errno(), Errno::ENFILE);
        assert_eq!(
            allocate("thirteen-oct%d", 0, |name| name.len() < 14).unwrap(),
            "thirteen-oct10"
        );
        assert_eq!(
            allocate("fourteen-octe%d", 0, |name| name.len() < 16)
                .unwrap_err()
                .errno(),
            Errno::ENFILE
        );
    }

    #[test]
    fn the_lowest_free_number_is_found_after_removals() {
        let mut names = Names::default();
        let add = |names: &mut Names| {
            let name = names.allocate(DEFAULT, |_| false).unwrap();
            names.insert(name.clone(), Ifindex(1));
            name
        };
        names.insert("nk1".to_owned(), Ifindex(1));
        assert_eq!([add(&mut names), add(&mut names)], ["nk0", "nk2"]);
        assert_eq!(names.allocate(DEFAULT, |name| name == "nk3").unwrap(), "nk4");
        names.remove("nk1");
        names.remove("nkx");
        assert_eq!([add(&mut names), add(&mut names)], ["nk1", "nk3"]);
        names.remove("nk03");
        assert_eq!(add(&mut names), "nk4");
    }
}
