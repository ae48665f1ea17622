//! The store's part of `crate::fuzzing`: what is read back from a disk.

use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openraft::EntryPayload;
use openraft::vote::leader_id_adv::LeaderId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::Disk;
use super::hwm::{self, Mark};
use super::log::{log_key, unseal_entry};
use super::open::Opening;
use super::seal::{RECORD_VERSION, seal, unseal};
use super::snapshot;
use super::writer::{IDENTITY, VOTE};
use crate::types::{Entry, LogId, Logged, Vote};

/// What can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A log entry, which stands at index 7.
    Entry,
    /// The vote.
    Vote,
    /// The identity: JSON in a record.
    Identity,
    /// A snapshot's file.
    Snapshot,
    /// A slot of the high-water file.
    Mark,
}

/// Index of the entry of [`Kind::Entry`].
const INDEX: u64 = 7;

/// Reads bytes of this kind, and writes what came of it.
///
/// # Errors
/// Why they are refused.
pub fn again(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, String> {
    match kind {
        Kind::Entry => {
            let entry = unseal_entry(INDEX, bytes).map_err(|error| error.to_string())?;
            seal(&log_key(INDEX), &entry).map_err(|error| error.to_string())
        }
        Kind::Vote => record::<Vote>(VOTE.as_bytes(), bytes),
        Kind::Identity => record::<String>(IDENTITY.as_bytes(), bytes),
        Kind::Snapshot => {
            let snapshot = snapshot::decode(bytes).map_err(|error| error.to_string())?;
            snapshot::encode(&snapshot).map_err(|error| error.to_string())
        }
        Kind::Mark => {
            let slot = bytes.try_into().map_err(|_| "a slot has 512 bytes".to_owned())?;
            let mark = hwm::decode(slot).map_err(|error| error.to_string())?;
            hwm::encode(&mark).map(Vec::from).map_err(|error| error.to_string())
        }
    }
}

fn record<T: Serialize + DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<Vec<u8>, String> {
    let value: T = unseal(key, bytes).map_err(|error| error.to_string())?;
    seal(key, &value).map_err(|error| error.to_string())
}

/// Bytes with a checksum that is right, whatever they are: what a writer with a mistake would leave.
pub fn repaired(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut whole = bytes.to_vec();
    let key = match kind {
        Kind::Entry => log_key(INDEX).to_vec(),
        Kind::Vote => VOTE.as_bytes().to_vec(),
        Kind::Identity => IDENTITY.as_bytes().to_vec(),
        Kind::Snapshot => Vec::new(),
        Kind::Mark => {
            whole.resize(hwm::SLOT - 4, 0);
            Vec::new()
        }
    };
    if key.is_empty() {
        let sum = crc32fast::hash(&whole);
        whole.extend_from_slice(&sum.to_le_bytes());
        return whole;
    }
    whole.insert(0, RECORD_VERSION);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&key);
    hasher.update(&whole);
    whole.extend_from_slice(&hasher.finalize().to_le_bytes());
    whole
}

/// An entry of a log, as far as its place in it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index.
    pub index: u64,
    /// The term in which it was written, by node 1.
    pub term: u64,
}

fn id(place: Place) -> LogId {
    LogId { leader_id: LeaderId { term: place.term, node_id: 1 }, index: place.index }
}

/// Reads a whole log that holds these entries, where everything up to `purged` was cut off and everything
/// up to `acknowledged` was synced; its last entry.
///
/// # Errors
/// Why it is refused.
pub fn log(
    entries: &[Place],
    purged: Option<Place>,
    acknowledged: Option<Place>,
) -> Result<Option<Place>, String> {
    let mut records = Vec::new();
    for place in entries {
        let payload = EntryPayload::Normal(Logged::from_json(b"{}".to_vec()));
        let entry = Entry { log_id: id(*place), payload };
        let sealed = seal(&log_key(place.index), &entry).map_err(|error| error.to_string())?;
        records.push((place.index, sealed));
    }
    let mark = Mark { purged: purged.map(id), last: acknowledged.map(id), ..Mark::default() };
    let last = Opening { dir: Path::new("/raft") }.log(&Memory(Mutex::new(records)), &mark);
    let last = last.map_err(|error| error.to_string())?;
    Ok(last.map(|id| Place { index: id.index, term: id.leader_id.term }))
}

/// Records in memory.
struct Memory(Mutex<Vec<(u64, Vec<u8>)>>);

impl Memory {
    fn records(&self) -> MutexGuard<'_, Vec<(u64, Vec<u8>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Memory {
    fn append(&self, _: Vec<(u64, Vec<u8>)>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let records = self.records();
        Ok(records.iter().filter(|(index, _)| (from, to).contains(index)).cloned().collect())
    }

    fn cut(&self, from: Bound<u64>, to: Bound<u64>) -> io::Result<()> {
        self.records().retain(|(index, _)| !(from, to).contains(index));
        Ok(())
    }

    fn put(&self, _: &str, _: Vec<u8>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn get(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }
}
