//! A `postmaster.pid` that nobody stands behind.
//!
//! Place: asked right before a server is started; the guard runs none then. Does I/O.
//! PostgreSQL takes its lock file for somebody's if the process that it names lives and belongs to the same user. After
//! a loss of power that number may be anybody's, and nothing would start the server until that process ends. A
//! postmaster's working directory is its data directory: whoever has another is none of this one's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes it, if the process that it names lives and works elsewhere; answers that process. A file that names
/// nobody is PostgreSQL's own to remove, and one that names its server is for it to refuse.
///
/// # Errors
/// If it cannot be read or removed.
pub(crate) fn remove_stale(data_dir: &Path) -> io::Result<Option<u32>> {
    let path = data_dir.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // A server in single-user mode writes its number with a minus before it.
    let first = text.lines().next().unwrap_or_default().trim();
    let Ok(pid) = first.parse::<i64>().map(i64::unsigned_abs) else { return Ok(None) };
    let Ok(pid) = u32::try_from(pid) else { return Ok(None) };
    // What cannot be looked at is gone, or another user's, which PostgreSQL minds as little.
    let Ok(works_in) = fs::metadata(format!("/proc/{pid}/cwd")) else { return Ok(None) };
    let here = fs::metadata(data_dir)?;
    if (works_in.dev(), works_in.ino()) == (here.dev(), here.ino()) {
        return Ok(None);
    }
    fs::remove_file(&path)?;
    Ok(Some(pid))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn named(dir: &Path, first: &str) -> Option<u32> {
        fs::write(dir.join("postmaster.pid"), format!("{first}\n/data\n1\n5432\n")).unwrap();
        remove_stale(dir).unwrap()
    }

    #[test]
    fn only_a_file_that_names_a_stranger_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("postmaster.pid");
        assert_eq!(remove_stale(dir.path()).unwrap(), None, "there is none");
        let me = std::process::id();
        for stranger in [me.to_string(), format!("-{me}")] {
            assert_eq!(named(dir.path(), &stranger), Some(me));
            assert!(!file.exists());
        }
        let mut server = Command::new("sleep")
            .arg("60")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        assert_eq!(named(dir.path(), &server.id().to_string()), None);
        server.kill().unwrap();
        server.wait().unwrap();
        for nobody in ["", "x", "99999999999", "4194999", "0"] {
            assert_eq!(named(dir.path(), nobody), None, "{nobody:?}");
            assert!(file.exists(), "{nobody:?}");
        }
    }
}
