//! The `vip` section: an address that moves with the primary. Pure.

use std::net::IpAddr;

use howdah_guard::vip::Vip;

use super::PostgresqlConfig;
use super::RaftConfig;
use super::addresses::host_port;
use super::reader::Section;

/// Longest name of a network interface. Source: linux/if.h, IFNAMSIZ less its end.
const NAME: usize = 15;

pub(super) fn read(top: &Section<'_>, raft: &RaftConfig, pg: &PostgresqlConfig) -> Option<Vip> {
    let section = top.section("vip")?;
    let (text, interface) = (section.text("address"), section.text("interface"));
    let address = text.as_deref().and_then(parsed);
    if address.is_none() {
        let what = "is no address that can be held";
        let remedy = "write ADDRESS/BITS as they shall stand on the interface, as 10.0.0.100/24";
        section.error("address", what, remedy);
    }
    let interface = interface.filter(|name| is_interface(name));
    if interface.is_none() {
        let what = "is no name of a network interface";
        section.error("interface", what, "write where the address is to be held, as eth0");
    }
    let ((address, prefix), interface) = (address?, interface?);
    // Members find each other by their own addresses; one that moves would be everybody's.
    let own = [raft.self_addr.as_str(), &pg.connect_address.to_string()]
        .into_iter()
        .filter_map(|text| host_port(text)?.host.parse::<IpAddr>().ok())
        .any(|own| own == address);
    if own {
        let what = "is this member's own address";
        section.error("address", what, "take a free one of the same network");
    }
    Some(Vip { address, prefix, interface })
}

fn parsed(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        None => (text, None),
        Some((address, bits)) => (address, Some(bits)),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    let some_host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    (some_host && (1..=most).contains(&bits)).then_some((address, bits))
}

fn is_interface(name: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    !name.is_empty() && name.len() <= NAME && !name.contains(odd) && name != "." && name != ".."
}

/// The value of a key as it is in force.
pub(super) fn value(vip: Option<&Vip>, key: &str) -> Option<String> {
    let vip = vip?;
    match key {
        "address" => Some(format!("{}/{}", vip.address, vip.prefix)),
        "interface" => Some(vip.interface.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_bits_or_all_of_them() {
        let v4 = |text: &str| Some((text.parse().unwrap(), 32));
        assert_eq!(parsed("10.0.0.9"), v4("10.0.0.9"));
        assert_eq!(parsed("10.0.0.9/24"), Some(("10.0.0.9".parse().unwrap(), 24)));
        assert_eq!(parsed("fd00::9/64"), Some(("fd00::9".parse().unwrap(), 64)));
        for bad in [
            "",
            "x",
            "10.0.0.9/33",
            "10.0.0.9/0",
            "0.0.0.0/8",
            "127.0.0.1",
            "224.0.0.1/4",
            "::1",
            "1.2.3.4/a",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert!(is_interface("eth0.12") && is_interface("br-1"));
        for bad in ["", "a b", "a/b", "0123456789abcdef", "..", "eth0:1"] {
            assert!(!is_interface(bad), "{bad}");
        }
    }
}
