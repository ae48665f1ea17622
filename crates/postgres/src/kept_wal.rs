//! Keeps a member's own WAL over a rewind, as far as it is common with the source's.
//!
//! pg_rewind makes pg_wal like the source's. After it, recovery begins at the last checkpoint before the
//! fork; a source that has checkpointed since may have removed that WAL, and then nobody would have it
//! but the member itself, from whom pg_rewind (seen with PostgreSQL 15) takes it away.
//!
//! Hard links beside the directory, so that it costs nothing; put back where pg_rewind removed the file.
//! Killed half way: the links stay until the next rewind or copy; a directory that is half rewound is
//! never started, whatever lies beside it.
//! Invariant: never the segment in which the fork lies, nor a later one: recovery would read past the
//! fork where the new timeline's file is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use howdah_core::{Lsn, Position, Timeline};

use crate::files::{self, Doing as _, FileError};
use crate::saved_wal::segment_of;

/// Links to the segments.
#[derive(Debug)]
pub struct KeptWal {
    wal: PathBuf,
    links: PathBuf,
}

/// Links all segments that end before the one that `fork` lies in.
///
/// # Errors
/// If they cannot be linked: another file system, or one without links. Nothing is changed then.
pub fn keep(data_dir: &Path, fork: Lsn, segment_size: u64) -> Result<KeptWal, FileError> {
    forget(data_dir)?;
    let kept = KeptWal { links: links(data_dir)?, wal: data_dir.join("pg_wal") };
    fs::create_dir(&kept.links).doing("create", &kept.links)?;
    kept.link(fork, segment_size)?;
    Ok(kept)
}

/// Removes links that a rewind left which was killed.
///
/// # Errors
/// If they cannot be removed.
pub fn forget(data_dir: &Path) -> Result<(), FileError> {
    files::remove_tree(&links(data_dir)?)
}

/// What recovery reads after a base backup or a rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Where it begins.
    pub from: Lsn,
    /// From there on it lets sessions in; the timeline is the newest.
    pub to: Position,
    /// Where that timeline begins: from here on its own segments are read, before it any timeline's.
    pub fork: Lsn,
    /// Bytes per WAL segment.
    pub segment_size: u64,
}

/// Start of the first segment that pg_wal lacks.
///
/// # Errors
/// If pg_wal cannot be listed.
pub fn first_missing(data_dir: &Path, needed: &Needed) -> Result<Option<Lsn>, FileError> {
    let (wal, size) = (data_dir.join("pg_wal"), needed.segment_size.max(1));
    let fork = needed.fork.0 / size;
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(&wal).doing("list", &wal)? {
        let name = entry.doing("list", &wal)?.file_name();
        let segment = name.to_str().and_then(|name| segment_of(name, size));
        let fits = |(timeline, number): &(Timeline, u64)| {
            *number < fork || *timeline == needed.to.timeline
        };
        there.extend(segment.filter(fits).map(|(_, number)| number));
    }
    let missing =
        (needed.from.0 / size..=needed.to.lsn.0 / size).find(|number| !there.contains(number));
    Ok(missing.map(|number| Lsn(number * size)))
}

/// Where the links are. Where pg_wal lies elsewhere, its neighbourhood is more likely to be of one file
/// system with it.
fn links(data_dir: &Path) -> Result<PathBuf, FileError> {
    let wal = data_dir.join("pg_wal");
    let place = fs::canonicalize(&wal).doing("look at", &wal)?;
    let own = fs::canonicalize(data_dir).doing("look at", data_dir)?;
    let beside = if place.starts_with(&own) { own } else { place };
    Ok(files::beside(&beside, ".kept-wal"))
}

impl Drop for KeptWal {
    fn drop(&mut self) {
        // What is left costs room until the next rewind or copy, and nothing else.
        let _ = files::remove_tree(&self.links);
    }
}

impl KeptWal {
    fn link(&self, fork: Lsn, segment_size: u64) -> Result<(), FileError> {
        for entry in fs::read_dir(&self.wal).doing("list", &self.wal)? {
            let name = entry.doing("list", &self.wal)?.file_name();
            let segment = name.to_str().and_then(|name| segment_of(name, segment_size));
            if segment.is_some_and(|(_, number)| number < fork.0 / segment_size) {
                let link = self.links.join(&name);
                fs::hard_link(self.wal.join(&name), &link).doing("link", &link)?;
            }
        }
        Ok(())
    }

    /// Puts back what is missing now, durably; how many that were.
    ///
    /// # Errors
    /// If a file cannot be linked or the directory not be synced.
    pub fn put_back(self) -> Result<usize, FileError> {
        let mut count = 0;
        for entry in fs::read_dir(&self.links).doing("list", &self.links)? {
            let link = entry.doing("list", &self.links)?.path();
            let Some(name) = link.file_name() else { continue };
            let back = self.wal.join(name);
            if !files::exists(&back)? {
                fs::hard_link(&link, &back).doing("link", &back)?;
                count += 1;
            }
        }
        files::sync_dir(&self.wal)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn files(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_lies_before_the_fork_comes_back_and_nothing_else() {
        let room = tempfile::tempdir().unwrap();
        let data = room.path().join("data");
        let wal = data.join("pg_wal");
        fs::create_dir_all(&wal).unwrap();
        let segment =
            |number: u64| format!("00000003000000{:02X}{:08X}", number / 256, number % 256);
        for number in [0x26, 0x27, 0x28, 0x29, 0x101] {
            fs::write(wal.join(segment(number)), number.to_string()).unwrap();
        }
        fs::write(wal.join("00000003.history"), "").unwrap();
        let kept = keep(&data, Lsn(0x28 * SIZE + 77), SIZE).unwrap();
        // As pg_rewind does: one is gone, one is the source's, of others there is nothing.
        for number in [0x26, 0x28, 0x29, 0x101] {
            fs::remove_file(wal.join(segment(number))).unwrap();
        }
        assert_eq!(kept.put_back().unwrap(), 1);
        assert_eq!(files(&wal), ["00000003.history", &segment(0x26), &segment(0x27)]);
        assert_eq!(fs::read_to_string(wal.join(segment(0x26))).unwrap(), "38");
        let missing = |from: u64, to: u64, fork: u64, timeline| {
            let to = Position { timeline: Timeline(timeline), lsn: Lsn(to * SIZE) };
            let (from, fork) = (Lsn(from * SIZE + 5), Lsn(fork * SIZE));
            first_missing(&data, &Needed { from, to, fork, segment_size: SIZE }).unwrap()
        };
        assert_eq!(missing(0x26, 0x27, 0, 3), None);
        assert_eq!(missing(0x26, 0x29, 0, 3), Some(Lsn(0x28 * SIZE)));
        assert_eq!(missing(0x26, 0x27, 0x28, 4), None);
        assert_eq!(missing(0x26, 0x27, 0x27, 4), Some(Lsn(0x27 * SIZE)));
        assert_eq!(files(room.path()), ["data"]);
        // One that was killed before leaves links; they are no obstacle.
        fs::create_dir_all(room.path().join("data.kept-wal/left")).unwrap();
        assert_eq!(keep(&data, Lsn(0), SIZE).unwrap().put_back().unwrap(), 0);
        assert_eq!(files(room.path()), ["data"]);
    }
}
