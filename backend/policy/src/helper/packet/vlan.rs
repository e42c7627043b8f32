//! VLAN tags: one may travel beside the octets, the others are in them.

use super::{ETH_P_8021AD, ETH_P_8021Q, ETHERNET_LEN, change, frame, is_vlan};
use crate::Errno;
use crate::machine::Machine;
use crate::packet::VlanTag;

/// Octets of a tag in the frame.
const TAG_LEN: u32 = 4;
/// Octets of the Ethernet addresses, behind which the tag is.
const ADDRESSES_LEN: u32 = 12;

/// linux/if_ether.h: EtherTypes that are the length of the frame start below this.
const ETH_P_802_3_MIN: u16 = 0x0600;
/// linux/if_ether.h: what the kernel calls frames of that kind.
const ETH_P_802_3: u16 = 0x0001;
const ETH_P_802_2: u16 = 0x0004;

/// filter.c: `bpf_skb_vlan_push(skb, vlan_proto, vlan_tci)`.
pub extern "sysv64" fn skb_vlan_push(
    machine: &mut Machine,
    _context: u64,
    protocol: u64,
    tci: u64,
    _: u64,
    _: u64,
) -> u64 {
    let protocol = match u16::from_be(protocol as u16) {
        ETH_P_8021AD => ETH_P_8021AD,
        _ => ETH_P_8021Q,
    };
    change(machine, |machine| {
        if let Some(tag) = machine.packet.metadata.vlan {
            insert_tag(machine, tag)?;
            machine.packet.metadata.protocol = tag.protocol;
        }
        let tci = tci as u16;
        machine.packet.metadata.vlan = Some(VlanTag { protocol, tci });
        Ok(0)
    })
}

/// linux/if_vlan.h: `__vlan_insert_tag`. The network header starts with the tag then.
fn insert_tag(machine: &mut Machine, tag: VlanTag) -> Result<(), Errno> {
    frame::pull(machine, ETHERNET_LEN).map_err(|_| Errno::EINVAL)?;
    frame::insert(machine, ADDRESSES_LEN, TAG_LEN)?;
    let [p0, p1] = tag.protocol.to_be_bytes();
    let [t0, t1] = tag.tci.to_be_bytes();
    let place = frame::at(machine, ADDRESSES_LEN).cast::<[u8; 4]>();
    // SAFETY: these octets were just inserted.
    unsafe { place.write([p0, p1, t0, t1]) };
    Ok(())
}

/// filter.c: `bpf_skb_vlan_pop(skb)`.
pub extern "sysv64" fn skb_vlan_pop(
    machine: &mut Machine,
    _context: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
) -> u64 {
    change(machine, |machine| {
        if machine.packet.metadata.vlan.take().is_none() {
            if !is_vlan(machine.packet.metadata.protocol) {
                return Ok(0);
            }
            remove_tag(machine)?;
        }
        // The next tag goes beside the octets.
        let protocol = machine.packet.metadata.protocol;
        if is_vlan(protocol) {
            let tci = remove_tag(machine)?;
            machine.packet.metadata.vlan = Some(VlanTag { protocol, tci });
        }
        Ok(0)
    })
}

/// skbuff.c: `__skb_vlan_pop`. Takes the tag out of the octets and returns its control information.
fn remove_tag(machine: &mut Machine) -> Result<u16, Errno> {
    frame::pull(machine, ETHERNET_LEN + TAG_LEN)?;
    let Some([t0, t1, p0, p1]) = frame::read(machine, ETHERNET_LEN) else {
        return Err(Errno::ENOMEM);
    };
    let protocol = match u16::from_be_bytes([p0, p1]) {
        protocol if protocol >= ETH_P_802_3_MIN => protocol,
        _ if frame::read(machine, ETHERNET_LEN + TAG_LEN) == Some([0xff, 0xff]) => ETH_P_802_3,
        _ => ETH_P_802_2,
    };
    frame::remove(machine, ADDRESSES_LEN, TAG_LEN)?;
    let metadata = &mut machine.packet.metadata;
    metadata.protocol = protocol;
    metadata.layers.network = metadata.layers.network.saturating_sub(TAG_LEN).max(ETHERNET_LEN);
    Ok(u16::from_be_bytes([t0, t1]))
}
