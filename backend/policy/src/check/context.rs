//! Which accesses to the context programs may make (filter.c: `tc_cls_act_is_valid_access`, `bpf_skb_is_valid_access`).

use std::fmt;

use crate::context::SkBuff;
use crate::{Instruction, class, mode, size};

/// An access to the context that programs may not make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Octets from the start of `struct __sk_buff`.
    pub offset: i32,
    /// Octets of the access.
    pub size: u8,
    /// The field, if there is one.
    pub field: Option<&'static str>,
    /// What may be done with it.
    pub allowed: &'static str,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denied { offset, size, .. } = self;
        write!(f, "invalid bpf_context access off={offset} size={size}: ")?;
        match self.field {
            Some(field) => write!(f, "{field} {}", self.allowed),
            None => f.write_str(self.allowed),
        }
    }
}

/// What may be done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Reads of up to four octets.
    Read,
    /// As `Read`, and writes of four octets.
    ReadWrite,
    /// Any aligned access.
    Any,
    /// Reads of four octets that extend no sign.
    Address,
    /// Reads of eight octets.
    ReadLong,
    /// Accesses of eight octets.
    Long,
    /// Reads of one octet.
    Octet,
    /// Nothing.
    Nothing,
}

impl Use {
    fn allows(self, access: Access) -> bool {
        let Access { size, write, .. } = access;
        match self {
            Use::Read => !write && size <= 4,
            Use::ReadWrite => size == 4 || (!write && size < 4),
            Use::Any => true,
            Use::Address => !write && size == 4 && !access.signed,
            Use::ReadLong => !write && size == 8,
            Use::Long => size == 8,
            Use::Octet => !write && size == 1,
            Use::Nothing => false,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Use::Read => "may be read, up to 4 aligned octets at a time, and not written",
            Use::ReadWrite => {
                "may be read, up to 4 aligned octets at a time, and written, 4 octets at a time"
            }
            Use::Any => "may be read and written at aligned offsets",
            Use::Address => "may be read, 4 octets at a time, and not written",
            Use::ReadLong => "may be read, 8 octets at a time, and not written",
            Use::Long => "may be read and written, 8 octets at a time",
            Use::Octet => "may be read, 1 octet at a time, and not written",
            Use::Nothing => "may be neither read nor written by netkit programs",
        }
    }
}

/// The fields of `struct __sk_buff`, each up to where the next one starts.
const FIELDS: [(i32, &str, Use); 35] = [
    (0, "len", Use::Read),
    (4, "pkt_type", Use::Read),
    (8, "mark", Use::ReadWrite),
    (12, "queue_mapping", Use::ReadWrite),
    (16, "protocol", Use::Read),
    (20, "vlan_present", Use::Read),
    (24, "vlan_tci", Use::Read),
    (28, "vlan_proto", Use::Read),
    (32, "priority", Use::ReadWrite),
    (36, "ingress_ifindex", Use::Read),
    (40, "ifindex", Use::Read),
    (44, "tc_index", Use::ReadWrite),
    (48, "cb", Use::Any),
    (68, "hash", Use::Read),
    (72, "tc_classid", Use::ReadWrite),
    (76, "data", Use::Address),
    (80, "data_end", Use::Address),
    (84, "napi_id", Use::Read),
    (88, "family", Use::Nothing),
    (92, "remote_ip4", Use::Nothing),
    (96, "local_ip4", Use::Nothing),
    (100, "remote_ip6", Use::Nothing),
    (116, "local_ip6", Use::Nothing),
    (132, "remote_port", Use::Nothing),
    (136, "local_port", Use::Nothing),
    (140, "data_meta", Use::Address),
    (144, "flow_keys", Use::Nothing),
    (152, "tstamp", Use::Long),
    (160, "wire_len", Use::Read),
    (164, "gso_segs", Use::Read),
    (168, "sk", Use::ReadLong),
    (176, "gso_size", Use::Read),
    (180, "tstamp_type", Use::Octet),
    (181, "the padding behind tstamp_type", Use::Nothing),
    (184, "hwtstamp", Use::ReadLong),
];

/// A load or store.
#[derive(Debug, Clone, Copy)]
struct Access {
    size: u8,
    write: bool,
    signed: bool,
}

/// Checks an access of an instruction to the context, at an offset from its start.
pub(super) fn check(instruction: Instruction, offset: i32) -> Result<(), Denied> {
    let access = Access {
        size: size::octets(instruction.opcode),
        write: instruction.class() != class::LDX,
        signed: instruction.opcode & 0xe0 == mode::MEMSX,
    };
    let denied = |field, allowed| {
        Err(Denied {
            offset,
            size: access.size,
            field,
            allowed,
        })
    };
    if !(0..size_of::<SkBuff>() as i32).contains(&offset) {
        return denied(None, "the context has 192 octets");
    }
    let place = FIELDS.partition_point(|(start, ..)| *start <= offset) - 1;
    let (_, name, rule) = FIELDS[place];
    let end = FIELDS
        .get(place + 1)
        .map_or(size_of::<SkBuff>() as i32, |(start, ..)| *start);
    // verifier.c: check_atomic_rmw
    if instruction.opcode & 0xe0 == mode::ATOMIC {
        return denied(Some(name), "takes no atomic operations");
    }
    let size = i32::from(access.size);
    if offset % size != 0 || offset + size > end || !rule.allows(access) {
        return denied(Some(name), rule.text());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(size: u8) -> Instruction {
        Instruction {
            opcode: class::LDX | mode::MEM | size,
            ..Instruction::default()
        }
    }

    fn store(size: u8) -> Instruction {
        Instruction {
            opcode: class::STX | mode::MEM | size,
            ..Instruction::default()
        }
    }

    #[test]
    fn fields_lie_where_the_context_has_them() {
        let place = |name| FIELDS.iter().find(|field| field.1 == name).unwrap().0 as usize;
        assert_eq!(place("mark"), std::mem::offset_of!(SkBuff, mark));
        assert_eq!(place("cb"), std::mem::offset_of!(SkBuff, cb));
        assert_eq!(place("family"), std::mem::offset_of!(SkBuff, socket));
        assert_eq!(place("data_meta"), std::mem::offset_of!(SkBuff, data_meta));
        assert_eq!(place("sk"), std::mem::offset_of!(SkBuff, sk));
        assert_eq!(place("tstamp_type"), std::mem::offset_of!(SkBuff, tstamp_type));
        assert_eq!(place("hwtstamp"), std::mem::offset_of!(SkBuff, hwtstamp));
    }

    #[test]
    fn a_denied_access_says_what_is_allowed() {
        let denied = check(load(size::W), 88).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "invalid bpf_context access off=88 size=4: family may be neither read nor written by netkit programs"
        );
        let denied = check(store(size::H), 8).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "invalid bpf_context access off=8 size=2: mark may be read, up to 4 aligned octets at a time, and \
             written, 4 octets at a time"
        );
    }

    #[test]
    fn accesses_are_allowed_as_the_kernel_allows_them() {
        let allowed = [
            (load(size::W), 0),
            (load(size::B), 3),
            (load(size::H), 18),
            (store(size::W), 12),
            (store(size::B), 67),
            (store(size::DW), 48),
            (load(size::DW), 56),
            (load(size::W), 76),
            (load(size::DW), 152),
            (store(size::DW), 152),
            (load(size::DW), 168),
            (load(size::B), 180),
            (load(size::DW), 184),
        ];
        for (instruction, offset) in allowed {
            assert_eq!(check(instruction, offset), Ok(()), "{offset}");
        }
        let denied = [
            (load(size::W), -4),
            (load(size::B), 192),
            (load(size::H), 1),
            (load(size::DW), 0),
            (store(size::W), 0),
            (store(size::W), 4),
            (store(size::H), 44),
            (load(size::DW), 64),
            (load(size::H), 76),
            (store(size::W), 80),
            (load(size::W), 136),
            (load(size::DW), 144),
            (load(size::W), 152),
            (load(size::W), 168),
            (store(size::DW), 168),
            (load(size::H), 180),
            (store(size::B), 180),
            (load(size::B), 181),
            (load(size::W), 184),
            (store(size::DW), 184),
        ];
        for (instruction, offset) in denied {
            assert!(check(instruction, offset).is_err(), "{offset}");
        }
    }
}
