//! What one member knows when it decides: the replicated state, its own PostgreSQL, its clock, and
//! what its peers last said.
//!
//! Place: built by the agent (or the simulator) before each `decide`. Pure data.
//! Invariants: times are readings of this member's own CLOCK_BOOTTIME; peers' words carry their age
//! and never give authority, they only make the member wait or try.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{
    BootInstant, DataId, Epoch, HistoryEntry, Incarnation, Lsn, MemberName, Position, Timeline,
};
use crate::settings::Timings;
use crate::state::ClusterState;
use crate::sync::{Demand, Standby};

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The state as applied here.
    pub state: &'a ClusterState,
    /// Who decides.
    pub me: MemberName,
    /// Now.
    pub now: BootInstant,
    /// Limits that follow from ttl and profile.
    pub timings: Timings,
    /// This process and its surroundings.
    pub node: NodeView,
    /// The lease, on this member's clock.
    pub lease: LeaseView,
    /// The local PostgreSQL.
    pub local: LocalView,
    /// What peers last said.
    pub peers: BTreeMap<MemberName, PeerView>,
}

/// How urgently the agent is to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stopping {
    /// Not at all.
    #[default]
    No,
    /// After handing over, if that can be done in time.
    Orderly,
    /// Without handing over.
    Fast,
}

/// This process and its surroundings.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// Life of the guard.
    pub incarnation: Incarnation,
    /// When this agent started.
    pub started: BootInstant,
    /// Whether it is to stop, and since when.
    pub stopping: Stopping,
    /// Since when it is to stop.
    pub stopping_since: BootInstant,
    /// How many members the configuration names, this one included.
    pub members_expected: usize,
    /// A Raft majority is in reach.
    pub raft_quorum: bool,
}

/// The lease, on this member's clock.
#[derive(Clone, Debug, Default)]
pub struct LeaseView {
    /// When this agent first saw the present (epoch, renewals, state) applied.
    pub record_seen: BootInstant,
    /// When this agent first saw the open election.
    pub election_seen: BootInstant,
    /// Own deadline, from the reading before the applied renewal was sent; none: no authority.
    pub deadline: Option<BootInstant>,
    /// Epoch with which the guard is armed, its deadline ahead.
    pub armed: Option<Epoch>,
    /// A renewal of the present epoch that this very process proposed was committed, after its
    /// start and after any release or hand-over: PostgreSQL may go read-write in place.
    pub own_renewal: bool,
    /// When the last renewal was sent.
    pub renewal_sent: Option<BootInstant>,
    /// When the newest renewal that was applied was sent.
    pub renewed: Option<BootInstant>,
    /// A renewal is under way.
    pub renewing: bool,
}

/// The local PostgreSQL and its data.
#[derive(Clone, Debug, Default)]
pub struct LocalView {
    /// What the data directory holds.
    pub data: DataView,
    /// Contents id.
    pub data_id: DataId,
    /// Lowest epoch that this member follows; never falls.
    pub promise: Epoch,
    /// The promise was proven (no walreceiver) for this epoch by this process.
    pub promise_proven: Option<Epoch>,
    /// The server.
    pub pg: PgView,
    /// Since when the server is as it is.
    pub pg_since: BootInstant,
    /// What is being done to it.
    pub job: Option<Job>,
    /// The last thing that failed, and how often in a row.
    pub failed: Option<Failure>,
    /// It fell repeatedly, or could not be started, under its last lease (that of this epoch).
    pub bar_only: Option<Epoch>,
    /// An operator wants a fresh copy.
    pub reinit: bool,
    /// An operator wants PostgreSQL restarted; over when it was started.
    pub restart: bool,
    /// Roles and slots were looked after since the server became primary.
    pub primary_prepared: bool,
    /// A checkpoint has been taken since the last promotion.
    pub checkpointed: bool,
    /// Generation of the change of whom commits wait for that this process has put into the log, if
    /// it has proposed none since: no other can be on its way.
    pub sync_settled: Option<u64>,
}

/// What the data directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DataView {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// Nothing: missing or empty.
    Empty,
    /// A job that was killed half way: never to be started.
    HalfDone,
    /// Something that is no data directory of this version; touched by nobody.
    Unusable(String),
    /// A cluster.
    Cluster(ClusterData),
}

/// A data directory's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterData {
    /// PostgreSQL's system identifier.
    pub system_identifier: u64,
    /// End of valid WAL on disk; on a running server, as far as is known.
    pub disk_end: Option<Position>,
    /// How the data came to its timeline.
    pub history: Vec<HistoryEntry>,
    /// Checksums or wal_log_hints: pg_rewind can work.
    pub can_rewind: bool,
    /// If the last stop was the orderly one of a primary: end of its shutdown checkpoint.
    pub shutdown_end: Option<Lsn>,
}

/// The server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PgView {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// Not running.
    Stopped,
    /// Running, not answering yet.
    Starting,
    /// Running and answering.
    Running(RunningPg),
    /// Running; a fresh connection gets no answer for longer than the limit.
    Hung,
}

/// A server that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningPg {
    /// Read-only, replaying.
    pub in_recovery: bool,
    /// It has an upstream: this member's data of this epoch.
    pub following: Option<(MemberName, Epoch)>,
    /// primary_conninfo is set, to whomever.
    pub has_upstream: bool,
    /// A walreceiver streams.
    pub streaming: bool,
    /// Timeline that it writes or replays.
    pub timeline: Timeline,
    /// Write position (primary) or end of what was received (standby).
    pub received: Lsn,
    /// Replayed position.
    pub replayed: Lsn,
    /// Clients are admitted.
    pub open: bool,
    /// Epoch under which it was started or promoted to be primary.
    pub authority: Option<Epoch>,
    /// As primary: who streams from here, and what it has flushed.
    pub standbys: BTreeMap<Standby, Lsn>,
    /// As primary: whom commits wait for.
    pub sync: SyncView,
}

/// Whom commits wait for on a primary, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncView {
    /// What was set last; none: not looked yet.
    pub demand: Option<Demand>,
    /// It is proven that every walsender goes by it: all that was acknowledged before lies before
    /// this position.
    pub in_force_at: Option<Lsn>,
    /// Since when no standby streams from here; none: some does.
    pub alone_since: Option<BootInstant>,
}

/// What is being done to the local PostgreSQL. One at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Starting as a standby.
    Start,
    /// Starting in place, read-write.
    StartInPlace,
    /// Stopping.
    Stop,
    /// Stopping, to be started again.
    Restart,
    /// Reading the configuration again.
    Reload,
    /// Killing.
    Kill,
    /// Making the first data.
    Initdb,
    /// Promising.
    Promise,
    /// Promoting.
    Promote,
    /// Changing upstream.
    Follow,
    /// Rewinding.
    Rewind,
    /// Copying.
    Clone,
    /// Admitting clients or holding them out.
    Doors,
    /// Roles and slots.
    Prepare,
    /// Handing over.
    HandOver,
    /// Changing whom commits wait for.
    Sync,
}

impl Job {
    /// Whether it is over in moments, so that an order waits for it; what takes longer refuses the order by its name.
    pub fn takes_moments(self) -> bool {
        match self {
            Self::Reload
            | Self::Promise
            | Self::Follow
            | Self::Doors
            | Self::Prepare
            | Self::Sync => true,
            Self::Start
            | Self::StartInPlace
            | Self::Stop
            | Self::Restart
            | Self::Kill
            | Self::Initdb
            | Self::Promote
            | Self::Rewind
            | Self::Clone
            | Self::HandOver => false,
        }
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Job::Start => "starting PostgreSQL as a standby",
            Job::StartInPlace => "starting PostgreSQL in place",
            Job::Stop => "stopping PostgreSQL",
            Job::Restart => "restarting PostgreSQL",
            Job::Reload => "reading the configuration again",
            Job::Kill => "killing PostgreSQL",
            Job::Initdb => "making the first data",
            Job::Promise => "promising",
            Job::Promote => "promoting PostgreSQL",
            Job::Follow => "changing the upstream",
            Job::Rewind => "rewinding",
            Job::Clone => "copying the leader's data",
            Job::Doors => "changing who is admitted",
            Job::Prepare => "preparing roles and slots",
            Job::HandOver => "handing over",
            Job::Sync => "changing whom commits wait for",
        })
    }
}

/// A job that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What.
    pub job: Job,
    /// When.
    pub at: BootInstant,
    /// How often in a row.
    pub count: u32,
    /// Why, for people.
    pub why: String,
}

/// What a peer last said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerView {
    /// How long ago.
    pub age: Duration,
    /// Life of its guard.
    pub incarnation: Incarnation,
    /// What its data directory holds; none: it does not know yet.
    pub data: Option<PeerData>,
    /// Its server answers.
    pub running: bool,
    /// Its server is in recovery.
    pub in_recovery: bool,
    /// It streams from the holder of this epoch.
    pub streaming_epoch: Epoch,
    /// Where it stands.
    pub position: Position,
    /// Contents id of its data.
    pub data_id: DataId,
    /// It may lead as far as it knows.
    pub eligible: bool,
    /// It is primary and admits clients.
    pub open: bool,
    /// It has checkpointed since its promotion.
    pub checkpointed: bool,
    /// It is about to stop.
    pub stopping: bool,
    /// It is making the first data.
    pub bootstrapping: bool,
    /// As primary: where the oldest WAL begins that it still has.
    pub oldest_wal: Option<Lsn>,
}

impl PeerView {
    /// What it calls itself to its upstream.
    pub fn standby(&self, member: &MemberName) -> Standby {
        Standby { member: member.clone(), data_id: self.data_id }
    }
}

/// What a peer's data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerData {
    /// Nothing.
    Empty,
    /// A cluster with this system identifier.
    Cluster(u64),
    /// Something else.
    Unusable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_waits_for_a_change_of_whom_commits_wait_for() {
        // It comes and goes with standbys: an order that meets it by chance is not refused.
        assert!(Job::Sync.takes_moments());
        assert!(Job::Doors.takes_moments() && !Job::Clone.takes_moments());
    }
}
