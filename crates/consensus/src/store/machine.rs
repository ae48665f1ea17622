//! The applied state: commands of the log, in order, put into `ClusterState`.
//!
//! Place: openraft's worker calls it; the agent reads through a watch channel.
//! State: in memory, made anew at start from the snapshot file and the committed log behind it.
//! Invariants: the same entries give the same state on every node; a command that this howdah does
//! not know is an error that stops the node, since skipping it would make nodes differ.
//! Failure: an error here is final for openraft; the agent then fences PostgreSQL and exits.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt};
use howdah_core::ClusterState;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot as RaftSnapshot};
use tokio::sync::watch;

use super::snapshot;
use crate::types::{Entry, LogId, Reply, Snapshot, SnapshotMeta, StoredMembership, Types};

/// The applied state, up to one log entry.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Index of the last entry that was applied.
    pub index: u64,
    /// The state.
    pub state: Arc<ClusterState>,
}

impl Applied {
    /// CRC-32 of the state: members that applied the same entries have the same.
    ///
    /// # Errors
    /// If the state has no encoded form.
    pub fn checksum(&self) -> Result<u32, serde_json::Error> {
        serde_json::to_vec(&*self.state).map(|bytes| crc32fast::hash(&bytes))
    }
}

struct Inner {
    last_applied: Option<LogId>,
    membership: StoredMembership,
    state: Arc<ClusterState>,
    current: Option<Snapshot>,
}

/// Applies entries.
pub struct StateMachine {
    dir: PathBuf,
    inner: Arc<Mutex<Inner>>,
    applied: watch::Sender<Applied>,
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decode(state: &[u8]) -> io::Result<ClusterState> {
    serde_json::from_slice(state).map_err(|error| {
        // Secrets stand in it: no word of it is told.
        let (what, column) = (error.classify(), error.column());
        let text = format!("the snapshot's state does not decode ({what:?}, byte {column})");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

impl StateMachine {
    /// Begins with a snapshot, if there is one.
    ///
    /// # Errors
    /// `InvalidData` if its state does not decode.
    pub(super) fn new(dir: PathBuf, current: Option<Snapshot>) -> io::Result<Self> {
        let (last_applied, membership, state) = match &current {
            Some(snapshot) => (
                snapshot.meta.last_log_id,
                snapshot.meta.last_membership.clone(),
                decode(&snapshot.snapshot)?,
            ),
            None => (None, StoredMembership::default(), ClusterState::default()),
        };
        let inner = Inner { last_applied, membership, state: Arc::new(state), current };
        let (applied, _) = watch::channel(Applied::default());
        let this = Self { dir, inner: Arc::new(Mutex::new(inner)), applied };
        this.publish(&lock(&this.inner));
        Ok(this)
    }

    /// The applied state, whenever it changes.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    fn publish(&self, inner: &Inner) {
        let index = inner.last_applied.map_or(0, |id| id.index);
        self.applied.send_replace(Applied { index, state: Arc::clone(&inner.state) });
    }

    fn apply_one(inner: &mut Inner, entry: Entry) -> io::Result<Reply> {
        let index = entry.log_id.index;
        let reply = match entry.payload {
            EntryPayload::Blank => Reply(None),
            EntryPayload::Normal(logged) => {
                let command = logged.command().map_err(|error| {
                    io::Error::other(format!(
                        "log entry {index} holds a command that this howdah does not know \
                         ({error}); install the version that its peers run"
                    ))
                })?;
                Reply(Some(Arc::make_mut(&mut inner.state).apply(index, command)))
            }
            EntryPayload::Membership(membership) => {
                inner.membership = StoredMembership::new(Some(entry.log_id), membership);
                Reply(None)
            }
        };
        inner.last_applied = Some(entry.log_id);
        Ok(reply)
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let inner = lock(&self.inner);
        Ok((inner.last_applied, inner.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut result = Ok(());
        while let Some(item) = entries.next().await {
            let applied = item.and_then(|(entry, responder)| {
                let reply = Self::apply_one(&mut lock(&self.inner), entry)?;
                Ok((reply, responder))
            });
            match applied {
                Ok((reply, responder)) => answers.extend(responder.map(|to| (to, reply))),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        // The state first: whoever gets an answer finds its effect in the watch channel.
        self.publish(&lock(&self.inner));
        for (responder, reply) in answers {
            responder.send(reply);
        }
        result
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let inner = lock(&self.inner);
        SnapshotBuilder {
            dir: self.dir.clone(),
            meta: SnapshotMeta {
                last_log_id: inner.last_applied,
                last_membership: inner.membership.clone(),
            },
            state: Arc::clone(&inner.state),
            inner: Arc::clone(&self.inner),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, state: Vec<u8>) -> io::Result<()> {
        let decoded = decode(&state)?;
        let snapshot = RaftSnapshot { meta: meta.clone(), snapshot: state };
        write(self.dir.clone(), snapshot.clone()).await?;
        let mut inner = lock(&self.inner);
        inner.last_applied = meta.last_log_id;
        inner.membership = meta.last_membership.clone();
        inner.state = Arc::new(decoded);
        inner.current = Some(snapshot);
        self.publish(&inner);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(lock(&self.inner).current.clone())
    }
}

async fn write(dir: PathBuf, snapshot: Snapshot) -> io::Result<()> {
    tokio::task::spawn_blocking(move || snapshot::write(&dir, &snapshot))
        .await
        .map_err(io::Error::other)?
}

/// Writes one snapshot, beside the machine that goes on applying.
pub struct SnapshotBuilder {
    dir: PathBuf,
    meta: SnapshotMeta,
    state: Arc<ClusterState>,
    inner: Arc<Mutex<Inner>>,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let state = serde_json::to_vec(self.state.as_ref()).map_err(io::Error::other)?;
        let snapshot = RaftSnapshot { meta: self.meta.clone(), snapshot: state };
        write(self.dir.clone(), snapshot.clone()).await?;
        let mut inner = lock(&self.inner);
        // The leader's may have been installed meanwhile, and reach farther.
        if inner
            .current
            .as_ref()
            .is_none_or(|known| known.meta.last_log_id <= self.meta.last_log_id)
        {
            inner.current = Some(snapshot.clone());
        }
        Ok(snapshot)
    }
}
