//! HOST:PORT, and which of them may be listened on. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::HostPort;
use super::reader::Section;

/// Parses HOST:PORT; IPv6 in brackets.
pub(super) fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let digits = port.chars().all(|c| c.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|port| digits && *port != 0)?;
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%' | '*');
    (!host.is_empty() && host.chars().all(plain)).then(|| HostPort { host: host.to_owned(), port })
}

/// An address that others use to connect; reports what is none.
pub(super) fn checked(section: &Section<'_>, key: &str, text: &str) -> Option<HostPort> {
    if text.is_empty() {
        return None;
    }
    let parsed = host_port(text);
    match &parsed {
        None => section.error(key, format!("`{text}` is no address"), "write HOST:PORT"),
        Some(at) if matches!(at.host.as_str(), "*" | "0.0.0.0" | "::") => {
            let what = format!("`{text}` is no address that another machine can connect to");
            section.error(key, what, "write the address of this machine");
        }
        Some(_) => {}
    }
    parsed
}

/// An address to listen on; reports what is none.
pub(super) fn listen(section: &Section<'_>, key: &str, text: &str) -> Option<SocketAddr> {
    let address = host_port(text).and_then(|at| {
        let ip = match at.host.as_str() {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().ok()?,
        };
        Some(SocketAddr::new(ip, at.port))
    });
    if address.is_none() {
        let what = format!("`{text}` is no address to listen on");
        section.error(key, what, "write IP:PORT, as 0.0.0.0:7432 or 127.0.0.1:7432");
    }
    address
}

/// Where to listen when only the outward address is known.
pub(super) fn bind_for(own: &HostPort) -> SocketAddr {
    let ip = match own.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    };
    SocketAddr::new(ip, own.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(host_port("n1:7432"), Some(HostPort { host: "n1".into(), port: 7432 }));
        assert_eq!(host_port("[::1]:7432"), Some(HostPort { host: "::1".into(), port: 7432 }));
        for bad in [
            "",
            "n1",
            "n1:",
            ":7432",
            "n1:0",
            "n1:+1",
            "n1:99999",
            "::1:7432",
            "http://n1:1",
            "a b:1",
        ] {
            assert_eq!(host_port(bad), None, "{bad:?}");
        }
        let shown = HostPort { host: "::1".into(), port: 5 }.to_string();
        assert_eq!(host_port(&shown), Some(HostPort { host: "::1".into(), port: 5 }));
    }
}
