//! QEMU's command line and QMP commands for a guest's device.

use serde_json::{Value, json};

use super::{GuestNic, PassedNic};

/// How soon QEMU tries again when netkitd is gone; the daemon listens again at once after a restart.
const RECONNECT_MS: u32 = 1000;

/// The largest ring that QEMU allows.
const RING_SIZE: u16 = 1024;

/// `-chardev`, `-netdev` and `-device`.
pub fn arguments(nic: &GuestNic) -> Vec<String> {
    let [chardev, netdev, device] = ids(nic);
    let path = escape(&nic.socket);
    let side = match nic.vmm_listens() {
        // With `wait=off` QEMU opens the sockets of all its devices before it waits for the first of them;
        // either way it does not start before netkitd has connected to every one.
        true => "server=on,wait=off".to_owned(),
        false => format!("reconnect-ms={RECONNECT_MS}"),
    };
    let address = nic.address.iter().map(|address| format!(",mac={address}"));
    let mtu = nic.unusual_mtu().map(|mtu| format!(",host_mtu={mtu}"));
    let optional: String = address.chain(mtu).collect();
    [
        "-chardev".to_owned(),
        format!("socket,id={chardev},path={path},{side}"),
        "-netdev".to_owned(),
        format!("vhost-user,id={netdev},chardev={chardev},queues={}", nic.queues),
        "-device".to_owned(),
        format!(
            "virtio-net-pci,id={device},netdev={netdev}{optional},mq=on,vectors={},rx_queue_size={RING_SIZE},\
             tx_queue_size={RING_SIZE}",
            vectors(nic)
        ),
    ]
    .into()
}

/// What a guest of `size` (as `-m` has it) needs once, however many devices it has: memory that netkitd can
/// map.
pub fn memory(size: &str) -> Vec<String> {
    [
        "-m".to_owned(),
        size.to_owned(),
        "-object".to_owned(),
        format!("memory-backend-memfd,id=mem0,size={size},share=on"),
        "-machine".to_owned(),
        "memory-backend=mem0".to_owned(),
    ]
    .into()
}

/// The QMP commands that plug the device into a running guest, in order.
pub fn hot_plug(nic: &GuestNic) -> Value {
    let [chardev, netdev, device] = ids(nic);
    let mut socket = json!({"addr": {"type": "unix", "data": {"path": nic.socket}}});
    match nic.vmm_listens() {
        true => {
            socket["server"] = json!(true);
            socket["wait"] = json!(false);
        }
        false => {
            socket["server"] = json!(false);
            socket["reconnect-ms"] = json!(RECONNECT_MS);
        }
    }
    let mut card = json!({
        "driver": "virtio-net-pci", "id": device, "netdev": netdev, "mq": true, "vectors": vectors(nic),
        "rx_queue_size": RING_SIZE, "tx_queue_size": RING_SIZE,
    });
    if let Some(address) = &nic.address {
        card["mac"] = json!(address);
    }
    if let Some(mtu) = nic.unusual_mtu() {
        card["host_mtu"] = json!(mtu);
    }
    let backend = json!({"type": "socket", "data": socket});
    json!([
        {"execute": "chardev-add", "arguments": {"id": chardev, "backend": backend}},
        {"execute": "netdev_add", "arguments": {
            "type": "vhost-user", "id": netdev, "chardev": chardev, "queues": nic.queues,
        }},
        {"execute": "device_add", "arguments": card},
    ])
}

/// `-device`, for a NIC that the guest gets whole.
pub fn pass_arguments(nic: &PassedNic) -> Vec<String> {
    let bus = nic.bus.iter().map(|bus| format!(",bus={}", escape(bus)));
    let device = format!(
        "vfio-pci,host={},id={}{}",
        nic.address,
        nic.id,
        bus.collect::<String>()
    );
    ["-device".to_owned(), device].into()
}

/// The QMP command that plugs a whole NIC into a running guest.
pub fn device_add(nic: &PassedNic) -> Value {
    let mut arguments = json!({"driver": "vfio-pci", "host": nic.address, "id": nic.id});
    if let Some(bus) = &nic.bus {
        arguments["bus"] = json!(bus);
    }
    json!({"execute": "device_add", "arguments": arguments})
}

/// The QMP command that asks a running guest for the device back.
pub fn device_del(id: &str) -> Value {
    json!({"execute": "device_del", "arguments": {"id": id}})
}

/// Of the chardev, the netdev and the device.
fn ids(nic: &GuestNic) -> [String; 3] {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let name: String = nic
        .name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    ["char", "net", "nic"].map(|kind| format!("{kind}-{name}"))
}

/// One for each ring, one for the control queue, one for configuration changes.
fn vectors(nic: &GuestNic) -> u32 {
    2 * u32::from(nic.queues) + 2
}

/// In QEMU's option strings a comma ends the value unless it is doubled.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
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
    fn qemu_connects_to_a_daemon_that_listens() {
        assert_eq!(
            shell::join(&arguments(&nic(SocketMode::Server))),
            "-chardev socket,id=char-nk1,path=/run/nk/a.sock,reconnect-ms=1000 \
             -netdev vhost-user,id=net-nk1,chardev=char-nk1,queues=2 \
             -device virtio-net-pci,id=nic-nk1,netdev=net-nk1,mac=52:54:00:00:00:01,mq=on,vectors=6,\
             rx_queue_size=1024,tx_queue_size=1024"
        );
    }

    #[test]
    fn qemu_listens_for_a_daemon_that_connects() {
        let arguments = arguments(&nic(SocketMode::Client));
        assert_eq!(
            arguments[1],
            "socket,id=char-nk1,path=/run/nk/a.sock,server=on,wait=off"
        );
    }

    #[test]
    fn an_unusual_mtu_is_offered_and_an_absent_address_is_left_out() {
        let jumbo = GuestNic {
            mtu: 9000,
            address: None,
            queues: 1,
            ..nic(SocketMode::Server)
        };
        assert_eq!(
            arguments(&jumbo)[5],
            "virtio-net-pci,id=nic-nk1,netdev=net-nk1,host_mtu=9000,mq=on,vectors=4,rx_queue_size=1024,tx_queue_size=1024"
        );
        assert_eq!(hot_plug(&jumbo)[2]["arguments"]["host_mtu"], 9000);
    }

    #[test]
    fn names_and_paths_are_escaped() {
        let odd = GuestNic {
            name: "nk:1@x".into(),
            socket: "/run/a,b/my sock".into(),
            ..nic(SocketMode::Server)
        };
        let arguments = arguments(&odd);
        assert_eq!(
            arguments[1],
            "socket,id=char-nk_1_x,path=/run/a,,b/my sock,reconnect-ms=1000"
        );
        assert!(
            shell::join(&arguments)
                .contains("'socket,id=char-nk_1_x,path=/run/a,,b/my sock,reconnect-ms=1000'")
        );
    }

    #[test]
    fn memory_is_shared() {
        assert_eq!(
            shell::join(&memory("1G")),
            "-m 1G -object memory-backend-memfd,id=mem0,size=1G,share=on -machine memory-backend=mem0"
        );
    }

    #[test]
    fn hot_plug_is_three_qmp_commands() {
        assert_eq!(
            hot_plug(&nic(SocketMode::Server)),
            json!([
                {"execute": "chardev-add", "arguments": {"id": "char-nk1", "backend": {"type": "socket", "data": {
                    "addr": {"type": "unix", "data": {"path": "/run/nk/a.sock"}},
                    "server": false, "reconnect-ms": 1000}}}},
                {"execute": "netdev_add", "arguments": {
                    "type": "vhost-user", "id": "net-nk1", "chardev": "char-nk1", "queues": 2}},
                {"execute": "device_add", "arguments": {
                    "driver": "virtio-net-pci", "id": "nic-nk1", "netdev": "net-nk1", "mac": "52:54:00:00:00:01",
                    "mq": true, "vectors": 6, "rx_queue_size": 1024, "tx_queue_size": 1024}},
            ])
        );
        let listening = &hot_plug(&nic(SocketMode::Client))[0]["arguments"]["backend"]["data"];
        assert_eq!(
            listening,
            &json!({"addr": {"type": "unix", "data": {"path": "/run/nk/a.sock"}}, "server": true, "wait": false})
        );
    }

    #[test]
    fn a_whole_nic_is_one_device() {
        assert_eq!(
            shell::join(&pass_arguments(&passed(None))),
            "-device vfio-pci,host=0000:03:00.0,id=nic0"
        );
        assert_eq!(
            shell::join(&pass_arguments(&passed(Some("port1")))),
            "-device vfio-pci,host=0000:03:00.0,id=nic0,bus=port1"
        );
        assert_eq!(
            device_add(&passed(Some("port1"))),
            json!({"execute": "device_add", "arguments": {
                "driver": "vfio-pci", "host": "0000:03:00.0", "id": "nic0", "bus": "port1",
            }})
        );
        assert_eq!(
            device_del("nic0"),
            json!({"execute": "device_del", "arguments": {"id": "nic0"}})
        );
    }
}
