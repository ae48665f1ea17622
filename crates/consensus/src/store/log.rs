//! Vote and log, as openraft asks for them.
//!
//! Place: openraft's core calls `LogStore`, its replication tasks read through `LogReader`s.
//! State: `Facts` in memory mirror what the disk holds; they are read from it at start.
//! Invariants: an appended entry can be read when `append` returns, and its callback comes after it
//! is durable; vote and log go through one queue, in the order in which openraft gave them.
//! Failure: the first error ends the store for good (see `writer`).

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::{oneshot, watch};

use super::disk::Disk;
use super::seal::{seal, unseal};
use super::writer::{Job, Queue};
use crate::types::{Entry, LogId, Types, Vote};

/// Entries that one read for replication returns at most; further bounded by `READ_BYTES`.
const READ_ENTRIES: u64 = 64;
/// Bytes after which a read for replication ends, well below the limit of a message.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// What the disk holds, in short.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub last: Option<LogId>,
    pub purged: Option<LogId>,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
}

/// What store, readers and writer share.
pub(super) struct Shared {
    pub disk: RwLock<Box<dyn Disk>>,
    pub facts: Mutex<Facts>,
    pub failed: watch::Sender<Option<String>>,
}

impl Shared {
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        // Only whole assignments happen under the lock, so a panic elsewhere left it consistent.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn with_disk<T>(
        &self,
        f: impl FnOnce(&(dyn Disk + 'static)) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(why) = self.failed.borrow().as_ref() {
            return Err(io::Error::other(why.clone()));
        }
        f(self.disk.read().unwrap_or_else(PoisonError::into_inner).as_ref())
    }
}

/// The checksum of a log record covers its index.
pub(super) fn log_key(index: u64) -> [u8; 12] {
    let mut key = *b"log:\0\0\0\0\0\0\0\0";
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Opens a log record.
pub(super) fn unseal_entry(index: u64, record: &[u8]) -> io::Result<Entry> {
    let damaged = |what: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("log entry {index}: {what}"))
    };
    let entry: Entry = unseal(&log_key(index), record).map_err(|why| damaged(why.to_string()))?;
    if entry.log_id.index != index {
        return Err(damaged(format!("it says that it is entry {}", entry.log_id.index)));
    }
    Ok(entry)
}

/// Reads entries; cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = (range.start_bound().cloned(), range.end_bound().cloned());
        let records = self.shared.with_disk(|disk| disk.read(from, to))?;
        records.iter().map(|(index, record)| unseal_entry(*index, record)).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.facts().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let end = end.min(start.saturating_add(READ_ENTRIES));
        let (from, to) = (Bound::Included(start), Bound::Excluded(end));
        let records = self.shared.with_disk(|disk| disk.read(from, to))?;
        let mut entries = Vec::with_capacity(records.len());
        let mut bytes = 0;
        for (index, record) in &records {
            bytes += record.len();
            if bytes > READ_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(unseal_entry(*index, record)?);
        }
        Ok(entries)
    }
}

/// Vote and log of this node.
pub struct LogStore {
    shared: Arc<Shared>,
    queue: Queue,
}

impl LogStore {
    pub(super) fn new(shared: Arc<Shared>, queue: Queue) -> Self {
        Self { shared, queue }
    }

    async fn done(
        &self,
        job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job,
    ) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.queue.push(job(tx))?;
        rx.await.map_err(|_| io::Error::other("the writer of the store has ended"))?
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let facts = self.shared.facts();
        Ok(LogState { last_purged_log_id: facts.purged, last_log_id: facts.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.done(|done| Job::Vote(vote, done)).await?;
        self.shared.facts().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Written with the next mark: an older value only means more entries to hear of again.
        self.shared.facts().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let facts = self.shared.facts();
        Ok(facts.committed.min(facts.last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut last = None;
        for entry in entries {
            let index = entry.log_id.index;
            records.push((index, seal(&log_key(index), &entry).map_err(io::Error::other)?));
            last = Some(entry.log_id);
        }
        if let Some(last) = last {
            self.shared.with_disk(|disk| disk.append(records))?;
            self.shared.facts().last = Some(last);
        }
        self.queue.push(Job::Flush(last, callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let Facts { last: present, purged, .. } = *self.shared.facts();
        let last = last.min(present).max(purged);
        self.done(|done| Job::Truncate(last, done)).await?;
        self.shared.facts().last = last;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.done(|done| Job::Purge(upto, done)).await?;
        let mut facts = self.shared.facts();
        facts.purged = facts.purged.max(Some(upto));
        facts.last = facts.last.max(Some(upto));
        Ok(())
    }
}
