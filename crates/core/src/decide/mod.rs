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

use std::time::Duration;

use crate::action::Decision;
use crate::ids::{BootInstant, MemberName};
use crate::reason::Reason;
use crate::record::LeaderRecord;
use crate::view::{DataView, Failure, Job, PeerView, PgView, Stopping, View};

/// What to do now, and why.
pub fn decide(view: &View<'_>) -> Decision {
    let mut decision = situation(view);
    // Beside everything else: a job that takes minutes must not cost the lease.
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
    if let Some(record) = view.own_lease() {
        return holder::decide(view, record);
    }
    if let Some(open) = &view.state.election {
        return election::decide(view, open);
    }
    if let Some(decision) = authority::take_back(view) {
        return decision;
    }
    match election::lapse(view) {
        election::Lapse::Now(decision) => decision,
        election::Lapse::At(instant) => follower::decide(view).until(instant),
        election::Lapse::Never => follower::decide(view),
    }
}

/// A data directory that is not ours to touch.
fn refusal(view: &View<'_>) -> Option<Decision> {
    match (&view.local.data, view.state.system_identifier()) {
        (DataView::Unusable(why), _) => Some(Decision::wait(Reason::Unusable(why.clone()))),
        (DataView::Cluster(data), Some(wanted)) if data.system_identifier != wanted => {
            let found = data.system_identifier;
            Some(Decision::wait(Reason::ForeignSystem { found, wanted }))
        }
        _ => None,
    }
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

/// 0.2 s, doubled with each failure, 10 s at most.
fn pause_after(failures: u32) -> Duration {
    Duration::from_millis(200 << failures.saturating_sub(1).min(10)).min(Duration::from_secs(10))
}
