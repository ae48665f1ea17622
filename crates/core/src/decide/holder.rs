//! The holder of the lease: promote, restart in place, record, admit clients, hand over.
//!
//! Invariant: nothing here makes PostgreSQL writable before this process's own renewal set a
//! deadline and the guard is armed with it (rule S5).

use std::time::Duration;

use super::authority::{disk_lsn, promised};
use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::{Epoch, WallTime};
use crate::reason::Reason;
use crate::record::LeaderRecord;
use crate::view::{DataView, Job, PgView, RunningPg, View};

/// In-place starts that may fail before the lease is given back, if somebody else could lead.
const RESTARTS_WITH_CANDIDATE: u32 = 2;

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
    if view.failures(Job::Promote) > 0 {
        let why = "promotion failed";
        return step_down(view, record, gives_up(record.epoch, why), why);
    }
    if pg.has_upstream || view.local.promise_proven != Some(record.epoch) {
        let reason = Reason::LeaderPromises(record.epoch);
        let promise = Decision::act(Action::Promise { epoch: record.epoch }, reason);
        return view.unless_failed(Job::Promise, promise);
    }
    let promote = Action::Promote { epoch: record.epoch, timeline: record.reserved };
    Decision::act(promote, Reason::Promotes(record.epoch))
}

/// The lease is held and PostgreSQL is down. If it served under this epoch: restart it in place,
/// which loses nothing. If it fell while being promoted: give the lease back, and let an election
/// look at what its disk says.
fn restart(view: &View<'_>, record: &LeaderRecord) -> Decision {
    let DataView::Cluster(data) = &view.local.data else {
        let why = "there is no data to lead with";
        return step_down(view, record, gives_up(record.epoch, why), why);
    };
    if view.state.timelines.recorded_by(record.epoch).is_none() {
        let began = data.disk_end.is_some_and(|end| end.timeline == record.reserved);
        if began || view.failures(Job::Promote) > 0 {
            let why = "PostgreSQL fell while it was promoted";
            return step_down(view, record, gives_up(record.epoch, why), why);
        }
        let start = Decision::act(Action::StartIsolated, Reason::StartsStandby);
        return view.unless_failed(Job::Start, start);
    }
    let limit = Duration::from_millis(view.state.settings.primary_start_timeout_ms);
    let failures = view.failures(Job::StartInPlace);
    let late = view.now.since(view.local.pg_since) >= limit && failures > 0;
    let replaceable = failures >= RESTARTS_WITH_CANDIDATE && best_candidate(view).is_some();
    if late || replaceable {
        let why = "PostgreSQL could not be restarted";
        return step_down(view, record, gives_up(record.epoch, why), why);
    }
    let start = Action::StartInPlace { epoch: record.epoch };
    let start = Decision::act(start, Reason::RestartsInPlace(record.epoch));
    view.unless_failed(Job::StartInPlace, start)
}

fn gives_up(epoch: Epoch, why: &str) -> Reason {
    Reason::GivesUp { epoch, why: why.to_owned() }
}

/// Stops PostgreSQL, and gives the lease back when that is proven.
pub(super) fn step_down(
    view: &View<'_>,
    record: &LeaderRecord,
    reason: Reason,
    why: &str,
) -> Decision {
    match &view.local.pg {
        PgView::Running(pg) if !pg.in_recovery => Decision::act(Action::Stop, reason),
        PgView::Running(_) | PgView::Stopped => {
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
        let open = Decision::act(Action::Open { epoch: record.epoch }, Reason::LetsClientsIn);
        return view.unless_failed(Job::Doors, open);
    }
    if !view.local.primary_prepared {
        let action = Action::PreparePrimary { epoch: record.epoch };
        return view.unless_failed(Job::Prepare, Decision::act(action, Reason::Prepares));
    }
    Decision::wait(Reason::Leads(record.epoch))
}

fn hand_over(
    view: &View<'_>,
    record: &LeaderRecord,
    pg: &RunningPg,
    to: crate::ids::MemberName,
) -> Decision {
    if let Some(why) = why_not_ready(view, record.epoch, pg, &to) {
        let reason = Reason::SwitchoverImpossible { to, why: why.clone() };
        let at = WallTime::default();
        let command = Command::CancelSwitchover { epoch: record.epoch, reason: why, at };
        return Decision::act(Action::Propose(Box::new(command)), reason);
    }
    let action = Action::HandOver { epoch: record.epoch, to: to.clone() };
    Decision::act(action, Reason::HandsOver(to))
}

/// Why `to` cannot take over now; none: it can.
fn why_not_ready(
    view: &View<'_>,
    epoch: Epoch,
    pg: &RunningPg,
    to: &crate::ids::MemberName,
) -> Option<String> {
    if view.failures(Job::HandOver) > 0 {
        return view.local.failed.as_ref().map(|failed| failed.why.clone());
    }
    let Some(peer) = view.fresh_peer(to) else { return Some(format!("{to} is not heard")) };
    if !peer.eligible || peer.stopping {
        return Some(format!("{to} may not lead"));
    }
    if !peer.in_recovery || peer.streaming_epoch != epoch {
        return Some(format!("{to} does not stream from this leader"));
    }
    let behind = pg.received.bytes_since(peer.position.lsn);
    let allowed = view.state.settings.maximum_lag_on_failover_bytes;
    (behind > allowed).then(|| format!("{to} is {behind} bytes behind, {allowed} are allowed"))
}

/// The standby that would take over best: the farthest, then by priority and name.
pub(super) fn best_candidate(view: &View<'_>) -> Option<crate::ids::MemberName> {
    let epoch = view.state.epoch();
    view.state
        .members
        .iter()
        .filter(|(name, member)| **name != view.me && !member.tags.nofailover)
        .filter_map(|(name, member)| {
            let peer = view.fresh_peer(name)?;
            let ready = peer.eligible
                && !peer.stopping
                && peer.in_recovery
                && peer.streaming_epoch == epoch;
            ready.then_some((member.tags.failover_priority, name))
        })
        .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(a.1)))
        .map(|(_, name)| name.clone())
}
