//! Snapshot files: the applied state up to one log entry, outside sled, which never syncs its
//! blobs.
//!
//! Place: written by the state machine, read at start. Does I/O.
//! State: `snap-<index>-<term>-<node>`: magic, format, lengths, what it covers (postcard), the
//! state (JSON), CRC32. Invariants: a file under its final name is whole and durable (written as
//! `.tmp`, synced, renamed, directory synced). Failure: killed half way, the `.tmp` is removed at
//! start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use openraft::Snapshot as RaftSnapshot;

use super::disk::sync_dir;
use crate::types::{Snapshot, SnapshotMeta};

const MAGIC: &[u8; 8] = b"HWDHSNAP";
const FORMAT: u32 = 1;
const HEADER: usize = 24;

/// A snapshot cannot be read back whole.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Written by a newer howdah.
    #[error("it has format {0}, this howdah reads {FORMAT}")]
    Newer(u32),
    /// It is not what was written.
    #[error("{0}")]
    Damaged(&'static str),
}

fn index(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.map_or(0, |id| id.index)
}

fn name(meta: &SnapshotMeta) -> String {
    let (term, node) =
        meta.last_log_id.map_or((0, 0), |id| (id.leader_id.term, id.leader_id.node_id));
    format!("snap-{:020}-{term}-{node:016x}", index(meta))
}

fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        let name = item.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix("snap-") else { continue };
        if name.ends_with(".tmp") {
            fs::remove_file(item.path())?;
        } else if let Some(Ok(index)) = rest.split('-').next().map(str::parse) {
            found.push((index, item.path()));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn encode(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let meta = postcard::to_stdvec(&snapshot.meta).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER + meta.len() + snapshot.snapshot.len() + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(meta.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(&(snapshot.snapshot.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(&snapshot.snapshot);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let short = SnapshotError::Damaged("it is cut short");
    let Some((body, sum)) = bytes.split_last_chunk::<4>() else { return Err(short) };
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err(SnapshotError::Damaged("its checksum does not match"));
    }
    let Some((header, rest)) = body.split_first_chunk::<HEADER>() else { return Err(short) };
    if !header.starts_with(MAGIC) {
        return Err(SnapshotError::Damaged("it is no snapshot"));
    }
    let (mut word, mut long) = ([0; 4], [0; 8]);
    word.copy_from_slice(&header[8..12]);
    let format = u32::from_le_bytes(word);
    if format != FORMAT {
        return Err(SnapshotError::Newer(format));
    }
    word.copy_from_slice(&header[12..16]);
    long.copy_from_slice(&header[16..24]);
    let meta_len = u32::from_le_bytes(word) as usize;
    let wrong = SnapshotError::Damaged("its lengths do not add up");
    let Some((meta, state)) = rest.split_at_checked(meta_len) else { return Err(wrong) };
    if state.len() as u64 != u64::from_le_bytes(long) {
        return Err(wrong);
    }
    let (meta, rest) = postcard::take_from_bytes(meta)
        .map_err(|_| SnapshotError::Damaged("what it covers does not decode"))?;
    if !rest.is_empty() {
        return Err(wrong);
    }
    Ok(RaftSnapshot { meta, snapshot: state.to_vec() })
}

/// Makes `snapshot` durable and removes older ones.
///
/// # Errors
/// What the file system says; nothing was replaced then.
pub fn write(dir: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let name = name(&snapshot.meta);
    let (tmp, path) = (dir.join(format!("{name}.tmp")), dir.join(&name));
    let mut file = File::create(&tmp)?;
    file.write_all(&encode(snapshot)?)?;
    file.sync_all()?;
    fs::rename(&tmp, &path)?;
    sync_dir(dir)?;
    for (older, path) in files(dir)? {
        if older < index(&snapshot.meta) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Reads the newest snapshot.
///
/// # Errors
/// `SnapshotError` if there is one that is not whole: what it covered is cut from the log already.
pub fn read_newest(dir: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    match files(dir)?.pop() {
        Some((_, path)) => Ok(Some(decode(&fs::read(path)?)?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let meta = SnapshotMeta::default();
        let bytes = encode(&RaftSnapshot { meta, snapshot: b"{}".to_vec() }).unwrap();
        assert_eq!(decode(&bytes).unwrap().snapshot, b"{}");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit} unnoticed");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut at {len} unnoticed");
        }
    }

    #[test]
    fn the_newest_counts_and_leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        for index in [3, 12] {
            let leader_id = openraft::vote::leader_id_adv::LeaderId { term: 1, node_id: 2 };
            let meta = SnapshotMeta {
                last_log_id: Some(openraft::LogId { leader_id, index }),
                ..SnapshotMeta::default()
            };
            write(dir.path(), &RaftSnapshot { meta, snapshot: vec![7] }).unwrap();
        }
        fs::write(dir.path().join("snap-99-1-1.tmp"), "half").unwrap();
        let newest = read_newest(dir.path()).unwrap().unwrap();
        assert_eq!(newest.meta.last_log_id.unwrap().index, 12);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
