//! Connection strings over all members, in the words of several drivers. Pure.

use crate::args::{DsnFormat, Role};

/// What a connection string leads to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Hosts and ports.
    pub hosts: Vec<(String, String)>,
    /// Whom of them.
    pub role: Role,
    /// Database.
    pub dbname: String,
    /// Role in the database; empty: the driver's default.
    pub username: String,
}

/// `HOST:PORT` or `[HOST]:PORT`, apart.
pub fn host_and_port(address: &str) -> (String, String) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
    (host.trim_matches(['[', ']']).to_owned(), port.to_owned())
}

/// The connection string.
pub fn render(format: DsnFormat, target: &Target) -> String {
    match format {
        DsnFormat::Libpq => libpq(target),
        DsnFormat::Uri => uri(target),
        DsnFormat::Jdbc => jdbc(target),
        DsnFormat::Npgsql => npgsql(target),
    }
}

fn attribute(role: Role) -> Option<&'static str> {
    match role {
        Role::Primary => Some("read-write"),
        Role::Replica => Some("prefer-standby"),
        Role::Any => None,
    }
}

/// libpq's quoting: a value with anything but plain characters stands in single quotes.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn libpq(target: &Target) -> String {
    let (hosts, ports): (Vec<&str>, Vec<&str>) =
        target.hosts.iter().map(|(host, port)| (host.as_str(), port.as_str())).unzip();
    let mut text = format!(
        "host={} port={} dbname={}",
        hosts.join(","),
        ports.join(","),
        quoted(&target.dbname)
    );
    if !target.username.is_empty() {
        text += &format!(" user={}", quoted(&target.username));
    }
    if let Some(attribute) = attribute(target.role) {
        text += &format!(" target_session_attrs={attribute}");
    }
    // A server that is gone without a word is noticed.
    text + " connect_timeout=3 keepalives_idle=30 tcp_user_timeout=15000"
}

/// Percent-encodes what has a meaning in a URI.
fn encoded(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

fn in_uri((host, port): &(String, String)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn uri(target: &Target) -> String {
    let hosts: Vec<String> = target.hosts.iter().map(in_uri).collect();
    let user = match target.username.as_str() {
        "" => String::new(),
        name => format!("{}@", encoded(name)),
    };
    let mut text = format!("postgresql://{user}{}/{}", hosts.join(","), encoded(&target.dbname));
    text += "?connect_timeout=3";
    if let Some(attribute) = attribute(target.role) {
        text += &format!("&target_session_attrs={attribute}");
    }
    text
}

fn jdbc(target: &Target) -> String {
    let hosts: Vec<String> = target.hosts.iter().map(in_uri).collect();
    let server = match target.role {
        Role::Primary => "primary",
        Role::Replica => "preferSecondary",
        Role::Any => "any",
    };
    let mut text = format!(
        "jdbc:postgresql://{}/{}?targetServerType={server}&connectTimeout=3&tcpKeepAlive=true",
        hosts.join(","),
        encoded(&target.dbname)
    );
    if !target.username.is_empty() {
        text += &format!("&user={}", encoded(&target.username));
    }
    text
}

fn npgsql(target: &Target) -> String {
    let hosts: Vec<String> =
        target.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let session = match target.role {
        Role::Primary => "Primary",
        Role::Replica => "PreferStandby",
        Role::Any => "Any",
    };
    let quote = |value: &str| {
        if value.contains([';', '"', '=', '\'']) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value.to_owned()
        }
    };
    let mut text = format!("Host={};Database={}", hosts.join(","), quote(&target.dbname));
    if !target.username.is_empty() {
        text += &format!(";Username={}", quote(&target.username));
    }
    text + &format!(";Target Session Attributes={session};Timeout=3;TCP Keepalive=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(role: Role) -> Target {
        let hosts = ["10.0.0.1:5432", "[fe80::2]:5433"].map(host_and_port).to_vec();
        Target { hosts, role, dbname: "a b".into(), username: "o'x".into() }
    }

    #[test]
    fn each_driver_gets_its_own_words() {
        let cases = [
            (
                DsnFormat::Libpq,
                "host=10.0.0.1,fe80::2 port=5432,5433 dbname='a b' user='o\\'x' \
                 target_session_attrs=read-write connect_timeout=3 keepalives_idle=30 \
                 tcp_user_timeout=15000",
            ),
            (
                DsnFormat::Uri,
                "postgresql://o%27x@10.0.0.1:5432,[fe80::2]:5433/a%20b?connect_timeout=3\
                 &target_session_attrs=read-write",
            ),
            (
                DsnFormat::Jdbc,
                "jdbc:postgresql://10.0.0.1:5432,[fe80::2]:5433/a%20b?targetServerType=primary\
                 &connectTimeout=3&tcpKeepAlive=true&user=o%27x",
            ),
            (
                DsnFormat::Npgsql,
                "Host=10.0.0.1:5432,fe80::2:5433;Database=a b;Username=\"o'x\";\
                 Target Session Attributes=Primary;Timeout=3;TCP Keepalive=true",
            ),
        ];
        for (format, wanted) in cases {
            assert_eq!(render(format, &target(Role::Primary)), wanted);
        }
    }

    #[test]
    fn any_member_needs_no_attribute() {
        assert!(!render(DsnFormat::Libpq, &target(Role::Any)).contains("target_session"));
        assert!(render(DsnFormat::Uri, &target(Role::Replica)).contains("prefer-standby"));
    }
}
