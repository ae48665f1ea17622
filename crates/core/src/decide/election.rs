//! Opening an election, promising, voting, and closing it.
//!
//! Invariant: a member votes only after its promise was proven by this process; who closes waits
//! for those it hears, within a window, but whether a close is *valid* is `apply`'s to say.

use super::sync;
use crate::action::{Action, Decision};
use crate::command::{Command, Rejection};
use crate::election::count;
use crate::ids::{BootInstant, MemberName, WallTime};
use crate::rails::rails;
use crate::reason::Reason;
use crate::record::{Election, LeaseState, OpenReason, Verdict};
use crate::view::{DataView, Job, PeerData, PgView, View};

/// Starts that may fail in a row before a member votes that it may not lead.
const STARTS_BEFORE_BARRED: u32 = 3;

/// Whether the lease has lapsed for this challenger.
pub(super) enum Lapse {
    Now(Decision),
    At(BootInstant),
    Never,
}

/// A challenger waits from when *it* applied the last change of the record: `Held` a full ttl, a
/// grant without a renewal half of one, `Released` not at all.
pub(super) fn lapse(view: &View<'_>) -> Lapse {
    let Some(record) = &view.state.leader else { return Lapse::Never };
    let ttl = std::time::Duration::from_millis(record.ttl_ms);
    if record.paused {
        let wish = view.state.failover.as_ref().filter(|wish| wish.epoch == record.epoch);
        let released = record.state == LeaseState::Released;
        if !wish.is_some_and(|wish| released || wish.holder_is_stopped) {
            return Lapse::Never;
        }
    }
    let (wait, why) = match record.state {
        LeaseState::Released => (std::time::Duration::ZERO, OpenReason::Released),
        LeaseState::Held if record.renewals == 0 => (ttl / 2, OpenReason::GrantUnused),
        LeaseState::Held if view.state.failover.is_some() => (ttl, OpenReason::Operator),
        LeaseState::Held => (ttl, OpenReason::LeaseRanOut),
        LeaseState::Revoked => return Lapse::Never,
    };
    let due = view.lease.record_seen + wait;
    if view.now < due {
        return Lapse::At(due);
    }
    let why = if view.state.failover.is_some() { OpenReason::Operator } else { why };
    let command = Command::OpenElection {
        observed_epoch: record.epoch,
        observed_renewals: record.renewals,
        reason: why.clone(),
        by: view.me.clone(),
        at: WallTime::default(),
    };
    let action = Action::Propose(Box::new(command));
    Lapse::Now(Decision::act(action, Reason::OpensElection(why)))
}

pub(super) fn decide(view: &View<'_>, open: &Election) -> Decision {
    if let Some(decision) = vote(view, open) {
        return decision;
    }
    let decision = close(view, open);
    match view.backing_off(Job::Start) {
        Some((_, again)) if view.local.pg == PgView::Stopped => decision.until(again),
        _ => decision,
    }
}

/// What is left to do until this member's vote is in; `None`: it is, or there is nothing to vote
/// with.
fn vote(view: &View<'_>, open: &Election) -> Option<Decision> {
    if !matches!(view.local.data, DataView::Cluster(_)) {
        return None;
    }
    let former = open.former.as_ref() == Some(&view.me);
    let bar_only = former && view.local.bar_only.is_some_and(|epoch| epoch.next() == open.epoch);
    let mine = open.ballots.get(&view.me).filter(|ballot| {
        ballot.incarnation == view.node.incarnation && ballot.data_id == view.local.data_id
    });
    let held_back = view.lease.election_seen + view.timings.window;
    let mut cannot_start = false;
    match &view.local.pg {
        PgView::Stopped if view.failures(Job::Start) >= STARTS_BEFORE_BARRED => {
            // Its ballot says so, and it goes on trying: it may be the only one left. Meanwhile it
            // closes for the others as anybody does.
            cannot_start = true;
            if mine.is_some() {
                return match view.backing_off(Job::Start) {
                    Some(_) => None,
                    None => Some(Decision::act(Action::StartIsolated, Reason::StartsToVote)),
                };
            }
        }
        // Replay takes what the others need to be quick, on a machine that is shared.
        PgView::Stopped
            if former && view.now < held_back && sync::closes_without_me(view, |_| true) =>
        {
            return Some(Decision::wait(Reason::HoldsBallotBack).until(held_back));
        }
        PgView::Stopped => {
            let start = Decision::act(Action::StartIsolated, Reason::StartsToVote);
            return Some(view.unless_failed(Job::Start, start));
        }
        PgView::Running(pg) if pg.in_recovery => {
            let promised = view.local.promise_proven == Some(open.epoch) && !pg.has_upstream;
            if !promised && rails().promise {
                let promise = Decision::act(
                    Action::Promise { epoch: open.epoch },
                    Reason::Promises(open.epoch),
                );
                return Some(view.unless_failed(Job::Promise, promise));
            }
        }
        PgView::Running(_) | PgView::Unknown | PgView::Starting | PgView::Hung => return None,
    }
    // One that said that it cannot be started is replaced once it was.
    if mine.is_some_and(|ballot| ballot.barred.is_some() == cannot_start) {
        return None;
    }
    if former && view.now < held_back && !all_voted(view, open) {
        return Some(Decision::wait(Reason::HoldsBallotBack).until(held_back));
    }
    let barred = cannot_start.then(|| "its PostgreSQL cannot be started".to_owned());
    let vote = Action::Vote { epoch: open.epoch, barred, bar_only };
    Some(Decision::act(vote, Reason::Votes(open.epoch)))
}

/// Everybody else who is heard has voted; a former holder need not wait for anything.
fn all_voted(view: &View<'_>, open: &Election) -> bool {
    view.state
        .members
        .keys()
        .filter(|name| **name != view.me)
        .all(|name| open.ballots.contains_key(name))
}

/// Closes the election when everybody who is heard has voted, or a window has passed. A member that
/// has just started waits longer, for it may not have heard those who are there; not so where rule S7
/// says how many are enough.
fn close(view: &View<'_>, open: &Election) -> Decision {
    let counted = view.state.sync.record().is_some() && !open.allow_data_loss;
    let young = !counted && view.now.since(view.node.started) < view.timings.ttl * 2;
    let opened = view.lease.election_seen;
    let patience = opened + if young { view.timings.ttl } else { view.timings.window };
    let missing = missing(view, open, young);
    if let Some(first) = missing.first()
        && view.now < patience
    {
        return Decision::wait(Reason::ElectionAwaits(first.clone())).until(patience);
    }
    let count = count(view.state, open);
    let winner = match count.winner {
        Ok(winner) => winner,
        Err(Rejection::NobodyEligible(_)) => {
            return Decision::wait(Reason::ElectionStuck(nobody(&count.verdicts)));
        }
        Err(why) => return Decision::wait(Reason::ElectionStuck(why.to_string())),
    };
    // Whoever fell under its last lease wins only if after a ttl there is still nobody else.
    let lapsed = opened + view.timings.ttl;
    if open.ballots.get(&winner).is_some_and(|ballot| ballot.bar_only) && view.now < lapsed {
        return Decision::wait(Reason::ElectionAwaits(winner)).until(lapsed);
    }
    let waited = view.now.since(opened).as_millis();
    let command = Command::CloseElection {
        epoch: open.epoch,
        waited_ms: u64::try_from(waited).unwrap_or(u64::MAX),
        not_heard: without_ballot(view, open),
        at: WallTime::default(),
    };
    Decision::act(Action::Propose(Box::new(command)), Reason::ClosesElection(winner))
}

fn nobody(verdicts: &[Verdict]) -> String {
    let verdicts: Vec<String> = verdicts
        .iter()
        .filter_map(|verdict| {
            let why = verdict.ineligible.as_ref()?;
            Some(format!("{}: {why}", verdict.member))
        })
        .collect();
    if verdicts.is_empty() { "nobody has voted".into() } else { verdicts.join("; ") }
}

/// Everybody who has not voted, for people to read.
fn without_ballot(view: &View<'_>, open: &Election) -> Vec<MemberName> {
    let voted = |name: &&MemberName| open.ballots.contains_key(*name);
    view.state.members.keys().filter(|name| !voted(name)).cloned().collect()
}

/// Who has not voted and could: members that were heard a moment ago; for one that has just started
/// itself, all of them, the former holder too.
fn missing(view: &View<'_>, open: &Election, young: bool) -> Vec<MemberName> {
    view.state
        .members
        .keys()
        .filter(|name| !open.ballots.contains_key(name))
        .filter(|name| young || open.former.as_ref() != Some(name))
        .filter(|name| {
            if **name == view.me {
                return matches!(view.local.data, DataView::Cluster(_));
            }
            match view.fresh_peer(name) {
                Some(peer) => matches!(peer.data, Some(PeerData::Cluster(_)) | None),
                None => young,
            }
        })
        .cloned()
        .collect()
}
