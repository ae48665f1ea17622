//! The one file beside the data directory that says what its contents are worth: data id, promise,
//! floor.
//!
//! The agent reads it at its start and writes it before what it promises takes effect.
//! Survives a restart; that is its only purpose. It lies on the data's file system, so that a
//! volume that was swapped or rolled back takes it along, and outside the directory, so that a
//! clone or rewind cannot bring another member's.
//! Invariants: replaced as a whole (aside, fsync, rename, fsync of the directory); promise and
//! floor never fall under one data id. Killed half way: the old one stands. Missing or torn: the
//! caller draws a new data id, and since the promise is then unknown it takes the log's epoch.

use std::path::{Path, PathBuf};

use howdah_core::{DataId, Epoch, Position, Timeline};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

const MAGIC: &[u8; 8] = b"HOWDAHID";
const FORMAT: u32 = 1;
const HEADER: usize = 16;

/// The timeline number that the last grant reserved for this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Epoch of the grant.
    pub epoch: Epoch,
    /// Number that a promotion under it must take.
    pub timeline: Timeline,
}

/// What this data directory is and what was promised with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// Id of the contents.
    pub data_id: DataId,
    /// No primary of an epoch below this may get an acknowledgement out of this member.
    pub promise: Epoch,
    /// WAL up to here was whole on disk once; less means that the disk forgot.
    pub floor: Position,
    /// Last grant to this member, so that a promotion without one is recognised.
    pub granted: Option<Granted>,
}

/// What was found where the identity should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// No file: a data directory that never took part.
    Missing,
    /// A file that cannot be trusted.
    Torn {
        /// What is wrong with it.
        why: String,
    },
    /// A whole one.
    Whole(Identity),
}

impl Identity {
    /// A new identity with a freshly drawn data id. Without the old file the old promise is
    /// unknown, so `promise` is then the newest epoch the log knows.
    pub fn fresh(promise: Epoch) -> Self {
        Self { data_id: draw_data_id(), promise, floor: Position::default(), granted: None }
    }

    /// The file's path: beside the data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        files::beside(data_dir, ".howdah")
    }

    /// Reads it. An error is one of I/O; damage is an answer.
    pub fn load(data_dir: &Path) -> Result<Loaded, FileError> {
        Ok(match files::read_if_there(&Self::path(data_dir))? {
            None => Loaded::Missing,
            Some(bytes) => match decode(&bytes) {
                Ok(identity) => Loaded::Whole(identity),
                Err(why) => Loaded::Torn { why },
            },
        })
    }

    /// Writes it durably.
    pub fn save(&self, data_dir: &Path) -> Result<(), FileError> {
        files::write_atomic(&Self::path(data_dir), &self.encode(), 0o600)
    }

    /// Raises the promise; a lower epoch changes nothing. True: it is to be saved.
    pub fn promise_at_least(&mut self, epoch: Epoch) -> bool {
        let raised = epoch > self.promise;
        self.promise = self.promise.max(epoch);
        raised
    }

    /// Raises the floor to a later position. On a descendant timeline a position counts as later
    /// when its LSN is; whether it descends is the caller's to know. True: it is to be saved.
    pub fn floor_at_least(&mut self, position: Position) -> bool {
        let raised = position.lsn > self.floor.lsn;
        if raised {
            self.floor = position;
        }
        raised
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("a struct of integers always becomes JSON");
        let length = u32::try_from(body.len()).expect("the body is a few hundred bytes");
        let mut bytes = Vec::with_capacity(HEADER + body.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Identity, String> {
    if bytes.len() < HEADER + 4 || &bytes[..8] != MAGIC {
        return Err("it does not begin like one".to_owned());
    }
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let length = usize::try_from(word(12)).unwrap_or(usize::MAX);
    if bytes.len() - HEADER - 4 != length {
        return Err(format!("it has {} bytes, not {length} and 20", bytes.len()));
    }
    let end = HEADER + length;
    if crc32fast::hash(&bytes[..end]) != word(end) {
        return Err("its checksum is wrong".to_owned());
    }
    if word(8) != FORMAT {
        return Err(format!("it has format {}, this version reads {FORMAT}", word(8)));
    }
    let identity: Identity =
        serde_json::from_slice(&bytes[HEADER..end]).map_err(|e| e.to_string())?;
    if identity.data_id == DataId(0) {
        return Err("it names no data id".to_owned());
    }
    Ok(identity)
}

/// Draws an id for the contents of a data directory. Never zero, which means "none".
pub fn draw_data_id() -> DataId {
    DataId(rand::random_range(1..=u64::MAX))
}

#[cfg(test)]
mod tests {
    use howdah_core::Lsn;

    use super::*;

    fn sample() -> Identity {
        Identity {
            data_id: DataId(0xfeed),
            promise: Epoch(7),
            floor: Position { timeline: Timeline(3), lsn: Lsn(0x0300_0148) },
            granted: Some(Granted { epoch: Epoch(7), timeline: Timeline(4) }),
        }
    }

    #[test]
    fn comes_back_as_written() {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = parent.path().join("main");
        assert_eq!(Identity::load(&data_dir).unwrap(), Loaded::Missing);
        for identity in [sample(), Identity::fresh(Epoch(9))] {
            identity.save(&data_dir).unwrap();
            assert_eq!(Identity::load(&data_dir).unwrap(), Loaded::Whole(identity));
        }
        assert!(!data_dir.exists(), "the file must lie beside the directory");
    }

    #[test]
    fn any_torn_or_flipped_byte_is_seen() {
        let whole = sample().encode();
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "cut to {length} bytes was taken");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(decode(&flipped).is_err(), "a flipped bit in byte {at} was taken");
        }
        assert!(decode(&[whole.clone(), vec![0]].concat()).is_err());
        assert!(decode(&vec![0; whole.len()]).is_err());
    }

    #[test]
    fn promise_and_floor_never_fall() {
        let mut identity = sample();
        assert!(!identity.promise_at_least(Epoch(6)) && identity.promise == Epoch(7));
        assert!(identity.promise_at_least(Epoch(8)) && identity.promise == Epoch(8));
        assert!(!identity.floor_at_least(Position { timeline: Timeline(4), lsn: Lsn(1) }));
        assert_eq!(identity.floor, sample().floor);
        let later = Position { timeline: Timeline(4), lsn: Lsn(0x0400_0000) };
        assert!(identity.floor_at_least(later) && identity.floor == later);
    }
}
