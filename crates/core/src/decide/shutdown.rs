//! Stopping: hand over if a candidate is ready, stop PostgreSQL, give the lease back, end.

use super::holder::{best_candidate, cancel, why_not_ready};
use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::{MemberName, WallTime};
use crate::reason::Reason;
use crate::record::LeaderRecord;
use crate::view::{Job, PgView, RunningPg, Stopping, View};

/// How long the release may take before the agent ends without it.
const RELEASE_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) fn decide(view: &View<'_>) -> Decision {
    let lease = view.own_lease();
    let hand_over_until = view.node.stopping_since + view.timings.handover;
    let may_hand_over = view.node.stopping == Stopping::Orderly && view.now < hand_over_until;
    match (&view.local.pg, lease) {
        (PgView::Running(pg), Some(record)) if !pg.in_recovery && may_hand_over => {
            hand_over(view, record, pg).until(hand_over_until)
        }
        (PgView::Running(_) | PgView::Starting, _) => {
            Decision::act(Action::Stop, Reason::StopPostgres)
        }
        (PgView::Hung | PgView::Unknown, _) => Decision::act(Action::Kill, Reason::StopPostgres),
        (PgView::Stopped, Some(record)) => {
            let limit = view.local.pg_since.max(view.node.stopping_since) + RELEASE_LIMIT;
            if view.now >= limit {
                return Decision::act(Action::End, Reason::Stopped);
            }
            let release = Command::Release {
                epoch: record.epoch,
                renewals: record.renewals,
                holder: view.me.clone(),
                wal_lsn: super::authority::disk_lsn(view),
                reason: "its agent was told to stop".into(),
                at: WallTime::default(),
            };
            let reason = Reason::StopReleases(record.epoch);
            Decision::act(Action::Propose(Box::new(release)), reason).until(limit)
        }
        (PgView::Stopped, None) => Decision::act(Action::End, Reason::Stopped),
    }
}

/// Hands over to whom an operator chose or who is best; a hand-over that failed is not tried again.
fn hand_over(view: &View<'_>, record: &LeaderRecord, pg: &RunningPg) -> Decision {
    let failed = view.local.failed.as_ref().filter(|failed| failed.job == Job::HandOver);
    let pending = view.state.switchover.as_ref().filter(|s| s.epoch == record.epoch);
    if let Some(to) = pending.map(|pending| pending.to.clone()) {
        let why = failed.map(|failed| failed.why.clone());
        if let Some(why) = why.or_else(|| why_not_ready(view, record.epoch, pg, &to)) {
            return cancel(record.epoch, to, why);
        }
        let action = Action::HandOver { epoch: record.epoch, to: to.clone() };
        return Decision::act(action, Reason::StopHandsOver(to));
    }
    let best = best_candidate(view, record, pg).filter(|_| failed.is_none());
    let Some(to) = best else {
        return Decision::act(Action::Stop, Reason::StopPostgres);
    };
    let reason = Reason::StopHandsOver(to.clone());
    hand_over_to(view, record, to, reason)
}

/// Asks for the hand-over, or carries out the one that was asked for.
pub(super) fn hand_over_to(
    view: &View<'_>,
    record: &LeaderRecord,
    to: MemberName,
    reason: Reason,
) -> Decision {
    let pending = view.state.switchover.as_ref().filter(|s| s.epoch == record.epoch);
    if pending.is_some_and(|pending| pending.to == to) {
        let action = Action::HandOver { epoch: record.epoch, to };
        return Decision::act(action, reason);
    }
    let command = Command::RequestSwitchover {
        epoch: record.epoch,
        from: view.me.clone(),
        to,
        at: WallTime::default(),
    };
    Decision::act(Action::Propose(Box::new(command)), reason)
}
