//! libvirt's domain XML for a guest's device.

use super::GuestNic;

/// The `<interface>` element, with a reminder of what the domain needs besides.
pub fn interface(nic: &GuestNic) -> String {
    let mut lines = vec![
        "<!-- The domain must share its memory with netkitd:".to_owned(),
        "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking> -->".to_owned(),
        "<interface type='vhostuser'>".to_owned(),
    ];
    if let Some(address) = &nic.address {
        lines.push(format!("  <mac address='{}'/>", escape(address)));
    }
    lines.extend(source(nic));
    lines.extend([
        "  <model type='virtio'/>".to_owned(),
        format!(
            "  <driver queues='{}' rx_queue_size='1024' tx_queue_size='1024'/>",
            nic.queues
        ),
    ]);
    if let Some(mtu) = nic.unusual_mtu() {
        lines.push(format!("  <mtu size='{mtu}'/>"));
    }
    lines.push("</interface>".to_owned());
    lines.join("\n")
}

/// `mode` is QEMU's side of the socket; only a side that connects can connect again.
fn source(nic: &GuestNic) -> Vec<String> {
    let path = escape(&nic.socket);
    match nic.vmm_listens() {
        true => vec![format!("  <source type='unix' path='{path}' mode='server'/>")],
        false => vec![
            format!("  <source type='unix' path='{path}' mode='client'>"),
            "    <reconnect enabled='yes' timeout='1'/>".to_owned(),
            "  </source>".to_owned(),
        ],
    }
}

fn escape(text: &str) -> String {
    let character = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '\'' => "&apos;".to_owned(),
        '"' => "&quot;".to_owned(),
        _ => c.to_string(),
    };
    text.chars().map(character).collect()
}

#[cfg(test)]
mod tests {
    use netkit_api::SocketMode;

    use super::super::tests::nic;
    use super::*;

    #[test]
    fn qemu_connects_to_a_daemon_that_listens() {
        assert_eq!(
            interface(&nic(SocketMode::Server)),
            "\
<!-- The domain must share its memory with netkitd:
<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking> -->
<interface type='vhostuser'>
  <mac address='52:54:00:00:00:01'/>
  <source type='unix' path='/run/nk/a.sock' mode='client'>
    <reconnect enabled='yes' timeout='1'/>
  </source>
  <model type='virtio'/>
  <driver queues='2' rx_queue_size='1024' tx_queue_size='1024'/>
</interface>"
        );
        let jumbo = GuestNic {
            mtu: 9000,
            ..nic(SocketMode::Server)
        };
        assert!(interface(&jumbo).ends_with("\n  <mtu size='9000'/>\n</interface>"));
    }

    #[test]
    fn qemu_listens_for_a_daemon_that_connects() {
        let xml = interface(&nic(SocketMode::Client));
        assert!(xml.contains("  <source type='unix' path='/run/nk/a.sock' mode='server'/>\n"));
        assert!(!xml.contains("reconnect"));
    }

    #[test]
    fn a_path_cannot_break_out_of_its_attribute() {
        let odd = GuestNic {
            socket: r#"/run/<a>&'b'"c""#.into(),
            ..nic(SocketMode::Server)
        };
        assert!(interface(&odd).contains("path='/run/&lt;a&gt;&amp;&apos;b&apos;&quot;c&quot;'"));
    }
}
