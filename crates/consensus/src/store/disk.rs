//! Where records lie: the trait behind which the engine can be exchanged, and sled as that engine.
//!
//! Place: used by the log store and its writer. Does I/O.
//! State: tree `log` (key: index, big-endian) and tree `meta`, values sealed, in
//! `db-<generation>/`.
//! Invariants: what `append` wrote can be read when it returns; what was written before `sync` is
//! durable when that returns. Sled's own flush waits for the pages without telling the drive, and
//! does not sync the file's length, so `sync` adds `fdatasync` on the file itself.
//! Failure: sled may panic on a damaged file, therefore opening runs inside `catch_unwind`; its
//! `snap.*` files are a mere index cache, and a partial one keeps it from opening, so they are
//! deleted first.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sled::{Batch, Db, Tree};

/// Memory that sled may use for its pages, bytes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// A store of this process that was just closed may hold sled's file lock a little longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// Records that are deleted by one batch.
const CUT_BATCH: usize = 1000;

/// A place for log records and a few named ones. Values are opaque here.
pub trait Disk: Send + Sync {
    /// Writes log records; readable on return, durable after `sync`.
    ///
    /// # Errors
    /// What the engine says.
    fn append(&self, records: Vec<(u64, Vec<u8>)>) -> io::Result<()>;
    /// Reads log records in order of their index.
    ///
    /// # Errors
    /// What the engine says.
    fn read(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<Vec<(u64, Vec<u8>)>>;
    /// Deletes log records within the bounds, from the end backwards.
    ///
    /// # Errors
    /// What the engine says.
    fn cut(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<()>;
    /// Writes a named record; durable after `sync`.
    ///
    /// # Errors
    /// What the engine says.
    fn put(&self, name: &str, value: Vec<u8>) -> io::Result<()>;
    /// Reads a named record.
    ///
    /// # Errors
    /// What the engine says.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// What the engine or the kernel says. Never to be retried: after a failed sync the kernel may
    /// have dropped the pages.
    fn sync(&self) -> io::Result<()>;
    /// Bytes on disk.
    ///
    /// # Errors
    /// What the file system says.
    fn size(&self) -> io::Result<u64>;
}

/// Sled.
pub struct SledDisk {
    db: Db,
    log: Tree,
    meta: Tree,
    file: File,
}

fn engine(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

pub(super) fn remove_index_cache(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// What the file system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn open_sled(dir: &Path) -> io::Result<Db> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let patience = Instant::now();
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Err(_) => return Err(io::Error::other("the engine panicked on it")),
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) if is_lock(&error) && patience.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(Err(error)) => return Err(engine(error)),
        }
    }
}

fn is_lock(error: &sled::Error) -> bool {
    let sled::Error::Io(error) = error else { return false };
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("acquire lock")
}

impl SledDisk {
    /// Opens, or makes, the store in `dir`.
    ///
    /// # Errors
    /// What the engine says, a panic of it included.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        remove_index_cache(dir)?;
        let db = open_sled(dir)?;
        let trees = catch_unwind(AssertUnwindSafe(|| {
            Ok::<_, sled::Error>((db.open_tree("log")?, db.open_tree("meta")?))
        }));
        let (log, meta) = trees
            .map_err(|_| io::Error::other("the engine panicked on its trees"))?
            .map_err(engine)?;
        let file = File::options().read(true).write(true).open(dir.join("db"))?;
        sync_dir(dir)?;
        Ok(Self { db, log, meta, file })
    }
}

fn key(bound: Bound<u64>) -> Bound<[u8; 8]> {
    bound.map(u64::to_be_bytes)
}

fn index_of(key: &[u8]) -> io::Result<u64> {
    let bytes = key.try_into().map_err(|_| io::Error::other("a log key is not 8 bytes long"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// `BTreeMap`-like ranges panic when they are inverted; the caller's means nothing.
fn is_empty(from: Bound<u64>, to: Bound<u64>) -> bool {
    match (from, to) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b) | Bound::Included(b)) => {
            a >= b
        }
        _ => false,
    }
}

impl Disk for SledDisk {
    fn append(&self, records: Vec<(u64, Vec<u8>)>) -> io::Result<()> {
        let mut batch = Batch::default();
        for (index, record) in records {
            batch.insert(&index.to_be_bytes(), record);
        }
        self.log.apply_batch(batch).map_err(engine)
    }

    fn read(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
        if is_empty(from, to) {
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        for item in self.log.range((key(from), key(to))) {
            let (key, value) = item.map_err(engine)?;
            records.push((index_of(&key)?, value.to_vec()));
        }
        Ok(records)
    }

    fn cut(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<()> {
        if is_empty(from, to) {
            return Ok(());
        }
        loop {
            let mut batch = Batch::default();
            let mut cut = 0;
            for key in self.log.range((key(from), key(to))).keys().rev().take(CUT_BATCH) {
                batch.remove(key.map_err(engine)?);
                cut += 1;
            }
            if cut == 0 {
                return Ok(());
            }
            self.log.apply_batch(batch).map_err(engine)?;
        }
    }

    fn put(&self, name: &str, value: Vec<u8>) -> io::Result<()> {
        self.meta.insert(name, value).map_err(engine)?;
        Ok(())
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.meta.get(name).map_err(engine)?.map(|value| value.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(engine)?;
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Bytes of all files below `dir`.
///
/// # Errors
/// What the file system says.
pub fn directory_size(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut pending: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for item in fs::read_dir(dir)? {
            let item = item?;
            let meta = item.metadata()?;
            if meta.is_dir() {
                pending.push(item.path());
            } else {
                bytes += meta.len();
            }
        }
    }
    Ok(bytes)
}
