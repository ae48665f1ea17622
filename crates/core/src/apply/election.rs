//! Elections: opened over a lapsed lease, voted in, closed with a winner.

use super::{Entry, change_of, grant, is_whole};
use crate::command::{Command, Rejection};
use crate::election::{Count, count};
use crate::ids::{Epoch, MemberName, WallTime};
use crate::record::{
    Ballot, ChangeKind, Election, EventKind, FailoverWish, LeaseState, OpenReason, Verdict,
};
use crate::state::{ClusterState, SyncState};
use crate::sync::{Standby, names};

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::OpenElection { observed_epoch, observed_renewals, reason, by, at } => {
            open(state, entry, (observed_epoch, observed_renewals), reason, by, at)
        }
        Command::CastBallot { epoch, member, ballot, at } => {
            cast(state, entry, epoch, member, ballot, at)
        }
        Command::CloseElection { epoch, waited_ms, not_heard, at } => {
            close(state, entry, epoch, waited_ms, not_heard, at)
        }
        Command::Failover { epoch, candidate, allow_data_loss, holder_is_stopped, at } => {
            let terms = FailoverWish { epoch, candidate, allow_data_loss, holder_is_stopped };
            wish(state, entry, terms, at)
        }
        _ => Ok(()),
    }
}

fn open(
    state: &mut ClusterState,
    entry: Entry,
    observed: (Epoch, u64),
    reason: OpenReason,
    by: MemberName,
    at: WallTime,
) -> Result<(), Rejection> {
    if let Some(election) = &state.election {
        return Err(Rejection::ElectionOpen(election.epoch));
    }
    let Some(record) = state.leader.as_mut() else {
        return Err(Rejection::Stale { epoch: Epoch(0), renewals: 0 });
    };
    if (record.epoch, record.renewals) != observed {
        return Err(Rejection::Stale { epoch: record.epoch, renewals: record.renewals });
    }
    let wished = state.failover.as_ref().filter(|wish| wish.epoch == record.epoch);
    let allowed = wished.is_some_and(|wish| {
        // A paused holder's guard has no deadline: a silent one may serve still.
        record.state == LeaseState::Released || wish.holder_is_stopped
    });
    if record.paused && !allowed {
        return Err(Rejection::Paused);
    }
    record.state = LeaseState::Revoked;
    let (former, wal_lsn, epoch) = (record.holder.clone(), record.wal_lsn, record.epoch.next());
    let wish = state.failover.take().filter(|wish| wish.epoch == observed.0);
    let text = format!("{by} opened the election of epoch {epoch}: {reason}");
    state.election = Some(Election {
        epoch,
        reason,
        opened_by: by.clone(),
        former: Some(former),
        wal_lsn,
        preferred: wish.as_ref().and_then(|wish| wish.candidate.clone()),
        allow_data_loss: wish.is_some_and(|wish| wish.allow_data_loss),
        ballots: std::collections::BTreeMap::new(),
        opened_at: at,
    });
    state.switchover = None;
    state.transfer = None;
    state.note(entry.index, at, EventKind::ElectionOpened, &by, text);
    Ok(())
}

fn cast(
    state: &mut ClusterState,
    entry: Entry,
    epoch: Epoch,
    member: MemberName,
    ballot: Ballot,
    at: WallTime,
) -> Result<(), Rejection> {
    if !state.members.contains_key(&member) {
        return Err(Rejection::UnknownMember(member));
    }
    let election = state.election.as_mut().filter(|election| election.epoch == epoch);
    let election = election.ok_or(Rejection::NoElection(epoch))?;
    let text = format!("{member} stands in the election of epoch {epoch} at {}", ballot.position);
    if election.ballots.insert(member.clone(), ballot.clone()) != Some(ballot) {
        state.note(entry.index, at, EventKind::Ballot, &member, text);
    }
    Ok(())
}

fn close(
    state: &mut ClusterState,
    entry: Entry,
    epoch: Epoch,
    waited_ms: u64,
    not_heard: Vec<MemberName>,
    at: WallTime,
) -> Result<(), Rejection> {
    let election = state.election.clone().filter(|election| election.epoch == epoch);
    let election = election.ok_or(Rejection::NoElection(epoch))?;
    let count = count(state, &election);
    let winner = count.winner.clone()?;
    let reason = why_won(&election, &count, &winner);
    let mut change = change_of(state, ChangeKind::Election, &winner, at, reason.clone());
    change.bar = count.bar;
    change.verdicts = count.verdicts;
    change.waited_ms = waited_ms;
    change.not_heard = not_heard;
    change.allow_data_loss = election.allow_data_loss;
    change.synchronous &= !election.allow_data_loss;
    let Ballot { incarnation, data_id, .. } = election.ballots[&winner];
    let unheard = without_quorum(state, &election);
    let epoch = grant(state, winner.clone(), incarnation);
    if let Some(unheard) = unheard {
        state.sync = SyncState::Async { since: epoch, generation: state.sync.generation() + 1 };
        let text = format!(
            "an operator let the election close without {unheard}: acknowledged writes may be lost"
        );
        state.note(entry.index, at, EventKind::Sync, &winner, text);
    }
    is_whole(state, &winner, data_id);
    state.keep(change);
    let text = format!("{winner} leads with epoch {epoch}: {reason}");
    state.note(entry.index, at, EventKind::Elected, &winner, text);
    Ok(())
}

/// Of those that commits waited for, who was not heard in an election that may lose writes.
fn without_quorum(state: &ClusterState, election: &Election) -> Option<String> {
    let sync = state.sync.record().filter(|_| election.allow_data_loss)?;
    let heard = |one: &&Standby| {
        election.ballots.get(&one.member).is_some_and(|ballot| ballot.data_id == one.data_id)
    };
    Some(names(sync.pair.voters.iter().filter(|one| !heard(one))))
}

fn why_won(election: &Election, count: &Count, winner: &MemberName) -> String {
    let eligible: Vec<&Verdict> =
        count.verdicts.iter().filter(|verdict| verdict.ineligible.is_none()).collect();
    let reach = eligible.iter().find(|verdict| verdict.chosen).and_then(|verdict| verdict.reach);
    let equals = eligible.iter().filter(|verdict| verdict.reach == reach).count();
    let at = reach.map(|reach| reach.to_string()).unwrap_or_default();
    let why = if eligible.len() == 1 {
        format!("it alone was eligible, at {at}")
    } else if equals == 1 {
        format!("it reaches farthest, {at}")
    } else if election.preferred.as_ref() == Some(winner) {
        format!("an operator prefers it among the {equals} that reach {at}")
    } else {
        format!("first by priority and name among the {equals} that reach {at}")
    };
    format!("{}; {why}", election.reason)
}

/// An operator's failover: ends the epoch if its lease is held, and says who should win. In an
/// election that is open already, it changes the terms at once.
fn wish(
    state: &mut ClusterState,
    entry: Entry,
    wish: FailoverWish,
    at: WallTime,
) -> Result<(), Rejection> {
    let current = state.epoch();
    if wish.epoch != current {
        let renewals = state.leader.as_ref().map_or(0, |record| record.renewals);
        return Err(Rejection::Stale { epoch: current, renewals });
    }
    let leads = state.held().filter(|record| Some(&record.holder) == wish.candidate.as_ref());
    if let Some(record) = leads {
        let why = "it leads already".to_owned();
        return Err(Rejection::NotEligible { member: record.holder.clone(), why });
    }
    if let Some(candidate) = &wish.candidate {
        let member = state.members.get(candidate);
        let member = member.ok_or_else(|| Rejection::UnknownMember(candidate.clone()))?;
        if member.tags.nofailover {
            let why = "its tag nofailover is set".to_owned();
            return Err(Rejection::NotEligible { member: candidate.clone(), why });
        }
    }
    let mut text = match &wish.candidate {
        Some(candidate) => format!("an operator wants {candidate} to lead"),
        None => "an operator wants another leader".to_owned(),
    };
    if wish.allow_data_loss {
        text += ", even if writes are lost";
    }
    if wish.holder_is_stopped {
        text += "; the holder's PostgreSQL is stopped, they say";
    }
    let about = wish.candidate.clone().unwrap_or_default();
    match state.election.as_mut() {
        Some(election) => {
            election.preferred = wish.candidate.or(election.preferred.take());
            election.allow_data_loss |= wish.allow_data_loss;
        }
        None => {
            if let Some(record) = state.leader.as_mut() {
                record.evicted = true;
            }
            state.switchover = None;
            state.failover = Some(wish);
        }
    }
    state.note(entry.index, at, EventKind::Failover, &about, text);
    Ok(())
}
