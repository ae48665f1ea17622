//! Files of keys and certificates: what they are called, written whole, keys closed to others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Certificates of the CAs that a holder believes, in its directory; a CA's own certificate in the CA's.
pub const CA_CERT: &str = "ca.crt";
/// A CA's private key.
pub const CA_KEY: &str = "ca.key";
/// A holder's certificate.
pub const CERT: &str = "tls.crt";
/// Its private key.
pub const KEY: &str = "tls.key";

/// A file of keys or certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// I/O.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A private key that others may read.
    #[error("{} holds a private key and is open to others (mode {mode:04o}); chmod 0600 it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than any certificate.
    #[error("{} has more than {MAX} bytes; it is no file of certificates or keys", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Largest file that is read, bytes.
const MAX: u64 = 1 << 20;

pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source }
}

/// Reads a file of certificates.
///
/// # Errors
/// If it cannot be read, or is far too large.
pub fn read(path: &Path) -> Result<String, FileError> {
    let size = fs::metadata(path).map_err(io("read", path))?.len();
    if size > MAX {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    fs::read_to_string(path).map_err(io("read", path))
}

/// Reads a private key. Its group may be let in by an administrator (0640), others never.
///
/// # Errors
/// If it cannot be read, or others may read it too.
pub fn read_key(path: &Path) -> Result<String, FileError> {
    let mode = fs::metadata(path).map_err(io("read", path))?.mode() & 0o7777;
    if !is_closed(mode) {
        return Err(FileError::Open { path: path.to_owned(), mode });
    }
    read(path)
}

/// Whether a key of this mode is its owner's, and at most its group's to read.
pub(crate) fn is_closed(mode: u32) -> bool {
    mode & 0o027 == 0
}

/// Makes a directory that only its owner can enter; one that is there stays as it is.
///
/// # Errors
/// If it cannot be made.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(io("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io("close", path))
}

/// Writes a file whole, with this mode from its first byte on.
///
/// # Errors
/// If it cannot be written; what stood there stays.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let fresh = path.with_extension(format!("new.{}", std::process::id()));
    let written = write_synced(&fresh, text, mode).and_then(|_| fs::rename(&fresh, path));
    written.map_err(|why| {
        let _ = fs::remove_file(&fresh);
        io("write", path)(why)
    })?;
    sync_parent(path)
}

/// What was put in place or renamed stays so.
pub(crate) fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("sync", parent))
}

/// Writes a new file in the place of what is there; not whole until it returns.
pub(crate) fn write_synced(path: &Path, text: &str, mode: u32) -> io::Result<File> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask takes bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_closed_and_open_ones_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("a.key");
        write(&key, "secret", 0o600).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_key(&key).unwrap(), "secret");
        for (mode, taken) in [(0o640, true), (0o400, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_key(&key).is_ok(), taken, "{mode:o}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something is left");
    }
}
