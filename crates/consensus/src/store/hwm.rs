//! The high-water file `hwm`: what was acknowledged, so that a store whose tail went missing is
//! noticed, which sled by itself can hide.
//!
//! Place: written by the store's writer after each sync of sled, read once at start. Does I/O.
//! State: two slots of 512 bytes at offsets 0 and 4096, written in turn; the valid one with the
//! higher sequence number counts. Survives every restart.
//! Invariants: the mark is raised only after sled was synced, and lowered before anything is cut;
//! so whatever it names is on disk, or was lost.
//! Failure: killed or powered off in a write, the other slot still stands, and what the torn one
//! would have said was never acknowledged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::types::{LogId, Vote};

const MAGIC: &[u8; 8] = b"HWDHMARK";
const FORMAT: u32 = 1;
pub(super) const SLOT: usize = 512;
const OFFSETS: [u64; 2] = [0, 4096];

/// What was acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Counts the writes of this file.
    pub seq: u64,
    /// Drawn when the store was made; sled holds it too.
    pub store_id: u128,
    /// The node that this store belongs to.
    pub node_id: u64,
    /// Which sled directory counts: `db-<generation>`.
    pub generation: u64,
    /// Last log entry.
    pub last: Option<LogId>,
    /// Last vote.
    pub vote: Option<Vote>,
    /// Everything up to here was cut off at the front.
    pub purged: Option<LogId>,
    /// The group agreed up to here, as far as this node knew. An older value is harmless.
    pub committed: Option<LogId>,
}

/// The file holds no mark.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Written by a newer howdah.
    #[error("it has format {0}, this howdah reads {FORMAT}")]
    Newer(u32),
    /// Neither slot is whole.
    #[error("neither of its two slots is whole")]
    Damaged,
}

/// The open file.
#[derive(Debug)]
pub struct MarkFile {
    file: File,
    mark: Mark,
}

pub(super) fn encode(mark: &Mark) -> io::Result<[u8; SLOT]> {
    let payload = postcard::to_stdvec(mark).map_err(io::Error::other)?;
    let mut slot = [0; SLOT];
    if payload.len() > SLOT - 20 {
        return Err(io::Error::other("the high-water mark does not fit into its slot"));
    }
    slot[..8].copy_from_slice(MAGIC);
    slot[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    slot[12..16].copy_from_slice(&len.to_le_bytes());
    slot[16..16 + payload.len()].copy_from_slice(&payload);
    let sum = crc32fast::hash(&slot[..SLOT - 4]);
    slot[SLOT - 4..].copy_from_slice(&sum.to_le_bytes());
    Ok(slot)
}

fn word(slot: &[u8; SLOT], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&slot[at..at + 4]);
    u32::from_le_bytes(bytes)
}

pub(super) fn decode(slot: &[u8; SLOT]) -> Result<Mark, MarkError> {
    if &slot[..8] != MAGIC || crc32fast::hash(&slot[..SLOT - 4]) != word(slot, SLOT - 4) {
        return Err(MarkError::Damaged);
    }
    let format = word(slot, 8);
    if format != FORMAT {
        return Err(MarkError::Newer(format));
    }
    let len = word(slot, 12) as usize;
    let payload = slot.get(16..16 + len).ok_or(MarkError::Damaged)?;
    match postcard::take_from_bytes(payload) {
        Ok((mark, [])) => Ok(mark),
        _ => Err(MarkError::Damaged),
    }
}

impl MarkFile {
    /// Makes a new file with `mark` in both slots, synced. The caller syncs the directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path, mark: Mark) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut this = Self { file, mark };
        this.write()?;
        this.write()?;
        Ok(this)
    }

    /// Opens an existing file.
    ///
    /// # Errors
    /// `MarkError` if no slot is whole, or a newer howdah wrote it.
    pub fn open(path: &Path) -> Result<Self, MarkError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut best: Option<Mark> = None;
        for offset in OFFSETS {
            let mut slot = [0; SLOT];
            match file.read_exact_at(&mut slot, offset) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(error.into()),
            }
            match decode(&slot) {
                Ok(mark) => {
                    if best.as_ref().is_none_or(|known| known.seq < mark.seq) {
                        best = Some(mark);
                    }
                }
                Err(MarkError::Damaged) => {
                    tracing::warn!(path = %path.display(), offset, "a slot of the mark is torn");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { file, mark: best.ok_or(MarkError::Damaged)? })
    }

    /// The mark.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Changes the mark and makes it durable.
    ///
    /// # Errors
    /// What the file system says; the store must not go on after one.
    pub fn update(&mut self, change: impl FnOnce(&mut Mark)) -> io::Result<()> {
        change(&mut self.mark);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.mark.seq += 1;
        let offset = OFFSETS[usize::from(self.mark.seq % 2 == 1)];
        self.file.write_all_at(&encode(&self.mark)?, offset)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(marks: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hwm");
        let mut file = MarkFile::create(&path, Mark { node_id: 9, ..Mark::default() }).unwrap();
        for generation in 1..=marks {
            file.update(|mark| mark.generation = generation).unwrap();
        }
        (dir, path)
    }

    #[test]
    fn the_latest_mark_is_read_back() {
        let (_dir, path) = file_with(5);
        let file = MarkFile::open(&path).unwrap();
        assert_eq!((file.mark().generation, file.mark().node_id), (5, 9));
    }

    #[test]
    fn a_torn_write_leaves_the_mark_before_it_and_two_leave_none() {
        for marks in [4, 5] {
            let (_dir, path) = file_with(marks);
            let latest = MarkFile::open(&path).unwrap().mark().seq;
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[0xFF; 100], OFFSETS[usize::from(!latest.is_multiple_of(2))])
                .unwrap();
            assert_eq!(MarkFile::open(&path).unwrap().mark().generation, marks - 1);
            file.write_all_at(&[0xFF; 100], OFFSETS[usize::from(latest.is_multiple_of(2))])
                .unwrap();
            assert!(matches!(MarkFile::open(&path), Err(MarkError::Damaged)));
        }
    }
}
