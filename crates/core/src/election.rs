//! Who may lead, and who wins: the arithmetic of elections.
//!
//! Place: used by `apply` when an election closes, and by `decide` to foresee that. Pure.
//! Invariants: the winner is eligible and reaches the bar; nobody eligible reaches farther.
//! Source: docs/protocol.md, "The election", and rule S7.

use crate::command::Rejection;
use crate::ids::{Lsn, MemberName};
use crate::lineage::Reach;
use crate::rails::rails;
use crate::record::{Ballot, Election, Verdict};
use crate::state::{ClusterState, SyncRecord};
use crate::sync::{Standby, names};

/// What an election would give if it were closed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// One for each ballot, by name.
    pub verdicts: Vec<Verdict>,
    /// What the winner must reach.
    pub bar: Option<Reach>,
    /// Who wins; an error: why nobody does.
    pub winner: Result<MemberName, Rejection>,
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

/// Counts the ballots of an open election.
///
/// Asynchronous mode: one eligible ballot is enough, and only eligible ones set the bar; a member that
/// may not lead holds nothing that was promised to anybody. Synchronous mode (rule S7): as many ballots
/// of those that commits waited for as the log asks; they set the bar, eligible or not, for every
/// acknowledged commit is on one of them.
pub fn count(state: &ClusterState, election: &Election) -> Count {
    let allowed = state.settings.maximum_lag_on_failover_bytes;
    let sync = state.sync.record().filter(|_| !election.allow_data_loss);
    // Where commits were waited for, the bar says what was acknowledged, and no lag is allowed.
    let lag = (!election.allow_data_loss && sync.is_none()).then_some((election.wal_lsn, allowed));
    let mut verdicts: Vec<Verdict> =
        election.ballots.iter().map(|(member, ballot)| judge(state, member, ballot, lag)).collect();
    let (mut bar, mut winner) = result(sync, election, &verdicts);
    if matches!(winner, Err(Rejection::NobodyEligible(_) | Rejection::BarNotReached { .. })) {
        lapse_bar_only(state, election, lag, &mut verdicts);
        (bar, winner) = result(sync, election, &verdicts);
    }
    for verdict in &mut verdicts {
        verdict.chosen = winner.as_ref().ok() == Some(&verdict.member);
    }
    Count { verdicts, bar, winner }
}

fn result(
    sync: Option<&SyncRecord>,
    election: &Election,
    verdicts: &[Verdict],
) -> (Option<Reach>, Result<MemberName, Rejection>) {
    let (bar, short) = match sync {
        None => (eligible(verdicts).filter_map(|verdict| verdict.reach).max(), None),
        Some(sync) => quorum(sync, election, verdicts),
    };
    let winner = match short {
        Some(short) => Err(short),
        None => winner(election, verdicts, bar),
    };
    (bar, winner)
}

fn eligible(verdicts: &[Verdict]) -> impl Iterator<Item = &Verdict> {
    verdicts.iter().filter(|verdict| verdict.ineligible.is_none())
}

/// The bar that the ballots that count set, and what they lack.
fn quorum(
    sync: &SyncRecord,
    election: &Election,
    verdicts: &[Verdict],
) -> (Option<Reach>, Option<Rejection>) {
    let of = |verdict: &Verdict| Standby {
        member: verdict.member.clone(),
        data_id: election.ballots[&verdict.member].data_id,
    };
    let voters = &sync.pair.voters;
    let counting: Vec<&Verdict> = verdicts
        .iter()
        .filter(|one| voters.contains(&of(one)) || sync.whole.contains(&of(one)))
        .collect();
    let sets_bar = |verdict: &&&Verdict| verdict.ineligible.is_none() || rails().bar_first;
    let bar = counting.iter().filter(sets_bar).filter_map(|verdict| verdict.reach).max();
    let have = counting.iter().filter(|one| voters.contains(&of(one))).count();
    let whole = counting.iter().any(|one| sync.whole.contains(&of(one)));
    if whole || have >= sync.pair.votes {
        return (bar, None);
    }
    let voted = |one: &&Standby| !counting.iter().any(|verdict| of(verdict) == **one);
    let short = Rejection::QuorumMissing {
        have,
        need: sync.pair.votes,
        missing: names(voters.iter().filter(voted)),
        alone: names(&sync.whole),
    };
    (bar, Some(short))
}

/// Among those that may lead and reach the bar, the farthest; among equals by an operator's wish,
/// priority and name.
fn winner(
    election: &Election,
    verdicts: &[Verdict],
    bar: Option<Reach>,
) -> Result<MemberName, Rejection> {
    let best = eligible(verdicts).max_by(|a, b| {
        let preferred = |verdict: &Verdict| election.preferred.as_ref() == Some(&verdict.member);
        a.reach
            .cmp(&b.reach)
            .then(preferred(a).cmp(&preferred(b)))
            .then(a.priority.cmp(&b.priority))
            .then(b.member.cmp(&a.member))
    });
    let Some(best) = best else { return Err(Rejection::NobodyEligible(nobody(verdicts))) };
    if best.reach >= bar {
        return Ok(best.member.clone());
    }
    let top = verdicts.iter().filter(|verdict| verdict.reach == bar).min_by_key(|v| &v.member);
    Err(Rejection::BarNotReached {
        holder: top.map(|verdict| verdict.member.clone()).unwrap_or_default(),
        bar: bar.map(|bar| bar.to_string()).unwrap_or_default(),
        why: top.and_then(|verdict| verdict.ineligible.clone()).unwrap_or_default(),
    })
}

fn nobody(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return "nobody has voted".into();
    }
    let all: Vec<String> = verdicts
        .iter()
        .map(|verdict| {
            let why = verdict.ineligible.as_deref().unwrap_or("eligible");
            format!("{} ({why})", verdict.member)
        })
        .collect();
    all.join(", ")
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
