//! The one thread that makes things durable, in order, many at a time.
//!
//! Place: fed by `LogStore`; owns the mark file.
//! Invariants: sled is synced, then the mark raised and synced, then the acknowledgement given;
//! before anything is cut, the mark is lowered and synced. Acknowledgements keep the order of jobs.
//! Failure: the first error, a failed sync above all, ends the thread: every later job is answered
//! with it and `failed` says it; nothing is retried. A rewrite that is interrupted leaves the
//! generation that the mark names.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::disk::{Disk, SledDisk, sync_dir};
use super::hwm::MarkFile;
use super::log::Shared;
use super::seal::seal;
use crate::types::{LogId, Types, Vote};

/// Sled reuses space and gives back what is free at the end of its file, but promises neither;
/// beyond this many bytes after a purge the store is rewritten into a fresh one.
pub(super) const REWRITE_BYTES: u64 = 24 * 1024 * 1024;
/// Jobs that are made durable together at most.
const GROUP: usize = 256;

type Done = oneshot::Sender<io::Result<()>>;

/// Something to be made durable.
pub(super) enum Job {
    /// The log was appended to, up to here.
    Flush(Option<LogId>, IOFlushed<Types>),
    /// Keep a vote.
    Vote(Vote, Done),
    /// Keep a named record (already sealed).
    Put(&'static str, Vec<u8>, Done),
    /// Cut the log after this entry.
    Truncate(Option<LogId>, Done),
    /// Cut the log up to this entry.
    Purge(LogId, Done),
    /// Make everything durable and end.
    Close(Done),
}

/// Leads to the writer.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: Sender<Job>,
}

impl Queue {
    pub fn push(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| io::Error::other("the writer of the store has ended"))
    }
}

pub(super) fn db_dir(root: &std::path::Path, generation: u64) -> PathBuf {
    root.join(format!("db-{generation}"))
}

/// Names of the records outside the log.
pub(super) const VOTE: &str = "vote";
pub(super) const IDENTITY: &str = "identity";

pub(super) fn start(
    root: PathBuf,
    shared: Arc<Shared>,
    mark: MarkFile,
    lock: File,
    rewrite_bytes: u64,
) -> io::Result<Queue> {
    let (jobs, inbox) = channel();
    let writer = Writer { root, shared, mark, rewrite_bytes, _lock: lock };
    std::thread::Builder::new().name("raft-store".into()).spawn(move || {
        if let Some((done, result)) = writer.run(&inbox) {
            // The writer is gone by now, its lock released: whoever waits may open the store again.
            Ack::Done(done).give(result);
        }
    })?;
    Ok(Queue { jobs })
}

struct Writer {
    root: PathBuf,
    shared: Arc<Shared>,
    mark: MarkFile,
    rewrite_bytes: u64,
    _lock: File,
}

/// What waits for the next sync.
#[derive(Default)]
struct Group {
    last: Option<LogId>,
    vote: Option<Vote>,
    acks: Vec<Ack>,
}

enum Ack {
    Flush(IOFlushed<Types>),
    Done(Done),
}

impl Ack {
    fn give(self, result: io::Result<()>) {
        match self {
            Ack::Flush(callback) => callback.io_completed(result),
            // Whoever no longer waits does not need the answer.
            Ack::Done(done) => drop(done.send(result)),
        }
    }
}

impl Writer {
    /// Works until it is closed, or nobody is left to give it work.
    fn run(mut self, inbox: &Receiver<Job>) -> Option<(Done, io::Result<()>)> {
        while let Ok(first) = inbox.recv() {
            let mut group = Group::default();
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(job) = next.take() {
                taken += 1;
                if let Some(done) = self.take(job, &mut group) {
                    self.settle(&mut group);
                    return Some((done, self.make_durable(None, None)));
                }
                if taken < GROUP {
                    next = inbox.try_recv().ok();
                }
            }
            self.settle(&mut group);
        }
        None
    }

    /// Takes a job; answers whom to tell if it was the last one.
    fn take(&mut self, job: Job, group: &mut Group) -> Option<Done> {
        match job {
            Job::Flush(last, callback) => {
                group.last = last.or(group.last);
                group.acks.push(Ack::Flush(callback));
            }
            Job::Vote(vote, done) => match self.put(VOTE, seal(VOTE.as_bytes(), &vote)) {
                Ok(()) => {
                    group.vote = Some(vote);
                    group.acks.push(Ack::Done(done));
                }
                Err(error) => Ack::Done(done).give(Err(self.fail(error))),
            },
            Job::Put(name, value, done) => match self.put(name, Ok(value)) {
                Ok(()) => group.acks.push(Ack::Done(done)),
                Err(error) => Ack::Done(done).give(Err(self.fail(error))),
            },
            Job::Truncate(last, done) => {
                self.settle(group);
                let result = self.truncate(last);
                Ack::Done(done).give(result.map_err(|error| self.fail(error)));
            }
            Job::Purge(upto, done) => {
                self.settle(group);
                let result = self.purge(upto);
                Ack::Done(done).give(result.map_err(|error| self.fail(error)));
            }
            Job::Close(done) => return Some(done),
        }
        None
    }

    fn put(&self, name: &str, value: Result<Vec<u8>, postcard::Error>) -> io::Result<()> {
        let value = value.map_err(io::Error::other)?;
        self.shared.with_disk(|disk| disk.put(name, value))
    }

    fn fail(&self, error: io::Error) -> io::Error {
        let text = format!("the raft store cannot be written any more: {error}");
        tracing::error!(error = %error, "raft store failed");
        let first = self.shared.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(text);
            first
        });
        if first {
            // The engine writes once more when it is dropped, panics when that fails, and waits for ever for
            // what panicked. Nothing of it is used again: it ends with the process.
            std::mem::forget(Arc::clone(&self.shared));
        }
        error
    }

    fn settle(&mut self, group: &mut Group) {
        let Group { last, vote, acks } = std::mem::take(group);
        if acks.is_empty() {
            return;
        }
        let result = self.make_durable(last, vote).map_err(|error| self.fail(error));
        for ack in acks {
            ack.give(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }

    fn make_durable(&mut self, last: Option<LogId>, vote: Option<Vote>) -> io::Result<()> {
        if syncs() {
            self.shared.with_disk(|disk| disk.sync())?;
        }
        let committed = self.shared.facts().committed;
        self.mark.update(|mark| {
            mark.last = last.or(mark.last);
            mark.vote = vote.or(mark.vote);
            mark.committed = committed;
        })
    }

    fn truncate(&mut self, last: Option<LogId>) -> io::Result<()> {
        if self.mark.mark().last > last {
            self.mark.update(|mark| mark.last = last)?;
        }
        let from = last.map_or(Bound::Unbounded, |id| Bound::Excluded(id.index));
        self.shared.with_disk(|disk| disk.cut(from, Bound::Unbounded))?;
        self.shared.with_disk(|disk| disk.sync())
    }

    fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.mark.update(|mark| {
            mark.purged = mark.purged.max(Some(upto));
            mark.last = mark.last.max(Some(upto));
        })?;
        self.shared.with_disk(|disk| disk.cut(Bound::Unbounded, Bound::Included(upto.index)))?;
        if self.shared.with_disk(|disk| disk.size())? > self.rewrite_bytes {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Copies what is alive into a fresh generation, and goes over to it.
    fn rewrite(&mut self) -> io::Result<()> {
        let old = self.mark.mark().generation;
        let new = old + 1;
        let dir = db_dir(&self.root, new);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        // Held to the end: nothing may be appended to the old generation any more.
        let mut current = self.shared.disk.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = SledDisk::open(&dir)?;
        copy(current.as_ref(), &fresh)?;
        fresh.sync()?;
        sync_dir(&self.root)?;
        let before = current.size()?;
        // Both slots, so that no torn one can lead back to the generation that is removed.
        self.mark.update(|mark| mark.generation = new)?;
        self.mark.update(|mark| mark.generation = new)?;
        let after = fresh.size()?;
        *current = Box::new(fresh);
        drop(current);
        fs::remove_dir_all(db_dir(&self.root, old))?;
        tracing::info!(before_bytes = before, after_bytes = after, "raft store rewritten");
        Ok(())
    }
}

/// Whether what is acknowledged lies on the disk: yes.
#[cfg(not(feature = "sabotage"))]
const fn syncs() -> bool {
    true
}

/// A negative control: a test may ask for a store that acknowledges what it only remembers.
#[cfg(feature = "sabotage")]
fn syncs() -> bool {
    std::env::var_os("HOWDAH_TEST_STORE_UNSYNCED").is_none()
}

pub(super) fn copy(from: &dyn Disk, to: &dyn Disk) -> io::Result<()> {
    for name in [VOTE, IDENTITY] {
        if let Some(value) = from.get(name)? {
            to.put(name, value)?;
        }
    }
    for chunk in from.read(Bound::Unbounded, Bound::Unbounded)?.chunks(500) {
        to.append(chunk.to_vec())?;
    }
    Ok(())
}
