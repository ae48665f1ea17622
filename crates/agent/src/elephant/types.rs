//! What the elephant tells the loop: ends of jobs, looks at the server, errors.

use std::collections::BTreeMap;

use howdah_core::sync::{Demand, Standby};
use howdah_core::{DataId, Epoch, HistoryEntry, Incarnation, Lsn, MemberName, Timeline};

/// A job failed; the sentence is for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JobError(pub String);

macro_rules! job_error_from {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for JobError {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

job_error_from!(
    howdah_guard::client::GuardCallError,
    howdah_postgres::clone::CloneError,
    howdah_postgres::control::ControlError,
    howdah_postgres::files::FileError,
    howdah_postgres::history::HistoryError,
    howdah_postgres::initdb::InitdbError,
    howdah_postgres::passfile::PassfileError,
    howdah_postgres::prepare::PrepareError,
    howdah_postgres::rewind::CannotRewind,
    howdah_postgres::rewind::RewindError,
    howdah_postgres::saved_wal::SaveError,
    howdah_postgres::session::SessionError,
    howdah_postgres::settings::SettingsError,
    howdah_postgres::walscan::WalScanError,
    tokio::task::JoinError,
);

/// What a job that succeeded changed.
#[derive(Debug)]
pub enum JobOutput {
    /// Nothing that the loop must know.
    Done,
    /// A server was started.
    Started {
        /// Its postmaster.
        pid: i32,
        /// Epoch under which it is read-write.
        authority: Option<Epoch>,
        /// Clients are admitted.
        open: bool,
        /// It has this upstream already.
        following: Option<(MemberName, Epoch)>,
    },
    /// The server is stopped.
    Stopped,
    /// The promise is out and proven.
    Promised(Epoch),
    /// The server left recovery.
    Promoted {
        /// Under this epoch.
        epoch: Epoch,
        /// As it is now.
        seen: Box<Seen>,
    },
    /// The upstream is this one.
    Followed {
        /// The leader.
        leader: MemberName,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Clients are admitted.
    Opened,
    /// Every walsender goes by this demand.
    DemandInForce {
        /// What commits wait for.
        demand: Demand,
        /// What was acknowledged before lies before this position.
        since: Lsn,
        /// As the server is now.
        seen: Box<Seen>,
    },
    /// Roles and slots are right.
    Prepared,
    /// The data was replaced.
    FreshData(DataId),
}

/// What an earlier agent left.
#[derive(Debug)]
pub struct Adopted {
    /// Life of the guard.
    pub incarnation: Incarnation,
    /// The postmaster that runs.
    pub pid: Option<i32>,
    /// Epoch under which it is read-write.
    pub authority: Option<Epoch>,
    /// Clients are admitted.
    pub open: bool,
    /// Contents id.
    pub data_id: DataId,
    /// The promise.
    pub promise: Epoch,
    /// What it had proven of how commits wait, and since which position.
    pub in_force: Option<(Demand, Lsn)>,
}

/// A look at the server.
#[derive(Debug)]
pub struct Observed {
    /// The postmaster that was looked at.
    pub pid: i32,
    /// When it was asked.
    pub asked: howdah_core::BootInstant,
    /// What came.
    pub sight: Sight,
}

/// What a look at the server gave.
#[derive(Debug)]
pub enum Sight {
    /// It answered.
    Answer(Box<Seen>),
    /// It is not ready yet, and says so.
    StartingUp,
    /// It lives, but has no connection left.
    Alive,
    /// Nothing came.
    Silent,
}

/// A server that answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Read-only.
    pub in_recovery: bool,
    /// Timeline that it writes or replays.
    pub timeline: Timeline,
    /// How it came there.
    pub history: Vec<HistoryEntry>,
    /// Write position, or end of what was received.
    pub received: Lsn,
    /// Replayed position.
    pub replayed: Lsn,
    /// A walreceiver streams.
    pub streaming: bool,
    /// primary_conninfo is set.
    pub has_upstream: bool,
    /// As 150018.
    pub server_version: u32,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// Who streams from here, without what changes all the time.
    pub replication: Vec<howdah_rpc::peer::Standby>,
    /// Members that stream from here, and what they have flushed.
    pub standbys: BTreeMap<Standby, Lsn>,
    /// What commits wait for; none: for somebody that howdah did not name.
    pub demand: Option<Demand>,
    /// While something is left to replay: age of the last commit replayed, in steps of a second.
    pub replay_lag_ms: u64,
}

/// Progress of a long job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u32,
    /// Bytes so far.
    pub bytes: u64,
}
