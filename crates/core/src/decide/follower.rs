//! A member that does not lead: start, follow, rewind, copy.
//!
//! Invariants: data past a fork of the log's history never follows without a rewind or a copy (rule
//! S10); a directory left half-done is never started; only a recorded leader is followed.

use super::pause_after;
use crate::action::{Action, Decision};
use crate::ids::{MemberName, Position};
use crate::reason::Reason;
use crate::record::LeaderRecord;
use crate::view::{ClusterData, DataView, Job, PeerView, PgView, RunningPg, View};

/// Starts, rewinds or streams that may fail in a row before the data is copied anew.
const FAILURES_BEFORE_CLONE: u32 = 3;

pub(super) fn decide(view: &View<'_>) -> Decision {
    let leader = leader(view);
    match &view.local.data {
        DataView::Empty => clone(view, Reason::ClonesEmpty),
        DataView::HalfDone => clone(view, Reason::ClonesHalfDone),
        DataView::Cluster(data) => match &view.local.pg {
            PgView::Stopped => stopped(view, data, leader),
            PgView::Running(pg) => running(view, data, pg, leader),
            PgView::Unknown | PgView::Starting | PgView::Hung => {
                Decision::wait(Reason::NotLookedYet)
            }
        },
        DataView::Unknown | DataView::Unusable(_) => Decision::wait(Reason::NotLookedYet),
    }
}

/// Whom to follow. What was promised is never taken back, also where the log that was applied here
/// is older than the promise.
fn leader<'a>(view: &View<'a>) -> Option<&'a LeaderRecord> {
    view.state.followable().filter(|record| record.epoch >= view.local.promise)
}

/// Copies from the leader, as soon as it serves.
fn clone(view: &View<'_>, why: impl Fn(MemberName) -> Reason) -> Decision {
    let Some(record) = leader(view) else {
        return Decision::wait(Reason::AwaitsLeader(view.state.epoch()));
    };
    let source = record.holder.clone();
    // Roles and slots are there when its first checkpoint is. Clients may be out yet: those that
    // copy or rewind are let in before them.
    if !ready(view, record).is_some_and(|peer| peer.checkpointed) {
        return Decision::wait(Reason::CloneAwaits(source));
    }
    let action = Action::Clone { source: source.clone(), epoch: record.epoch };
    view.unless_failed(Job::Clone, Decision::act(action, why(source)))
}

/// The leader, if it was heard a moment ago and its server is primary.
fn ready<'v>(view: &'v View<'_>, record: &LeaderRecord) -> Option<&'v PeerView> {
    view.fresh_peer(&record.holder).filter(|peer| peer.running && !peer.in_recovery)
}

/// Where the data departs from the log's history; also if its timeline was never granted.
fn parting(view: &View<'_>, data: &ClusterData, position: Position) -> Option<Position> {
    view.state.timelines.diverges_at(position, &data.history)
}

fn stopped(view: &View<'_>, data: &ClusterData, leader: Option<&LeaderRecord>) -> Decision {
    let start = Decision::act(Action::StartIsolated, Reason::StartsStandby);
    let Some(record) = leader else {
        let waits = lets_the_receiver_go_first(view);
        return waits.unwrap_or_else(|| view.unless_failed(Job::Start, start));
    };
    if view.local.reinit {
        return clone(view, Reason::ClonesOnRequest);
    }
    let Some(end) = data.disk_end else {
        return clone(view, |from| Reason::ClonesAfterFailure {
            from,
            why: "the end of the WAL on disk cannot be read".into(),
        });
    };
    if !view.state.timelines.knows(end.timeline) {
        return clone(view, |_| Reason::ClonesRogue(end.timeline));
    }
    if let Some(fork) = parting(view, data, end) {
        return rewind(view, data, record, fork);
    }
    if view.failures(Job::Start) >= FAILURES_BEFORE_CLONE {
        return clone(view, |from| after_failure(view, from, Job::Start));
    }
    // A copy is the last resort: where that failed, what failed before it is tried after the same pause.
    view.unless_failed(Job::Clone, view.unless_failed(Job::Start, start))
}

/// A promotion is under way, and there is nobody to stream from until it ended: clients wait for
/// it, and a start beside it, on the same machine or storage, would only make it slower.
fn lets_the_receiver_go_first(view: &View<'_>) -> Option<Decision> {
    let record = view.state.held()?;
    let until = view.local.pg_since + view.timings.ttl / 2;
    if view.state.timelines.recorded_by(record.epoch).is_some() || view.now >= until {
        return None;
    }
    Some(Decision::wait(Reason::AwaitsPromotion(record.holder.clone())).until(until))
}

fn after_failure(view: &View<'_>, from: MemberName, job: Job) -> Reason {
    let why = view.local.failed.as_ref().map_or_else(String::new, |failed| failed.why.clone());
    Reason::ClonesAfterFailure { from, why: format!("{job} failed: {why}") }
}

fn rewind(view: &View<'_>, data: &ClusterData, record: &LeaderRecord, fork: Position) -> Decision {
    let possible = view.state.settings.use_pg_rewind && data.can_rewind && fork.lsn.0 > 0;
    if !possible {
        return clone(view, |from| Reason::ClonesAfterFailure {
            from,
            why: format!("it lies past {fork} and cannot be rewound"),
        });
    }
    if view.failures(Job::Rewind) > 0 {
        return clone(view, |from| after_failure(view, from, Job::Rewind));
    }
    let source = record.holder.clone();
    // Before its first checkpoint on the new timeline the source's control file names the old one,
    // and pg_rewind would see nothing to do.
    if !ready(view, record).is_some_and(|peer| peer.checkpointed) {
        return Decision::wait(Reason::RewindAwaits(source));
    }
    let action = Action::Rewind { source, epoch: record.epoch, fork };
    Decision::act(action, Reason::Rewinds(fork))
}

fn running(
    view: &View<'_>,
    data: &ClusterData,
    pg: &RunningPg,
    leader: Option<&LeaderRecord>,
) -> Decision {
    let Some(record) = leader else {
        return Decision::wait(Reason::AwaitsLeader(view.state.epoch()));
    };
    if view.local.reinit {
        return clone(view, Reason::ClonesOnRequest);
    }
    let leader = record.holder.clone();
    if pg.following == Some((leader.clone(), record.epoch)) {
        return following(view, data, pg, record);
    }
    let end = data.disk_end.unwrap_or(Position { timeline: pg.timeline, lsn: pg.received });
    let rogue = !view.state.timelines.knows(end.timeline);
    if rogue || parting(view, data, end).is_some() {
        let fork = parting(view, data, end).unwrap_or_default();
        return Decision::act(Action::Stop, Reason::Diverged(fork));
    }
    let follow = Action::Follow { leader: leader.clone(), epoch: record.epoch };
    view.unless_failed(Job::Follow, Decision::act(follow, Reason::Follows(leader)))
}

fn following(
    view: &View<'_>,
    data: &ClusterData,
    pg: &RunningPg,
    record: &LeaderRecord,
) -> Decision {
    let leader = record.holder.clone();
    if pg.streaming {
        if !pg.open {
            let open = Action::Open { epoch: record.epoch };
            return view.unless_failed(Job::Doors, Decision::act(open, Reason::Streams(leader)));
        }
        return Decision::wait(Reason::Streams(leader));
    }
    // The disk may hold more than was replayed yet.
    let end = data.disk_end.map_or(pg.received, |end| end.lsn.max(pg.received));
    let source = ready(view, record);
    if source.and_then(|peer| peer.oldest_wal).is_some_and(|oldest| oldest > end) {
        return clone(view, |from| Reason::ClonesAfterFailure {
            why: format!("needs WAL from {end} that {from} no longer has"),
            from,
        });
    }
    // A leader that serves and yet sends nothing for long does not have what is needed here.
    let patience = view.local.pg_since + (view.timings.ttl * 3).max(pause_after(7));
    if view.now >= patience && source.is_some() {
        return clone(view, |from| Reason::ClonesAfterFailure {
            from,
            why: "the leader serves, yet no WAL came".into(),
        });
    }
    Decision::wait(Reason::AwaitsStream(leader)).until(patience.max(view.now + view.timings.window))
}
