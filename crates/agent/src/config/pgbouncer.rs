//! The `pgbouncer` section: poolers that are stopped while the primary changes. Pure apart from the
//! password file.

use std::path::Path;
use std::time::Duration;

use super::addresses::host_port;
use super::postgresql::read_role;
use super::reader::Section;
use super::{Role, units};

/// The poolers that this member looks after.
#[derive(Clone, Debug)]
pub struct PgbouncerConfig {
    /// HOST:PORT, or DIRECTORY:PORT of a socket.
    pub addresses: Vec<String>,
    /// One of its `admin_users`.
    pub role: Role,
    /// How long transactions may go on when it is told to pause.
    pub pause_timeout: Duration,
}

pub(super) fn read(top: &Section<'_>) -> PgbouncerConfig {
    let role = Role { username: "pgbouncer".to_owned(), password: None };
    let pause_timeout = Duration::from_millis(1500);
    let mut config = PgbouncerConfig { addresses: Vec::new(), role, pause_timeout };
    let Some(section) = top.section("pgbouncer") else { return config };
    for (address, place) in section.list("addresses").unwrap_or_default() {
        if place_of(&address).is_some() {
            config.addresses.push(address);
        } else {
            let path = section.path("addresses");
            let what = format!("`{address}` is no address of a pooler");
            let remedy = "write HOST:PORT, or the directory of its socket and the port, as \
                          /var/run/postgresql:6432";
            section.report.error(&place, &path, what, remedy);
        }
    }
    if let Some(limit) = section.duration("pause_timeout") {
        if limit.is_zero() || limit > Duration::from_secs(60) {
            section.error("pause_timeout", "is no time to wait", "write up to 60s, and not 0");
        }
        config.pause_timeout = limit;
    }
    config.role = read_role(section, "pgbouncer");
    config
}

/// Host, or directory of a socket, and port.
pub fn place_of(address: &str) -> Option<(String, u16)> {
    if !address.starts_with('/') {
        return host_port(address).map(|at| (at.host, at.port));
    }
    let (directory, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Path::new(directory).is_absolute().then(|| (directory.to_owned(), port))
}

/// The value of a key as it is in force.
pub(super) fn value(config: &PgbouncerConfig, key: &str) -> Option<String> {
    Some(match key {
        "addresses" => config.addresses.join(", "),
        "username" => config.role.username.clone(),
        "pause_timeout" => units::written(config.pause_timeout),
        _ => return None,
    })
}
