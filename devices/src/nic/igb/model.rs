//! What the members of the family differ in.

/// PCI vendor id.
pub const VENDOR: u16 = 0x8086;

/// A member of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Queue pairs among which frames are spread.
    pub queues: u16,
    /// Ethernet addresses that it tells apart.
    pub addresses: usize,
    /// Its queues can be pools that have addresses of their own (VMDq). The I350 can too, in a way that nobody tried.
    pub pools: bool,
    /// Two neighbouring queues share an IVAR, as of the 82580; on the 82576 queues n and n + 8 do (82576, 8.8.13).
    pub neighbours_share_ivar: bool,
}

impl Model {
    /// By PCI device id; those with a copper PHY of their own.
    pub fn of(device: u16) -> Option<Model> {
        let (name, queues, addresses, pools) = match device {
            0x10c9 | 0x10e8 | 0x1526 | 0x150a => ("82576", 8, 24, true),
            0x1521 => ("I350", 8, 24, false),
            0x1533 => ("I210", 4, 16, false),
            0x1539 => ("I211", 2, 16, false),
            _ => return None,
        };
        Some(Model {
            name,
            queues,
            addresses,
            pools,
            neighbours_share_ivar: name != "82576",
        })
    }
}
