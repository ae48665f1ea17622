//! The replicated state: what all members agree on.
//!
//! Place: owned by `consensus`, which feeds it commands in log order; read by everybody.
//! State: all of it survives restarts, as log and snapshot; a state written by version N is read by
//! N+1 (missing fields take their defaults, unknown ones are ignored).
//! Invariants: checked by `invariant::check` after every `apply` in tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Epoch, MemberName, NodeId, WallTime};
use crate::lineage::Timelines;
use crate::rails::rails;
use crate::record::{
    Bootstrap, Change, Election, Event, EventKind, FailoverWish, LeaderRecord, LeaseState, Member,
    Secrets, Switchover, Transfer,
};
use crate::rights::{Audit, Token};
use crate::settings::Settings;
use crate::sync::{Pair, Standby};

/// Changes of leader that are kept.
pub const CHANGES_KEPT: usize = 200;
/// Events that are kept.
pub const EVENTS_KEPT: usize = 500;

/// Whether commits wait for standbys. Asynchronous replication is a state of its own in the log,
/// not a quorum of zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncState {
    /// They do not, since the given epoch.
    Async {
        /// Epoch in which that began.
        since: Epoch,
        /// Number of the change that brought it.
        #[serde(default)]
        generation: u64,
    },
    /// They do: an election closes only as this asks (rule S7).
    Sync(SyncRecord),
}

/// What elections must meet so that no acknowledged commit is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// Epoch whose holder recorded the pair. In a later one clients stay out until its holder has
    /// passed its barrier and recorded a pair of its own.
    pub epoch: Epoch,
    /// Members, with their contents, that have every commit that was acknowledged under the pair, so
    /// that a ballot of one alone meets it: the holder that recorded it, and whoever has won an
    /// election or taken over under it since, for nothing can be acknowledged under it after that.
    pub whole: BTreeSet<Standby>,
    /// Number of the change that brought it; each change names the one that it saw.
    pub generation: u64,
    /// How many ballots of whom.
    pub pair: Pair,
}

impl Default for SyncState {
    fn default() -> Self {
        SyncState::Async { since: Epoch(0), generation: 0 }
    }
}

impl SyncState {
    /// Number of the change that brought this state.
    pub fn generation(&self) -> u64 {
        match self {
            SyncState::Async { generation, .. } => *generation,
            SyncState::Sync(record) => record.generation,
        }
    }

    /// What elections must meet; none: replication is asynchronous.
    pub fn record(&self) -> Option<&SyncRecord> {
        match self {
            SyncState::Async { .. } => None,
            SyncState::Sync(record) => Some(record),
        }
    }
}

/// What all members agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterState {
    /// Which Raft group this is.
    pub cluster_id: ClusterId,
    /// Name of the cluster.
    pub scope: String,
    /// Lowest feature level of all members; never falls.
    pub feature_level: u32,
    /// Cluster-wide settings.
    pub settings: Settings,
    /// Secrets that all members share.
    pub secrets: Option<Secrets>,
    /// Members by name.
    pub members: BTreeMap<MemberName, Member>,
    /// Raft nodes that were removed for good.
    pub tombstones: BTreeSet<NodeId>,
    /// How far the cluster is with its first data.
    pub bootstrap: Bootstrap,
    /// Who leads; none before bootstrap.
    pub leader: Option<LeaderRecord>,
    /// The election that is open.
    pub election: Option<Election>,
    /// Which epoch wrote which timeline.
    pub timelines: Timelines,
    /// Whether commits wait.
    pub sync: SyncState,
    /// A hand-over that was asked for.
    pub switchover: Option<Switchover>,
    /// A hand-over that may still be taken back.
    pub transfer: Option<Transfer>,
    /// A failover that was asked for.
    pub failover: Option<FailoverWish>,
    /// Maintenance mode is wanted; the record says whether it is in force.
    pub pause_wanted: bool,
    /// Members whose PostgreSQL an operator keeps stopped.
    pub fenced: BTreeSet<MemberName>,
    /// Changes of leader, oldest first.
    pub changes: VecDeque<Change>,
    /// Tokens by name.
    pub tokens: BTreeMap<String, Token>,
    /// Orders that were given, oldest first.
    pub audits: VecDeque<Audit>,
    /// Events, oldest first.
    pub events: VecDeque<Event>,
}

impl ClusterState {
    /// The epoch of the record; zero before bootstrap.
    pub fn epoch(&self) -> Epoch {
        self.leader.as_ref().map(|record| record.epoch).unwrap_or_default()
    }

    /// The record, if its lease is held.
    pub fn held(&self) -> Option<&LeaderRecord> {
        self.leader.as_ref().filter(|record| record.state == LeaseState::Held)
    }

    /// Whether maintenance mode is in force.
    pub fn paused(&self) -> bool {
        self.leader.as_ref().is_some_and(|record| record.paused)
    }

    /// PostgreSQL's system identifier, once there is data.
    pub fn system_identifier(&self) -> Option<u64> {
        match self.bootstrap {
            Bootstrap::Done { system_identifier } => Some(system_identifier),
            Bootstrap::Pending | Bootstrap::Granted { .. } => None,
        }
    }

    /// The holder, if it holds and its timeline is recorded: whom members may follow.
    pub fn followable(&self) -> Option<&LeaderRecord> {
        self.held().filter(|record| {
            self.timelines.recorded_by(record.epoch).is_some() || !rails().recorded_first
        })
    }

    /// Commits wait, and the present holder has not passed its barrier yet: until it has, clients stay
    /// out and whom commits wait for does not change (rule S9).
    pub fn barrier_pending(&self) -> bool {
        self.sync.record().is_some_and(|sync| sync.epoch != self.epoch())
    }

    pub(crate) fn note(
        &mut self,
        index: u64,
        at: WallTime,
        kind: EventKind,
        member: &MemberName,
        text: String,
    ) {
        let epoch = self.epoch();
        self.events.push_back(Event { index, at, epoch, kind, member: member.clone(), text });
        while self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
    }

    pub(crate) fn keep(&mut self, change: Change) {
        self.changes.push_back(change);
        while self.changes.len() > CHANGES_KEPT {
            self.changes.pop_front();
        }
    }
}
