//! The top level, `log`, `raft` and `tags`. Pure apart from what `postgresql` reads.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_core::{MemberName, Profile};

use super::addresses::{bind_for, checked, host_port, listen};
use super::reader::{Report, Section, boolean, nearest};
use super::value::{Node, Value};
use super::{
    BootstrapConfig, Config, LogConfig, LogLevel, PostgresqlConfig, ProxyConfig, RaftConfig,
    RestConfig, Tags, bootstrap, foreign, pgbouncer, postgresql, proxy, rest, tls, vip,
};

/// Reads the whole document; with errors in `report` the result must not be used.
pub(super) fn read(file: &Path, root: &Node, report: &Report) -> Config {
    let top = Section::root(report, root);
    let scope = name(&top, "scope", 63, "give the cluster a name, as `scope: demo`");
    // PostgreSQL cuts an application_name at 63 bytes; standbys add a dash and a data id to it.
    let member = name(&top, "name", 46, "give this member a name, as `name: n1`");
    let insecure = top.boolean("insecure").unwrap_or(false);
    let profile = profile(&top);
    let log = log(&top);
    let (tls, ca_key) = tls::read(&top, insecure);
    let raft = raft(&top);
    let restapi = rest::read(&top, &raft, tls.is_some());
    let proxy = proxy::read(&top);
    let pgbouncer = pgbouncer::read(&top);
    let postgresql = postgresql::read(&top, &raft);
    let vip = vip::read(&top, &raft, &postgresql);
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
    apart(&top, &raft, &restapi, &proxy, &postgresql);
    reserved(&top, &bootstrap, &postgresql);
    top.finish();
    Config {
        file: file.to_owned(),
        files: Vec::new(),
        scope,
        name: MemberName(member),
        profile,
        log,
        raft,
        restapi,
        proxy,
        pgbouncer,
        tls,
        ca_key,
        vip,
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

/// Two ports of this member on one address: the second would fail to open.
fn apart(
    top: &Section<'_>,
    raft: &RaftConfig,
    rest: &RestConfig,
    proxy: &ProxyConfig,
    pg: &PostgresqlConfig,
) {
    let theirs = pg.listen_hosts.iter().filter_map(|host| match host.as_str() {
        "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    });
    let mut ports = vec![("raft", "bind_addr", raft.bind_addr), ("restapi", "listen", rest.listen)];
    let doors = proxy.listen.iter();
    ports.extend(doors.map(|(kind, address)| ("proxy", kind.word(), *address)));
    ports.extend(proxy.agent_check.map(|address| ("proxy", "agent_check", address)));
    ports.extend(theirs.map(|ip| ("postgresql", "listen", SocketAddr::new(ip, pg.port))));
    let same = |a: SocketAddr, b: SocketAddr| {
        let all = a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && (all || a.ip() == b.ip())
    };
    for (index, (section, key, address)) in ports.iter().enumerate() {
        // PostgreSQL's own addresses share a port.
        let before = ports[..index]
            .iter()
            .find(|(other, own, taken)| (other, own) != (section, key) && same(*address, *taken));
        if let Some((other, taken, _)) = before {
            let what = format!("port {} is that of {other}.{taken} too", address.port());
            let path = format!("{section}.{key}");
            top.report.error(&top.place_of(section, key), &path, what, "give each its own port");
        }
    }
}

/// PostgreSQL does not start when nothing is left for ordinary connections.
fn reserved(top: &Section<'_>, bootstrap: &BootstrapConfig, pg: &PostgresqlConfig) {
    let number = |name: &str, default: u64| {
        let value = pg.parameters.get(name).or_else(|| bootstrap.settings.parameters.get(name));
        value.map_or(Some(default), |value| value.trim().parse().ok())
    };
    let most = number("max_connections", 100);
    // Where they are not set: what howdah reserves, of the versions the one that reserves most.
    let superuser = number("superuser_reserved_connections", 5);
    let others = number("reserved_connections", 2);
    if let (Some(most), Some(superuser), Some(others)) = (most, superuser, others)
        && superuser.saturating_add(others) >= most
    {
        let what = format!(
            "{most} connections, of which {superuser} + {others} are reserved: none is left"
        );
        let remedy = "raise max_connections, or lower superuser_reserved_connections and \
                      reserved_connections";
        let place = top.place_of("postgresql", "parameters");
        top.report.error(&place, "postgresql.parameters.max_connections", what, remedy);
    }
}

/// A name of a cluster or a member: goes into file names, SQL names and Prometheus labels.
fn name(top: &Section<'_>, key: &'static str, longest: usize, remedy: &str) -> String {
    let text = top.required(key, remedy);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.contains("${") {
        let what = format!("`{text}`: variables are not replaced in this file");
        top.error(key, what, &format!("leave it out and set HOWDAH_{}", key.to_ascii_uppercase()));
    } else if !text.chars().all(plain) || text.len() > longest {
        let what =
            format!("`{text}` has characters other than letters, digits, - _ . or is too long");
        top.error(key, what, &format!("choose a plain name of at most {longest} characters"));
    }
    text
}

fn profile(top: &Section<'_>) -> Profile {
    let words = [("default", Profile::Default), ("fast", Profile::Fast)];
    top.choice("profile", "profile", &words).unwrap_or_default()
}

fn log(top: &Section<'_>) -> LogConfig {
    use LogLevel::{Debug, Error, Info, Trace, Warn};
    let mut log = LogConfig::default();
    let Some(section) = top.section("log") else { return log };
    let levels = [
        ("error", Error),
        ("warn", Warn),
        ("info", Info),
        ("debug", Debug),
        ("trace", Trace),
        // Python's words, for a file of Patroni's.
        ("warning", Warn),
        ("critical", Error),
    ];
    log.level = section.choice("level", "level", &levels);
    let types = [("plain", false), ("json", true)];
    log.json = section.choice("type", "form of a log", &types);
    section.finish();
    log
}

fn raft(top: &Section<'_>) -> RaftConfig {
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
    let partner_addrs = partners(&section, &self_addr);
    section.finish();
    RaftConfig { data_dir, self_addr, bind_addr, partner_addrs }
}

fn partners(section: &Section<'_>, self_addr: &str) -> Vec<String> {
    let mut partners: Vec<String> = Vec::new();
    let mistakes = || section.report.errors.borrow().len();
    let before = mistakes();
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
        // What was meant is not known.
        _ if mistakes() > before => {}
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

fn tags(top: &Section<'_>) -> Tags {
    let mut tags = Tags { failover_priority: 1, sync_priority: 1, ..Tags::default() };
    let Some(section) = top.section("tags") else { return tags };
    tags.nofailover = section.boolean("nofailover").unwrap_or(false);
    tags.noloadbalance = section.boolean("noloadbalance").unwrap_or(false);
    tags.clonefrom = section.boolean("clonefrom").unwrap_or(false);
    tags.nosync = section.boolean("nosync").unwrap_or(false);
    if let Some(priority) = section.integer("failover_priority") {
        match i32::try_from(priority) {
            Ok(priority @ 0..) => tags.failover_priority = priority,
            _ => {
                let what = format!("{priority} is out of range");
                section.error("failover_priority", what, "write 0 to 2147483647; 0 means never");
            }
        }
    }
    if let Some(priority) = section.integer("sync_priority") {
        match u32::try_from(priority) {
            Ok(priority) => tags.sync_priority = priority,
            Err(_) => {
                let what = format!("{priority} is out of range");
                section.error("sync_priority", what, "write 0 to 4294967295; 0 means never");
            }
        }
    }
    tags.nofailover |= tags.failover_priority == 0;
    tags.all = all_tags(&section);
    tags
}

/// All tags as text; free ones are checked, and those of Patroni's that would do something else.
fn all_tags(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    section.report.asked.borrow_mut().insert(section.path("NAME"));
    for entry in section.entries() {
        let (key, path) = (entry.key.as_str(), section.path(&entry.key));
        if let Some(advice) = foreign::advice(&path) {
            section.report.advise(entry, &path, &advice);
        } else if let Some(known) = nearest(key, &super::KNOWN_TAGS).filter(|known| *known != key)
            && boolean(&entry.node.text().unwrap_or_default()).is_some()
        {
            // A tag may be called anything, so that this is no certain mistake.
            let remedy = format!("did you mean `{known}`? Else choose another name");
            section.report.warn(&entry.place, &path, "is a tag without a meaning", &remedy);
        }
        match &entry.node.value {
            Value::Bool(value) => {
                all.insert(entry.key.clone(), value.to_string());
            }
            Value::Text(text) => {
                all.insert(entry.key.clone(), text.clone());
            }
            Value::Null => {}
            Value::List(_) | Value::Map(_) => {
                if !super::KNOWN_TAGS.contains(&key) {
                    let what = format!("{} stands where one value belongs", entry.node.kind());
                    section.report.error(&entry.node.place, &path, what, "write one value");
                }
            }
        }
    }
    all
}

/// An absolute directory that must be named.
pub(super) fn directory(section: &Section<'_>, key: &'static str, remedy: &str) -> PathBuf {
    let path = PathBuf::from(section.required(key, remedy));
    if path.is_relative() && path != Path::new("") {
        section.error(key, format!("`{}` is relative", path.display()), "write a path from /");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_nested_either_way() {
        assert!(nested(Path::new("/a/b"), Path::new("/a")));
        assert!(nested(Path::new("/a"), Path::new("/a/b")));
        assert!(!nested(Path::new("/ab"), Path::new("/a")));
    }
}
