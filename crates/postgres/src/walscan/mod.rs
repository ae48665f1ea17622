//! Finds the end of valid WAL on disk, by reading pg_wal itself.
//!
//! Ballots state this end: neither the replay position, nor what the walreceiver reported, nor the
//! control file tells how far acknowledged WAL reaches after a crash. The scan starts at a record
//! that is known to be whole (the checkpoint of the control file), follows the records by length,
//! back link and checksum, page by page and segment by segment, and ends where replay would end.
//! It goes on past the replay position.
//!
//! Blocking; call it on a blocking thread, on a server that is stopped or promised: under a running
//! walreceiver the answer is old at once, though never too high.
//! Invariants: reads only; whatever the bytes are, it ends with an answer and never panics. A
//! first record that is not valid is an error, not an end.

mod page;
mod record;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use howdah_core::{HistoryEntry, Lsn, Position, Timeline};

use crate::control::ControlData;
use page::{Reader, Stop};
use record::Next;

/// Where valid WAL ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskEnd {
    /// End of the last valid record, aligned to 8 bytes, on the timeline that it was written on.
    pub position: Position,
    /// Start of the last valid record.
    pub last_record: Lsn,
    /// Segment files that were opened.
    pub segments_read: u32,
    /// Why the scan ended here, for people to read.
    pub why: String,
}

/// The end could not be found; a ballot must then say "unknown".
#[derive(Debug, thiserror::Error)]
pub enum WalScanError {
    /// A segment could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The segment file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No valid record where one was known to be.
    #[error(
        "no valid WAL record at {start}, where the control file has one: {why}; \
        this data directory lacks WAL it needs, clone it anew"
    )]
    BadStart {
        /// Where the scan was to begin.
        start: Position,
        /// What stood there.
        why: String,
    },
    /// The segment size is no power of two between 1 MiB and 1 GiB.
    #[error("{0} bytes is no WAL segment size; the control file is damaged")]
    SegmentSize(u64),
}

/// What to scan.
#[derive(Clone, Debug)]
pub struct WalScan<'a> {
    /// The directory of the segments.
    pub wal_dir: PathBuf,
    /// Bytes per segment, from the control file.
    pub segment_size: u64,
    /// Refuse segments of another cluster than this.
    pub system_identifier: Option<u64>,
    /// Ancestors of `timeline`, oldest first.
    pub history: &'a [HistoryEntry],
    /// The newest timeline to follow.
    pub timeline: Timeline,
}

impl<'a> WalScan<'a> {
    /// A scan of a data directory along the history of its newest timeline.
    pub fn of(
        data_dir: &Path,
        control: &ControlData,
        history: &'a [HistoryEntry],
        timeline: Timeline,
    ) -> Self {
        Self {
            wal_dir: data_dir.join("pg_wal"),
            segment_size: control.wal_segment_size,
            system_identifier: Some(control.system_identifier),
            history,
            timeline,
        }
    }

    /// Follows the records from `from`, which is the start of a valid one, to the last valid one.
    /// Where a segment of a newer timeline of the history exists, it is followed there.
    pub fn disk_end(&self, from: Position) -> Result<DiskEnd, WalScanError> {
        let size = self.segment_size;
        if !size.is_power_of_two() || !(1 << 20..=1 << 30).contains(&size) {
            return Err(WalScanError::SegmentSize(size));
        }
        let mut reader = Reader::new(self);
        let mut at = from.lsn.0;
        let mut last = None;
        let why = loop {
            match reader.record(at, last.map(|(start, _)| start)) {
                Ok(Next::Record { start, end }) => {
                    last = Some((start, reader.timeline_at(end)));
                    at = end;
                }
                // The record at `at` was never finished; its page says so and writing went on
                // behind it. Only a record that follows makes that page part of the valid end.
                Ok(Next::Overwritten { resume }) => {
                    match reader.record(resume, last.map(|(start, _)| start)) {
                        Ok(Next::Record { start, end }) => {
                            last = Some((start, reader.timeline_at(end)));
                            at = end;
                        }
                        Ok(Next::Overwritten { .. }) => break "two aborted records".to_owned(),
                        Err(Stop::End(why)) => break why,
                        Err(Stop::Failed(error)) => return Err(error),
                    }
                }
                Err(Stop::End(why)) => break why,
                Err(Stop::Failed(error)) => return Err(error),
            }
        };
        let Some((last_record, timeline)) = last else {
            return Err(WalScanError::BadStart { start: from, why });
        };
        Ok(DiskEnd {
            position: Position { timeline, lsn: Lsn(at) },
            last_record: Lsn(last_record),
            segments_read: reader.segments_read(),
            why,
        })
    }

    /// The timelines to follow with where each begins, oldest first.
    fn chain(&self) -> Vec<(Timeline, u64)> {
        let mut begin = 0;
        let mut chain = Vec::with_capacity(self.history.len() + 1);
        for entry in self.history {
            chain.push((entry.timeline, begin));
            begin = entry.end.0;
        }
        chain.push((self.timeline, begin));
        chain
    }
}
