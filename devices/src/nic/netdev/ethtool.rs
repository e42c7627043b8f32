//! The commands of SIOCETHTOOL, as they lie in memory (linux/ethtool.h).

use crate::packet::MacAddress;

const GET_DRIVER_INFO: u32 = 0x03;
/// ETHTOOL_GFLAGS
pub(super) const GET_FLAGS: u32 = 0x25;
/// ETHTOOL_SFLAGS
pub(super) const SET_FLAGS: u32 = 0x26;
/// ETHTOOL_GRXRINGS
pub(super) const GET_RX_RINGS: u32 = 0x2d;
/// ETHTOOL_GRXCLSRLCNT
pub(super) const GET_RULE_COUNT: u32 = 0x2e;
/// ETHTOOL_GRXCLSRLALL
pub(super) const GET_RULES: u32 = 0x30;
/// ETHTOOL_SRXCLSRLDEL
pub(super) const DELETE_RULE: u32 = 0x31;
/// ETHTOOL_SRXCLSRLINS
pub(super) const INSERT_RULE: u32 = 0x32;
/// ETHTOOL_GRXFHINDIR
pub(super) const GET_SPREAD: u32 = 0x38;
/// ETHTOOL_SRXFHINDIR
pub(super) const SET_SPREAD: u32 = 0x39;
const GET_CHANNELS: u32 = 0x3c;
/// ETHTOOL_SCHANNELS
pub(super) const SET_CHANNELS: u32 = 0x3d;
const GET_LINK_SETTINGS: u32 = 0x4c;

/// ETH_FLAG_RXVLAN
pub(super) const FLAG_RX_VLAN: u32 = 1 << 8;
/// ETH_FLAG_NTUPLE
pub(super) const FLAG_NTUPLE: u32 = 1 << 27;
/// RX_CLS_LOC_ANY
pub(super) const LOCATION_ANY: u32 = u32::MAX;
/// RX_CLS_LOC_SPECIAL
pub(super) const LOCATION_SPECIAL: u64 = 0x8000_0000;
/// SPEED_UNKNOWN
pub(super) const SPEED_UNKNOWN: u32 = u32::MAX;

const ETHER_FLOW: u32 = 0x12;
/// Where `rule_cnt` and `rule_locs` of `struct ethtool_rxnfc` are, in words.
const RULE_COUNT: usize = 46;
const RULE_LOCATIONS: usize = 47;
/// The kernel says how many words of a link mode mask it wants; there are three kinds of masks, and one octet tells.
const MASK_WORDS: usize = 3 * 127;

/// What the kernel reads, and may write back to.
///
/// # Safety
/// What `pointer` points to starts with the command's number and is as long as the kernel takes it to be for that number.
pub(super) unsafe trait Command {
    /// Where it lies.
    fn pointer(&mut self) -> *mut u8;
}

/// A command of one length.
macro_rules! command {
    ($($name:ty),*) => {
        $(
            // SAFETY: the layout is the kernel's, and a value can only be made with a number for which it is.
            unsafe impl Command for $name {
                fn pointer(&mut self) -> *mut u8 {
                    (&raw mut *self).cast()
                }
            }
        )*
    };
}

command!(DriverInfo, Channels, LinkSettings, Value, RxClassification);

/// `struct ethtool_drvinfo`
#[derive(Debug)]
#[repr(C)]
pub(super) struct DriverInfo {
    command: u32,
    /// The driver's name, ended by a zero.
    pub(super) driver: [u8; 32],
    /// Versions, the bus and counts, none of which matters.
    others: [u8; 160],
}

/// `struct ethtool_channels`
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Channels {
    pub(super) command: u32,
    pub(super) max_rx: u32,
    max_tx: u32,
    max_other: u32,
    pub(super) max_combined: u32,
    pub(super) rx: u32,
    tx: u32,
    other: u32,
    pub(super) combined: u32,
}

/// `struct ethtool_link_settings`, with room for its masks.
#[derive(Debug)]
#[repr(C)]
pub(super) struct LinkSettings {
    command: u32,
    /// In Mbit/s.
    pub(super) speed: u32,
    others: [u8; 7],
    /// Words of one mask; negative if the kernel wants another number.
    pub(super) masks_len: i8,
    reserved: [u32; 8],
    masks: [u32; MASK_WORDS],
}

/// `struct ethtool_value`
#[derive(Debug)]
#[repr(C)]
pub(super) struct Value {
    pub(super) command: u32,
    pub(super) data: u32,
}

/// `struct ethtool_rxnfc` without what may follow.
#[derive(Debug)]
#[repr(C)]
pub(super) struct RxClassification {
    pub(super) command: u32,
    flow_type: u32,
    pub(super) data: u64,
    pub(super) rule: FlowRule,
    pub(super) rule_count: u32,
}

/// `struct ethtool_rx_flow_spec`
#[derive(Debug)]
#[repr(C)]
pub(super) struct FlowRule {
    flow_type: u32,
    fields: FlowFields,
    masks: FlowFields,
    padding: u32,
    queue: u64,
    pub(super) location: u32,
    padding_behind: u32,
}

/// `union ethtool_flow_union` as `struct ethhdr`, and `struct ethtool_flow_ext`.
#[derive(Debug)]
#[repr(C)]
struct FlowFields {
    destination: [u8; 6],
    source: [u8; 6],
    ethertype: [u8; 2],
    others: [u8; 38],
    extension: [u32; 5],
}

impl Default for DriverInfo {
    fn default() -> Self {
        DriverInfo {
            command: GET_DRIVER_INFO,
            driver: [0; 32],
            others: [0; 160],
        }
    }
}

impl Default for Channels {
    fn default() -> Self {
        Channels {
            command: GET_CHANNELS,
            max_rx: 0,
            max_tx: 0,
            max_other: 0,
            max_combined: 0,
            rx: 0,
            tx: 0,
            other: 0,
            combined: 0,
        }
    }
}

impl Default for LinkSettings {
    fn default() -> Self {
        LinkSettings {
            command: GET_LINK_SETTINGS,
            speed: 0,
            others: [0; 7],
            masks_len: 0,
            reserved: [0; 8],
            masks: [0; MASK_WORDS],
        }
    }
}

impl RxClassification {
    /// A command that needs nothing else to be said.
    pub(super) fn new(command: u32) -> RxClassification {
        let none = || FlowFields {
            destination: [0; 6],
            source: [0; 6],
            ethertype: [0; 2],
            others: [0; 38],
            extension: [0; 5],
        };
        RxClassification {
            command,
            flow_type: 0,
            data: 0,
            rule: FlowRule {
                flow_type: 0,
                fields: none(),
                masks: none(),
                padding: 0,
                queue: 0,
                location: 0,
                padding_behind: 0,
            },
            rule_count: 0,
        }
    }

    /// `flow-type ether dst ADDRESS action QUEUE loc LOCATION`.
    pub(super) fn insert(address: MacAddress, queue: u32, location: u32) -> RxClassification {
        let mut command = RxClassification::new(INSERT_RULE);
        command.rule.flow_type = ETHER_FLOW;
        command.rule.fields.destination = address.0;
        command.rule.masks.destination = [0xff; 6];
        command.rule.queue = u64::from(queue);
        command.rule.location = location;
        command
    }

    /// `delete LOCATION`.
    pub(super) fn delete(location: u32) -> RxClassification {
        let mut command = RxClassification::new(DELETE_RULE);
        command.rule.location = location;
        command
    }
}

/// A command that ends in a table, as 32-bit words in the order of their places.
#[derive(Debug)]
pub(super) struct Words(Vec<u32>);

// SAFETY: the words are made with a number and a count of entries that say how many there are.
unsafe impl Command for Words {
    fn pointer(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

impl Words {
    /// `struct ethtool_rxfh_indir` with a table: of how many entries the device's is, if this one is empty.
    pub(super) fn spread(command: u32, table: &[u32]) -> Words {
        Words([&[command, table.len() as u32], table].concat())
    }

    /// How many entries the device's table has.
    pub(super) fn spread_len(&self) -> usize {
        self.0[1] as usize
    }

    /// The entries of the table.
    pub(super) fn spread_table(&self) -> &[u32] {
        &self.0[2..]
    }

    /// `struct ethtool_rxnfc` with room for the locations of this many rules, which asks for all of them.
    pub(super) fn rules(count: u32) -> Words {
        let mut words = vec![0; RULE_LOCATIONS + count as usize];
        (words[0], words[RULE_COUNT]) = (GET_RULES, count);
        Words(words)
    }

    /// How many rules there may be.
    pub(super) fn rules_max(&self) -> u32 {
        // The device's number fits in half of the field.
        let [low, high] = [self.0[2], self.0[3]];
        if cfg!(target_endian = "little") { low } else { high }
    }

    /// Where there are rules.
    pub(super) fn rule_locations(&self) -> &[u32] {
        let locations = &self.0[RULE_LOCATIONS..];
        &locations[..locations.len().min(self.0[RULE_COUNT] as usize)]
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn layouts_are_those_of_the_kernel() {
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<Channels>(), 36);
        assert_eq!(size_of::<LinkSettings>(), 48 + 4 * MASK_WORDS);
        assert_eq!(offset_of!(LinkSettings, masks_len), 15);
        assert_eq!(offset_of!(LinkSettings, masks), 48);
        assert_eq!(size_of::<Value>(), 8);
        assert_eq!(size_of::<FlowRule>(), 168);
        assert_eq!(offset_of!(FlowRule, masks), 76);
        assert_eq!(offset_of!(FlowRule, queue), 152);
        assert_eq!(offset_of!(FlowRule, location), 160);
        assert_eq!(size_of::<RxClassification>(), 192);
        assert_eq!(offset_of!(RxClassification, rule), 16);
        assert_eq!(offset_of!(RxClassification, rule_count), 4 * RULE_COUNT);
    }

    #[test]
    fn a_rule_has_the_address_and_all_of_its_bits() {
        let mut command = RxClassification::insert(MacAddress([2, 3, 4, 5, 6, 7]), 9, 5);
        // SAFETY: the structure has no padding between the fields that are looked at, and zeroes elsewhere.
        let octets = unsafe { std::slice::from_raw_parts(command.pointer(), 184) };
        assert_eq!(octets[..4], 0x32u32.to_ne_bytes());
        assert_eq!(octets[16..20], 0x12u32.to_ne_bytes());
        assert_eq!(octets[20..26], [2, 3, 4, 5, 6, 7]);
        assert_eq!(octets[92..98], [0xff; 6]);
        assert!(octets[98..168].iter().all(|octet| *octet == 0));
        assert_eq!(octets[168..176], 9u64.to_ne_bytes());
        assert_eq!(octets[176..180], 5u32.to_ne_bytes());
    }

    #[test]
    fn tables_stand_behind_their_commands() {
        let spread = Words::spread(SET_SPREAD, &[1, 2, 1]);
        assert_eq!(spread.0, [0x39, 3, 1, 2, 1]);
        assert_eq!(
            (spread.spread_len(), spread.spread_table()),
            (3, [1, 2, 1].as_slice())
        );
        let mut rules = Words::rules(2);
        (rules.0[46], rules.0[47]) = (1, 77);
        assert_eq!(rules.rule_locations(), [77]);
        rules.0[46] = 1000;
        assert_eq!(
            rules.rule_locations(),
            [77, 0],
            "a kernel that tells more than fits is not followed"
        );
    }
}
