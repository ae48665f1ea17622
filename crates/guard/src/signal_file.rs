//! `standby.signal` and `promote`: the files that decide whether a server may write.
//!
//! Each write and removal is durable when the call returns. While a server runs these calls are
//! made in a child of the guard, since a hanging disk must not hold up the deadline.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Path of the file that makes a start a standby's.
pub(crate) fn standby(data_dir: &Path) -> PathBuf {
    data_dir.join("standby.signal")
}

/// Writes standby.signal; an existing one is made durable too.
pub(crate) fn put_standby(data_dir: &Path) -> io::Result<()> {
    create(&standby(data_dir))?.sync_all()?;
    sync_directory(data_dir)
}

/// Removes standby.signal; one that is not there is no fault.
pub(crate) fn remove_standby(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(standby(data_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory(data_dir),
    }
}

/// Writes the file that a postmaster looks for when it gets SIGUSR1.
pub(crate) fn put_promote(data_dir: &Path) -> io::Result<()> {
    create(&data_dir.join("promote")).map(drop)
}

/// Takes back a promotion that was not signalled.
pub(crate) fn remove_promote(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(data_dir.join("promote")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn create(path: &Path) -> io::Result<File> {
    // Never through a link, never an existing file's contents.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        put_standby(dir.path()).unwrap();
        put_standby(dir.path()).unwrap();
        assert!(standby(dir.path()).exists());
        remove_standby(dir.path()).unwrap();
        remove_standby(dir.path()).unwrap();
        assert!(!standby(dir.path()).exists());
        put_promote(dir.path()).unwrap();
        assert!(dir.path().join("promote").exists());
        remove_promote(dir.path()).unwrap();
        remove_promote(dir.path()).unwrap();
        assert!(!dir.path().join("promote").exists());
        assert!(put_standby(&dir.path().join("missing")).is_err());
        std::os::unix::fs::symlink("elsewhere", standby(dir.path())).unwrap();
        assert!(put_standby(dir.path()).is_err(), "went through a link");
    }
}
