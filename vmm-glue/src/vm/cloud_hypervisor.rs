//! cloud-hypervisor's command line and `vm.add-net` request for a guest's device.

use serde_json::{Value, json};

use super::{GuestNic, PassedNic};

/// cloud-hypervisor's own default, said aloud because the guest's receive buffers depend on it.
const RING_SIZE: u16 = 256;

/// cloud-hypervisor's own default.
pub const DEFAULT_MEMORY: &str = "512M";

/// `--net`.
pub fn arguments(nic: &GuestNic) -> Result<Vec<String>, Unwritable> {
    let address = nic.address.iter().map(|address| format!("mac={address},"));
    let net = format!(
        "{}vhost_user=true,socket={},vhost_mode={},num_queues={},queue_size={RING_SIZE},mtu={}",
        address.collect::<String>(),
        quote(&nic.socket)?,
        side(nic).to_lowercase(),
        rings(nic),
        nic.mtu
    );
    Ok(["--net".to_owned(), net].into())
}

/// What a guest of `size` needs once, however many devices it has: memory that netkitd can map.
pub fn memory(size: &str) -> Vec<String> {
    ["--memory".to_owned(), format!("size={size},shared=on")].into()
}

/// The body of `PUT /api/v1/vm.add-net`, which plugs the device into a running guest.
pub fn add_net(nic: &GuestNic) -> Value {
    let mut body = json!({
        "id": nic.name, "vhost_user": true, "vhost_socket": nic.socket, "vhost_mode": side(nic),
        "num_queues": rings(nic), "queue_size": RING_SIZE, "mtu": nic.mtu,
    });
    if let Some(address) = &nic.address {
        body["mac"] = json!(address);
    }
    body
}

/// `--device`, for a NIC that the guest gets whole.
pub fn pass_arguments(nic: &PassedNic) -> Vec<String> {
    let device = format!("path={},id={}", pci_path(nic), nic.id);
    ["--device".to_owned(), device].into()
}

/// The body of `PUT /api/v1/vm.add-device`, which plugs a whole NIC into a running guest.
pub fn add_device(nic: &PassedNic) -> Value {
    json!({"path": pci_path(nic), "id": nic.id})
}

/// The body of `PUT /api/v1/vm.remove-device`, which asks a running guest for the device back.
pub fn remove_device(id: &str) -> Value {
    json!({"id": id})
}

fn pci_path(nic: &PassedNic) -> String {
    format!("/sys/bus/pci/devices/{}/", nic.address)
}

/// A path that this command line has no way to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cloud-hypervisor's command line cannot say the path {path:?}: attach the device to a path without brackets and \
     quotation marks, or plug it in with the request that \"nkctl -j vm args\" prints"
)]
pub struct Unwritable {
    path: String,
}

/// The VMM's side of the socket.
fn side(nic: &GuestNic) -> &'static str {
    match nic.vmm_listens() {
        true => "Server",
        false => "Client",
    }
}

/// cloud-hypervisor counts receive and transmit queues.
fn rings(nic: &GuestNic) -> u32 {
    2 * u32::from(nic.queues)
}

/// Quotation marks keep commas together, and cannot be said themselves; brackets count even inside them.
fn quote(path: &str) -> Result<String, Unwritable> {
    if path.contains(['"', '[', ']']) {
        return Err(Unwritable { path: path.into() });
    }
    Ok(match path.contains(',') {
        true => format!("\"{path}\""),
        false => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use netkit_api::SocketMode;

    use super::super::{
        shell,
        tests::{nic, passed},
    };
    use super::*;

    #[test]
    fn cloud_hypervisor_takes_the_other_side_of_the_socket() {
        let net = |daemon_side| arguments(&nic(daemon_side)).map(|arguments| shell::join(&arguments));
        assert_eq!(
            net(SocketMode::Server).as_deref(),
            Ok(
                "--net mac=52:54:00:00:00:01,vhost_user=true,socket=/run/nk/a.sock,vhost_mode=client,num_queues=4,\
                 queue_size=256,mtu=1500"
            )
        );
        assert_eq!(
            net(SocketMode::Client).as_deref(),
            Ok(
                "--net mac=52:54:00:00:00:01,vhost_user=true,socket=/run/nk/a.sock,vhost_mode=server,num_queues=4,\
                 queue_size=256,mtu=1500"
            )
        );
    }

    #[test]
    fn memory_is_shared() {
        assert_eq!(memory("2G"), ["--memory", "size=2G,shared=on"]);
    }

    #[test]
    fn commas_are_quoted_and_what_cannot_be_said_is_refused() {
        assert_eq!(quote("/run/a,b").as_deref(), Ok("\"/run/a,b\""));
        for path in ["/run/a\"b", "/run/[a", "/run/a]"] {
            assert_eq!(quote(path), Err(Unwritable { path: path.into() }));
        }
    }

    #[test]
    fn hot_plug_is_one_request() {
        let mut expected = json!({
            "id": "nk1", "vhost_user": true, "vhost_socket": "/run/nk/a.sock", "vhost_mode": "Client",
            "num_queues": 4, "queue_size": 256, "mac": "52:54:00:00:00:01", "mtu": 1500,
        });
        assert_eq!(add_net(&nic(SocketMode::Server)), expected);
        expected["vhost_mode"] = json!("Server");
        assert_eq!(add_net(&nic(SocketMode::Client)), expected);
    }

    #[test]
    fn a_whole_nic_is_one_device() {
        assert_eq!(
            shell::join(&pass_arguments(&passed(None))),
            "--device path=/sys/bus/pci/devices/0000:03:00.0/,id=nic0"
        );
        assert_eq!(
            add_device(&passed(None)),
            json!({"path": "/sys/bus/pci/devices/0000:03:00.0/", "id": "nic0"})
        );
        assert_eq!(remove_device("nic0"), json!({"id": "nic0"}));
    }
}
