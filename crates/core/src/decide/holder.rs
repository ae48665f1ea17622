//! The holder of the lease: promote, restart in place, record, admit clients, hand over.
//!
//! Invariant: nothing here makes PostgreSQL writable before this process's own renewal set a
//! deadline and the guard is armed with it (rule S5).

use std::time::Duration;

use super::authority::{disk_lsn, promised};
use super::{sync, time_of};
use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::{Epoch, MemberName, WallTime};
use crate::reason::Reason;
use crate::record::{LeaderRecord, Member};
use crate::sync::Standby;
use crate::view::{DataView, Job, PeerView, PgView, RunningPg, View};

/// In-place starts that may fail before the lease is given back, if somebody else could lead.
const RESTARTS_WITH_CANDIDATE: u32 = 2;
/// Promises, and starts before a promotion, that may fail before the lease is given back.
const ATTEMPTS: u32 = 3;
const NO_PROMISE: &str = "it cannot promise";

pub(super) fn decide(view: &View<'_>, record: &LeaderRecord) -> Decision {
    if record.evicted {
        return step_down(
            view,
            record,
            Reason::Evicted(record.epoch),
            "an operator ended its epoch",
        );
    }
    if record.renewals == 0 && !promised(view) {
        let reason = Reason::LeaderPromises(record.epoch);
        let promise = Decision::act(Action::Promise { epoch: record.epoch }, reason);
        return view.unless_failed(Job::Promise, promise);
    }
    if let Some(decision) = failed_hand_over(view, record) {
        return decision;
    }
    if !view.authorised(record) {
        return Decision::wait(Reason::AwaitsRenewal(record.epoch));
    }
    match &view.local.pg {
        PgView::Running(pg) if pg.in_recovery => promote(view, record, pg),
        PgView::Running(pg) => serve(view, record, pg),
        PgView::Stopped => restart(view, record),
        PgView::Unknown | PgView::Starting | PgView::Hung => Decision::wait(Reason::NotLookedYet),
    }
}

fn promote(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg) -> Decision {
    if view.state.timelines.recorded_by(record.epoch).is_some() {
        // Its first life as primary under this epoch ended, and something started it as a standby.
        let why = "PostgreSQL is in recovery though it was promoted";
        return step_down(view, record, gives_up(record.epoch, why), why);
    }
    if failures_now(view, Job::Promote) > 0 {
        // A replay that hangs does not end by an orderly stop either, and nobody is served here.
        return Decision::act(Action::Kill, gives_up(record.epoch, "promotion failed"));
    }
    if let Some(decision) = off_the_chain(view, record) {
        return decision;
    }
    if pg.has_upstream || view.local.promise_proven != Some(record.epoch) {
        if failures_now(view, Job::Promise) >= ATTEMPTS {
            return step_down(view, record, gives_up(record.epoch, NO_PROMISE), NO_PROMISE);
        }
        let reason = Reason::LeaderPromises(record.epoch);
        let promise = Decision::act(Action::Promise { epoch: record.epoch }, reason);
        return view.unless_failed(Job::Promise, promise);
    }
    let promote = Action::Promote { epoch: record.epoch, timeline: record.reserved };
    Decision::act(promote, Reason::Promotes(record.epoch))
}

/// How often `job` failed since the election that this grant came from. What failed under an
/// earlier grant is over: a member that cannot lead now, and one that could not then, would
/// otherwise hand the lease to and fro for ever.
fn failures_now(view: &View<'_>, job: Job) -> u32 {
    let fresh = view.local.failed.as_ref().is_some_and(|f| f.at >= view.lease.election_seen);
    if fresh { view.failures(job) } else { 0 }
}

/// Data that lies past a fork, or left recovery without a grant, is never promoted: between the
/// ballot and now something else wrote here.
fn off_the_chain(view: &View<'_>, record: &LeaderRecord) -> Option<Decision> {
    let DataView::Cluster(data) = &view.local.data else { return None };
    let end = data.disk_end?;
    let timelines = &view.state.timelines;
    let rogue = !timelines.knows(end.timeline);
    if !rogue && timelines.diverges_at(end, &data.history).is_none() {
        return None;
    }
    let why = "its data is not the cluster's any more";
    Some(step_down(view, record, gives_up(record.epoch, why), why))
}

/// The lease is held and PostgreSQL is down. If it served under this epoch: restart it in place,
/// which loses nothing, or have somebody else lead if that loses nothing either. If it fell while being
/// promoted: give the lease back, and let an election look at what its disk says.
fn restart(view: &View<'_>, record: &LeaderRecord) -> Decision {
    let DataView::Cluster(data) = &view.local.data else {
        let why = "there is no data to lead with";
        return step_down(view, record, gives_up(record.epoch, why), why);
    };
    if let Some(decision) = off_the_chain(view, record) {
        return decision;
    }
    if view.state.timelines.recorded_by(record.epoch).is_none() {
        let began = data.disk_end.is_some_and(|end| end.timeline == record.reserved);
        if began || failures_now(view, Job::Promote) > 0 {
            let why = "PostgreSQL fell while it was promoted";
            return step_down(view, record, gives_up(record.epoch, why), why);
        }
        // It was stopped for that, and nothing that it could do now would help.
        if failures_now(view, Job::Promise) >= ATTEMPTS {
            return step_down(view, record, gives_up(record.epoch, NO_PROMISE), NO_PROMISE);
        }
        if failures_now(view, Job::Start) >= ATTEMPTS {
            let why = "PostgreSQL could not be started";
            return step_down(view, record, gives_up(record.epoch, why), why);
        }
        let start = Decision::act(Action::StartIsolated, Reason::StartsStandby);
        return view.unless_failed(Job::Start, start);
    }
    // Whoever cannot be rewound afterwards would have to be copied as a whole, for a second's gain.
    if data.shutdown_end.is_none() && data.can_rewind && heirs(view, record) {
        let why = "PostgreSQL crashed, and others have all that was acknowledged";
        return step_down(view, record, gives_up(record.epoch, why), why);
    }
    let limit = Duration::from_millis(view.state.settings.primary_start_timeout_ms);
    let failures = view.failures(Job::StartInPlace);
    let tried = view.now.since(view.local.pg_since).max(time_of(failures));
    let late = tried >= limit && failures > 0;
    let patience = if limit.is_zero() { 0 } else { RESTARTS_WITH_CANDIDATE };
    if late || (failures >= patience && replacement(view, record)) {
        let why =
            if failures > 0 { "PostgreSQL could not be restarted" } else { "PostgreSQL crashed" };
        return step_down(view, record, gives_up(record.epoch, why), why);
    }
    let start = Action::StartInPlace { epoch: record.epoch };
    let start = Decision::act(start, Reason::RestartsInPlace(record.epoch));
    view.unless_failed(Job::StartInPlace, start)
}

fn gives_up(epoch: Epoch, why: &str) -> Reason {
    Reason::GivesUp { epoch, why: why.to_owned() }
}

/// Stops PostgreSQL, and gives the lease back when that is proven. In recovery is not enough here:
/// a promotion that was begun may still come to its end when somebody else leads already.
pub(super) fn step_down(
    view: &View<'_>,
    record: &LeaderRecord,
    reason: Reason,
    why: &str,
) -> Decision {
    match &view.local.pg {
        PgView::Running(_) => Decision::act(Action::Stop, reason),
        PgView::Stopped => {
            let release = Command::Release {
                epoch: record.epoch,
                renewals: record.renewals,
                holder: view.me.clone(),
                wal_lsn: disk_lsn(view),
                reason: why.to_owned(),
                at: WallTime::default(),
            };
            Decision::act(Action::Propose(Box::new(release)), reason)
        }
        PgView::Unknown | PgView::Starting | PgView::Hung => Decision::act(Action::Kill, reason),
    }
}

fn serve(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg) -> Decision {
    let recorded = view.state.timelines.recorded_by(record.epoch);
    if pg.timeline != record.reserved {
        let (begun, granted) = (pg.timeline, record.reserved);
        return Decision::act(Action::Kill, Reason::RogueTimeline { begun, granted });
    }
    let Some(_) = recorded else {
        let action = Action::RecordTimeline { epoch: record.epoch, timeline: pg.timeline };
        return Decision::act(action, Reason::RecordsTimeline(pg.timeline));
    };
    let pending = view.state.switchover.as_ref();
    if let Some(pending) = pending.filter(|pending| pending.epoch == record.epoch) {
        return hand_over(view, record, pg, pending.to.clone());
    }
    if !pg.open {
        if let Some(decision) = sync::before_clients(view, record, pg) {
            // Whoever has to be rewound or copied before it can stream waits for these. They take a
            // checkpoint, so those that can stream by themselves go first.
            let waits = decision.actions.is_empty() && !view.local.primary_prepared;
            let due = view.local.pg_since + view.timings.window;
            return match waits {
                true if view.now >= due => prepare(view, record),
                true => decision.until(due),
                false => decision,
            };
        }
        let open = Decision::act(Action::Open { epoch: record.epoch }, Reason::LetsClientsIn);
        return view.unless_failed(Job::Doors, open);
    }
    if !view.local.primary_prepared {
        return prepare(view, record);
    }
    sync::walk(view, record, pg).unwrap_or_else(|| Decision::wait(Reason::Leads(record.epoch)))
}

fn prepare(view: &View<'_>, record: &LeaderRecord) -> Decision {
    let action = Action::PreparePrimary { epoch: record.epoch };
    view.unless_failed(Job::Prepare, Decision::act(action, Reason::Prepares))
}

/// A hand-over that failed is given up before anything else: it has stopped PostgreSQL, and would
/// do so again after the restart.
fn failed_hand_over(view: &View<'_>, record: &LeaderRecord) -> Option<Decision> {
    let pending = view.state.switchover.as_ref().filter(|s| s.epoch == record.epoch)?;
    if view.failures(Job::HandOver) == 0 {
        return None;
    }
    let why = view.local.failed.as_ref().map(|failed| failed.why.clone()).unwrap_or_default();
    Some(cancel(record.epoch, pending.to.clone(), why))
}

/// Gives up the pending switchover.
pub(super) fn cancel(epoch: Epoch, to: MemberName, why: String) -> Decision {
    let reason = Reason::SwitchoverImpossible { to, why: why.clone() };
    let command = Command::CancelSwitchover { epoch, reason: why, at: WallTime::default() };
    Decision::act(Action::Propose(Box::new(command)), reason)
}

fn hand_over(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg, to: MemberName) -> Decision {
    if let Some(why) = why_not_ready(view, record.epoch, pg, &to) {
        return cancel(record.epoch, to, why);
    }
    let action = Action::HandOver { epoch: record.epoch, to: to.clone() };
    Decision::act(action, Reason::HandsOver(to))
}

/// Why `to` cannot take over now; none: it can.
pub(super) fn why_not_ready(
    view: &View<'_>,
    epoch: Epoch,
    pg: &RunningPg,
    to: &MemberName,
) -> Option<String> {
    let Some(peer) = view.fresh_peer(to) else { return Some(format!("{to} is not heard")) };
    if !peer.eligible || peer.stopping || view.state.fenced.contains(to) {
        return Some(format!("{to} may not lead"));
    }
    if !peer.in_recovery || peer.streaming_epoch != epoch {
        return Some(format!("{to} does not stream from this leader"));
    }
    if view.state.barrier_pending() {
        return Some("this leader has not passed its barrier yet".into());
    }
    if let Some(sync) = view.state.sync.record() {
        let standby = Standby { member: to.clone(), data_id: peer.data_id };
        if !sync.pair.voters.contains(&standby) {
            return Some(format!("commits do not wait for {to}"));
        }
    }
    let behind = pg.received.bytes_since(peer.position.lsn);
    let allowed = view.state.settings.maximum_lag_on_failover_bytes;
    (behind > allowed).then(|| format!("{to} is {behind} bytes behind, {allowed} are allowed"))
}

/// The standby that would take over best: near enough, then by priority and name.
pub(super) fn best_candidate(
    view: &View<'_>,
    record: &LeaderRecord,
    pg: &RunningPg,
) -> Option<MemberName> {
    view.state
        .members
        .iter()
        .filter(|(name, member)| **name != view.me && !member.tags.nofailover)
        .filter(|(name, _)| why_not_ready(view, record.epoch, pg, name).is_none())
        .max_by(|a, b| {
            let priority = |member: &Member| member.tags.failover_priority;
            priority(a.1).cmp(&priority(b.1)).then(b.0.cmp(a.0))
        })
        .map(|(name, _)| name.clone())
}

/// Whether somebody else could lead while PostgreSQL is down here. Nobody streams then, so that
/// only what their disks hold counts.
fn replacement(view: &View<'_>, record: &LeaderRecord) -> bool {
    let allowed = view.state.settings.maximum_lag_on_failover_bytes;
    view.state.members.keys().filter(|name| **name != view.me).any(|name| {
        may_replace(view, record, name)
            .is_some_and(|peer| record.wal_lsn.bytes_since(peer.position.lsn) <= allowed)
    })
}

/// Whether an election would close at once without this member, and lose nothing that was acknowledged:
/// commits are waited for, and as many of those that they waited for are here as rule S7 asks for. How
/// long that takes does not depend on how much WAL is to be replayed here (docs/decisions/0009).
fn heirs(view: &View<'_>, record: &LeaderRecord) -> bool {
    let ready = |member: &MemberName| may_replace(view, record, member).is_some();
    !view.state.barrier_pending() && sync::closes_without_me(view, ready)
}

/// A member that was heard a moment ago, is on the holder's timeline, and may lead.
fn may_replace<'a>(
    view: &'a View<'_>,
    record: &LeaderRecord,
    name: &MemberName,
) -> Option<&'a PeerView> {
    let member = view.state.members.get(name)?;
    let barred = member.tags.nofailover || view.state.fenced.contains(name);
    view.fresh_peer(name).filter(|peer| {
        !barred
            && peer.eligible
            && !peer.stopping
            && peer.in_recovery
            && peer.position.timeline == record.reserved
    })
}
