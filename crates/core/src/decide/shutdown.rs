//! Stopping: hand over if a candidate is ready, stop PostgreSQL, give the lease back, end.

use super::holder::best_candidate;
use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::WallTime;
use crate::reason::Reason;
use crate::view::{PgView, Stopping, View};

/// How long the release may take before the agent ends without it.
const RELEASE_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) fn decide(view: &View<'_>) -> Decision {
    let lease = view.own_lease();
    let hand_over_until = view.node.stopping_since + view.timings.handover;
    let may_hand_over = view.node.stopping == Stopping::Orderly && view.now < hand_over_until;
    match (&view.local.pg, lease) {
        (PgView::Running(pg), Some(record)) if !pg.in_recovery && may_hand_over => {
            let pending = view.state.switchover.as_ref().filter(|s| s.epoch == record.epoch);
            match (pending.map(|pending| pending.to.clone()), best_candidate(view)) {
                (Some(to), Some(_)) => {
                    let action = Action::HandOver { epoch: record.epoch, to: to.clone() };
                    Decision::act(action, Reason::StopHandsOver(to))
                }
                (None, Some(to)) => {
                    let command = Command::RequestSwitchover {
                        epoch: record.epoch,
                        from: view.me.clone(),
                        to: to.clone(),
                        at: WallTime::default(),
                    };
                    let action = Action::Propose(Box::new(command));
                    Decision::act(action, Reason::StopHandsOver(to)).until(hand_over_until)
                }
                (_, None) => Decision::act(Action::Stop, Reason::StopPostgres),
            }
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
