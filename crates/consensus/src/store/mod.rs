//! The node's memory: vote, log, applied state. A lost write here can lose what the group agreed
//! on.
//!
//! Place: opened by `Node::open`; openraft calls it. Does I/O.
//! State, all below one directory: `lock`; `db-<generation>/` (sled: log, vote, identity); `hwm`
//! (what was acknowledged); `snap-*` (the applied state); `creating` (only while it is made);
//! `refused` (it failed a check once).
//! Invariants: everything is checked at start, records, contiguity, the mark, the snapshot; a store
//! that fails is refused, now and whenever it is opened again, since a node that forgot a vote or
//! an acknowledged entry could elect two leaders. The only way out is a new node id.
//! Failure: killed while it is made: made anew, nothing was acknowledged yet. Killed while it is
//! rewritten: the mark names the generation that counts, the other is removed.

mod disk;
pub mod fuzzing;
mod hwm;
mod log;
mod machine;
mod open;
mod seal;
mod snapshot;
mod writer;

use std::io;
use std::path::PathBuf;

pub use disk::directory_size;
pub use machine::{Applied, StateMachine};
pub use open::{Identity, Keeper, open};

/// A name in the store's directory that is the agent's to use, for a socket.
pub const SOCKET: &str = "control";

#[cfg(test)]
mod tests;

/// Why a store cannot be used, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another howdah; stop that one first", dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// It belongs to another cluster.
    #[error(
        "{} belongs to cluster `{found}`, the configuration says `{wanted}`; correct `scope` or \
         the directory", dir.display()
    )]
    ForeignScope {
        /// The store's directory.
        dir: PathBuf,
        /// Cluster in the store.
        found: String,
        /// Cluster in the configuration.
        wanted: String,
    },
    /// It belongs to another member.
    #[error(
        "{} belongs to member `{found}`, the configuration says `{wanted}`; correct `name` or the \
         directory", dir.display()
    )]
    ForeignMember {
        /// The store's directory.
        dir: PathBuf,
        /// Member in the store.
        found: String,
        /// Member in the configuration.
        wanted: String,
    },
    /// There are files in the directory that howdah did not make.
    #[error("{} holds `{file}`, which is not howdah's; use an empty directory", dir.display())]
    ForeignFormat {
        /// The store's directory.
        dir: PathBuf,
        /// A file in it.
        file: String,
    },
    /// A newer howdah wrote it.
    #[error("{} was written by a newer howdah ({what}); start that version", dir.display())]
    NewerFormat {
        /// The store's directory.
        dir: PathBuf,
        /// What is newer.
        what: String,
    },
    /// Something in it cannot be read back whole.
    #[error("{} is damaged: {what}; {}", dir.display(), way_out(dir))]
    Corrupt {
        /// The store's directory.
        dir: PathBuf,
        /// What is damaged.
        what: String,
    },
    /// It reads well, but what was acknowledged last is not there.
    #[error(
        "{} lost its tail: {what} was acknowledged up to {acknowledged}, and reaches {found}; {}",
        dir.display(), way_out(dir)
    )]
    TailMissing {
        /// The store's directory.
        dir: PathBuf,
        /// Log or vote.
        what: &'static str,
        /// What the mark says.
        acknowledged: String,
        /// What is there.
        found: String,
    },
    /// The file system refused something.
    #[error("{}: {source}", dir.display())]
    Io {
        /// The store's directory.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn way_out(dir: &std::path::Path) -> String {
    format!(
        "this node must never vote from it again: move it away (mv {0} {0}.corrupt-1) and start \
         again, then it joins the cluster as a new node",
        dir.display()
    )
}

impl OpenError {
    /// Whether the store itself is bad: it must be moved away.
    pub fn is_damage(&self) -> bool {
        matches!(self, OpenError::Corrupt { .. } | OpenError::TailMissing { .. })
    }
}
