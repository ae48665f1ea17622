//! Opening a store: made anew, or checked from end to end.
//!
//! Place: `Node::open` calls `open`. Does I/O, and may take a second on a large log.
//! Invariants: what is returned agrees with its mark, has no hole, and every record in it was read.
//! Failure: see the head of `store`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::disk::{Disk, SledDisk, sync_dir};
use super::hwm::{Mark, MarkError, MarkFile};
use super::log::{Facts, LogStore, Shared, unseal_entry};
use super::machine::StateMachine;
use super::seal::{seal, unseal};
use super::snapshot::{self, SnapshotError};
use super::writer::{self, IDENTITY, Job, Queue, REWRITE_BYTES, VOTE, db_dir};
use super::{OpenError, SOCKET};
use crate::types::{LogId, Snapshot, Vote};

/// Who this node is. Kept in the store; a new store is a new node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the cluster.
    pub scope: String,
    /// Name of the member.
    pub member: String,
    /// Raft node id.
    pub node_id: u64,
    /// Drawn with the store; the lowest among fresh nodes founds the group.
    pub token: u64,
    /// The group; 0 while it is in none.
    pub cluster_id: u64,
    /// It means to found that group, and has not yet.
    pub founding: bool,
}

/// An open store. It is released when all parts are gone.
pub struct Opened {
    /// Vote and log.
    pub log: LogStore,
    /// The applied state.
    pub machine: StateMachine,
    /// Who this node is.
    pub identity: Identity,
    /// Keeps changes of the identity, tells failures, closes.
    pub keeper: Keeper,
}

/// The store, seen from outside of openraft.
#[derive(Clone)]
pub struct Keeper {
    queue: Queue,
    failed: watch::Receiver<Option<String>>,
}

impl Keeper {
    /// Makes a changed identity durable.
    ///
    /// # Errors
    /// What the store says; it is unusable then.
    pub async fn save_identity(&self, identity: &Identity) -> io::Result<()> {
        let value = seal_identity(identity)?;
        self.done(|done| Job::Put(IDENTITY, value, done)).await
    }

    /// Makes everything durable and ends the writer.
    ///
    /// # Errors
    /// What the store says.
    pub async fn close(&self) -> io::Result<()> {
        self.done(Job::Close).await
    }

    /// Says why, once the store cannot be written any more.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
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

fn seal_identity(identity: &Identity) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(identity).map_err(io::Error::other)?;
    seal(IDENTITY.as_bytes(), &json).map_err(io::Error::other)
}

pub(super) struct Opening<'a> {
    pub(super) dir: &'a Path,
}

impl Opening<'_> {
    fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { dir: self.dir.to_owned(), source }
    }

    fn corrupt(&self, what: impl Into<String>) -> OpenError {
        OpenError::Corrupt { dir: self.dir.to_owned(), what: what.into() }
    }

    fn lock(&self) -> Result<File, OpenError> {
        let path = self.dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|error| self.io(error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: self.dir.to_owned() }),
            Err(TryLockError::Error(error)) => Err(self.io(error)),
        }
    }

    /// Names that are there, `lock` and the agent's socket excepted; anything that is not howdah's is refused.
    fn names(&self) -> Result<Vec<String>, OpenError> {
        let mut names = Vec::new();
        for item in fs::read_dir(self.dir).map_err(|error| self.io(error))? {
            let name = item.map_err(|error| self.io(error))?.file_name();
            let name = name.to_string_lossy().into_owned();
            let ours = ["lock", SOCKET, "hwm", "creating", "refused"].contains(&name.as_str())
                || name.starts_with("db-")
                || name.starts_with("snap-");
            if !ours {
                return Err(OpenError::ForeignFormat { dir: self.dir.to_owned(), file: name });
            }
            if !["lock", SOCKET].contains(&name.as_str()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, names: &[String], identity: &Identity) -> io::Result<()> {
        let marker = self.dir.join("creating");
        File::create(&marker)?.sync_all()?;
        sync_dir(self.dir)?;
        for name in names.iter().filter(|name| *name != "creating") {
            let path = self.dir.join(name);
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        let disk = SledDisk::open(&db_dir(self.dir, 1))?;
        disk.put(IDENTITY, seal_identity(identity)?)?;
        disk.sync()?;
        let store_id = rand::random();
        let mark = Mark { store_id, node_id: identity.node_id, generation: 1, ..Mark::default() };
        MarkFile::create(&self.dir.join("hwm"), mark)?;
        sync_dir(self.dir)?;
        fs::remove_file(marker)?;
        sync_dir(self.dir)?;
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        Ok(())
    }

    fn mark(&self) -> Result<MarkFile, OpenError> {
        MarkFile::open(&self.dir.join("hwm")).map_err(|error| match error {
            MarkError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                self.corrupt("its high-water file `hwm` is missing")
            }
            MarkError::Io(error) => self.io(error),
            MarkError::Newer(_) => {
                OpenError::NewerFormat { dir: self.dir.to_owned(), what: format!("hwm: {error}") }
            }
            MarkError::Damaged => self.corrupt(format!("hwm: {error}")),
        })
    }

    fn disk(&self, mark: &Mark) -> Result<SledDisk, OpenError> {
        let path = db_dir(self.dir, mark.generation);
        if !path.join("db").is_file() {
            return Err(self.corrupt(format!("{} is missing", path.display())));
        }
        SledDisk::open(&path).map_err(|error| self.unread(&path.display().to_string(), error))
    }

    /// What the operating system refuses says nothing of the contents, and may go better another time; all
    /// else is damage.
    fn unread(&self, what: &str, error: io::Error) -> OpenError {
        if error.raw_os_error().is_some() {
            return self.io(error);
        }
        self.corrupt(format!("{what}: {error}"))
    }

    pub(super) fn identity(&self, disk: &dyn Disk, mark: &Mark) -> Result<Identity, OpenError> {
        let record = disk.get(IDENTITY).map_err(|error| self.unread("its identity", error))?;
        let record = record.ok_or_else(|| self.corrupt("its identity is missing"))?;
        let json: String = unseal(IDENTITY.as_bytes(), &record)
            .map_err(|why| self.corrupt(format!("its identity: {why}")))?;
        let identity: Identity = serde_json::from_str(&json)
            .map_err(|why| self.corrupt(format!("its identity: {why}")))?;
        if identity.node_id != mark.node_id {
            return Err(self.corrupt("its log and its high-water file belong to different nodes"));
        }
        Ok(identity)
    }

    pub(super) fn vote(&self, disk: &dyn Disk, mark: &Mark) -> Result<Option<Vote>, OpenError> {
        let vote: Option<Vote> = match disk.get(VOTE) {
            Ok(None) => None,
            Ok(Some(record)) => Some(
                unseal(VOTE.as_bytes(), &record)
                    .map_err(|why| self.corrupt(format!("its vote: {why}")))?,
            ),
            Err(error) => return Err(self.unread("its vote", error)),
        };
        if vote.partial_cmp(&mark.vote).is_some_and(|order| order.is_ge()) {
            return Ok(vote);
        }
        let show = |vote: Option<Vote>| vote.map_or("none".to_owned(), |vote| vote.to_string());
        Err(OpenError::TailMissing {
            dir: self.dir.to_owned(),
            what: "the vote",
            acknowledged: show(mark.vote),
            found: show(vote),
        })
    }

    /// Reads the whole log; answers its last entry.
    pub(super) fn log(&self, disk: &dyn Disk, mark: &Mark) -> Result<Option<LogId>, OpenError> {
        let damaged = |error: io::Error| self.unread("its log", error);
        if let Some(purged) = mark.purged {
            // A purge that was interrupted is finished here.
            disk.cut(Bound::Unbounded, Bound::Included(purged.index)).map_err(damaged)?;
        }
        let mut last = mark.purged;
        let mut marked = mark.last.is_none() || mark.last == mark.purged;
        for (index, record) in disk.read(Bound::Unbounded, Bound::Unbounded).map_err(damaged)? {
            // Behind the last index there is none.
            let expected = last.map_or(0, |id| id.index.saturating_add(1));
            if index != expected || last.is_some_and(|last| last.index == index) {
                return Err(self.corrupt(format!("log entries {expected} to {index} are missing")));
            }
            let entry = unseal_entry(index, &record).map_err(damaged)?;
            if last.is_some_and(|last| last.leader_id > entry.log_id.leader_id) {
                return Err(self.corrupt(format!("log entry {index} is older than the one before")));
            }
            last = Some(entry.log_id);
            marked |= last == mark.last;
        }
        if marked {
            return Ok(last);
        }
        let show = |id: Option<LogId>| id.map_or("nothing".to_owned(), |id| id.to_string());
        Err(OpenError::TailMissing {
            dir: self.dir.to_owned(),
            what: "the log",
            acknowledged: show(mark.last),
            found: show(last),
        })
    }

    fn snapshot(&self, mark: &Mark) -> Result<Option<Snapshot>, OpenError> {
        let snapshot = snapshot::read_newest(self.dir).map_err(|error| match error {
            SnapshotError::Io(error) => self.io(error),
            SnapshotError::Newer(_) => OpenError::NewerFormat {
                dir: self.dir.to_owned(),
                what: format!("its snapshot: {error}"),
            },
            SnapshotError::Damaged(_) => self.corrupt(format!("its snapshot: {error}")),
        })?;
        let covered = snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        if covered < mark.purged {
            return Err(self.corrupt("entries were cut from its log that no snapshot covers"));
        }
        Ok(snapshot)
    }

    fn drop_other_generations(&self, names: &[String], mark: &Mark) -> io::Result<()> {
        let current = format!("db-{}", mark.generation);
        for name in names.iter().filter(|name| name.starts_with("db-") && **name != current) {
            fs::remove_dir_all(self.dir.join(name))?;
        }
        Ok(())
    }

    fn check(&self, names: &[String]) -> Result<Parts, OpenError> {
        let mark = self.mark()?;
        self.drop_other_generations(names, mark.mark()).map_err(|error| self.io(error))?;
        let disk = self.disk(mark.mark())?;
        // Sled reads lazily, and a damaged page makes it panic.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let identity = self.identity(&disk, mark.mark())?;
            let vote = self.vote(&disk, mark.mark())?;
            let last = self.log(&disk, mark.mark())?;
            Ok::<_, OpenError>((identity, vote, last))
        }));
        let (identity, vote, last) =
            read.map_err(|_| self.corrupt("the engine panicked while it was read"))??;
        let snapshot = self.snapshot(mark.mark())?;
        let Mark { purged, committed, .. } = *mark.mark();
        let facts = Facts { last, purged, vote, committed };
        Ok(Parts { mark, disk, identity, facts, snapshot })
    }

    /// A store that failed once stays refused, whatever a second look would say. Where not even that can be
    /// written, it is the disk that fails, on which the engine panics as on damage: another look is needed.
    fn remember(&self, error: OpenError) -> OpenError {
        if !error.is_damage() {
            return error;
        }
        let path = self.dir.join("refused");
        let written = File::create(&path)
            .and_then(|mut file| file.write_all(error.to_string().as_bytes()).map(|()| file))
            .and_then(|file| file.sync_all())
            .and_then(|()| sync_dir(self.dir));
        let Err(why) = written else { return error };
        tracing::warn!(%error, "the raft store cannot be read, nor its disk be written");
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "{} stays, and refuses the store", path.display());
        }
        self.io(why)
    }
}

struct Parts {
    mark: MarkFile,
    disk: SledDisk,
    identity: Identity,
    facts: Facts,
    snapshot: Option<Snapshot>,
}

/// Opens the store in `dir`, making it if there is none.
///
/// # Errors
/// `OpenError` says what is wrong and the way out.
pub fn open(dir: &Path, scope: &str, member: &str) -> Result<Opened, OpenError> {
    open_with(dir, scope, member, REWRITE_BYTES)
}

/// Opens the store; it is rewritten when it has more than `rewrite_bytes` after a purge.
pub(super) fn open_with(
    dir: &Path,
    scope: &str,
    member: &str,
    rewrite_bytes: u64,
) -> Result<Opened, OpenError> {
    let opening = Opening { dir };
    fs::create_dir_all(dir).map_err(|error| opening.io(error))?;
    // The members' passwords are in it.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .map_err(|error| opening.io(error))?;
    let lock = opening.lock()?;
    let mut names = opening.names()?;
    if names.iter().any(|name| name == "refused") {
        let why = fs::read_to_string(dir.join("refused")).unwrap_or_default();
        return Err(opening.corrupt(format!("it was refused before [{why}]")));
    }
    if names.is_empty() || names.iter().any(|name| name == "creating") {
        let identity = Identity {
            scope: scope.to_owned(),
            member: member.to_owned(),
            // Zero means "none" on the wire.
            node_id: rand::random_range(1..u64::MAX),
            token: rand::random(),
            cluster_id: 0,
            founding: false,
        };
        opening.create(&names, &identity).map_err(|error| opening.io(error))?;
        names = opening.names()?;
    }
    let parts = opening.check(&names).map_err(|error| opening.remember(error))?;
    let (found, dir) = (&parts.identity, dir.to_owned());
    if found.scope != scope {
        return Err(OpenError::ForeignScope {
            dir,
            found: found.scope.clone(),
            wanted: scope.to_owned(),
        });
    }
    if found.member != member {
        return Err(OpenError::ForeignMember {
            dir,
            found: found.member.clone(),
            wanted: member.to_owned(),
        });
    }
    assemble(&opening, parts, lock, rewrite_bytes)
}

fn assemble(
    opening: &Opening<'_>,
    parts: Parts,
    lock: File,
    rewrite_bytes: u64,
) -> Result<Opened, OpenError> {
    let Parts { mark, disk, identity, facts, snapshot } = parts;
    let dir = opening.dir.to_owned();
    let machine = StateMachine::new(dir.clone(), snapshot)
        .map_err(|error| opening.remember(opening.corrupt(error.to_string())))?;
    let (failed, failed_seen) = watch::channel(None);
    let shared =
        Arc::new(Shared { disk: RwLock::new(Box::new(disk)), facts: Mutex::new(facts), failed });
    let queue = writer::start(dir, Arc::clone(&shared), mark, lock, rewrite_bytes)
        .map_err(|error| opening.io(error))?;
    let log = LogStore::new(shared, queue.clone());
    let keeper = Keeper { queue, failed: failed_seen };
    Ok(Opened { log, machine, identity, keeper })
}
