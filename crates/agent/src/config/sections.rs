//! The top level, `raft`, `restapi` and `tags`. Pure apart from what `postgresql` reads.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_core::{MemberName, Profile};

use super::reader::{Report, Section};
use super::value::Node;
use super::{
    BootstrapConfig, Config, HostPort, RaftConfig, RestConfig, Tags, bootstrap, postgresql,
};

const NO_TLS: &str = "bind a loopback address, or write `insecure: true` if the network is trusted";

/// Reads the whole document; with errors in `report` the result must not be used.
pub(super) fn read(file: &Path, root: &Node, mode: u32, report: &Report) -> Config {
    let top = Section::root(report, root);
    let scope = name(&top, "scope", "give the cluster a name, as `scope: demo`");
    let member = name(&top, "name", "give this member a name, as `name: n1`");
    let insecure = top.boolean("insecure").unwrap_or(false);
    let profile = profile(&top);
    if top.boolean("witness") == Some(true) {
        let what = "members without PostgreSQL are not supported yet";
        top.error("witness", what, "remove it; use three members with PostgreSQL");
    }
    let raft = raft(&top, insecure);
    let restapi = restapi(&top, &raft, insecure);
    let postgresql = postgresql::read(&top, &raft, mode);
    let bootstrap = bootstrap::read(&top, profile);
    let tags = tags(&top);
    let (stop_timeout, handover_timeout) = limits(&top, &bootstrap);
    let user = top.text("user").unwrap_or_else(|| "postgres".to_owned());
    if nested(&raft.data_dir, &postgresql.data_dir) {
        let what = "lies inside the other's directory (postgresql.data_dir)";
        report.error(
            &top.place("raft"),
            "raft.data_dir",
            what,
            "keep the two apart; a fresh copy replaces the data directory",
        );
    }
    top.finish();
    Config {
        file: file.to_owned(),
        scope,
        name: MemberName(member),
        profile,
        raft,
        restapi,
        postgresql,
        bootstrap,
        tags,
        user,
        insecure,
        stop_timeout,
        handover_timeout,
    }
}

fn limits(top: &Section<'_>, bootstrap: &BootstrapConfig) -> (Duration, Duration) {
    let stop = top.duration("stop_timeout").unwrap_or(Duration::from_secs(60));
    let ttl = bootstrap.settings.ttl();
    let handover = top.duration("handover_timeout").unwrap_or(ttl * 2);
    if stop < Duration::from_secs(1) {
        top.error("stop_timeout", "is below 1 s", "write 1 or more");
    }
    if handover < Duration::from_secs(1) {
        top.error("handover_timeout", "is below 1 s", "write 1 or more");
    }
    (stop, handover)
}

fn nested(a: &Path, b: &Path) -> bool {
    let empty = Path::new("");
    a != empty && b != empty && (a.starts_with(b) || b.starts_with(a))
}

/// A name of a cluster or a member: goes into file names, SQL names and Prometheus labels.
fn name(top: &Section<'_>, key: &'static str, remedy: &str) -> String {
    let text = top.required(key, remedy);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.contains("${") {
        let what = format!("`{text}`: variables are not replaced in this file");
        top.error(key, what, &format!("leave it out and set HOWDAH_{}", key.to_ascii_uppercase()));
    } else if !text.chars().all(plain) || text.len() > 63 {
        let what =
            format!("`{text}` has characters other than letters, digits, - _ . or is too long");
        top.error(key, what, "choose a plain name of at most 63 characters");
    }
    text
}

fn profile(top: &Section<'_>) -> Profile {
    match top.text("profile").as_deref() {
        None | Some("default") => Profile::Default,
        Some("fast") => Profile::Fast,
        Some(other) => {
            top.error("profile", format!("`{other}` is no profile"), "write default or fast");
            Profile::Default
        }
    }
}

fn raft(top: &Section<'_>, insecure: bool) -> RaftConfig {
    let Some(section) = top.section("raft") else {
        let remedy = "write `raft:` with data_dir, self_addr and partner_addrs";
        top.error("raft", "is missing", remedy);
        return RaftConfig {
            data_dir: PathBuf::new(),
            self_addr: String::new(),
            bind_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            partner_addrs: Vec::new(),
        };
    };
    let data_dir = directory(&section, "data_dir", "name a directory for the Raft log");
    let self_addr =
        section.required("self_addr", "write HOST:PORT under which the others reach it");
    let own = checked(&section, "self_addr", &self_addr);
    let bind_addr = match section.text("bind_addr") {
        Some(text) => listen(&section, "bind_addr", &text),
        None => own.as_ref().map(bind_for),
    };
    let bind_addr = bind_addr.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let key = if section.text("bind_addr").is_some() { "bind_addr" } else { "self_addr" };
    forbid_open(&section, key, bind_addr, insecure);
    let partner_addrs = partners(&section, &self_addr);
    section.finish();
    RaftConfig { data_dir, self_addr, bind_addr, partner_addrs }
}

fn partners(section: &Section<'_>, self_addr: &str) -> Vec<String> {
    let mut partners: Vec<String> = Vec::new();
    for (address, place) in section.list("partner_addrs").unwrap_or_default() {
        let path = section.path("partner_addrs");
        let report = section.report;
        if host_port(&address).is_none() {
            let what = format!("`{address}` is no address");
            report.error(&place, &path, what, "write HOST:PORT, as 10.0.0.2:7432");
        } else if address == self_addr {
            let what = format!("`{address}` is this member itself");
            report.warn(&place, &path, what, "list only the others");
        } else if partners.contains(&address) {
            report.warn(&place, &path, format!("`{address}` stands twice"), "remove one");
        } else {
            partners.push(address);
        }
    }
    match partners.len() {
        0 => section.warn(
            "partner_addrs",
            "names nobody: this member stands alone",
            "list the others for failover",
        ),
        1 => section.warn("partner_addrs", "two members cannot spare either", "add a third"),
        _ => {}
    }
    partners
}

fn restapi(top: &Section<'_>, raft: &RaftConfig, insecure: bool) -> RestConfig {
    const PORT: u16 = 8008;
    let mut listen_at = SocketAddr::new(raft.bind_addr.ip(), PORT);
    let mut connect = None;
    if let Some(section) = top.section("restapi") {
        if let Some(text) = section.text("listen")
            && let Some(address) = listen(&section, "listen", &text)
        {
            listen_at = address;
            forbid_open(&section, "listen", address, insecure);
        }
        if let Some(text) = section.text("connect_address") {
            checked(&section, "connect_address", &text);
            connect = Some(text);
        }
        section.finish();
    }
    let own_host = host_port(&raft.self_addr).map(|own| own.host).unwrap_or_default();
    let connect_address =
        connect.unwrap_or_else(|| HostPort { host: own_host, port: listen_at.port() }.to_string());
    RestConfig { listen: listen_at, connect_address }
}

fn tags(top: &Section<'_>) -> Tags {
    let mut tags = Tags { failover_priority: 1, ..Tags::default() };
    let Some(section) = top.section("tags") else { return tags };
    tags.nofailover = section.boolean("nofailover").unwrap_or(false);
    tags.noloadbalance = section.boolean("noloadbalance").unwrap_or(false);
    tags.clonefrom = section.boolean("clonefrom").unwrap_or(false);
    tags.nosync = section.boolean("nosync").unwrap_or(false);
    if let Some(priority) = section.integer("failover_priority") {
        match i32::try_from(priority) {
            Ok(priority @ 0..) => tags.failover_priority = priority,
            _ => section.error(
                "failover_priority",
                "is out of range",
                "write 0 or more; 0 means never",
            ),
        }
    }
    tags.nofailover |= tags.failover_priority == 0;
    let mut all = BTreeMap::new();
    for entry in section.entries() {
        match &entry.node.value {
            super::value::Value::Bool(value) => {
                all.insert(entry.key.clone(), value.to_string());
            }
            _ => {
                if let Some(text) = entry.node.text() {
                    all.insert(entry.key.clone(), text);
                }
            }
        }
    }
    tags.all = all;
    tags
}

/// An absolute directory that must be named.
pub(super) fn directory(section: &Section<'_>, key: &'static str, remedy: &str) -> PathBuf {
    let path = PathBuf::from(section.required(key, remedy));
    if path.is_relative() && path != Path::new("") {
        section.error(key, format!("`{}` is relative", path.display()), "write a path from /");
    }
    path
}

/// Parses HOST:PORT; IPv6 in brackets.
pub(super) fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
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

fn listen(section: &Section<'_>, key: &str, text: &str) -> Option<SocketAddr> {
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
fn bind_for(own: &HostPort) -> SocketAddr {
    let ip = match own.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    };
    SocketAddr::new(ip, own.port)
}

fn forbid_open(section: &Section<'_>, key: &str, address: SocketAddr, insecure: bool) {
    if !insecure && !address.ip().is_loopback() {
        section.error(
            key,
            format!("{address} is reachable by others, and there is no TLS yet"),
            NO_TLS,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(host_port("n1:7432"), Some(HostPort { host: "n1".into(), port: 7432 }));
        assert_eq!(host_port("[::1]:7432"), Some(HostPort { host: "::1".into(), port: 7432 }));
        for bad in
            ["", "n1", "n1:", ":7432", "n1:0", "n1:99999", "::1:7432", "http://n1:1", "a b:1"]
        {
            assert_eq!(host_port(bad), None, "{bad:?}");
        }
        let shown = HostPort { host: "::1".into(), port: 5 }.to_string();
        assert_eq!(host_port(&shown), Some(HostPort { host: "::1".into(), port: 5 }));
    }

    #[test]
    fn directories_are_nested_either_way() {
        assert!(nested(Path::new("/a/b"), Path::new("/a")));
        assert!(nested(Path::new("/a"), Path::new("/a/b")));
        assert!(!nested(Path::new("/ab"), Path::new("/a")));
    }
}
