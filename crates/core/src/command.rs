//! What can be put into the log, and what `apply` answers.
//!
//! Invariants: a command is complete (no clock, no configuration is consulted when it is applied);
//! wall-clock times in it are for people. Every command that gives or takes authority is a
//! compare-and-set on what its proposer saw, so that a late or repeated copy changes nothing.

use serde::{Deserialize, Serialize};

use crate::ids::{
    ClusterId, DataId, Epoch, HistoryEntry, Incarnation, Lsn, MemberName, NodeId, Nonce, Position,
    Timeline, WallTime,
};
use crate::lineage::HistoryConflict;
use crate::record::{Ballot, LeaseState, Member, OpenReason, Secrets};
use crate::rights::{Audit, AuditEnd, TOKENS_MAX, Token};
use crate::settings::Settings;
use crate::sync::{Demand, Pair};

/// A change of the replicated state, asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// First command of a group.
    FoundGroup {
        /// Id of the group.
        cluster_id: ClusterId,
        /// Name of the cluster.
        scope: String,
        /// Settings to begin with.
        settings: Settings,
    },
    /// A Raft node was removed for good; its id never comes back.
    RetireNode {
        /// The node.
        node_id: NodeId,
    },
    /// The first secrets; later ones are refused.
    SetSecrets {
        /// The secrets.
        secrets: Secrets,
    },
    /// A member announces itself, or changes.
    UpsertMember {
        /// Its name.
        name: MemberName,
        /// What it says of itself.
        member: Member,
        /// When.
        at: WallTime,
    },
    /// One member makes or brings the cluster's first data.
    GrantBootstrap {
        /// Number of the attempt; one more than the last.
        attempt: u64,
        /// Who.
        member: MemberName,
        /// Life of its guard.
        incarnation: Incarnation,
        /// When.
        at: WallTime,
    },
    /// The first data is there: its maker leads.
    FinishBootstrap {
        /// Attempt that it belongs to.
        attempt: u64,
        /// Who.
        member: MemberName,
        /// Life of its guard.
        incarnation: Incarnation,
        /// PostgreSQL's system identifier.
        system_identifier: u64,
        /// Where the data stands.
        position: Position,
        /// How it came there.
        history: Vec<HistoryEntry>,
        /// When.
        at: WallTime,
    },
    /// The holder goes on.
    Renew {
        /// Its epoch.
        epoch: Epoch,
        /// Life of its guard.
        incarnation: Incarnation,
        /// This attempt.
        nonce: Nonce,
        /// The ttl from now on, milliseconds.
        ttl_ms: u64,
        /// Its WAL position.
        wal_lsn: Lsn,
        /// Maintenance mode from now on: its guard has no deadline, and nobody opens an election.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        paused: bool,
        /// The renewals that its proposer saw: into or out of maintenance mode only if they are still
        /// these, for a late copy would change back what a guard's deadline hangs on.
        #[serde(default, skip_serializing_if = "is_zero")]
        seen: u64,
    },
    /// The holder stops; its PostgreSQL is proven stopped or in recovery.
    Release {
        /// Its epoch.
        epoch: Epoch,
        /// The renewals that it saw.
        renewals: u64,
        /// Who holds.
        holder: MemberName,
        /// Its last WAL position, where known.
        wal_lsn: Option<Lsn>,
        /// Why, in a sentence.
        reason: String,
        /// When.
        at: WallTime,
    },
    /// Ends the epoch and asks everyone for a ballot.
    OpenElection {
        /// Epoch of the record that the opener saw.
        observed_epoch: Epoch,
        /// Its renewals.
        observed_renewals: u64,
        /// Why.
        reason: OpenReason,
        /// Who opens it.
        by: MemberName,
        /// When.
        at: WallTime,
    },
    /// A member votes. It may replace its ballot.
    CastBallot {
        /// Epoch of the election.
        epoch: Epoch,
        /// Who.
        member: MemberName,
        /// The ballot.
        ballot: Ballot,
        /// When.
        at: WallTime,
    },
    /// Picks the winner of an election.
    CloseElection {
        /// Epoch of the election.
        epoch: Epoch,
        /// How long the proposer waited, milliseconds.
        waited_ms: u64,
        /// Whom it did not hear.
        not_heard: Vec<MemberName>,
        /// When.
        at: WallTime,
    },
    /// The timeline that the holder's promotion began.
    RecordTimeline {
        /// The holder's epoch.
        epoch: Epoch,
        /// Life of its guard.
        incarnation: Incarnation,
        /// Its number.
        timeline: Timeline,
        /// What PostgreSQL wrote into its history file.
        history: Vec<HistoryEntry>,
        /// When.
        at: WallTime,
    },
    /// The holder changes what elections must meet, once PostgreSQL was seen to ask as much of commits;
    /// or gives synchronous replication up.
    ChangeSync {
        /// The holder's epoch.
        epoch: Epoch,
        /// Life of its guard.
        incarnation: Incarnation,
        /// The change that it saw as the last one.
        generation: u64,
        /// Its contents.
        data_id: DataId,
        /// How many ballots of whom; none: replication is asynchronous from now on.
        pair: Option<Pair>,
        /// Why, in a few words.
        why: String,
        /// When.
        at: WallTime,
    },
    /// The holder of a new epoch has all that was there when it was promoted on as many standbys as
    /// commits will wait for; its own pair replaces the old one (rule S9).
    Barrier {
        /// The holder's epoch.
        epoch: Epoch,
        /// Life of its guard.
        incarnation: Incarnation,
        /// The change that it saw as the last one.
        generation: u64,
        /// Its contents.
        data_id: DataId,
        /// What the standbys have flushed at least.
        lsn: Lsn,
        /// What PostgreSQL asks of commits.
        demand: Demand,
        /// When.
        at: WallTime,
    },
    /// An operator wants another leader though this one lives, or a certain one after it died.
    Failover {
        /// Epoch that is meant to end.
        epoch: Epoch,
        /// Who should lead; none: the best.
        candidate: Option<MemberName>,
        /// Whether writes may be lost.
        allow_data_loss: bool,
        /// In maintenance mode: the operator answers for it that the holder's PostgreSQL is stopped.
        #[serde(default)]
        holder_is_stopped: bool,
        /// When.
        at: WallTime,
    },
    /// An operator switches automatic actions off or on.
    SetPause {
        /// Off.
        paused: bool,
        /// When.
        at: WallTime,
    },
    /// An operator keeps a member's PostgreSQL stopped, or lets it run again.
    SetFence {
        /// Who.
        member: MemberName,
        /// Stopped.
        fenced: bool,
        /// When.
        at: WallTime,
    },
    /// An operator wants a planned hand-over.
    RequestSwitchover {
        /// Epoch that is meant to end.
        epoch: Epoch,
        /// Who hands over.
        from: MemberName,
        /// Who takes over.
        to: MemberName,
        /// When.
        at: WallTime,
    },
    /// New secrets in place of those that the proposer saw.
    RotateSecrets {
        /// The secrets.
        secrets: Secrets,
        /// Version of those that it saw.
        seen: u64,
        /// When.
        at: WallTime,
    },
    /// A token is good from now on.
    GrantToken {
        /// Its name.
        name: String,
        /// What it is good for, and its hash.
        token: Token,
    },
    /// A token is good no more.
    RevokeToken {
        /// Its name.
        name: String,
        /// When.
        at: WallTime,
    },
    /// Somebody gave an order.
    BeginAudit {
        /// Who, and what.
        audit: Audit,
    },
    /// An order ended.
    EndAudit {
        /// Which.
        id: u64,
        /// How.
        end: AuditEnd,
    },
    /// A pending hand-over is given up.
    CancelSwitchover {
        /// Epoch that it belongs to.
        epoch: Epoch,
        /// Why.
        reason: String,
        /// When.
        at: WallTime,
    },
    /// The hand-over: an election closed on the former holder's proof.
    TransferLease {
        /// The giver.
        from: MemberName,
        /// Life of its guard.
        incarnation: Incarnation,
        /// Its epoch.
        epoch: Epoch,
        /// The renewals that it saw.
        renewals: u64,
        /// The receiver.
        to: MemberName,
        /// End of the giver's shutdown checkpoint.
        shutdown_lsn: Lsn,
        /// The receiver's standing.
        ballot: Ballot,
        /// When.
        at: WallTime,
    },
    /// The giver takes the lease back, before the receiver began.
    TakeBack {
        /// Epoch that the receiver got.
        epoch: Epoch,
        /// The giver.
        by: MemberName,
        /// Life of its guard.
        incarnation: Incarnation,
        /// When.
        at: WallTime,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What `apply` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The state was changed as asked (or was so already).
    Applied,
    /// Nothing was changed.
    Rejected(Rejection),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The group was founded before.
    #[error("the group was founded before")]
    AlreadyFounded,
    /// The secrets were set before.
    #[error("the secrets were set before")]
    SecretsSet,
    /// Other secrets than the proposer saw are in force.
    #[error("the secrets are at version {0} by now")]
    OtherSecrets(u64),
    /// A token of this name is there.
    #[error("there is a token {0} already; revoke it first, or choose another name")]
    TokenThere(String),
    /// No such token.
    #[error("there is no token {0}; `howdah token list` shows them")]
    UnknownToken(String),
    /// More tokens than a cluster may have.
    #[error("there are {TOKENS_MAX} tokens already; revoke one that nobody uses")]
    TooManyTokens,
    /// An order that is not kept, or never was.
    #[error("no such order is recorded")]
    NoSuchAudit,
    /// The node was removed for good.
    #[error("node {0} was removed from the group; its member must come back as a new node")]
    Retired(NodeId),
    /// The proposer saw an older record.
    #[error("the record is at epoch {epoch}, renewal {renewals}, by now")]
    Stale {
        /// Epoch of the record.
        epoch: Epoch,
        /// Its renewals.
        renewals: u64,
    },
    /// The lease is not in the state that the command needs.
    #[error("the lease is {0:?}")]
    LeaseState(LeaseState),
    /// Another life of the guard was named by the grant.
    #[error("the grant names incarnation {0}")]
    OtherIncarnation(Incarnation),
    /// An operator refused further renewals.
    #[error("an operator ended epoch {0}")]
    Evicted(Epoch),
    /// Maintenance mode is on.
    #[error("maintenance mode is on; `howdah resume` ends it")]
    Paused,
    /// A number that only grows has come to its end, which no cluster lives to see: the state is forged.
    #[error("no {0} is left to give")]
    NoneLeft(String),
    /// Somebody else holds the lease.
    #[error("{0} holds the lease")]
    OtherHolder(MemberName),
    /// No election is open under this epoch.
    #[error("no election is open for epoch {0}")]
    NoElection(Epoch),
    /// An election is open.
    #[error("an election is open for epoch {0}")]
    ElectionOpen(Epoch),
    /// The closing rule does not hold.
    #[error("no eligible ballot: {0}")]
    NobodyEligible(String),
    /// The bar is held by somebody who may not lead.
    #[error("{holder} reaches {bar} and may not lead ({why}); nobody eligible reaches that far")]
    BarNotReached {
        /// Who reaches farthest.
        holder: MemberName,
        /// How far, for people.
        bar: String,
        /// Why that one may not lead.
        why: String,
    },
    /// Too few of those that commits waited for have voted.
    #[error(
        "{have} of {need} ballots of those that commits waited for, with the data of then; not heard: \
         {missing} (one of these alone would do: {alone})"
    )]
    QuorumMissing {
        /// Ballots that count.
        have: usize,
        /// How many are needed.
        need: usize,
        /// Who could still vote, for people.
        missing: String,
        /// Whose ballot alone would do, for people.
        alone: String,
    },
    /// Another change of whom commits wait for came first.
    #[error("whom commits wait for was changed meanwhile: change {0} is in force")]
    OtherGeneration(u64),
    /// The holder has not passed its barrier yet.
    #[error("the leader of epoch {0} has not passed its barrier yet")]
    BarrierPending(Epoch),
    /// It has, or there is none to pass.
    #[error("there is no barrier to pass")]
    NoBarrier,
    /// A pair or a demand that makes no sense.
    #[error("whom commits are to wait for: {0}")]
    BadSync(String),
    /// Another timeline than the reserved one.
    #[error("timeline {given} was begun, timeline {reserved} was granted")]
    OtherTimeline {
        /// What PostgreSQL began.
        given: Timeline,
        /// What the grant reserved.
        reserved: Timeline,
    },
    /// A history that contradicts the log's.
    #[error("the history contradicts the log: {0}")]
    History(HistoryConflict),
    /// Another attempt is under way, or the data is there.
    #[error("the cluster's first data: {0}")]
    Bootstrap(String),
    /// The member is not known.
    #[error("there is no member {0}")]
    UnknownMember(MemberName),
    /// The member may not lead.
    #[error("{member} may not lead: {why}")]
    NotEligible {
        /// Who.
        member: MemberName,
        /// Why.
        why: String,
    },
    /// Another switchover is pending.
    #[error("a switchover from {from} to {to} is pending")]
    SwitchoverPending {
        /// Who hands over.
        from: MemberName,
        /// Who takes over.
        to: MemberName,
    },
    /// There is none to give up, or to take back.
    #[error("there is no hand-over of that epoch")]
    NoSwitchover,
    /// The receiver lacks part of the giver's WAL.
    #[error("{to} reaches {reached}, the giver stopped at {wanted}")]
    Behind {
        /// The receiver.
        to: MemberName,
        /// How far it reaches.
        reached: Lsn,
        /// How far it must.
        wanted: Lsn,
    },
}

impl From<Result<(), Rejection>> for Outcome {
    fn from(result: Result<(), Rejection>) -> Self {
        match result {
            Ok(()) => Outcome::Applied,
            Err(rejection) => Outcome::Rejected(rejection),
        }
    }
}

impl Command {
    /// Generation that a change of whom commits wait for brings, once it is applied.
    pub fn brings_generation(&self) -> Option<u64> {
        match self {
            Command::ChangeSync { generation, .. } | Command::Barrier { generation, .. } => {
                Some(generation.saturating_add(1))
            }
            _ => None,
        }
    }

    /// The command with the proposer's wall-clock time in it, where it has room for one.
    #[must_use]
    pub fn stamped(mut self, now: WallTime) -> Self {
        match &mut self {
            Command::UpsertMember { at, .. }
            | Command::GrantBootstrap { at, .. }
            | Command::FinishBootstrap { at, .. }
            | Command::Release { at, .. }
            | Command::OpenElection { at, .. }
            | Command::CastBallot { at, .. }
            | Command::CloseElection { at, .. }
            | Command::RecordTimeline { at, .. }
            | Command::ChangeSync { at, .. }
            | Command::Barrier { at, .. }
            | Command::Failover { at, .. }
            | Command::SetPause { at, .. }
            | Command::SetFence { at, .. }
            | Command::RotateSecrets { at, .. }
            | Command::RevokeToken { at, .. }
            | Command::RequestSwitchover { at, .. }
            | Command::CancelSwitchover { at, .. }
            | Command::TransferLease { at, .. }
            | Command::TakeBack { at, .. } => *at = now,
            Command::GrantToken { token, .. } => token.made = now,
            Command::BeginAudit { audit } => audit.at = now,
            Command::EndAudit { end, .. } => end.at = now,
            Command::FoundGroup { .. }
            | Command::RetireNode { .. }
            | Command::SetSecrets { .. }
            | Command::Renew { .. } => {}
        }
        self
    }
}
