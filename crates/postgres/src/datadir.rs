//! What a path holds: nothing, something foreign, or a PostgreSQL data directory and its state.
//!
//! The agent asks before it starts, clones or initialises anything. Also the markers beside a
//! directory that say that a job on it is half done; they survive a restart, and a directory with
//! one is never started.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::files::{self, Doing as _, FileError};
use crate::{install, signals};

/// A job that was begun on a data directory and is not known to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// pg_rewind ran or runs on the directory itself: it may hold anything, only a clone helps.
    Rewinding,
    /// A clone is being written into `<data_dir>.new`; the directory itself is untouched.
    Cloning,
}

impl Marker {
    /// Where the marker stands: beside the data directory.
    pub fn path(self, data_dir: &Path) -> PathBuf {
        files::beside(
            data_dir,
            match self {
                Self::Rewinding => ".rewinding",
                Self::Cloning => ".cloning",
            },
        )
    }

    /// Sets it, durably.
    pub fn set(self, data_dir: &Path) -> Result<(), FileError> {
        files::write_atomic(&self.path(data_dir), b"", 0o600)
    }

    /// Clears it, durably.
    pub fn clear(self, data_dir: &Path) -> Result<(), FileError> {
        files::remove_durably(&self.path(data_dir)).map(|_| ())
    }

    /// Whether it is set.
    pub fn is_set(self, data_dir: &Path) -> Result<bool, FileError> {
        files::exists(&self.path(data_dir))
    }
}

/// What stands at the path of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// Nothing.
    Missing,
    /// An empty directory.
    Empty,
    /// Something that is no data directory; it is never touched.
    Foreign {
        /// What is in the way.
        why: String,
    },
    /// A data directory.
    Cluster(Cluster),
}

/// A PostgreSQL data directory as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Major version.
    pub major: u32,
    /// Starts as a standby.
    pub has_standby_signal: bool,
    /// Starts as a restore to a point in time.
    pub has_recovery_signal: bool,
    /// Is a base backup that was not replayed yet.
    pub has_backup_label: bool,
    /// A half-done job; with [`Marker::Rewinding`] the directory must never be started.
    pub marker: Option<Marker>,
    /// Uid of the owner, who alone may start it.
    pub owner: u32,
    /// Permission bits; PostgreSQL takes 0700 and 0750 only.
    pub mode: u32,
}

/// Looks at a data directory. Errors are of I/O; a foreign directory is an answer.
pub fn inspect(data_dir: &Path) -> Result<DataDir, FileError> {
    let meta = match fs::metadata(data_dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DataDir::Missing),
        Err(error) => return Err(error).doing("look at", data_dir),
    };
    if !meta.is_dir() {
        return Ok(DataDir::Foreign { why: "it is not a directory".to_owned() });
    }
    let mut entries = fs::read_dir(data_dir).doing("list", data_dir)?;
    // Of a file system of its own only `lost+found` may stand there.
    if entries.all(|e| e.is_ok_and(|e| e.file_name() == "lost+found")) {
        return Ok(DataDir::Empty);
    }
    let Some(major) = install::data_major(data_dir) else {
        let why = "it is not empty and has no readable PG_VERSION".to_owned();
        return Ok(DataDir::Foreign { why });
    };
    if !files::exists(&data_dir.join("global/pg_control"))? {
        let why = "it has no global/pg_control: an unfinished copy or initdb".to_owned();
        return Ok(DataDir::Foreign { why });
    }
    let marker = match (Marker::Rewinding.is_set(data_dir)?, Marker::Cloning.is_set(data_dir)?) {
        (true, _) => Some(Marker::Rewinding),
        (false, true) => Some(Marker::Cloning),
        (false, false) => None,
    };
    Ok(DataDir::Cluster(Cluster {
        major,
        has_standby_signal: signals::has_standby_signal(data_dir)?,
        has_recovery_signal: signals::has_recovery_signal(data_dir)?,
        has_backup_label: signals::has_backup_label(data_dir)?,
        marker,
        owner: meta.uid(),
        mode: meta.mode() & 0o7777,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_apart() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("main");
        assert_eq!(inspect(&dir).unwrap(), DataDir::Missing);
        fs::create_dir(&dir).unwrap();
        assert_eq!(inspect(&dir).unwrap(), DataDir::Empty);
        fs::create_dir(dir.join("lost+found")).unwrap();
        assert_eq!(inspect(&dir).unwrap(), DataDir::Empty);
        fs::write(dir.join("mail"), "x").unwrap();
        assert!(matches!(inspect(&dir).unwrap(), DataDir::Foreign { .. }));
        fs::write(dir.join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(inspect(&dir).unwrap(), DataDir::Foreign { .. }));
        fs::create_dir(dir.join("global")).unwrap();
        fs::write(dir.join("global/pg_control"), "x").unwrap();
        signals::write_standby_signal(&dir).unwrap();
        Marker::Cloning.set(&dir).unwrap();
        Marker::Rewinding.set(&dir).unwrap();
        let DataDir::Cluster(cluster) = inspect(&dir).unwrap() else { panic!("no cluster") };
        assert_eq!((cluster.major, cluster.marker), (15, Some(Marker::Rewinding)));
        assert!(cluster.has_standby_signal && !cluster.has_recovery_signal);
        Marker::Rewinding.clear(&dir).unwrap();
        let DataDir::Cluster(cluster) = inspect(&dir).unwrap() else { panic!("no cluster") };
        assert_eq!(cluster.marker, Some(Marker::Cloning));
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(inspect(&file).unwrap(), DataDir::Foreign { .. }));
    }
}
