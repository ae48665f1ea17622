//! Maintenance: pause, fence, restart on request.
//!
//! Invariants: in pause nothing is started, stopped, promoted or copied but what an operator asked
//! for; for that the holder leaves the pause by a renewal first, so that the ordinary rules, with
//! their deadlines, do the work. A fenced member stands in no election and starts nothing.

use super::holder::{best_candidate, why_not_ready};
use super::{shutdown, sync};
use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::WallTime;
use crate::reason::Reason;
use crate::record::LeaderRecord;
use crate::view::{DataView, Job, PgView, View};

/// Whether the holder's next renewal may put, or leave, the cluster in maintenance mode: it serves,
/// and nobody waits for anything that takes a deadline. What is stopped in pause stays stopped.
pub(super) fn pauses(view: &View<'_>, record: &LeaderRecord) -> bool {
    let state = view.state;
    let asked = view.local.restart || state.switchover.is_some() || state.failover.is_some();
    if !state.pause_wanted || asked || state.fenced.contains(&view.me) || record.evicted {
        return false;
    }
    match &view.local.pg {
        PgView::Running(pg) => {
            let begun = state.timelines.recorded_by(record.epoch).is_some();
            !pg.in_recovery && pg.open && begun
        }
        PgView::Stopped | PgView::Unknown | PgView::Starting | PgView::Hung => record.paused,
    }
}

/// The holder in maintenance mode.
pub(super) fn paused_holder(view: &View<'_>, record: &LeaderRecord) -> Decision {
    if !pauses(view, record) {
        return Decision::wait(Reason::LeavesPause);
    }
    // Whom commits wait for is no matter of who leads: a standby that goes must not stop writes.
    let walks = match &view.local.pg {
        PgView::Running(pg) if !pg.in_recovery && pg.open => sync::walk(view, record, pg),
        _ => None,
    };
    let acts = walks.filter(|decision| !decision.actions.is_empty());
    acts.unwrap_or_else(|| Decision::wait(Reason::Paused))
}

/// What a member that does not lead would do, but for what it must not do by itself in pause.
pub(super) fn held_back(view: &View<'_>, decision: Decision) -> Decision {
    if !view.state.paused() || view.local.reinit || view.local.restart {
        return decision;
    }
    let intrudes = decision.actions.iter().any(|action| {
        matches!(
            action,
            Action::Kill
                | Action::Stop
                | Action::StopToRestart
                | Action::StartIsolated
                | Action::StartInPlace { .. }
                | Action::Initdb { .. }
                | Action::Promote { .. }
                | Action::Rewind { .. }
                | Action::Clone { .. }
                | Action::HandOver { .. }
                | Action::End
        )
    });
    if intrudes { Decision::wait(Reason::Paused) } else { decision }
}

/// A restart that was asked for: stop first; the ordinary rules start what is stopped.
pub(super) fn restart(view: &View<'_>) -> Option<Decision> {
    let running = matches!(view.local.pg, PgView::Running(_));
    (view.local.restart && running)
        .then(|| Decision::act(Action::StopToRestart, Reason::RestartsOnRequest))
}

/// A fenced member: hands over if it leads, stops, gives the lease back, and stays stopped. Its
/// ballot still counts for the bar of an election; it cannot win.
pub(super) fn fenced(view: &View<'_>) -> Option<Decision> {
    if !view.state.fenced.contains(&view.me) {
        return None;
    }
    let decision = match (&view.local.pg, view.own_lease()) {
        // The hand-over takes a deadline; the next renewal brings it.
        (PgView::Running(_), Some(record)) if record.paused => Decision::wait(Reason::LeavesPause),
        (PgView::Running(pg), Some(record)) if !pg.in_recovery && view.authorised(record) => {
            let failed = view.failures(Job::HandOver) > 0;
            let pending = view.state.switchover.as_ref().map(|pending| pending.to.clone());
            let to = pending
                .filter(|to| why_not_ready(view, record.epoch, pg, to).is_none())
                .or_else(|| best_candidate(view, record, pg));
            match to.filter(|_| !failed) {
                Some(to) => shutdown::hand_over_to(view, record, to, Reason::Fenced),
                None => Decision::act(Action::Stop, Reason::Fenced),
            }
        }
        (PgView::Running(_) | PgView::Starting, _) => Decision::act(Action::Stop, Reason::Fenced),
        (PgView::Hung, _) => Decision::act(Action::Kill, Reason::Fenced),
        (PgView::Unknown, _) => Decision::wait(Reason::NotLookedYet),
        (PgView::Stopped, Some(record)) => {
            let release = Command::Release {
                epoch: record.epoch,
                renewals: record.renewals,
                holder: view.me.clone(),
                wal_lsn: super::authority::disk_lsn(view),
                reason: "an operator fenced it".into(),
                at: WallTime::default(),
            };
            Decision::act(Action::Propose(Box::new(release)), Reason::Fenced)
        }
        (PgView::Stopped, None) => stands_aside(view),
    };
    Some(decision)
}

fn stands_aside(view: &View<'_>) -> Decision {
    let waits = Decision::wait(Reason::Fenced);
    let Some(open) = &view.state.election else { return waits };
    let has_data = matches!(view.local.data, DataView::Cluster(_));
    let voted = open.ballots.get(&view.me).is_some_and(|ballot| {
        ballot.incarnation == view.node.incarnation && ballot.data_id == view.local.data_id
    });
    if !has_data || voted {
        return waits;
    }
    let barred = Some("an operator fenced it".to_owned());
    Decision::act(Action::Vote { epoch: open.epoch, barred, bar_only: false }, Reason::Fenced)
}
