//! `apply`: the one way in which the replicated state changes.
//!
//! Place: called by `consensus` for each committed entry, in log order, on every member; by the
//! simulator and by golden scripts. Pure: no clock, no randomness, no hash order, no configuration.
//! Invariants: the same log gives the same state everywhere; a rejected command changes nothing; a
//! command applied twice changes nothing the second time, since each is a compare-and-set.
//! Not here: when a command is proposed (`decide`).

mod bootstrap;
mod election;
mod lease;
mod membership;
mod rights;
mod switchover;
mod sync;
mod upkeep;

use crate::command::{Command, Outcome, Rejection};
use crate::ids::{DataId, Epoch, Incarnation, MemberName, Timeline, WallTime};
use crate::record::{LeaderRecord, LeaseState};
use crate::state::{ClusterState, SyncState};
use crate::sync::Standby;

impl ClusterState {
    /// Applies one command of the log; `index` is its position there.
    pub fn apply(&mut self, index: u64, command: Command) -> Outcome {
        if let Some(what) = self.spent() {
            return Outcome::Rejected(Rejection::NoneLeft(what.into()));
        }
        let entry = Entry { index };
        let result = match command {
            Command::FoundGroup { .. }
            | Command::RetireNode { .. }
            | Command::UpsertMember { .. } => membership::apply(self, entry, command),
            Command::GrantBootstrap { .. } | Command::FinishBootstrap { .. } => {
                bootstrap::apply(self, entry, command)
            }
            Command::Renew { .. } | Command::Release { .. } | Command::RecordTimeline { .. } => {
                lease::apply(self, entry, command)
            }
            Command::OpenElection { .. }
            | Command::CastBallot { .. }
            | Command::CloseElection { .. }
            | Command::Failover { .. } => election::apply(self, entry, command),
            Command::ChangeSync { .. } | Command::Barrier { .. } => {
                sync::apply(self, entry, command)
            }
            Command::SetPause { .. } | Command::SetFence { .. } => {
                upkeep::apply(self, entry, command)
            }
            Command::SetSecrets { .. }
            | Command::RotateSecrets { .. }
            | Command::GrantToken { .. }
            | Command::RevokeToken { .. }
            | Command::BeginAudit { .. }
            | Command::EndAudit { .. } => rights::apply(self, entry, command),
            Command::RequestSwitchover { .. }
            | Command::CancelSwitchover { .. }
            | Command::TransferLease { .. }
            | Command::TakeBack { .. } => switchover::apply(self, entry, command),
        };
        result.into()
    }
}

impl ClusterState {
    /// What has no next number. Each command draws one of each at most.
    fn spent(&self) -> Option<&'static str> {
        let renewals = self.leader.as_ref().map_or(0, |record| record.renewals);
        let numbers = [
            ("epoch", self.epoch().0),
            ("renewal", renewals),
            ("change of whom commits wait for", self.sync.generation()),
        ];
        let spent =
            numbers.into_iter().find(|(_, number)| *number == u64::MAX).map(|(what, _)| what);
        spent.or_else(|| self.timelines.is_spent().then_some("timeline"))
    }
}

/// Where in the log the command stands.
#[derive(Clone, Copy)]
struct Entry {
    index: u64,
}

/// The record, if it is of `epoch` and `Held`; what almost every command needs.
fn held_record(state: &mut ClusterState, epoch: Epoch) -> Result<&mut LeaderRecord, Rejection> {
    let stale = Rejection::Stale { epoch: Epoch(0), renewals: 0 };
    let record = state.leader.as_mut().ok_or(stale)?;
    if record.epoch != epoch {
        return Err(Rejection::Stale { epoch: record.epoch, renewals: record.renewals });
    }
    if record.state != LeaseState::Held {
        return Err(Rejection::LeaseState(record.state));
    }
    Ok(record)
}

/// A new grant: the next epoch, and a timeline number that nobody ever drew. Whatever was pending
/// under the old epoch is void.
fn grant(state: &mut ClusterState, to: MemberName, incarnation: Incarnation) -> Epoch {
    let before = state.leader.clone().unwrap_or_default();
    let epoch = before.epoch.next();
    let reserved: Timeline = state.timelines.next_free();
    state.timelines.reserved.insert(reserved, epoch);
    state.leader = Some(LeaderRecord {
        holder: to,
        incarnation,
        epoch,
        ttl_ms: state.settings.ttl_ms,
        renewals: 0,
        nonce: crate::ids::Nonce(0),
        wal_lsn: before.wal_lsn,
        // Nobody has begun yet: the new holder pauses when it serves, if that is wanted.
        paused: false,
        state: LeaseState::Held,
        evicted: false,
        reserved,
    });
    state.election = None;
    state.switchover = None;
    state.transfer = None;
    state.failover = None;
    epoch
}

/// Whoever won an election, or took over, has every commit that was acknowledged so far; nothing can be
/// acknowledged under the old pair any more.
fn is_whole(state: &mut ClusterState, member: &MemberName, data_id: DataId) {
    if let SyncState::Sync(sync) = &mut state.sync {
        sync.whole.insert(Standby { member: member.clone(), data_id });
    }
}

/// A change of leader as far as every kind has it.
fn change_of(
    state: &ClusterState,
    kind: crate::record::ChangeKind,
    to: &MemberName,
    at: WallTime,
    reason: String,
) -> crate::record::Change {
    crate::record::Change {
        epoch: state.epoch().next(),
        kind,
        from: state.leader.as_ref().map(|record| record.holder.clone()),
        to: to.clone(),
        at,
        reason,
        verdicts: Vec::new(),
        bar: None,
        waited_ms: 0,
        not_heard: Vec::new(),
        timeline: None,
        former_wal_lsn: state.leader.as_ref().map(|record| record.wal_lsn).unwrap_or_default(),
        allow_data_loss: false,
        synchronous: state.sync.record().is_some(),
    }
}
