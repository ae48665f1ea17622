//! `decide`: what this member does now, and why.
//!
//! Place: called by the agent's loop after every event; by the simulator; by golden scripts. Pure
//! and total. The order of the rules below is the order of their weight: authority that is missing
//! ends everything else, then what is being done is finished, then the cluster's needs, then own.
//! Invariants: no decision makes PostgreSQL writable without a lease that this process renewed; at
//! most one job at a time, but for `Kill`, which may cut any job short.

mod authority;
mod bootstrap;
mod election;
mod follower;
mod holder;
mod shutdown;
mod sync;
mod upkeep;

use std::time::Duration;

use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::{BootInstant, MemberName};
use crate::reason::Reason;
use crate::record::LeaderRecord;
use crate::view::{DataView, Failure, Job, PeerView, PgView, Stopping, View};

/// What to do now, and why.
pub fn decide(view: &View<'_>) -> Decision {
    let mut decision = situation(view);
    // Beside everything else: a job that takes minutes must not cost the lease. But a release is a
    // compare-and-set on the renewals, and whoever gives back, or ends, does not renew.
    let gives_back = decision.actions.iter().any(|action| match action {
        Action::Propose(command) => matches!(**command, Command::Release { .. }),
        other => *other == Action::End,
    });
    if gives_back {
        return decision;
    }
    let renewal = authority::renewal(view);
    if let Some(action) = renewal.action {
        decision.actions.insert(0, action);
    }
    match renewal.wake_at {
        Some(instant) => decision.until(instant),
        None => decision,
    }
}

fn situation(view: &View<'_>) -> Decision {
    if let Some(decision) = authority::fence(view) {
        return decision;
    }
    if let Some(job) = view.local.job {
        return Decision::wait(Reason::Busy(job));
    }
    if view.local.pg == PgView::Unknown || view.local.data == DataView::Unknown {
        return Decision::wait(Reason::NotLookedYet);
    }
    if let Some(decision) = refusal(view) {
        return decision;
    }
    if view.node.stopping != Stopping::No {
        return shutdown::decide(view);
    }
    if view.state.system_identifier().is_none() {
        return bootstrap::decide(view);
    }
    if let Some(decision) = authority::former_life(view) {
        return decision;
    }
    if let Some(decision) = upkeep::fenced(view) {
        return decision;
    }
    if let Some(record) = view.own_lease() {
        if record.paused && !record.evicted {
            return upkeep::paused_holder(view, record);
        }
        return upkeep::restart(view).unwrap_or_else(|| holder::decide(view, record));
    }
    if let Some(open) = &view.state.election {
        return election::decide(view, open);
    }
    if let Some(decision) = authority::take_back(view) {
        return decision;
    }
    match election::lapse(view) {
        election::Lapse::Now(decision) => decision,
        election::Lapse::At(instant) => led(view).until(instant),
        election::Lapse::Never => led(view),
    }
}

/// What a member does that others lead.
fn led(view: &View<'_>) -> Decision {
    let decision = upkeep::restart(view).unwrap_or_else(|| follower::decide(view));
    upkeep::held_back(view, decision)
}

/// A data directory that is not ours to touch. A lease that is held over it is given back: nobody
/// else could lead as long as it is renewed.
fn refusal(view: &View<'_>) -> Option<Decision> {
    let reason = match (&view.local.data, view.state.system_identifier()) {
        (DataView::Unusable(why), _) => Reason::Unusable(why.clone()),
        (DataView::Cluster(data), Some(wanted)) if data.system_identifier != wanted => {
            Reason::ForeignSystem { found: data.system_identifier, wanted }
        }
        _ => return None,
    };
    if view.node.stopping != Stopping::No {
        return None;
    }
    Some(match view.own_lease() {
        Some(record) => {
            let why = reason.to_string();
            holder::step_down(
                view,
                record,
                Reason::GivesUp { epoch: record.epoch, why: why.clone() },
                &why,
            )
        }
        None => Decision::wait(reason),
    })
}

impl<'a> View<'a> {
    /// The record, if its lease is held by this very life of this member.
    fn own_lease(&self) -> Option<&'a LeaderRecord> {
        self.state.held().filter(|record| {
            record.holder == self.me && record.incarnation == self.node.incarnation
        })
    }

    /// Whether PostgreSQL may be made, or stay, read-write under `record` now.
    fn authorised(&self, record: &LeaderRecord) -> bool {
        let inside = self.lease.deadline.is_some_and(|deadline| self.now < deadline);
        inside && self.lease.armed == Some(record.epoch) && self.lease.own_renewal
    }

    /// A peer that was heard within the last 2/5 ttl.
    fn fresh_peer(&self, name: &MemberName) -> Option<&PeerView> {
        self.peers.get(name).filter(|peer| peer.age <= self.timings.ttl * 2 / 5)
    }

    /// The last failure of `job`, if its pause is not over; and when it is.
    fn backing_off(&self, job: Job) -> Option<(&Failure, BootInstant)> {
        let failed = self.local.failed.as_ref().filter(|failed| failed.job == job)?;
        let again = failed.at + pause_after(failed.count);
        (self.now < again).then_some((failed, again))
    }

    /// How often in a row `job` failed.
    fn failures(&self, job: Job) -> u32 {
        self.local.failed.as_ref().filter(|failed| failed.job == job).map_or(0, |f| f.count)
    }

    /// `decision`, unless `job` failed a moment ago.
    fn unless_failed(&self, job: Job, decision: Decision) -> Decision {
        match self.backing_off(job) {
            Some((failed, again)) => {
                Decision::wait(Reason::BackOff { job, why: failed.why.clone() }).until(again)
            }
            None => decision,
        }
    }
}

/// The least time that has passed since the first of so many failures in a row.
fn time_of(failures: u32) -> Duration {
    (1..failures).map(pause_after).sum()
}

/// 0.2 s, doubled with each failure, 10 s at most.
fn pause_after(failures: u32) -> Duration {
    Duration::from_millis(200 << failures.saturating_sub(1).min(10)).min(Duration::from_secs(10))
}
