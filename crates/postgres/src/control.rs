//! What the control file says, read through `pg_controldata`.
//!
//! Asked before each start, for ballots and before a rewind. The program is used instead of the
//! file's bytes because its layout differs between versions while the labels do not.
//! Invariant: a control file whose checksum does not match is an error, never half an answer.

use std::collections::BTreeMap;
use std::path::Path;

use howdah_core::{Lsn, Position, Timeline};

use crate::install::Install;
use crate::tool::{Tool, ToolError};

/// State of the cluster that the control file records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterControlState {
    /// Being started for the first time, or by initdb.
    StartingUp,
    /// Shut down cleanly as a primary.
    ShutDown,
    /// Shut down cleanly as a standby.
    ShutDownInRecovery,
    /// Was shutting down.
    ShuttingDown,
    /// Was replaying after a crash.
    InCrashRecovery,
    /// Runs, or was killed, as a standby.
    InArchiveRecovery,
    /// Runs, or was killed, as a primary.
    InProduction,
}

impl ClusterControlState {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "starting up" => Self::StartingUp,
            "shut down" => Self::ShutDown,
            "shut down in recovery" => Self::ShutDownInRecovery,
            "shutting down" => Self::ShuttingDown,
            "in crash recovery" => Self::InCrashRecovery,
            "in archive recovery" => Self::InArchiveRecovery,
            "in production" => Self::InProduction,
            _ => return None,
        })
    }

    /// Whether it was stopped in an orderly way.
    pub fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }
}

/// The control file, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// Drawn by initdb; the same in all copies of one cluster.
    pub system_identifier: u64,
    /// State of the cluster.
    pub state: ClusterControlState,
    /// Start of the latest checkpoint's record.
    pub checkpoint: Lsn,
    /// Where replay from that checkpoint begins.
    pub redo: Lsn,
    /// Timeline of the latest checkpoint.
    pub timeline: Timeline,
    /// Timeline before that, if it was the first checkpoint on its timeline; else the same.
    pub prev_timeline: Timeline,
    /// Recovery is not consistent before this; zero if the last stop was none in recovery.
    pub min_recovery_end: Position,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Whether hint bits are logged.
    pub wal_log_hints: bool,
    /// Bytes per WAL segment.
    pub wal_segment_size: u64,
    /// What the WAL carries: minimal, replica, logical.
    pub wal_level: String,
    /// `max_connections` in force when it was written; a standby must not have less.
    pub max_connections: u32,
    /// `max_worker_processes` likewise.
    pub max_worker_processes: u32,
    /// `max_wal_senders` likewise.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions` likewise.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction` likewise.
    pub max_locks_per_transaction: u32,
    /// Version of the control file's layout.
    pub control_version: u32,
    /// Version of the system catalogues.
    pub catalog_version: u32,
}

/// The control file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// `pg_controldata` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Its checksum is wrong, or the programs are of another version.
    #[error(
        "the control file is damaged or of another version: {warning}; \
        this data directory cannot be used, clone it anew"
    )]
    Damaged {
        /// What pg_controldata warned about.
        warning: String,
    },
    /// A line is missing or unreadable.
    #[error("pg_controldata says {found:?} for \"{label}\"; is bin_dir of the right version?")]
    Field {
        /// The line's label.
        label: &'static str,
        /// What stood there.
        found: Option<String>,
    },
}

impl ControlData {
    /// Reads the control file of a data directory.
    pub async fn read(install: &Install, data_dir: &Path) -> Result<Self, ControlError> {
        let tool = Tool::new(install, "pg_controldata").arg("-D").arg(data_dir);
        let mut warning = None;
        let output = tool
            .run(|line| {
                if line.contains("WARNING") || line.contains("warning") {
                    warning = Some(line.to_owned());
                }
            })
            .await?;
        match warning {
            Some(warning) => Err(ControlError::Damaged { warning }),
            None => Self::parse(&output.stdout),
        }
    }

    /// Reads the output of `pg_controldata` under the C locale.
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        if let Some(line) = text.lines().find(|l| l.starts_with("WARNING")) {
            return Err(ControlError::Damaged { warning: line.to_owned() });
        }
        let fields = Fields::of(text);
        let state = fields.get("Database cluster state")?;
        let state = ClusterControlState::parse(state)
            .ok_or_else(|| fields.unreadable("Database cluster state"))?;
        Ok(Self {
            system_identifier: fields.number("Database system identifier")?,
            state,
            checkpoint: fields.number("Latest checkpoint location")?,
            redo: fields.number("Latest checkpoint's REDO location")?,
            timeline: Timeline(fields.number("Latest checkpoint's TimeLineID")?),
            prev_timeline: Timeline(fields.number("Latest checkpoint's PrevTimeLineID")?),
            min_recovery_end: Position {
                timeline: Timeline(fields.number("Min recovery ending loc's timeline")?),
                lsn: fields.number("Minimum recovery ending location")?,
            },
            data_checksums: fields.number::<u32>("Data page checksum version")? != 0,
            wal_log_hints: fields.get("wal_log_hints setting")? == "on",
            wal_segment_size: fields.segment_size("Bytes per WAL segment")?,
            wal_level: fields.get("wal_level setting")?.to_owned(),
            max_connections: fields.number("max_connections setting")?,
            max_worker_processes: fields.number("max_worker_processes setting")?,
            max_wal_senders: fields.number("max_wal_senders setting")?,
            max_prepared_transactions: fields.number("max_prepared_xacts setting")?,
            max_locks_per_transaction: fields.number("max_locks_per_xact setting")?,
            control_version: fields.number("pg_control version number")?,
            catalog_version: fields.number("Catalog version number")?,
        })
    }

    /// Where a scan of the WAL on disk begins: the latest checkpoint's record, known to be whole.
    pub fn scan_start(&self) -> Position {
        Position { timeline: self.timeline, lsn: self.checkpoint }
    }
}

struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of(text: &'a str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(label, value)| (label.trim(), value.trim())).collect())
    }

    fn unreadable(&self, label: &'static str) -> ControlError {
        ControlError::Field { label, found: self.0.get(label).map(|v| (*v).to_owned()) }
    }

    fn get(&self, label: &'static str) -> Result<&'a str, ControlError> {
        self.0.get(label).copied().ok_or_else(|| self.unreadable(label))
    }

    /// Positions are divided by it.
    fn segment_size(&self, label: &'static str) -> Result<u64, ControlError> {
        let size: u64 = self.number(label)?;
        let valid = size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size);
        if valid { Ok(size) } else { Err(self.unreadable(label)) }
    }

    fn number<T: std::str::FromStr>(&self, label: &'static str) -> Result<T, ControlError> {
        self.get(label)?.parse().map_err(|_| self.unreadable(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7512345678901234567
Database cluster state:               in archive recovery
pg_control last modified:             Mon Jan  5 10:11:12 2026
Latest checkpoint location:           1/3000060
Latest checkpoint's REDO location:    1/3000028
Latest checkpoint's TimeLineID:       3
Latest checkpoint's PrevTimeLineID:   2
Minimum recovery ending location:     1/3000148
Min recovery ending loc's timeline:   3
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
Data page checksum version:           1
";

    #[test]
    fn reads_the_sample() {
        let control = ControlData::parse(SAMPLE).unwrap();
        assert_eq!(control.system_identifier, 7_512_345_678_901_234_567);
        assert_eq!(control.state, ClusterControlState::InArchiveRecovery);
        assert_eq!(control.scan_start().to_string(), "1/3000060 on timeline 3");
        assert_eq!(control.min_recovery_end.to_string(), "1/3000148 on timeline 3");
        assert!(control.data_checksums && control.wal_log_hints && !control.state.is_clean());
        assert_eq!((control.timeline, control.prev_timeline), (Timeline(3), Timeline(2)));
    }

    #[test]
    fn every_missing_or_senseless_line_is_named() {
        for line in SAMPLE.lines().filter(|l| !l.starts_with("pg_control last")) {
            let label = line.split(':').next().unwrap();
            let without: String =
                SAMPLE.lines().filter(|l| *l != line).map(|l| format!("{l}\n")).collect();
            let error = ControlData::parse(&without).unwrap_err().to_string();
            assert!(error.contains(label), "{label}: {error}");
        }
        let error = ControlData::parse(&SAMPLE.replace("in archive recovery", "asleep"));
        assert!(error.unwrap_err().to_string().contains("asleep"));
        for size in ["0", "-1", "16777217", "524288", "2147483648"] {
            let error = ControlData::parse(&SAMPLE.replace("16777216", size)).unwrap_err();
            assert!(error.to_string().contains("Bytes per WAL segment"), "{size}: {error}");
        }
        let damaged = format!("WARNING: Calculated CRC checksum does not match\n{SAMPLE}");
        assert!(matches!(ControlData::parse(&damaged), Err(ControlError::Damaged { .. })));
    }
}
