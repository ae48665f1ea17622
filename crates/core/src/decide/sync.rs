//! The holder and synchronous replication: the barrier after a promotion or a restart, and the walk
//! from whom commits wait for to whom they should.
//!
//! Invariants: clients are let in only when everything that was there before is on as many standbys
//! as commits wait for (rule S9); the log asks less of elections only after PostgreSQL was proven to ask
//! more of commits (rule S8). Killed between two steps, the next agent goes on with what it finds.

use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::{Lsn, MemberName, WallTime};
use crate::rails::rails;
use crate::reason::Reason;
use crate::record::{LeaderRecord, Tags};
use crate::state::{SyncRecord, SyncState};
use crate::sync::choose::{Candidate, Mode, choose};
use crate::sync::{Demand, InForce, Pair, Recorded, Standby, Step, next};
use crate::view::{Job, RunningPg, View};

/// What is left to do before clients are let in; none: nothing.
pub(super) fn before_clients(
    view: &View<'_>,
    record: &LeaderRecord,
    pg: &RunningPg,
) -> Option<Decision> {
    if let Some(decision) = unseen(view) {
        return Some(decision);
    }
    match &view.state.sync {
        SyncState::Async { .. } => {
            let alone = without_standbys(view);
            (pg.sync.demand.as_ref() != Some(&alone)).then(|| lower(view, record, pg, alone))
        }
        SyncState::Sync(sync) if sync.epoch == record.epoch => {
            let met = pg.sync.demand.as_ref().is_some_and(|demand| {
                let flushed = is_flushed(pg, demand) || !rails().barrier;
                demand.is_meaningful() && sync.pair.covers(demand) && flushed
            });
            if met {
                return None;
            }
            let demand = pg.sync.demand.clone().unwrap_or_else(Demand::blocked);
            let waits = || Decision::wait(Reason::AwaitsFlush(demand.clone()));
            Some(step(view, record, pg, sync).unwrap_or_else(waits))
        }
        SyncState::Sync(sync) => {
            let decision = barrier(view, record, pg, sync);
            // As if what was proposed were applied already.
            let proposes = matches!(decision.reason, Reason::PassesBarrier(_));
            (!proposes || rails().barrier_applied).then_some(decision)
        }
    }
}

/// The next step while clients are served; none: all is as it should be.
pub(super) fn walk(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg) -> Option<Decision> {
    if let Some(decision) = unseen(view) {
        return Some(decision);
    }
    let sync = match &view.state.sync {
        SyncState::Async { .. } => return begin(view, record, pg),
        SyncState::Sync(sync) => sync,
    };
    if view.state.settings.synchronous_mode == Mode::Off {
        return Some(give_up(view, record, "synchronous_mode is off"));
    }
    step(view, record, pg, sync)
}

/// Whether commits are waited for, and as many of those that they wait for as an election needs were
/// heard a moment ago, with the data that they acknowledged, and are `fit`.
pub(super) fn closes_without_me(view: &View<'_>, fit: impl Fn(&MemberName) -> bool) -> bool {
    let Some(sync) = view.state.sync.record() else { return false };
    let here = sync.pair.voters.iter().filter(|voter| {
        let peer = view.fresh_peer(&voter.member);
        peer.is_some_and(|peer| peer.data_id == voter.data_id) && fit(&voter.member)
    });
    here.count() >= sync.pair.votes
}

/// This process has put a change into the log that was not applied here yet: whatever is decided by
/// the one before would be refused.
fn unseen(view: &View<'_>) -> Option<Decision> {
    let ahead = view.local.sync_settled.is_some_and(|own| own > view.state.sync.generation());
    (ahead && rails().settled).then(|| Decision::wait(Reason::SettlesSync))
}

/// What a commit waits for while there is nobody to wait for.
fn without_standbys(view: &View<'_>) -> Demand {
    let settings = &view.state.settings;
    if settings.synchronous_mode_strict && settings.synchronous_mode != Mode::Off {
        Demand::blocked()
    } else {
        Demand::nobody()
    }
}

/// Out of asynchronous replication: PostgreSQL first. The log promises nothing until everything that
/// was acknowledged is where the promise says.
fn begin(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg) -> Option<Decision> {
    let Some(wanted) = wanted(view, pg) else {
        let alone = without_standbys(view);
        if pg.sync.demand.as_ref() != Some(&alone) {
            return Some(lower(view, record, pg, alone));
        }
        let off = view.state.settings.synchronous_mode == Mode::Off;
        return (!off).then(|| Decision::wait(nobody(view, record)));
    };
    if pg.sync.demand.as_ref() != Some(&wanted) || pg.sync.in_force_at.is_none() {
        return Some(lower(view, record, pg, wanted));
    }
    if !is_flushed(pg, &wanted) {
        return Some(Decision::wait(Reason::AwaitsFlush(wanted)));
    }
    Some(record_pair(view, record, wanted.pair()))
}

/// Sets what asks less of commits than now, perhaps. The log says that replication is asynchronous, but
/// a change that says otherwise may be on its way; where that is possible it is made void first.
fn lower(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg, demand: Demand) -> Decision {
    let asks_nobody = pg.sync.demand.as_ref().is_some_and(|demand| demand.acks == 0);
    if asks_nobody || pg.sync.demand.as_ref() == Some(&demand) || settled(view) {
        return set(view, record, demand);
    }
    let why = "no earlier change is on its way any more";
    Decision::act(change(view, record, None, why), Reason::SettlesSync)
}

/// Whether no other change of whom commits wait for can be on its way.
fn settled(view: &View<'_>) -> bool {
    view.local.sync_settled == Some(view.state.sync.generation()) || !rails().settled
}

/// Nobody can be waited for: what that means for writes.
fn nobody(view: &View<'_>, record: &LeaderRecord) -> Reason {
    if view.state.settings.synchronous_mode_strict {
        Reason::WritesWait
    } else {
        Reason::LeadsAlone(record.epoch)
    }
}

fn step(
    view: &View<'_>,
    record: &LeaderRecord,
    pg: &RunningPg,
    sync: &SyncRecord,
) -> Option<Decision> {
    let Some(wanted) = wanted(view, pg) else { return Some(alone(view, record, pg)) };
    // Somebody has set something by hand, so that commits wait for nobody that the log knows of.
    let set_by_howdah = pg.sync.demand.as_ref().filter(|demand| demand.acks > 0);
    let Some(demand) = set_by_howdah else {
        return Some(set(view, record, sync.pair.demand()));
    };
    let in_force = InForce {
        demand,
        // By the one that it starts with no walsender ever released anything.
        everywhere: pg.sync.in_force_at.is_some() || demand.is_blocked(),
        flushed: is_flushed(pg, demand),
    };
    let recorded = Recorded { pair: &sync.pair, settled: settled(view) };
    match next(&recorded, &in_force, &wanted) {
        Step::Record(pair) => Some(record_pair(view, record, pair)),
        Step::Demand(wanted) => Some(set(view, record, wanted)),
        Step::ProveEverywhere => Some(set(view, record, demand.clone())),
        Step::ProveFlushed => Some(Decision::wait(Reason::AwaitsFlush(wanted))),
        Step::Arrived => None,
    }
}

/// After a promotion: the standbys that stream now, proven to be waited for, have everything.
fn barrier(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg, sync: &SyncRecord) -> Decision {
    if view.state.settings.synchronous_mode == Mode::Off {
        return give_up(view, record, "synchronous_mode is off");
    }
    // What was set since the promotion stays while enough of them are here, though more may come.
    let present = pg.sync.demand.as_ref().filter(|demand| demand.is_meaningful());
    let met = present.filter(|demand| {
        let here = demand.standbys.iter().filter(|one| pg.standbys.contains_key(*one)).count();
        here >= demand.acks
    });
    let wanted = match met {
        Some(demand) => Some(demand.clone()),
        None => wanted(view, pg).or_else(|| expected(view, pg).filter(|_| present.is_none())),
    };
    let Some(wanted) = wanted else { return alone(view, record, pg) };
    if pg.sync.demand.as_ref() != Some(&wanted) {
        return set(view, record, wanted);
    }
    let Some(lsn) = pg.sync.in_force_at else { return set(view, record, wanted) };
    if !is_flushed(pg, &wanted) && rails().barrier {
        return Decision::wait(Reason::AwaitsFlush(wanted));
    }
    let command = Command::Barrier {
        epoch: record.epoch,
        incarnation: view.node.incarnation,
        generation: sync.generation,
        data_id: view.local.data_id,
        lsn,
        demand: wanted.clone(),
        at: WallTime::default(),
    };
    Decision::act(Action::Propose(Box::new(command)), Reason::PassesBarrier(wanted))
}

/// No standby can be waited for. After a moment, in which one may come back, writes go on without,
/// unless that is forbidden.
fn alone(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg) -> Decision {
    if view.state.settings.synchronous_mode_strict {
        return Decision::wait(Reason::WritesWait);
    }
    if !pg.standbys.is_empty() {
        return give_up(view, record, "no standby that streams may be waited for");
    }
    let since = pg.sync.alone_since.map_or(view.now, |since| since.max(view.local.pg_since));
    let end = since + view.timings.ttl * 2 / 5;
    if view.now < end {
        return Decision::wait(Reason::AwaitsStandbys).until(end);
    }
    give_up(view, record, "no standby streams")
}

fn give_up(view: &View<'_>, record: &LeaderRecord, why: &str) -> Decision {
    let reason = Reason::GivesSyncUp(why.to_owned());
    Decision::act(change(view, record, None, why), reason)
}

fn record_pair(view: &View<'_>, record: &LeaderRecord, pair: Pair) -> Decision {
    let reason = Reason::RecordsSync(pair.clone());
    Decision::act(change(view, record, Some(pair), ""), reason)
}

fn change(view: &View<'_>, record: &LeaderRecord, pair: Option<Pair>, why: &str) -> Action {
    Action::Propose(Box::new(Command::ChangeSync {
        epoch: record.epoch,
        incarnation: view.node.incarnation,
        generation: view.state.sync.generation(),
        data_id: view.local.data_id,
        pair,
        why: why.to_owned(),
        at: WallTime::default(),
    }))
}

fn set(view: &View<'_>, record: &LeaderRecord, demand: Demand) -> Decision {
    let reason = Reason::SetsDemand(demand.clone());
    let action = Action::SetDemand { epoch: record.epoch, demand };
    view.unless_failed(Job::Sync, Decision::act(action, reason))
}

/// Everything that was acknowledged before `demand` was in force everywhere is flushed by it.
fn is_flushed(pg: &RunningPg, demand: &Demand) -> bool {
    let flushed = pg.standbys.iter().map(|(standby, lsn)| (standby, *lsn));
    pg.sync.in_force_at.is_some_and(|lsn| demand.is_flushed(lsn, flushed))
}

/// Whom commits should wait for; none: nobody can be waited for, or it is not wanted.
fn wanted(view: &View<'_>, pg: &RunningPg) -> Option<Demand> {
    let candidates: Vec<Candidate> = pg
        .standbys
        .iter()
        .filter_map(|(standby, flushed)| {
            let member = view.state.members.get(&standby.member)?;
            Some(candidate(view, &member.tags, standby.clone(), *flushed))
        })
        .collect();
    let present = present(view, pg);
    let chosen = choose(&view.state.settings.sync_wish(), &candidates, pg.received, &present)?;
    // After a start the standbys come back one by one: no walk for each, if enough of them are here.
    let young = view.now.since(view.local.pg_since) < view.timings.ttl;
    let fewer = present.standbys.is_superset(&chosen.standbys) && present != chosen;
    let here = candidates.iter().filter(|one| present.standbys.contains(&one.standby)).count();
    let keeps = young && fewer && present.is_meaningful() && here >= present.acks;
    Some(if keeps { present } else { chosen })
}

/// Those that will stream in a moment, by their own words: whom commits wait for can be set while they
/// turn to this leader. Who was wrong about it is passed over when others are here.
fn expected(view: &View<'_>, pg: &RunningPg) -> Option<Demand> {
    let candidates: Vec<Candidate> = view
        .state
        .members
        .iter()
        .filter(|(name, _)| **name != view.me)
        .filter_map(|(name, member)| {
            let peer = view.fresh_peer(name)?;
            let turns = peer.running && peer.in_recovery && peer.eligible && !peer.stopping;
            turns.then(|| candidate(view, &member.tags, peer.standby(name), peer.position.lsn))
        })
        .collect();
    choose(&view.state.settings.sync_wish(), &candidates, pg.received, &Demand::nobody())
}

fn candidate(view: &View<'_>, tags: &Tags, standby: Standby, flushed: Lsn) -> Candidate {
    Candidate {
        streaming: true,
        may_lead: !tags.nofailover && !view.state.fenced.contains(&standby.member),
        nosync: tags.nosync,
        priority: tags.sync_priority,
        flushed,
        standby,
    }
}

/// Whom commits wait for now; on a server that has just been started, as far as the log tells.
fn present(view: &View<'_>, pg: &RunningPg) -> Demand {
    let set = pg.sync.demand.clone().filter(Demand::is_meaningful);
    let recorded = view.state.sync.record().filter(|_| !view.state.barrier_pending());
    set.or_else(|| recorded.map(|sync| sync.pair.demand())).unwrap_or_default()
}
