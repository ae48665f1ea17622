//! Who may lead, and who wins: the arithmetic of elections.
//!
//! Place: used by `apply` when an election closes, and by `decide` to foresee that. Pure.
//! Invariants: the winner is eligible and reaches the bar; nobody eligible reaches farther.
//! Source: docs/protocol.md, "The election", asynchronous mode.

use crate::ids::{Lsn, MemberName};
use crate::lineage::Reach;
use crate::record::{Ballot, Election, Verdict};
use crate::state::ClusterState;

/// What an election would give if it were closed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// One for each ballot, by name.
    pub verdicts: Vec<Verdict>,
    /// What the winner must reach.
    pub bar: Option<Reach>,
    /// Who wins; none: nobody is eligible.
    pub winner: Option<MemberName>,
}

/// One ballot by the log's map: how far it reaches and whether its member may lead. With `lag`
/// (the last renewal's position and the bytes allowed), one that is further behind may not.
pub fn judge(
    state: &ClusterState,
    member: &MemberName,
    ballot: &Ballot,
    lag: Option<(Lsn, u64)>,
) -> Verdict {
    let reach = state.timelines.reach(ballot.position, &ballot.history);
    Verdict {
        member: member.clone(),
        position: ballot.position,
        reach,
        ineligible: why_ineligible(state, member, ballot, reach, lag),
        priority: ballot.priority,
        chosen: false,
    }
}

fn why_ineligible(
    state: &ClusterState,
    member: &MemberName,
    ballot: &Ballot,
    reach: Option<Reach>,
    lag: Option<(Lsn, u64)>,
) -> Option<String> {
    let tags = state.members.get(member).map(|known| &known.tags);
    if let Some(why) = &ballot.barred {
        return Some(why.clone());
    }
    match tags {
        None => return Some("it is not a member".into()),
        Some(tags) if tags.nofailover => return Some("its tag nofailover is set".into()),
        Some(_) if state.fenced.contains(member) => return Some("an operator fenced it".into()),
        Some(_) => {}
    }
    if ballot.bar_only {
        return Some("its PostgreSQL fell or could not be started under its last lease".into());
    }
    let Some(reach) = reach else {
        return Some("its data shares no timeline with the cluster".into());
    };
    if !state.timelines.knows(ballot.position.timeline) {
        return Some(format!("timeline {} was never granted", ballot.position.timeline));
    }
    if let Some(fork) = state.timelines.diverges_at(ballot.position, &ballot.history) {
        return Some(format!("its data lies past the fork at {fork}"));
    }
    if let Some((last, allowed)) = lag {
        let behind = last.bytes_since(reach.lsn);
        if behind > allowed {
            return Some(format!("it is {behind} bytes behind, {allowed} are allowed"));
        }
    }
    None
}

/// Counts the ballots of an open election. Only eligible ballots set the bar: in asynchronous mode
/// a member that may not lead holds nothing that was promised to anybody.
pub fn count(state: &ClusterState, election: &Election) -> Count {
    let allowed = state.settings.maximum_lag_on_failover_bytes;
    let lag = (!election.allow_data_loss).then_some((election.wal_lsn, allowed));
    let mut verdicts: Vec<Verdict> =
        election.ballots.iter().map(|(member, ballot)| judge(state, member, ballot, lag)).collect();
    if verdicts.iter().all(|verdict| verdict.ineligible.is_some()) {
        lapse_bar_only(state, election, lag, &mut verdicts);
    }
    let eligible = || verdicts.iter().filter(|verdict| verdict.ineligible.is_none());
    let bar = eligible().filter_map(|verdict| verdict.reach).max();
    let winner = eligible()
        .filter(|verdict| verdict.reach == bar)
        .max_by(|a, b| {
            let preferred =
                |verdict: &Verdict| election.preferred.as_ref() == Some(&verdict.member);
            preferred(a)
                .cmp(&preferred(b))
                .then(a.priority.cmp(&b.priority))
                .then(b.member.cmp(&a.member))
        })
        .map(|verdict| verdict.member.clone());
    for verdict in &mut verdicts {
        verdict.chosen = winner.as_ref() == Some(&verdict.member);
    }
    Count { verdicts, bar, winner }
}

/// A member whose PostgreSQL fell under its last lease is passed over only while there is another:
/// a lone member goes on trying.
fn lapse_bar_only(
    state: &ClusterState,
    election: &Election,
    lag: Option<(Lsn, u64)>,
    verdicts: &mut [Verdict],
) {
    for verdict in verdicts {
        if let Some(ballot) = election.ballots.get(&verdict.member)
            && ballot.bar_only
        {
            let without = Ballot { bar_only: false, ..ballot.clone() };
            *verdict = judge(state, &verdict.member, &without, lag);
        }
    }
}
