//! What the names of sections say (libbpf's `SEC()`).

/// What code in a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Functions that programs call.
    Text,
    /// Programs of the kind that is run here.
    Program,
    /// Programs of another kind.
    Other,
}

/// Sections of programs that get a frame and return a verdict on it.
const PROGRAMS: [&str; 6] = [
    "tc",
    "tcx",
    "classifier",
    "action",
    "netkit/primary",
    "netkit/peer",
];

/// What somebody may write whose section is not one of them.
pub(super) const EXPECTED: &str = "SEC(\"netkit/primary\"), SEC(\"netkit/peer\"), SEC(\"tc\"), SEC(\"tcx/…\"), SEC(\"classifier\") or SEC(\"action\")";

impl Purpose {
    /// What code in the section is for.
    pub fn of(section: &str) -> Purpose {
        let name = plain_name(section);
        if name == ".text" || name.starts_with(".text.") {
            Purpose::Text
        } else if PROGRAMS.iter().any(|kind| is_kind(name, kind)) {
            Purpose::Program
        } else {
            Purpose::Other
        }
    }
}

/// A section's name without the mark of those that are not loaded unless somebody asks for them.
pub(super) fn plain_name(section: &str) -> &str {
    section.strip_prefix('?').unwrap_or(section)
}

/// Whether the programs of a section need not be loaded.
pub(super) fn is_optional(section: &str) -> bool {
    section.starts_with('?')
}

/// Whether a section is of data that programs find at its address.
pub(super) fn is_data(section: &str) -> bool {
    [".data", ".rodata", ".bss"]
        .iter()
        .any(|kind| section == *kind || section.starts_with(kind) && section[kind.len()..].starts_with('.'))
}

/// Whether a section is of data that programs cannot change.
pub(super) fn is_read_only(section: &str) -> bool {
    section.starts_with(".rodata")
}

fn is_kind(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_tc_and_netkit_hold_programs() {
        for name in [
            "tc",
            "?tc",
            "tc/ingress",
            "tc/egress",
            "tcx/ingress",
            "tcx/egress",
            "tcx/other",
            "classifier",
            "classifier/x",
            "action",
            "action/x",
            "netkit/primary",
            "netkit/peer",
            "?netkit/peer",
        ] {
            assert_eq!(Purpose::of(name), Purpose::Program, "{name}");
        }
    }

    #[test]
    fn sections_of_other_kinds_do_not() {
        for name in [
            "xdp",
            "kprobe/x",
            "netkit",
            "tcp",
            "classifier_x",
            "",
            "??tc",
            "license",
        ] {
            assert_eq!(Purpose::of(name), Purpose::Other, "{name}");
        }
        assert_eq!(Purpose::of(".text"), Purpose::Text);
    }

    #[test]
    fn data_sections_are_known_with_suffixes() {
        for name in [".data", ".bss", ".rodata", ".data.x", ".rodata.str1.1", ".bss.y"] {
            assert!(is_data(name), "{name}");
        }
        for name in [".database", "data", ".maps", ".rodata1", ""] {
            assert!(!is_data(name), "{name}");
        }
    }
}
