//! Uplinks, leases of their queues, and PCI NICs.

use hyper::Method;
use netkit_api::{LeaseCreate, LeaseCreated, NicPass, PciNic, Uplink, UplinkCreate, UplinkSet};

use super::{Call, Client, ClientError, device_path, path_segment};

/// A NIC is named by its PCI address, such as `0000:03:00.0`.
impl Client {
    /// Every uplink, by ifindex.
    pub fn uplinks(&self) -> Result<Vec<Uplink>, ClientError> {
        self.get("/v1/uplinks")
    }

    /// One uplink.
    pub fn uplink(&self, name: &str) -> Result<Uplink, ClientError> {
        self.get(uplink_path(name))
    }

    /// Opens a NIC.
    pub fn create_uplink(&self, uplink: &UplinkCreate) -> Result<(), ClientError> {
        self.send(&Call::new(Method::POST, "/v1/uplinks").with_body(uplink)?)
    }

    /// Changes an uplink.
    pub fn set_uplink(&self, name: &str, changes: &UplinkSet) -> Result<(), ClientError> {
        self.send(&Call::new(Method::PATCH, uplink_path(name)).with_body(changes)?)
    }

    /// Deletes an uplink, and with it the devices that lease its queues.
    pub fn delete_uplink(&self, name: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, uplink_path(name)))
    }

    /// Gives a queue of an uplink to a device.
    pub fn lease(&self, device: &str, lease: &LeaseCreate) -> Result<LeaseCreated, ClientError> {
        let path = format!("{}/leases", device_path(device));
        let call = Call::new(Method::POST, path).with_body(lease)?;
        call.decode(&self.perform(&call)?)
    }

    /// Every PCI NIC of the host.
    pub fn nics(&self) -> Result<Vec<PciNic>, ClientError> {
        self.get("/v1/nics")
    }

    /// One PCI NIC.
    pub fn nic(&self, address: &str) -> Result<PciNic, ClientError> {
        self.get(nic_path(address))
    }

    /// Binds a NIC to vfio-pci, for a guest.
    pub fn pass_nic(&self, address: &str, pass: &NicPass) -> Result<PciNic, ClientError> {
        let call = Call::new(Method::PUT, pass_path(address)).with_body(pass)?;
        call.decode(&self.perform(&call)?)
    }

    /// Gives a NIC that was passed back to its driver.
    pub fn give_back_nic(&self, address: &str) -> Result<PciNic, ClientError> {
        let call = Call::new(Method::DELETE, pass_path(address));
        call.decode(&self.perform(&call)?)
    }
}

fn uplink_path(name: &str) -> String {
    format!("/v1/uplinks/{}", path_segment(name))
}

fn nic_path(address: &str) -> String {
    format!("/v1/nics/{}", path_segment(address))
}

fn pass_path(address: &str) -> String {
    format!("{}/pass", nic_path(address))
}
