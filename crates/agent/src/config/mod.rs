//! The configuration of one member: YAML in Patroni's words, checked to the last key.
//!
//! Place: `howdah run` loads it before anything else exists, the agent loads it again after
//! privileges were dropped, `howdah config check` prints what it finds, `howdah config explain`
//! says where a value comes from. It reads files and the environment, keeps nothing over a restart,
//! and changes nothing. Cluster-wide values (`bootstrap.dcs`) only seed a new cluster; afterwards
//! the replicated log has them.
//! Way: [`source`] makes one tree of files and variables, the section readers take it apart and ask
//! for each key of [`keys`], `check` and `network` look at the machine.
//!
//! Invariants: a [`Config`] that exists has passed every check here, its timers included
//! ([`Timings::for_profile`]), and does not listen beyond loopback without `insecure: true`.
//! Environment variables go before files. All mistakes are reported at once, each with its place.

mod addresses;
mod bootstrap;
mod check;
mod effective;
mod env;
mod error;
mod explain;
mod foreign;
mod hba;
pub mod keys;
mod network;
mod parameters;
mod pgbouncer;
mod postgresql;
mod proxy;
mod reader;
mod rest;
mod secret;
mod sections;
mod source;
mod tls;
mod units;
mod value;
mod vip;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, EXIT_CONFIG, Finding, Warning};
pub use explain::{Explanation, Layer};
use howdah_core::{MemberName, Profile, Settings, Timings};
use howdah_guard::vip::Vip;
use howdah_locks::{Keyring, KeyringError, Paths, Renewal};
use howdah_rpc::access::Access;
pub use pgbouncer::{PgbouncerConfig, place_of as pooler_place};
pub use proxy::ProxyConfig;
pub use rest::{Anonymous, BasicAuth, RestConfig};
pub use secret::Secret;
pub use source::{SourceFile, Sources};
pub use value::Place;

/// Where the configuration is when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/howdah/howdah.yml";

/// All that one member's agent needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file or directory it was read from, as named.
    pub file: PathBuf,
    /// The files of it.
    pub files: Vec<PathBuf>,
    /// Name of the cluster.
    pub scope: String,
    /// Name of this member, unique in the cluster.
    pub name: MemberName,
    /// Raft's timers.
    pub profile: Profile,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The Raft group and gRPC.
    pub raft: RaftConfig,
    /// REST.
    pub restapi: RestConfig,
    /// The doors.
    pub proxy: ProxyConfig,
    /// Poolers that are paused while the primary changes.
    pub pgbouncer: PgbouncerConfig,
    /// Certificates of members and people; none: everybody who can connect may do everything.
    pub tls: Option<Paths>,
    /// Key of a CA in `tls.ca`, by which this member renews its certificate; none: somebody else does.
    pub ca_key: Option<PathBuf>,
    /// An address that moves with the primary.
    pub vip: Option<Vip>,
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

/// What is logged, and how; `None`: nothing was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// What goes to stderr.
    pub level: Option<LogLevel>,
    /// One JSON object per line.
    pub json: Option<bool>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// What is odd too.
    Warn,
    /// What happens.
    Info,
    /// Each step.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
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

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl HostPort {
    /// Reads HOST:PORT, an IPv6 host in brackets; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        addresses::host_port(text)
    }
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
    /// This member's own pg_ident lines.
    pub pg_ident: Vec<String>,
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
    /// For whoever watches PostgreSQL, if it is wanted.
    pub monitoring: Option<Role>,
}

/// A role and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Tags with a meaning.
pub const KNOWN_TAGS: [&str; 6] =
    ["nofailover", "noloadbalance", "clonefrom", "nosync", "sync_priority", "failover_priority"];

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
    /// The higher, the earlier commits wait for it; 1 by default, 0 means `nosync`.
    pub sync_priority: u32,
    /// The higher, the earlier it becomes leader among equals; 1 by default, 0 means `nofailover`.
    pub failover_priority: i32,
    /// All tags as text, free ones too.
    pub all: BTreeMap<String, String>,
}

impl Config {
    /// Reads a file, or a directory of `*.yml` files, and the `HOWDAH_*` variables; password files
    /// too.
    ///
    /// # Errors
    /// `ConfigError` if anything makes the configuration unusable; it lists every such thing.
    pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
        Self::from_sources(&Sources::read(path)?)
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
        Self::from_sources(&Sources {
            named: file.to_owned(),
            files: vec![SourceFile { path: file.to_owned(), text: text.to_owned(), mode }],
            variables: variables.clone(),
            unreadable: Vec::new(),
        })
    }

    /// The same for sources that are at hand.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_sources(sources: &Sources) -> Result<(Config, Vec<Warning>), ConfigError> {
        Self::read(sources).map(|(config, warnings, _)| (config, warnings))
    }

    fn read(sources: &Sources) -> Result<(Config, Vec<Warning>, value::Node), ConfigError> {
        let mut root = sources.tree()?;
        let report = reader::Report::new(sources.named.clone(), sources.modes());
        env::apply(&mut root, sources, &report);
        let mut config = sections::read(&sources.named, &root, &report);
        config.files = sources.files.iter().map(|file| file.path.clone()).collect();
        let mut findings = report.errors.into_inner();
        let mut warnings = report.warnings.into_inner();
        findings.sort_by(|a, b| a.place.cmp(&b.place));
        findings.dedup();
        warnings.sort_by(|a, b| a.place.cmp(&b.place));
        warnings.dedup();
        if findings.is_empty() {
            Ok((config, warnings, root))
        } else {
            Err(ConfigError::Invalid { file: sources.named.clone(), findings, warnings })
        }
    }

    /// Which layer sets a key, and to what.
    ///
    /// # Errors
    /// As [`Config::load`]. `Ok(None)` if there is no such key.
    pub fn explain(sources: &Sources, key: &str) -> Result<Option<Explanation>, ConfigError> {
        let (config, _, root) = Self::read(sources)?;
        Ok(explain::explain(&config, &root, key))
    }

    /// What is wrong on this machine: missing programs, a foreign data directory, wrong owners.
    /// Looks at files only and changes nothing.
    pub fn check(&self) -> Vec<Finding> {
        check::check(self)
    }

    /// What is wrong, and what is odd, with this member's ports and with the others' addresses.
    /// Opens each port for a moment, unless the member is `running` and has them open itself.
    pub fn check_network(&self, running: bool) -> (Vec<Finding>, Vec<Warning>) {
        network::check(self, running)
    }

    /// The time limits that follow from profile and ttl of a new cluster.
    pub fn timings(&self) -> Timings {
        let settings = &self.bootstrap.settings;
        Timings::for_profile(settings.profile, settings.ttl())
            .expect("checked when the configuration was read")
    }

    /// How this member and the others reach each other: reads the certificates.
    ///
    /// # Errors
    /// What is wrong with them; they must be this member's.
    pub fn access(&self) -> Result<Access, KeyringError> {
        let Some(paths) = &self.tls else { return Ok(Access::Open) };
        let keyring = Keyring::load(paths.clone(), Some(&self.scope))?;
        let found = keyring.now().identity.clone();
        if found.role != howdah_locks::Role::Member || found.name != self.name.0 {
            let wanted = format!("member {} of {}", self.name, self.scope);
            return Err(KeyringError::Other { path: paths.cert.clone(), found, wanted });
        }
        let host = &self.postgresql.connect_address.host;
        if !keyring.now().cert.covers(host) {
            let (path, key) = (paths.cert.clone(), "postgresql.connect_address");
            return Err(KeyringError::Host { path, host: host.clone(), key });
        }
        Ok(Access::Locked(keyring))
    }

    /// What renews this member's certificate, where it does so itself.
    pub fn renewal(&self) -> Option<Renewal> {
        Some(Renewal { paths: self.tls.clone()?, ca_key: self.ca_key.clone()? })
    }

    /// Whether members connect to each other's PostgreSQL by passwords of the configuration, and not of the log.
    pub fn gives_passwords(&self) -> bool {
        let roles = &self.postgresql.authentication;
        roles.replication.password.is_some() || roles.rewind.password.is_some()
    }

    /// Where root and howdah's own user reach the agent on this machine.
    pub fn control_socket(&self) -> PathBuf {
        // Beside the log, which is open all the time anyway: a socket keeps its file system from being taken away, and the
        // data's must be, to be mended.
        self.raft.data_dir.join(howdah_consensus::SOCKET)
    }

    /// Directory of PostgreSQL's socket, closed to others.
    pub fn socket_dir(&self) -> PathBuf {
        let mut name = self.postgresql.data_dir.clone().into_os_string();
        name.push(".sock");
        name.into()
    }

    /// All gRPC addresses of the cluster, this member's first.
    pub fn control_addresses(&self) -> Vec<String> {
        let own = std::iter::once(self.raft.self_addr.clone());
        own.chain(self.raft.partner_addrs.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A document with every section in it, so that every reader runs.
    const EVERYTHING: &str = "
scope: a
name: b
raft: {data_dir: /r, self_addr: '127.0.0.1:1', bind_addr: '127.0.0.1:1'}
restapi: {listen: '127.0.0.1:2', authentication: {username: u, password: p}}
log: {level: info}
proxy: {read_write: '127.0.0.1:3'}
pgbouncer: {addresses: ['127.0.0.1:4']}
vip: {address: '10.0.0.9/24', interface: eth0}
tls: {ca: /t/ca.crt, cert: /t/tls.crt, key: /t/tls.key, ca_key: /t/ca.key}
postgresql:
  data_dir: /d
  bin_dir: /b
  authentication: {superuser: {}, replication: {}, rewind: {}, monitoring: {}}
  parameters: {}
bootstrap:
  dcs: {postgresql: {parameters: {}}}
tags: {}
";

    #[test]
    fn the_readers_ask_for_exactly_the_keys_of_the_list_and_each_has_a_value() {
        let path = std::sync::Arc::from(Path::new("t.yml"));
        let root = value::parse(&path, EVERYTHING).unwrap();
        let report = reader::Report::new("t.yml".into(), BTreeMap::new());
        let config = sections::read(Path::new("t.yml"), &root, &report);
        assert!(report.errors.borrow().is_empty(), "{:?}", report.errors);
        let asked = report.asked.borrow();
        // Sections are asked for too; a key is what has nothing below it.
        let leaf =
            |path: &&String| !asked.iter().any(|other| other.starts_with(&format!("{path}.")));
        let mut read: BTreeSet<&str> = asked.iter().filter(leaf).map(String::as_str).collect();
        assert!(read.remove("bootstrap.dcs.master_start_timeout"), "the old name");
        let listed: BTreeSet<&str> = keys::KEYS.iter().map(|key| key.path).collect();
        assert_eq!(read, listed);
        let unset = |path: &str| {
            path.ends_with(".NAME") || path.ends_with("password") || path.ends_with("password_file")
        };
        for key in keys::KEYS.iter().filter(|key| !unset(key.path)) {
            assert!(effective::value(&config, key, key.path).is_some(), "{}", key.path);
        }
    }
}
