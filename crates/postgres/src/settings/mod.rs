//! The configuration that howdah gives its PostgreSQL, as text. Pure: [`crate::prepare`] writes it.
//!
//! `postgresql.conf` stays as initdb or its owner left it and includes `howdah.conf` as its last
//! line. There stand the user's parameters first, then what howdah needs. What must also beat
//! `postgresql.auto.conf` and never changes while the server runs goes on the command line
//! ([`PgSettings::pinned`]); what changes with the role is deleted from that file.
//! Invariants: no password in any of it; a value cannot break out of its quotes or its line.

mod conf;
mod sync_names;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;

use howdah_core::{DataId, MemberName, Timeline};
use howdah_locks::Paths;

pub use conf::{Rendered, render_conf};
pub use sync_names::{parse_sync_names, sync_names};
pub use text::{clean_auto_conf, conninfo_value, quote, with_include};

/// Sockets have at most 107 bytes for their path, of which the name takes some.
pub const MAX_SOCKET_DIR: usize = 99;
/// PostgreSQL cuts names off behind this many bytes.
const MAX_NAME: usize = 63;
/// Length of "-" and a data id in an application name.
const DATA_ID_SUFFIX: usize = 17;

/// Names of the database roles that howdah uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleNames {
    /// The local agent's.
    pub superuser: String,
    /// What standbys stream with.
    pub replication: String,
    /// What pg_rewind reads with.
    pub rewind: String,
}

/// The local PostgreSQL as its owner wants it. Nothing here changes with the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgSettings {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Addresses to listen on, comma separated, as `listen_addresses` takes them.
    pub listen: String,
    /// Port.
    pub port: u16,
    /// Directory of the sockets; 0700, path below 100 bytes.
    pub socket_dir: PathBuf,
    /// Shown in process titles.
    pub cluster_name: String,
    /// Major version of the server.
    pub major: u32,
    /// The user's parameters.
    pub parameters: BTreeMap<String, String>,
    /// The user's HBA lines, in force when clients are let in; none: a default.
    pub hba: Vec<String>,
    /// The user's ident map lines.
    pub ident: Vec<String>,
    /// Addresses or host names of all members, for replication and rewind.
    pub members: Vec<String>,
    /// The roles.
    pub roles: RoleNames,
    /// Operating system user that runs PostgreSQL and the agent.
    pub os_user: String,
    /// Certificates of this member, which PostgreSQL shows and asks other members for; none: it has its own way, or
    /// none.
    pub tls: Option<Paths>,
}

/// Where WAL comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upstream {
    /// From nowhere.
    #[default]
    Isolated,
    /// Streamed from another member.
    Follow(Follow),
}

/// A member to stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it knows this member by; see [`application_name`].
    pub application_name: String,
    /// Slot to use there.
    pub slot: Option<String>,
    /// Replication role.
    pub user: String,
    /// File with its password.
    pub passfile: Option<PathBuf>,
    /// Certificates to show, and to believe; none: unencrypted if the other side wants no more.
    pub tls: Option<Paths>,
}

/// Which timeline recovery goes to. Takes effect at the next start only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetTimeline {
    /// The one of the last checkpoint.
    #[default]
    Current,
    /// The newest that the upstream has.
    Latest,
    /// This one.
    Number(Timeline),
}

/// What changes with the role and the moment. The default is isolated, which is safe at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Where WAL comes from.
    pub upstream: Upstream,
    /// How to fetch archived WAL; never set while isolated.
    pub restore_command: Option<String>,
    /// Which timeline to recover to.
    pub target: TargetTimeline,
    /// `synchronous_standby_names`; empty asks no standby.
    pub synchronous_standby_names: String,
}

impl Dynamic {
    /// For a start in isolation: no upstream, no archive, own timeline.
    pub fn isolated() -> Self {
        Self::default()
    }

    /// For following a member.
    pub fn follow(upstream: Follow, restore_command: Option<String>) -> Self {
        Self {
            upstream: Upstream::Follow(upstream),
            restore_command,
            target: TargetTimeline::Latest,
            synchronous_standby_names: String::new(),
        }
    }

    /// The same cut off from all WAL by a reload alone: what a promise needs. The target timeline,
    /// which no reload changes, stays.
    pub fn promised(self) -> Self {
        Self { upstream: Upstream::Isolated, restore_command: None, ..self }
    }
}

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A parameter's name is none.
    #[error("postgresql.parameters: {name:?} is no parameter name")]
    Name {
        /// The name.
        name: String,
    },
    /// A value holds a line break or a zero byte.
    #[error("{what}: the value {value:?} holds a line break or a zero byte")]
    Value {
        /// Which setting.
        what: String,
        /// The value.
        value: String,
    },
    /// The socket directory's path is too long.
    #[error(
        "socket directory {path:?} has {length} bytes, at most {MAX_SOCKET_DIR} fit; \
        choose a shorter path"
    )]
    SocketDir {
        /// The path.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A path that is not UTF-8 or not absolute.
    #[error("{what}: {path} must be an absolute path in UTF-8")]
    Path {
        /// Which setting.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A name is empty, too long or has characters that cannot stand where it is needed.
    #[error("{what}: {name:?} {why}")]
    Unfit {
        /// Which setting.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl PgSettings {
    /// Parameters for the command line: they beat `postgresql.auto.conf` and do not change while
    /// the server runs.
    pub fn pinned(&self) -> Vec<(&'static str, String)> {
        let in_data = |name: &str| self.data_dir.join(name).display().to_string();
        vec![
            ("listen_addresses", self.listen.clone()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", socket_list_entry(&self.socket_dir.display().to_string())),
            ("hba_file", in_data(crate::hba::HBA_FILE)),
            ("ident_file", in_data(crate::hba::IDENT_FILE)),
            ("cluster_name", self.cluster_name.clone()),
            ("restart_after_crash", "off".to_owned()),
            ("wal_log_hints", "on".to_owned()),
            ("fsync", "on".to_owned()),
            ("full_page_writes", "on".to_owned()),
            ("hot_standby", "on".to_owned()),
        ]
    }

    /// Refuses what could not be rendered, before anything is written.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (what, path) in [("data_dir", &self.data_dir), ("socket_dir", &self.socket_dir)] {
            if !path.is_absolute() || path.to_str().is_none() {
                return Err(SettingsError::Path { what, path: path.display().to_string() });
            }
        }
        let socket = self.socket_dir.display().to_string();
        if socket.len() > MAX_SOCKET_DIR {
            return Err(SettingsError::SocketDir { length: socket.len(), path: socket });
        }
        let bad =
            |what, name: &str, why| Err(SettingsError::Unfit { what, name: name.to_owned(), why });
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        let name = &self.cluster_name;
        if name.len() > MAX_NAME || !name.chars().all(plain) {
            return bad("scope", name, "must be at most 63 printable ASCII characters");
        }
        let RoleNames { superuser, replication, rewind } = &self.roles;
        for (what, name) in
            [("superuser", superuser), ("replication", replication), ("rewind", rewind)]
        {
            if name.is_empty() || name.len() > MAX_NAME {
                return bad(what, name, "must have 1 to 63 bytes");
            }
            // In an HBA file these characters have meanings of their own, in some versions even
            // inside quotes.
            if name.starts_with(['+', '/', '@']) || name.contains(['"', ',', '\n', '\r', '\0']) {
                return bad(what, name, "must not begin with + / @ or hold quotes or commas");
            }
        }
        Ok(())
    }
}

/// The setting is a comma-separated list of names, quoted where they need it.
fn socket_list_entry(path: &str) -> String {
    if path.contains([',', '"', ' ']) {
        format!("\"{}\"", path.replace('"', "\"\""))
    } else {
        path.to_owned()
    }
}

/// What a standby calls itself: the member and the data id, so that no primary takes the new
/// contents' acknowledgements for the old ones'. Refuses names that PostgreSQL would cut or alter.
pub fn application_name(member: &MemberName, data_id: DataId) -> Result<String, SettingsError> {
    let name = member.as_str();
    let fits = !name.is_empty() && name.len() <= MAX_NAME - DATA_ID_SUFFIX;
    if !fits || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err(SettingsError::Unfit {
            what: "name",
            name: name.to_owned(),
            why: "must be 1 to 46 printable ASCII characters without spaces",
        });
    }
    Ok(format!("{name}-{data_id}"))
}

/// The member and data id that an application name carries; none if it is not one of ours.
pub fn parse_application_name(text: &str) -> Option<(MemberName, DataId)> {
    let (member, id) = text.rsplit_once('-')?;
    let hex = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let id = if hex { id.parse().ok()? } else { return None };
    (!member.is_empty()).then(|| (MemberName::from(member), id))
}
