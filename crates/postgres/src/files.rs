//! Durable files: what is written here is on disk when the call returns, or it is an error.
//!
//! Used by every module that leaves something for the next start.
//! Killed half way: the old content stands, and perhaps a `.tmp` beside it, which the next write
//! replaces. A failed fsync is never tried again; its error goes to the caller.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, as a verb: "write", "rename".
    pub doing: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Adds what was tried and where to an I/O result.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { doing, path: path.to_owned(), source })
    }
}

/// The path beside a data directory that carries `suffix`: `/pg/main` and `.old` is `/pg/main.old`.
/// On the same file system, since it has the same parent, and never inside.
pub fn beside(data_dir: &Path, suffix: &str) -> PathBuf {
    // Rebuilding from the components drops a trailing slash, which would put the file inside.
    let mut name: OsString = data_dir.components().collect::<PathBuf>().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the entries of a directory durable. Fails as fsync does.
pub fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|d| d.sync_all()).doing("fsync directory", dir)
}

/// Makes the directory entry of `path` durable. Fails as fsync does.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Replaces the content of `path` as a whole and durably. `mode` is the permission of the file.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let tmp = beside(path, ".tmp");
    // A left-over one may have another mode, and a secret must not pass through it.
    remove_if_there(&tmp)?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&tmp)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().doing("write", &tmp)?;
    fs::rename(&tmp, path).doing("rename to", path)?;
    sync_parent(path)
}

/// Like [`write_atomic`], but leaves a file alone that has this content already. True: written.
pub fn write_if_changed(path: &Path, content: &[u8], mode: u32) -> Result<bool, FileError> {
    if read_if_there(path)?.as_deref() == Some(content) {
        return Ok(false);
    }
    write_atomic(path, content, mode)?;
    Ok(true)
}

/// Removes a file durably. False: it was not there.
pub fn remove_durably(path: &Path) -> Result<bool, FileError> {
    let was_there = remove_if_there(path)?;
    // Also when it is gone already: an earlier removal may have been killed before its fsync.
    sync_parent(path)?;
    Ok(was_there)
}

fn remove_if_there(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError { doing: "remove", path: path.to_owned(), source }),
    }
}

/// Removes a directory tree, if it is there. Not durable by itself.
pub fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
        _ => Ok(()),
    }
}

/// Content of a file, or none if it does not exist.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { doing: "read", path: path.to_owned(), source }),
    }
}

/// Whether something exists at `path` (a dangling link counts); unreadable is an error, not "no".
pub fn exists(path: &Path) -> Result<bool, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError { doing: "look at", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn beside_is_never_inside() {
        for dir in ["/pg/main", "/pg/main/", "/pg/main//"] {
            assert_eq!(beside(Path::new(dir), ".old"), Path::new("/pg/main.old"));
        }
    }

    #[test]
    fn a_left_over_temporary_file_lends_its_mode_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(dir.path().join("secret.tmp"), "stale").unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!write_if_changed(&path, b"new", 0o600).unwrap());
        assert!(remove_durably(&path).unwrap());
        assert!(!remove_durably(&path).unwrap());
        assert!(!exists(&path).unwrap());
    }
}
