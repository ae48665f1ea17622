//! Copies another member's data into a new directory and puts that in the old one's place.
//!
//! Order, kept by the agent's saved plan: [`base_backup`] into `<data_dir>.new` while a marker says
//! that it is half done; server stopped, new data id saved; [`swap_in`]; `<data_dir>.old` deleted
//! when the new one streams. Killed half way: a marked `.new` is begun anew; between the two
//! renames [`is_half_swapped`] tells the next start to finish.
//! Invariant: a `.new` without marker is whole and has its `standby.signal`.

use std::fs;
use std::path::{Path, PathBuf};

use howdah_locks::Paths;

use crate::datadir::Marker;
use crate::files::{self, Doing as _, FileError};
use crate::install::Install;
use crate::settings::{SettingsError, conninfo_value, tls};
use crate::signals;
use crate::tool::{Tool, ToolError};

/// A member that data is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Role: replication for a clone, rewind for a rewind.
    pub user: String,
    /// File with the role's password.
    pub passfile: Option<PathBuf>,
    /// Certificates to show and to believe, and what libpq is of; none: unencrypted if the other side wants no more.
    pub tls: Option<(Paths, u32)>,
}

impl Source {
    /// Connection string without secrets.
    ///
    /// # Errors
    /// If a path is no text.
    pub fn conninfo(&self, dbname: Option<&str>) -> Result<String, SettingsError> {
        let mut text = format!(
            "host={} port={} user={} connect_timeout=10 application_name=howdah",
            conninfo_value(&self.host),
            self.port,
            conninfo_value(&self.user)
        );
        if let Some(dbname) = dbname {
            text.push_str(&format!(" dbname={}", conninfo_value(dbname)));
        }
        if let Some((tls, major)) = &self.tls {
            for (name, value) in tls::words(tls, &self.host, *major)? {
                text.push_str(&format!(" {name}={}", conninfo_value(&value)));
            }
        }
        Ok(text)
    }
}

/// How far a clone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes received.
    pub bytes: u64,
    /// Bytes expected; an estimate of the source.
    pub total: u64,
}

/// A clone failed.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// I/O.
    #[error(transparent)]
    File(#[from] FileError),
    /// It could not be asked for.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// pg_basebackup failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// There is no finished clone to put in place.
    #[error("{} is no finished clone: {why}", path.display())]
    NotWhole {
        /// The new directory.
        path: PathBuf,
        /// What it lacks.
        why: &'static str,
    },
}

/// Where a clone is written.
pub fn new_dir(data_dir: &Path) -> PathBuf {
    files::beside(data_dir, ".new")
}

/// Where the replaced directory goes unless told otherwise.
pub fn old_dir(data_dir: &Path) -> PathBuf {
    files::beside(data_dir, ".old")
}

/// Copies the source into `<data_dir>.new`, replacing what stood there. `slot` is an existing slot
/// on the source that keeps the WAL until this member streams.
pub async fn base_backup(
    install: &Install,
    data_dir: &Path,
    source: &Source,
    slot: Option<&str>,
    mut progress: impl FnMut(Progress),
) -> Result<PathBuf, CloneError> {
    let new = new_dir(data_dir);
    Marker::Cloning.set(data_dir)?;
    files::remove_tree(&new)?;
    let mut tool = Tool::new(install, "pg_basebackup")
        .path_arg("--pgdata", &new)
        .arg(format!("--dbname={}", source.conninfo(None)?))
        .arg("--wal-method=stream")
        .arg("--checkpoint=fast")
        .arg("--no-password")
        .arg("--progress");
    if let Some(slot) = slot {
        tool = tool.arg(format!("--slot={slot}"));
    }
    if let Some(passfile) = &source.passfile {
        tool = tool.env("PGPASSFILE", passfile);
    }
    tool.run(|line| match parse_progress(line) {
        Some(at) => progress(at),
        None => tracing::debug!(line, "pg_basebackup"),
    })
    .await?;
    // pg_basebackup takes an empty directory only, so this is the first file that can be ours;
    // until it stands the marker keeps everybody from starting the directory.
    signals::write_standby_signal(&new)?;
    files::sync_parent(&new)?;
    Marker::Cloning.clear(data_dir)?;
    Ok(new)
}

/// Reads `12345/67890 kB (18%), 0/1 tablespace (...)`.
pub(crate) fn parse_progress(line: &str) -> Option<Progress> {
    let (numbers, _) = line.trim_start().split_once(" kB (")?;
    let (done, total) = numbers.split_once('/')?;
    let bytes = |text: &str| text.trim().parse::<u64>().ok()?.checked_mul(1024);
    Some(Progress { bytes: bytes(done)?, total: bytes(total)? })
}

fn check_whole(data_dir: &Path, new: &Path) -> Result<(), CloneError> {
    let not = |why| CloneError::NotWhole { path: new.to_owned(), why };
    if Marker::Cloning.is_set(data_dir)? {
        return Err(not("its copying was not finished"));
    }
    if !files::exists(&new.join("global/pg_control"))? {
        return Err(not("it has no global/pg_control"));
    }
    if !signals::has_standby_signal(new)? {
        return Err(not("it has no standby.signal"));
    }
    Ok(())
}

/// Puts a finished clone in the data directory's place; what stood there goes to `keep_old`, or to
/// `<data_dir>.old`, replacing what an earlier swap left there. Both servers must be stopped. The
/// data directory must not itself be a mount point. Clears the mark of a failed rewind, whose
/// directory is no longer the one in place.
pub fn swap_in(data_dir: &Path, keep_old: Option<&Path>) -> Result<(), CloneError> {
    let new = new_dir(data_dir);
    check_whole(data_dir, &new)?;
    let old = keep_old.map_or_else(|| old_dir(data_dir), Path::to_owned);
    if files::exists(data_dir)? {
        files::remove_tree(&old)?;
        fs::rename(data_dir, &old).doing("rename (is it a mount point?)", data_dir)?;
        files::sync_parent(data_dir)?;
    }
    fs::rename(&new, data_dir).doing("rename", &new)?;
    files::sync_parent(data_dir)?;
    Marker::Rewinding.clear(data_dir)?;
    Ok(())
}

/// Whether a swap was killed between its two renames: nothing stands in the data directory's place, and a whole clone
/// lies beside it. The caller draws a new data id, which may not have come to disk, and then calls [`swap_in`], before
/// anything else looks at the data directory.
///
/// Nothing else is a swap under way. `<data_dir>.old` in particular proves none: it lies there until a clone streams,
/// whole or half removed, and whoever deleted the data directory to have it copied anew did not ask for it.
pub fn is_half_swapped(data_dir: &Path) -> Result<bool, CloneError> {
    if files::exists(data_dir)? {
        return Ok(false);
    }
    match check_whole(data_dir, &new_dir(data_dir)) {
        Ok(()) => Ok(true),
        Err(CloneError::NotWhole { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines() {
        let at = parse_progress(" 2048/ 4096 kB (50%), 0/1 tablespace (/pg/main.new/base/1)");
        assert_eq!(at, Some(Progress { bytes: 2 << 20, total: 4 << 20 }));
        for line in ["waiting for checkpoint", "x/y kB (1%)", "1 kB (", ""] {
            assert_eq!(parse_progress(line), None, "{line:?}");
        }
    }

    #[test]
    fn conninfo_is_quoted_and_holds_no_secret() {
        let source = Source {
            host: "10.0.0.1".into(),
            port: 5432,
            user: "o'hara b".into(),
            passfile: Some("/pg/main.pgpass".into()),
            tls: None,
        };
        assert_eq!(
            source.conninfo(Some("postgres")).unwrap(),
            "host=10.0.0.1 port=5432 user='o\\'hara b' connect_timeout=10 \
                application_name=howdah dbname=postgres"
        );
    }

    fn make(dir: &Path, label: &str) {
        fs::create_dir_all(dir.join("global")).unwrap();
        fs::write(dir.join("global/pg_control"), label).unwrap();
        fs::write(dir.join("standby.signal"), "").unwrap();
    }

    fn label(dir: &Path) -> String {
        fs::read_to_string(dir.join("global/pg_control")).unwrap()
    }

    #[test]
    fn a_swap_killed_anywhere_is_finished() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("main");
        assert!(!is_half_swapped(&data).unwrap());
        make(&data, "first");
        assert!(matches!(swap_in(&data, None), Err(CloneError::NotWhole { .. })));
        make(&new_dir(&data), "second");
        Marker::Cloning.set(&data).unwrap();
        assert!(matches!(swap_in(&data, None), Err(CloneError::NotWhole { .. })));
        Marker::Cloning.clear(&data).unwrap();
        assert!(!is_half_swapped(&data).unwrap());
        // Killed after the first rename.
        Marker::Rewinding.set(&data).unwrap();
        fs::rename(&data, old_dir(&data)).unwrap();
        assert!(is_half_swapped(&data).unwrap());
        swap_in(&data, None).unwrap();
        assert_eq!((label(&data), label(&old_dir(&data))), ("second".into(), "first".into()));
        assert!(!Marker::Rewinding.is_set(&data).unwrap());
        // A whole swap replaces what the last one left.
        make(&new_dir(&data), "third");
        swap_in(&data, None).unwrap();
        assert_eq!((label(&data), label(&old_dir(&data))), ("third".into(), "second".into()));
        let kept = parent.path().join("kept");
        make(&new_dir(&data), "fourth");
        swap_in(&data, Some(&kept)).unwrap();
        assert_eq!((label(&data), label(&kept)), ("fourth".into(), "third".into()));
    }

    #[test]
    fn what_a_swap_replaced_is_never_put_back() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("main");
        // Killed while the old directory was being removed, and the data deleted by a person.
        make(&old_dir(&data), "half removed");
        fs::remove_file(old_dir(&data).join("global/pg_control")).unwrap();
        assert!(!is_half_swapped(&data).unwrap());
        // The same with a whole one, while a new copy is under way.
        make(&old_dir(&data), "old");
        make(&new_dir(&data), "not all of it");
        Marker::Cloning.set(&data).unwrap();
        assert!(!is_half_swapped(&data).unwrap());
    }
}
