//! Keeps what a rewind or clone would erase: the WAL past a fork, and which transactions it holds.
//!
//! The agent calls it before it takes such a member's data away; `howdah history --lost` reads the
//! manifests. Blocking file work, so it runs on a blocking thread. Killed half way: the manifest is
//! written last, and without one everything is copied anew; with one, nothing is done again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use howdah_core::{Lsn, Position, Timeline};
use serde::{Deserialize, Serialize};

use crate::files::{self, Doing as _, FileError};
use crate::history;
use crate::install::Install;
use crate::tool::Tool;

const MANIFEST: &str = "manifest.json";
/// Transactions that a manifest lists; how many there were is counted beyond.
const MAX_LISTED: usize = 100_000;

/// A transaction in saved WAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its id.
    pub xid: u32,
    /// Where its end is recorded.
    pub lsn: String,
    /// `COMMIT`, `ABORT`, `PREPARE`, ...
    pub kind: String,
    /// What pg_waldump says further, beginning with the time.
    pub detail: String,
}

/// What was saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Where the log's lineage leaves this WAL.
    pub fork: Position,
    /// Where this WAL ends.
    pub end: Position,
    /// Names of the copied files.
    pub files: Vec<String>,
    /// Bytes copied.
    pub bytes: u64,
    /// Files that would have exceeded the limit and are lost.
    pub left_out: Vec<String>,
    /// Commits past the fork, listed or not.
    pub commits: u64,
    /// Transactions past the fork, as far as they could be read.
    pub transactions: Vec<Transaction>,
    /// Why transactions could not be read, if so.
    pub unread: Option<String>,
}

/// The divergent WAL could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// I/O.
    #[error(transparent)]
    File(#[from] FileError),
    /// The task that copied it ended early.
    #[error("the copying of WAL was broken off: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What to save and where.
#[derive(Clone, Debug)]
pub struct Save {
    /// The data directory; its server is stopped.
    pub data_dir: PathBuf,
    /// Bytes per WAL segment.
    pub segment_size: u64,
    /// Where the log's lineage leaves this WAL; the timeline is this member's own there.
    pub fork: Position,
    /// The disk end.
    pub end: Position,
    /// Directory for this one rescue; made if missing.
    pub dest_dir: PathBuf,
    /// Copy no more than this.
    pub max_bytes: u64,
}

/// Copies the segments from the fork to the end and the history files, lists the transactions, and
/// writes the manifest. A finished rescue is only read.
pub async fn save_divergent_wal(install: &Install, save: &Save) -> Result<Manifest, SaveError> {
    let path = save.dest_dir.join(MANIFEST);
    if let Some(bytes) = files::read_if_there(&path)?
        && let Ok(manifest) = serde_json::from_slice(&bytes)
    {
        return Ok(manifest);
    }
    let job = save.clone();
    let mut manifest = tokio::task::spawn_blocking(move || copy(&job)).await??;
    if manifest.files.is_empty() {
        manifest.unread = Some("no WAL past the fork was saved".to_owned());
    } else {
        list_transactions(install, save, &mut manifest).await;
    }
    let text = serde_json::to_vec_pretty(&manifest)
        .expect("a struct of numbers and strings always becomes JSON");
    files::write_atomic(&path, &text, 0o600)?;
    Ok(manifest)
}

/// Timeline and number of a segment from its file name.
pub fn segment_of(name: &str, segment_size: u64) -> Option<(Timeline, u64)> {
    if name.len() != 24 || !name.bytes().all(|b| b.is_ascii_hexdigit()) || segment_size == 0 {
        return None;
    }
    let part = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).ok();
    let per_id = 0x1_0000_0000 / segment_size;
    let (high, low) = (u64::from(part(8)?), u64::from(part(16)?));
    // Beyond that it would be taken for another segment.
    (low < per_id).then_some((Timeline(part(0)?), high * per_id + low))
}

fn copy(save: &Save) -> Result<Manifest, FileError> {
    let wal = save.data_dir.join("pg_wal");
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(&save.dest_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).doing("create", &save.dest_dir);
        }
        _ => {}
    }
    let wanted_numbers = save.fork.lsn.0 / save.segment_size..=save.end.lsn.0 / save.segment_size;
    let mut wanted = BTreeSet::new();
    for entry in fs::read_dir(&wal).doing("list", &wal)? {
        let name = entry.doing("list", &wal)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let segment = segment_of(name, save.segment_size).is_some_and(|(timeline, number)| {
            timeline >= save.fork.timeline && wanted_numbers.contains(&number)
        });
        if segment || history::timeline_of(name).is_some() {
            wanted.insert(name.to_owned());
        }
    }
    let mut manifest = Manifest { fork: save.fork, end: save.end, ..Manifest::default() };
    for name in wanted {
        let (from, to) = (wal.join(&name), save.dest_dir.join(&name));
        let length = fs::metadata(&from).doing("look at", &from)?.len();
        if manifest.bytes + length > save.max_bytes {
            manifest.left_out.push(name);
            continue;
        }
        fs::copy(&from, &to).doing("copy to", &to)?;
        File::open(&to).and_then(|f| f.sync_all()).doing("fsync", &to)?;
        manifest.bytes += length;
        manifest.files.push(name);
    }
    files::sync_dir(&save.dest_dir)?;
    files::sync_parent(&save.dest_dir)?;
    Ok(manifest)
}

/// Best effort: the copies are what counts, the list is for people.
async fn list_transactions(install: &Install, save: &Save, manifest: &mut Manifest) {
    let dump = Tool::new(install, "pg_waldump")
        .arg("--rmgr=Transaction")
        .path_arg("--path", &save.dest_dir)
        .arg(format!("--timeline={}", save.end.timeline))
        .arg(format!("--start={}", save.fork.lsn))
        .arg(format!("--end={}", save.end.lsn));
    match dump.run_unchecked(|_| ()).await {
        Ok(done) => {
            for transaction in done.stdout.lines().filter_map(transaction_of) {
                // A record before the fork is shared; pg_waldump starts at the next whole one.
                if transaction.lsn.parse::<Lsn>().is_ok_and(|lsn| lsn < save.fork.lsn) {
                    continue;
                }
                manifest.commits += u64::from(transaction.kind.starts_with("COMMIT"));
                if manifest.transactions.len() < MAX_LISTED {
                    manifest.transactions.push(transaction);
                }
            }
            if !done.status.success() {
                manifest.unread = Some(done.message);
            }
        }
        Err(error) => manifest.unread = Some(error.to_string()),
    }
}

/// Reads a line like `rmgr: Transaction len ..., tx: 7, lsn: 0/3, prev 0/2, desc: COMMIT 2026-...`.
pub(crate) fn transaction_of(line: &str) -> Option<Transaction> {
    let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest.trim_start());
    let first = |text: &str| text.split([',', ' ']).next().unwrap_or_default().to_owned();
    let (kind, detail) = after("desc:")?.split_once(' ')?;
    Some(Transaction {
        xid: first(after("tx:")?).parse().ok()?,
        lsn: first(after("lsn:")?),
        kind: kind.to_owned(),
        detail: detail.trim().to_owned(),
    })
}

/// Reads the manifest of a rescue; none if that was never finished.
pub fn read_manifest(dest_dir: &Path) -> Result<Option<Manifest>, FileError> {
    let bytes = files::read_if_there(&dest_dir.join(MANIFEST))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Every finished rescue of this data directory: its directory and manifest, oldest fork first.
///
/// # Errors
/// If the directory of the rescues cannot be read; one that is not finished is left out.
pub fn all_manifests(data_dir: &Path) -> Result<Vec<(PathBuf, Manifest)>, FileError> {
    let lost = files::beside(data_dir, ".lost");
    let entries = match fs::read_dir(&lost) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing("list", &lost)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let dir = entry.doing("list", &lost)?.path();
        if let Some(manifest) = read_manifest(&dir)? {
            found.push((dir, manifest));
        }
    }
    found.sort_by(|(a, one), (b, other)| one.fork.cmp(&other.fork).then(a.cmp(b)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_and_missing_rescues_are_left_out() {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = parent.path().join("main");
        assert_eq!(all_manifests(&data_dir).unwrap(), Vec::new());
        for (name, fork) in [("epoch-9", 2), ("epoch-3", 1), ("epoch-4", 0)] {
            let dir = files::beside(&data_dir, ".lost").join(name);
            fs::create_dir_all(&dir).unwrap();
            let fork = Position { timeline: Timeline(fork), lsn: Lsn(7) };
            let manifest = Manifest { fork, commits: 5, ..Manifest::default() };
            if fork.timeline.0 > 0 {
                fs::write(dir.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
            }
        }
        let names: Vec<String> = all_manifests(&data_dir)
            .unwrap()
            .into_iter()
            .map(|(dir, _)| dir.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["epoch-3", "epoch-9"]);
    }

    #[test]
    fn names_and_lines() {
        let size = 16 << 20;
        let segment = segment_of("000000020000000100000003", size);
        assert_eq!(segment, Some((Timeline(2), 256 + 3)));
        for name in [
            "00000002.history",
            "000000020000000100000003.partial",
            "archive_status",
            "000000020000000100000100",
        ] {
            assert_eq!(segment_of(name, size), None, "{name}");
        }
        let line = "rmgr: Transaction len (rec/tot):     34/    34, tx:        732, \
            lsn: 0/03000148, prev 0/03000110, desc: COMMIT 2026-01-05 10:11:12.1 UTC";
        let transaction = transaction_of(line).unwrap();
        assert_eq!((transaction.xid, transaction.kind.as_str()), (732, "COMMIT"));
        assert_eq!(transaction.lsn.parse(), Ok(Lsn(0x0300_0148)));
        assert!(transaction.detail.starts_with("2026-01-05"));
        assert_eq!(transaction_of("pg_waldump: error: desc: x"), None);
    }

    #[test]
    fn the_limit_is_kept_and_told() {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = parent.path().join("main");
        let wal = data_dir.join("pg_wal");
        fs::create_dir_all(&wal).unwrap();
        for (timeline, number) in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 3)] {
            let name = format!("{timeline:08X}00000000{number:08X}");
            fs::write(wal.join(name), [0; 100]).unwrap();
        }
        let at = |timeline, lsn| Position { timeline: Timeline(timeline), lsn: Lsn(lsn) };
        let mut save = Save {
            data_dir,
            segment_size: 1 << 20,
            fork: at(1, (2 << 20) + 5),
            end: at(2, (3 << 20) + 9),
            dest_dir: parent.path().join("lost/1"),
            max_bytes: 1000,
        };
        let manifest = copy(&save).unwrap();
        let expected =
            ["000000010000000000000002", "000000010000000000000003", "000000020000000000000003"];
        assert_eq!((manifest.files, manifest.bytes), (expected.map(str::to_owned).to_vec(), 300));
        save.max_bytes = 250;
        let manifest = copy(&save).unwrap();
        assert_eq!((manifest.bytes, manifest.left_out.len()), (200, 1));
    }
}
