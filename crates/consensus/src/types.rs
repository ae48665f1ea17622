//! Openraft's type parameters, and the forms in which entries and answers are kept and sent.
//!
//! Place: every other module of this crate. Pure.
//! Invariants: a type of `howdah_core` is always JSON inside (self-describing, so that a member
//! that is older than its peers detects a command it does not know); only openraft's own types are
//! written by position. A command stays JSON until it is applied, so that replicating an unknown
//! one is harmless and applying it stops this node with a message.

use std::collections::BTreeMap;
use std::fmt;

use howdah_core::{Command, Outcome};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

/// Largest command that is taken into the log, bytes of JSON. Sled would put records above 128 KiB
/// into files that it never syncs.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;
/// Largest gRPC message that is sent or taken, bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A command as it stands in the log: JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    json: Vec<u8>,
}

impl Logged {
    /// Encodes `command`.
    ///
    /// # Errors
    /// `serde_json::Error` if it has no JSON form.
    pub fn new(command: &Command) -> Result<Self, serde_json::Error> {
        Ok(Self { json: serde_json::to_vec(command)? })
    }

    /// From JSON that another member encoded.
    pub(crate) fn from_json(json: Vec<u8>) -> Self {
        Self { json }
    }

    /// The JSON.
    pub(crate) fn json(&self) -> &[u8] {
        &self.json
    }

    /// Decodes it.
    ///
    /// # Errors
    /// `UnknownCommand` if this version of howdah does not know the command.
    pub fn command(&self) -> Result<Command, UnknownCommand> {
        serde_json::from_slice(&self.json).map_err(|why| UnknownCommand::new(&self.json, &why))
    }

    /// Bytes of JSON.
    pub(crate) fn len(&self) -> usize {
        self.json.len()
    }
}

/// A command that this version of howdah does not know. Secrets travel in commands: it says where that
/// was seen, and nothing of what stands there but the command's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}{what} (byte {column})")]
pub struct UnknownCommand {
    /// Its name and a colon, if it has one.
    name: String,
    what: &'static str,
    column: usize,
}

impl UnknownCommand {
    /// Longest name that is told.
    const NAME_MAX: usize = 40;

    fn new(json: &[u8], why: &serde_json::Error) -> Self {
        let known: Option<BTreeMap<String, IgnoredAny>> = serde_json::from_slice(json).ok();
        let name = known.into_iter().flatten().map(|(name, _)| name).next().unwrap_or_default();
        let is_name = name.len() <= Self::NAME_MAX && name.chars().all(|c| c.is_ascii_alphabetic());
        let what = match why.classify() {
            Category::Data => "it is not known, or has another form",
            Category::Eof => "it is cut short",
            Category::Syntax | Category::Io => "it is no JSON",
        };
        let name = if is_name && !name.is_empty() { format!("{name}: ") } else { String::new() };
        Self { name, what, column: why.column() }
    }
}

// Secrets travel in commands: neither form shows the content.
impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logged({} bytes)", self.json.len())
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.json.len())
    }
}

/// What applying an entry answers; none for entries without a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply(pub Option<Outcome>);

/// What the group knows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Name of its member.
    pub member: String,
    /// HOST:PORT of its gRPC services.
    pub address: String,
}

openraft::declare_raft_types!(
    /// Openraft's parameters: u64 node ids, commands as JSON.
    pub Types:
        D = Logged,
        R = Reply,
        NodeId = u64,
        Node = Peer,
);

/// Index and leader of a log entry.
pub type LogId = openraft::alias::LogIdOf<Types>;
/// A vote.
pub type Vote = openraft::alias::VoteOf<Types>;
/// A log entry.
pub type Entry = openraft::alias::EntryOf<Types>;
/// Voters and learners, with the entry that set them.
pub type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
/// A snapshot: the state as JSON.
pub type Snapshot = openraft::alias::SnapshotOf<Types, Vec<u8>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_known_is_named_and_its_content_is_not_told() {
        let told = |json: &str| {
            let logged = Logged::from_json(json.as_bytes().to_vec());
            logged.command().unwrap_err().to_string()
        };
        let unknown = told(r#"{"Levitate":{"height":3}}"#);
        assert_eq!(unknown, "Levitate: it is not known, or has another form (byte 11)");
        for json in [
            r#"{"SetSecrets":{"secrets":"hunter2hunter2"}}"#,
            r#"{"SetSecrets":{"secrets":{"replication":"hunter2hunter2","rewind":["hunter2hunter2"]}}}"#,
            r#"{"hunter2hunter2":1}"#,
            r#"{"SetSecrets":{"secrets":{"replication":"hunter2hunter2"#,
            r#""hunter2hunter2""#,
        ] {
            let told = told(json);
            assert!(!told.contains("hunter2") && told.contains("byte"), "{told}");
        }
    }
}
