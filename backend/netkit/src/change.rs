//! Changing netkit attributes of a device (netkit.c: `netkit_change_link`).

use crate::{ChangeRequest, Error, Ifindex, Model, Pairing};

impl Model {
    /// Changes what can be changed: the policies, through the primary. The primary's policy stays
    /// changed even if the peer's is then refused, as in the kernel.
    pub fn change(&mut self, ifindex: Ifindex, request: &ChangeRequest) -> Result<(), Error> {
        let device = self.device_mut(ifindex)?;
        let name = device.name.clone();
        if device.uplink.is_some() {
            // rtnetlink.c: `rtnl_changelink`, for settings of another kind of link.
            return Err(Error::IsUplink {
                operation: "change netkit settings of",
                device: name,
                hint: "it has none; attach programs to tcx_ingress or tcx_egress instead",
            });
        }
        if !device.primary {
            return Err(Error::NotPrimary { device: name });
        }
        if let Some(attribute) = fixed_attribute(request) {
            return Err(Error::AttributeFixed {
                device: name,
                attribute,
            });
        }
        if let Some(policy) = request.policy {
            if device.pairing == Pairing::Single {
                return Err(Error::PolicyOfSingle {
                    device: name,
                    attribute: "policy",
                });
            }
            device.policy = policy;
        }
        if let Some(policy) = request.peer_policy {
            let Some(peer) = device.peer else {
                return Err(Error::PolicyOfSingle {
                    device: name,
                    attribute: "peer policy",
                });
            };
            self.device_mut(peer)?.policy = policy;
        }
        Ok(())
    }
}

/// The first attribute of the request that is fixed at creation, in the kernel's order and words.
fn fixed_attribute(request: &ChangeRequest) -> Option<&'static str> {
    [
        (request.mode.is_some(), "operating mode"),
        (request.scrub.is_some(), "scrubbing"),
        (request.peer_scrub.is_some(), "peer scrubbing"),
        (request.has_peer_info, "peer info"),
        (request.headroom.is_some(), "headroom"),
        (request.tailroom.is_some(), "tailroom"),
        (request.pairing.is_some(), "pairing"),
    ]
    .into_iter()
    .find_map(|(given, attribute)| given.then_some(attribute))
}
