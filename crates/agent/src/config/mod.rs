//! The configuration of one member: YAML in Patroni's words, checked to the last key.
//!
//! Place: `howdah run` loads it before anything else exists, the agent loads it again after
//! privileges were dropped, `howdah config check` prints what it finds. It reads files and the
//! environment and changes nothing. Cluster-wide values (`bootstrap.dcs`) only seed a new cluster;
//! afterwards the replicated log has them.
//!
//! Invariants: a [`Config`] that exists has passed every check here, its timers included
//! ([`Timings::for_profile`]), and does not listen beyond loopback without `insecure: true`.
//! Environment variables go before the file. All mistakes are reported at once, each with its line.

mod bootstrap;
mod check;
mod env;
mod error;
mod foreign;
mod parameters;
mod postgresql;
mod reader;
mod secret;
mod sections;
mod units;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, EXIT_CONFIG, Finding, Warning};
use howdah_core::{MemberName, Profile, Settings, Timings};
pub use secret::Secret;
pub use value::Place;

/// Where the configuration is when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/howdah/howdah.yml";

/// All that one member's agent needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Name of the cluster.
    pub scope: String,
    /// Name of this member, unique in the cluster.
    pub name: MemberName,
    /// Raft's timers.
    pub profile: Profile,
    /// The Raft group and gRPC.
    pub raft: RaftConfig,
    /// REST.
    pub restapi: RestConfig,
    /// The local PostgreSQL.
    pub postgresql: PostgresqlConfig,
    /// What a new cluster begins with.
    pub bootstrap: BootstrapConfig,
    /// What this member may and should do.
    pub tags: Tags,
    /// OS user that agent and PostgreSQL run as when started by root.
    pub user: String,
    /// Listening beyond loopback without TLS was allowed.
    pub insecure: bool,
    /// How long an orderly stop of PostgreSQL may take.
    pub stop_timeout: Duration,
    /// How long a planned hand-over may take.
    pub handover_timeout: Duration,
}

/// The Raft group and the gRPC port.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// Directory of the Raft log.
    pub data_dir: PathBuf,
    /// HOST:PORT under which the others reach this member.
    pub self_addr: String,
    /// Address to bind.
    pub bind_addr: SocketAddr,
    /// HOST:PORT of the other members, in the order written.
    pub partner_addrs: Vec<String>,
}

/// The REST port.
#[derive(Clone, Debug)]
pub struct RestConfig {
    /// Address to bind.
    pub listen: SocketAddr,
    /// HOST:PORT under which others reach it.
    pub connect_address: String,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The local PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresqlConfig {
    /// Hosts for `listen_addresses`; `*` for all.
    pub listen_hosts: Vec<String>,
    /// TCP port.
    pub port: u16,
    /// Where clients and the other members reach it.
    pub connect_address: HostPort,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where `postgres`, `initdb` and the rest are.
    pub bin_dir: PathBuf,
    /// Roles for the superuser, replication and rewinding.
    pub authentication: Authentication,
    /// This member's own parameters, names in lower case.
    pub parameters: BTreeMap<String, String>,
    /// This member's own pg_hba lines.
    pub pg_hba: Vec<String>,
}

/// The roles that howdah uses.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// Superuser, over the local socket.
    pub superuser: Role,
    /// For streaming and base backups.
    pub replication: Role,
    /// For pg_rewind.
    pub rewind: Role,
}

/// A role and its password.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name.
    pub username: String,
    /// Its password; `None`: none was configured.
    pub password: Option<Secret>,
}

/// What a new cluster begins with.
#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    /// The cluster-wide settings.
    pub settings: Settings,
    /// Arguments for initdb, as `--encoding=UTF8`.
    pub initdb: Vec<String>,
}

/// What a member may and should do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Never becomes leader.
    pub nofailover: bool,
    /// Gets no read traffic.
    pub noloadbalance: bool,
    /// Preferred source of copies.
    pub clonefrom: bool,
    /// Never a synchronous standby.
    pub nosync: bool,
    /// The higher, the earlier it becomes leader among equals; 1 by default, 0 means `nofailover`.
    pub failover_priority: i32,
    /// All tags as text, free ones too.
    pub all: BTreeMap<String, String>,
}

impl Config {
    /// Reads a file and the `HOWDAH_*` variables; password files too.
    ///
    /// # Errors
    /// `ConfigError` if anything makes the configuration unusable; it lists every such thing.
    pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
        let read = |source| ConfigError::Read { file: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let mode = std::fs::metadata(path).map_err(read)?.permissions().mode();
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::from_text(path, &text, mode, &variables)
    }

    /// The same for a text that is at hand. `file` and its `mode` are for messages and for the
    /// warning about readable passwords.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(
        file: &Path,
        text: &str,
        mode: u32,
        variables: &BTreeMap<String, String>,
    ) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut root = value::parse(text).map_err(|error| ConfigError::syntax(file, &error))?;
        let report = reader::Report::new(file.to_owned());
        env::apply(&mut root, variables, &report);
        let config = sections::read(file, &root, mode, &report);
        let mut findings = report.errors.into_inner();
        let mut warnings = report.warnings.into_inner();
        findings.sort_by(|a, b| a.place.cmp(&b.place));
        warnings.sort_by(|a, b| a.place.cmp(&b.place));
        if findings.is_empty() {
            Ok((config, warnings))
        } else {
            Err(ConfigError::Invalid { file: file.to_owned(), findings, warnings })
        }
    }

    /// What is wrong on this machine: missing programs, a foreign data directory, wrong owners.
    /// Looks at files only and changes nothing.
    pub fn check(&self) -> Vec<Finding> {
        check::check(self)
    }

    /// The time limits that follow from profile and ttl of a new cluster.
    pub fn timings(&self) -> Timings {
        let settings = &self.bootstrap.settings;
        Timings::for_profile(settings.profile, settings.ttl())
            .expect("checked when the configuration was read")
    }

    /// All gRPC addresses of the cluster, this member's first.
    pub fn control_addresses(&self) -> Vec<String> {
        let own = std::iter::once(self.raft.self_addr.clone());
        own.chain(self.raft.partner_addrs.iter().cloned()).collect()
    }
}
