//! The parts of the replicated state: members, the leader record, elections, changes of leader.
//!
//! Place: `ClusterState` is made of these; `apply` alone changes them. Pure data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{
    DataId, Epoch, HistoryEntry, Incarnation, Lsn, MemberName, NodeId, Nonce, Position, Timeline,
    WallTime,
};
use crate::lineage::Reach;

/// What people say of a member, in Patroni's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tags {
    /// Never leads.
    pub nofailover: bool,
    /// Gets no read-only connections.
    pub noloadbalance: bool,
    /// Preferred source of clones.
    pub clonefrom: bool,
    /// Never a synchronous standby.
    pub nosync: bool,
    /// Decides who is waited for; the higher one is. 0: never.
    pub sync_priority: u32,
    /// Decides among candidates that reach equally far; the higher one wins.
    pub failover_priority: i32,
    /// Any others.
    pub other: BTreeMap<String, String>,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            nofailover: false,
            noloadbalance: false,
            clonefrom: false,
            nosync: false,
            sync_priority: 1,
            failover_priority: 1,
            other: BTreeMap::new(),
        }
    }
}

/// One member, as it announced itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its Raft node.
    pub node_id: NodeId,
    /// HOST:PORT of its gRPC services.
    pub control_address: String,
    /// HOST:PORT of its PostgreSQL.
    pub postgres_address: String,
    /// URL of its REST API.
    pub api_url: String,
    /// Its tags.
    pub tags: Tags,
    /// Major version of its PostgreSQL.
    pub postgres_major: u32,
    /// Highest feature level that its howdah understands.
    pub feature_level: u32,
}

/// State of the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseState {
    /// The holder may renew, and act inside its deadline.
    Held,
    /// The holder gave it back, its PostgreSQL proven stopped or in recovery.
    #[default]
    Released,
    /// An election was opened over it.
    Revoked,
}

/// Who leads. Changed by compare-and-set only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaderRecord {
    /// Whose PostgreSQL is, or is about to become, the primary.
    pub holder: MemberName,
    /// The life of the holder's guard that the grant named.
    pub incarnation: Incarnation,
    /// Fencing number.
    pub epoch: Epoch,
    /// Time to live, milliseconds.
    pub ttl_ms: u64,
    /// How often this grant was renewed.
    pub renewals: u64,
    /// Attempt whose renewal was applied last.
    pub nonce: Nonce,
    /// The holder's WAL position at its last renewal.
    pub wal_lsn: Lsn,
    /// Automatic actions are off.
    pub paused: bool,
    /// Held, released or revoked.
    pub state: LeaseState,
    /// An operator refused further renewals.
    pub evicted: bool,
    /// Timeline number that the holder's promotion must take.
    pub reserved: Timeline,
}

/// Why an election was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenReason {
    /// No renewal was applied for a full ttl.
    LeaseRanOut,
    /// The holder gave the lease back.
    Released,
    /// The winner of the last election did not begin within half a ttl.
    GrantUnused,
    /// An operator asked for it.
    Operator,
}

impl std::fmt::Display for OpenReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OpenReason::LeaseRanOut => "the lease ran out without a renewal",
            OpenReason::Released => "the leader gave its lease back",
            OpenReason::GrantUnused => "the winner did not begin in time",
            OpenReason::Operator => "an operator asked for a failover",
        })
    }
}

/// One member's vote: a promise that it accepts no more WAL of older epochs, and how far it reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ballot {
    /// The life of its guard; the grant names it.
    pub incarnation: Incarnation,
    /// Contents of its data directory.
    pub data_id: DataId,
    /// End of valid WAL on its disk.
    pub position: Position,
    /// How its data came to that timeline.
    pub history: Vec<HistoryEntry>,
    /// Why it may not lead, by its own knowledge.
    pub barred: Option<String>,
    /// It counts, but cannot win: it fell repeatedly, or could not be started, under its last lease.
    pub bar_only: bool,
    /// Its failover_priority.
    pub priority: i32,
}

/// An election that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// Epoch that the winner gets.
    pub epoch: Epoch,
    /// Why it was opened.
    pub reason: OpenReason,
    /// Who opened it.
    pub opened_by: MemberName,
    /// Whom the record named before.
    pub former: Option<MemberName>,
    /// Position of the last renewal before; what lies behind it by more than the allowed lag loses.
    pub wal_lsn: Lsn,
    /// Who wins among those that reach the bar, by an operator's wish.
    pub preferred: Option<MemberName>,
    /// An operator closes it on the ballots at hand, though that may lose writes.
    pub allow_data_loss: bool,
    /// Ballots so far.
    pub ballots: BTreeMap<MemberName, Ballot>,
    /// When it was opened, by its opener's clock, for people.
    pub opened_at: WallTime,
}

/// A planned hand-over that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switchover {
    /// The leader that hands over.
    pub from: MemberName,
    /// Epoch under which it was asked for; another one voids it.
    pub epoch: Epoch,
    /// Who takes over.
    pub to: MemberName,
}

/// A hand-over whose receiver has not begun yet; until then the giver may take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Who gave.
    pub from: MemberName,
    /// Life of the giver's guard.
    pub incarnation: Incarnation,
    /// Epoch that the receiver got.
    pub epoch: Epoch,
}

/// A failover that an operator asked for, until an election takes it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverWish {
    /// Epoch that it is meant to end.
    pub epoch: Epoch,
    /// Who should win; none: the best.
    pub candidate: Option<MemberName>,
    /// Whether writes may be lost.
    pub allow_data_loss: bool,
    /// In maintenance mode: the operator answers for it that the holder's PostgreSQL is stopped.
    #[serde(default)]
    pub holder_is_stopped: bool,
}

/// How a leader came to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It made or brought the data that the cluster began with.
    Bootstrap,
    /// It won an election.
    Election,
    /// Its predecessor handed over.
    Switchover,
    /// It took back what it had handed over, before the receiver began.
    TakeBack,
}

impl std::fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ChangeKind::Bootstrap => "bootstrap",
            ChangeKind::Election => "election",
            ChangeKind::Switchover => "switchover",
            ChangeKind::TakeBack => "take-back",
        })
    }
}

/// What became of one ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Who voted.
    pub member: MemberName,
    /// End of its WAL on disk.
    pub position: Position,
    /// How far that reaches by the log's map; none: it shares nothing with the log.
    pub reach: Option<Reach>,
    /// Why it could not lead; none: it was eligible.
    pub ineligible: Option<String>,
    /// Its priority.
    pub priority: i32,
    /// It won.
    pub chosen: bool,
}

/// One change of leader, kept for people: who stood, and why the winner won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Epoch that it began.
    pub epoch: Epoch,
    /// How.
    pub kind: ChangeKind,
    /// Who led before.
    pub from: Option<MemberName>,
    /// Who leads since.
    pub to: MemberName,
    /// When, by the proposer's clock.
    pub at: WallTime,
    /// In one sentence.
    pub reason: String,
    /// Who stood.
    pub verdicts: Vec<Verdict>,
    /// What the winner had to reach.
    pub bar: Option<Reach>,
    /// How long the proposer waited, milliseconds.
    pub waited_ms: u64,
    /// Whom it did not hear.
    pub not_heard: Vec<MemberName>,
    /// Timeline that was recorded for it, and its fork.
    pub timeline: Option<(Timeline, Lsn)>,
    /// Last position that the predecessor reported; what lies between it and the fork may be lost.
    pub former_wal_lsn: Lsn,
    /// An operator allowed the loss of writes.
    pub allow_data_loss: bool,
    /// Commits waited for standbys, and enough of these were heard: nothing acknowledged is lost.
    #[serde(default)]
    pub synchronous: bool,
}

/// Something that happened, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Index in the log.
    pub index: u64,
    /// When, by the proposer's clock.
    pub at: WallTime,
    /// Epoch in which it happened.
    pub epoch: Epoch,
    /// A short word for its kind.
    pub kind: EventKind,
    /// Member that it is about.
    pub member: MemberName,
    /// In one sentence.
    pub text: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A member came, changed or went.
    Member,
    /// The cluster's first data was granted, or is there.
    Bootstrap,
    /// An election was opened.
    ElectionOpened,
    /// A member voted.
    Ballot,
    /// Somebody leads.
    Elected,
    /// The leader gave its lease back.
    Released,
    /// A new timeline was recorded.
    Timeline,
    /// A switchover was asked for, carried out or given up.
    Switchover,
    /// An operator asked for a failover.
    Failover,
    /// Maintenance mode was switched on or off.
    Pause,
    /// A member was fenced or unfenced.
    Fence,
    /// Whom commits wait for was changed.
    Sync,
    /// Who may do what was changed.
    Rights,
    /// Somebody gave an order; this is how it ended.
    Order,
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            EventKind::Member => "member",
            EventKind::Bootstrap => "bootstrap",
            EventKind::ElectionOpened => "election-opened",
            EventKind::Ballot => "ballot",
            EventKind::Elected => "elected",
            EventKind::Released => "released",
            EventKind::Timeline => "timeline",
            EventKind::Switchover => "switchover",
            EventKind::Failover => "failover",
            EventKind::Pause => "pause",
            EventKind::Fence => "fence",
            EventKind::Sync => "sync",
            EventKind::Rights => "rights",
            EventKind::Order => "order",
        })
    }
}

/// How far the cluster is with getting its first data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bootstrap {
    /// Nobody was asked yet.
    #[default]
    Pending,
    /// One member makes or brings the first data.
    Granted {
        /// Number of the attempt.
        attempt: u64,
        /// Who.
        member: MemberName,
        /// Life of its guard.
        incarnation: Incarnation,
    },
    /// There is data; nobody ever makes other first data.
    Done {
        /// PostgreSQL's system identifier.
        system_identifier: u64,
    },
}

/// Secrets that all members share. Kept in the log; never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Password of the replication role.
    pub replication: String,
    /// Password of the rewind role.
    pub rewind: String,
    /// One more with each replacement.
    #[serde(default)]
    pub version: u64,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(hidden)")
    }
}
