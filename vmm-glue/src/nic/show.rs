//! `nic show`: what each NIC is, who has it, and what speaks against taking it.

use netkit_api::PciNic;
use vmm_glue::Client;

use crate::cli::Options;
use crate::command::Output;
use crate::error::Error;

pub fn run(client: &Client, address: Option<&str>, options: Options) -> Result<Output, Error> {
    let nics = match address {
        Some(address) => vec![client.nic(address)?],
        None => client.nics()?,
    };
    match options.json {
        true => Output::json(&nics, options),
        false => Ok(Output::text(nics.iter().map(text).collect::<String>())),
    }
}

fn text(nic: &PciNic) -> String {
    let mut line = format!("{} {}", nic.address, nic.id);
    if let Some(driver) = &nic.driver {
        line += &format!(" driver {driver}");
    }
    for netdev in &nic.netdevs {
        line += &format!(" dev {netdev}");
    }
    if let Some(group) = nic.iommu_group {
        line += &format!(" iommu_group {group}");
    }
    line += &format!(" user {}", nic.user);
    let mut lines = vec![line];
    if let Some(driver) = &nic.supported {
        lines.push(format!("    netkitd drives it with {driver}"));
    }
    if !nic.siblings.is_empty() {
        lines.push(format!("    same iommu_group: {}", nic.siblings.join(" ")));
    }
    lines.extend(nic.refusals.iter().map(|why| format!("    refused: {why}")));
    lines.extend(nic.warnings.iter().map(|what| format!("    warning: {what}")));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_against_a_nic_stands_below_it() {
        let bare = PciNic {
            address: "0000:04:00.0".into(),
            id: "15b3:1017".into(),
            driver: None,
            netdevs: vec![],
            iommu_group: None,
            siblings: vec![],
            supported: None,
            user: "host".into(),
            refusals: vec![],
            warnings: vec![],
        };
        assert_eq!(text(&bare), "0000:04:00.0 15b3:1017 user host\n");
        let igb = PciNic {
            address: "0000:03:00.0".into(),
            id: "8086:10c9".into(),
            driver: Some("igb".into()),
            netdevs: vec!["eth0".into(), "eth1".into()],
            iommu_group: Some(12),
            siblings: vec!["0000:03:00.1".into()],
            supported: Some("igb".into()),
            refusals: vec!["eth0 has the default route; move it first".into()],
            warnings: vec!["memory cannot be locked".into()],
            ..bare
        };
        assert_eq!(
            text(&igb),
            "\
0000:03:00.0 8086:10c9 driver igb dev eth0 dev eth1 iommu_group 12 user host
    netkitd drives it with igb
    same iommu_group: 0000:03:00.1
    refused: eth0 has the default route; move it first
    warning: memory cannot be locked
"
        );
    }
}
