//! What is wrong with this member though nothing crashed, in words that say what to do.
//!
//! Place: the watcher here looks at volumes, archive and connections; the loop's jobs and looks add
//! what they meet. Shown by `list`, `explain`, `doctor`, REST. Nothing here decides anything: a full
//! volume fails over only when PostgreSQL cannot go on.
//! State: memory; found anew after a restart. Logged when it begins and when it ends.

mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use howdah_core::Lsn;
pub use watch::watch;

/// What can be wrong; one of each at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The volume with the data is full, read-only or gone.
    DataVolume,
    /// The same of the WAL, where it has a volume of its own.
    WalVolume,
    /// The same of the replicated log.
    RaftVolume,
    /// Owner or mode of the data directory.
    Permissions,
    /// Clients have taken their connections.
    Connections,
    /// PostgreSQL takes connections, and no session comes of them.
    Blocked,
    /// archive_command fails.
    Archive,
    /// A promotion takes long.
    Promotion,
    /// Something fails again and again.
    Failing,
    /// Commits wait, or wait for nobody though they should.
    Sync,
    /// The virtual address.
    Vip,
    /// Certificates that end, or do not fit.
    Certificates,
    /// Somebody's commits do not wait as the others do.
    Hasty,
    /// The role for monitoring.
    Monitoring,
}

/// The present troubles.
#[derive(Debug, Default)]
pub struct Troubles {
    known: Mutex<BTreeMap<Kind, String>>,
    oldest_wal: AtomicU64,
}

impl Troubles {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Kind, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is this trouble, or there is none of its kind.
    pub fn set(&self, kind: Kind, text: Option<String>) {
        let mut known = self.known();
        match text {
            None => {
                if let Some(old) = known.remove(&kind) {
                    tracing::info!("over: {old}");
                }
            }
            Some(text) => {
                // Numbers in it change all the time; it is told once.
                if known.insert(kind, text.clone()).is_none() {
                    tracing::warn!("{text}");
                }
            }
        }
    }

    /// All of them, in words.
    pub fn told(&self) -> Vec<String> {
        self.known().values().cloned().collect()
    }

    /// Where the oldest WAL begins that a primary still has; zero: not known.
    pub fn oldest_wal(&self) -> Lsn {
        Lsn(self.oldest_wal.load(Ordering::Relaxed))
    }

    fn set_oldest_wal(&self, lsn: Option<Lsn>) {
        self.oldest_wal.store(lsn.unwrap_or_default().0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_there_once_and_goes() {
        let troubles = Troubles::default();
        troubles.set(Kind::Archive, Some("fails".into()));
        troubles.set(Kind::Archive, Some("fails again".into()));
        assert_eq!(troubles.told(), ["fails again"]);
        troubles.set(Kind::Archive, None);
        assert!(troubles.told().is_empty());
    }
}
