//! What must hold in every replicated state, whatever commands led to it.
//!
//! Place: checked by the golden runner and by property tests after each command.

use howdah_core::{ClusterState, LeaseState, Timeline};

/// The sentences that do not hold; empty when all do.
pub fn violations(before: &ClusterState, after: &ClusterState) -> Vec<String> {
    let mut found = Vec::new();
    if after.epoch() < before.epoch() {
        found.push(format!("the epoch fell from {} to {}", before.epoch(), after.epoch()));
    }
    if let (Some(old), Some(new)) = (&before.leader, &after.leader)
        && old.epoch == new.epoch
    {
        if (&old.holder, old.incarnation) != (&new.holder, new.incarnation) {
            found.push(format!("epoch {} changed its holder", old.epoch));
        }
        if new.renewals < old.renewals {
            found.push("renewals fell".into());
        }
        if old.state != LeaseState::Held && new.state == LeaseState::Held {
            found.push("a lease that ended came back".into());
        }
    }
    for (number, record) in &before.timelines.recorded {
        if after.timelines.recorded.get(number) != Some(record) {
            found.push(format!("timeline {number} changed after it was recorded"));
        }
    }
    for (number, record) in &after.timelines.recorded {
        if record.parent.is_some_and(|parent| parent.timeline >= *number) {
            found.push(format!("timeline {number} descends from a later one"));
        }
    }
    if let Some(leader) = &after.leader
        && leader.reserved == Timeline(0)
    {
        found.push("a grant without a timeline".into());
    }
    let revoked = after.leader.as_ref().is_some_and(|l| l.state == LeaseState::Revoked);
    if revoked != after.election.is_some() {
        found.push("an election is open exactly while the lease is revoked".into());
    }
    found
}
