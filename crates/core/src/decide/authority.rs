//! Who may write: renewing, fencing, and what an earlier life or a failed hand-over left behind.

use super::upkeep;
use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::{BootInstant, Lsn, WallTime};
use crate::reason::Reason;
use crate::record::{LeaderRecord, LeaseState};
use crate::view::{DataView, PgView, Stopping, View};

/// Whether to renew now, or when.
pub(super) struct Renewal {
    pub action: Option<Action>,
    pub wake_at: Option<BootInstant>,
}

/// The holder renews every ttl/5, and at once after a grant or after its own start; but not before
/// it promised to its own epoch (rule 4.6), and not after an operator ended the epoch.
pub(super) fn renewal(view: &View<'_>) -> Renewal {
    let never = Renewal { action: None, wake_at: None };
    let Some(record) = view.own_lease() else { return never };
    // A guard whose deadline passed never comes back: to renew for it would only keep others out.
    if record.evicted || view.lease.renewing || expired(view) {
        return never;
    }
    if record.renewals == 0 && !promised(view) {
        return never;
    }
    // A server that fell and cannot be started is no evidence; `holder` gives the lease back.
    let due = match view.lease.renewal_sent {
        Some(sent) if view.lease.own_renewal && committed(view, record, sent) => {
            sent + view.timings.renew_every
        }
        // Not answered, or not committed: try again soon, with a fresh nonce.
        Some(sent) => sent + view.timings.rpc_timeout,
        None => view.now,
    };
    if due > view.now {
        return Renewal { action: None, wake_at: Some(due) };
    }
    let paused = upkeep::pauses(view, record);
    Renewal { action: Some(Action::Renew { epoch: record.epoch, paused }), wake_at: None }
}

/// Whether this member's own deadline has passed.
fn expired(view: &View<'_>) -> bool {
    view.lease.deadline.is_some_and(|deadline| view.now >= deadline)
}

/// Whether the renewal sent at `sent` moved the deadline; half a time-out is left to rounding.
fn committed(view: &View<'_>, record: &LeaderRecord, sent: BootInstant) -> bool {
    if record.paused {
        // There is no deadline that could move. What must change the pause is not put off.
        let settled = upkeep::pauses(view, record) == record.paused;
        return settled && view.lease.renewed.is_some_and(|renewed| renewed >= sent);
    }
    let slack = view.timings.rpc_timeout / 2;
    view.lease.deadline.is_some_and(|deadline| deadline + slack >= sent + view.timings.holder)
}

/// Whether this member's promise covers the record's epoch, and was proven by this process. A
/// server that is primary under that epoch, or stopped, accepts no WAL from anybody.
pub(super) fn promised(view: &View<'_>) -> bool {
    let epoch = view.state.epoch();
    let receives = match &view.local.pg {
        PgView::Running(pg) => pg.in_recovery && view.local.promise_proven != Some(epoch),
        PgView::Stopped => false,
        PgView::Unknown | PgView::Starting | PgView::Hung => true,
    };
    view.local.promise >= epoch && !receives
}

/// PostgreSQL that is read-write without a right to be, or that does not answer, is killed whatever
/// else is under way.
pub(super) fn fence(view: &View<'_>) -> Option<Decision> {
    let own = view.own_lease().map(|record| record.epoch);
    // The guard kills at the deadline by itself; this is the second pair of eyes.
    let rightful = own.is_some() && !expired(view);
    match &view.local.pg {
        PgView::Running(pg) if !pg.in_recovery && (!rightful || pg.authority != own) => {
            Some(Decision::act(Action::Kill, Reason::FenceNoLease))
        }
        PgView::Hung if left_alone(view) => Some(Decision::wait(Reason::Paused)),
        PgView::Hung => Some(Decision::act(Action::Kill, Reason::FenceHung)),
        PgView::Starting if view.local.job.is_none() && view.node.stopping == Stopping::No => {
            // Its start was lost with an earlier agent: what it will be is not known. Wait for it,
            // as long as the limit for starts says.
            let limit =
                std::time::Duration::from_millis(view.state.settings.primary_start_timeout_ms);
            let end = view.local.pg_since + limit;
            Some(if view.now >= end {
                Decision::act(Action::Kill, Reason::FenceHung)
            } else {
                Decision::wait(Reason::NotLookedYet).until(end)
            })
        }
        PgView::Running(_) | PgView::Starting | PgView::Stopped | PgView::Unknown => None,
    }
}

/// Maintenance mode, and nobody asked this member to give its lease back.
fn left_alone(view: &View<'_>) -> bool {
    view.state.paused() && !view.own_lease().is_some_and(|record| record.evicted)
}

/// The record names this member under another life of its guard: that guard ended, and with it its
/// PostgreSQL. What runs now is in recovery, or `fence` would have spoken.
pub(super) fn former_life(view: &View<'_>) -> Option<Decision> {
    let record = view.state.held()?;
    if record.holder != view.me || record.incarnation == view.node.incarnation {
        return None;
    }
    let release = Command::Release {
        epoch: record.epoch,
        renewals: record.renewals,
        holder: view.me.clone(),
        wal_lsn: disk_lsn(view),
        reason: "its guard ended, and PostgreSQL with it".into(),
        at: WallTime::default(),
    };
    let reason = Reason::FormerLifeReleases(record.epoch);
    Some(Decision::act(Action::Propose(Box::new(release)), reason))
}

/// After a hand-over whose receiver does not begin, the giver takes the lease back.
pub(super) fn take_back(view: &View<'_>) -> Option<Decision> {
    let record = view.state.leader.as_ref().filter(|record| record.state == LeaseState::Held)?;
    let transfer = view.state.transfer.as_ref()?;
    let mine = transfer.from == view.me && transfer.incarnation == view.node.incarnation;
    if !mine || transfer.epoch != record.epoch || record.renewals != 0 {
        return None;
    }
    let reason = Reason::TakesBack(record.holder.clone());
    let due = view.lease.record_seen + view.timings.ttl / 4;
    if view.now < due {
        return Some(Decision::wait(Reason::AwaitsLeader(record.epoch)).until(due));
    }
    let command = Command::TakeBack {
        epoch: record.epoch,
        by: view.me.clone(),
        incarnation: view.node.incarnation,
        at: WallTime::default(),
    };
    Some(Decision::act(Action::Propose(Box::new(command)), reason))
}

/// End of the WAL on this member's disk, where known.
pub(super) fn disk_lsn(view: &View<'_>) -> Option<Lsn> {
    match &view.local.data {
        DataView::Cluster(data) => data.shutdown_end.or(data.disk_end.map(|end| end.lsn)),
        DataView::Unknown | DataView::Empty | DataView::HalfDone | DataView::Unusable(_) => None,
    }
}
