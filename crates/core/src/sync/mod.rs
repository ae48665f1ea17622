//! Synchronous replication: what the log asks of a promotion, what PostgreSQL asks of a commit, and
//! the walk from one such pair to another. Pure; the rules S7 and S8 are told here.
//!
//! Called by `decide` of the member that leads, and by `apply` and `election` for the log's side.
//!
//! Two things must fit together. The log's *pair* says that an election closes only with `votes` promised
//! ballots of the members in `voters`. PostgreSQL's *demand* says that a commit is acknowledged only
//! when `acks` of the members in `standbys` have flushed it, beside the primary. A commit that was
//! acknowledged is never lost if every set of ballots that closes an election holds one of a member that
//! has the commit:
//!
//! ```text
//! votes + acks > |voters ∪ standbys|
//! ```
//!
//! The two live in different places and change one after the other, so [`next`] gives one step at a
//! time. Killed between any two steps, whoever goes on calls it with what it finds.
//! Invariants, checked exhaustively by tests/sync_walk.rs: at every instant, with a demand that is in
//! force in some walsenders only, and for commits acknowledged under earlier demands, no acknowledged
//! commit can be missing from all ballots of a closed election, whether what was proposed is seen to be
//! applied or not.

pub mod choose;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{DataId, Lsn, MemberName};
use crate::rails::rails;

/// A member with the contents of its data directory. The same member with other contents is
/// somebody else: what it acknowledged before may be gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Standby {
    /// Which member.
    pub member: MemberName,
    /// Which contents.
    pub data_id: DataId,
}

/// What the log asks of a promotion: `votes` ballots of `voters`, the holder not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// How many.
    pub votes: usize,
    /// Of whom.
    pub voters: BTreeSet<Standby>,
}

/// What PostgreSQL asks of a commit: `ANY acks (standbys)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Demand {
    /// How many.
    pub acks: usize,
    /// Of whom.
    pub standbys: BTreeSet<Standby>,
}

/// More than there can ever be standbys; far from the largest number, so that sums do not overflow.
const IMPOSSIBLE: usize = 1 << 20;

impl Demand {
    /// Asks for nobody: a commit is acknowledged when it is on the primary's own disk.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Cannot be met: nothing is acknowledged. A standby carries it, so that a commit that should slip
    /// through before the primary has asked for somebody waits.
    pub fn blocked() -> Self {
        Self { acks: IMPOSSIBLE, standbys: BTreeSet::new() }
    }

    /// Whether it is the one that cannot be met.
    pub fn is_blocked(&self) -> bool {
        self.acks > self.standbys.len()
    }

    /// Whether this many of its standbys, of those with flush positions here, have flushed `lsn`.
    pub fn is_flushed<'a>(
        &self,
        lsn: Lsn,
        mut flushed: impl Iterator<Item = (&'a Standby, Lsn)>,
    ) -> bool {
        let mut who = BTreeSet::new();
        for (standby, at) in flushed.by_ref() {
            if at >= lsn && self.standbys.contains(standby) {
                who.insert(standby);
            }
        }
        who.len() >= self.acks
    }

    /// Whether it can be met at all, and asks for anybody.
    pub fn is_meaningful(&self) -> bool {
        (1..=self.standbys.len()).contains(&self.acks)
    }

    /// The least that the log must ask for when everything acknowledged so far meets this demand.
    pub fn pair(&self) -> Pair {
        let votes = self.standbys.len() + 1 - self.acks.min(self.standbys.len());
        let votes = if rails().votes { votes } else { votes.saturating_sub(1).max(1) };
        Pair { votes, voters: self.standbys.clone() }
    }
}

impl Pair {
    /// Whether no commit acknowledged under `demand` can be missing from all ballots that close an
    /// election under this pair (rule S8).
    pub fn covers(&self, demand: &Demand) -> bool {
        self.votes + demand.acks > self.voters.union(&demand.standbys).count()
    }

    /// The least that commits must ask for so that this is enough for elections.
    pub fn demand(&self) -> Demand {
        let acks = (self.voters.len() + 1).saturating_sub(self.votes);
        Demand { acks, standbys: self.voters.clone() }
    }

    /// Whether an election can close at all.
    pub fn can_be_met(&self) -> bool {
        self.votes <= self.voters.len()
    }
}

/// What the log is known to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// The pair, as it was applied here.
    pub pair: &'a Pair,
    /// No other change can be on its way: this process has put this one there, and has proposed none
    /// since. A proposal without an answer, or an earlier agent's, may be committed at any moment,
    /// before it is seen here; but each names the change that it saw as the last one, so that
    /// recording the same pair once more voids it.
    pub settled: bool,
}

/// What PostgreSQL is known to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce<'a> {
    /// What was set last.
    pub demand: &'a Demand,
    /// It is proven that every walsender goes by it. Until then some may go by the one before.
    pub everywhere: bool,
    /// Besides, everything that was acknowledged before that has been flushed as it asks. A demand for
    /// a standby that has died is never flushed, and must be left all the same.
    pub flushed: bool,
}

impl std::fmt::Display for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.member.fmt(f)
    }
}

/// Names, for people.
pub fn names<'a>(standbys: impl IntoIterator<Item = &'a Standby>) -> String {
    let names: Vec<&str> = standbys.into_iter().map(|one| one.member.as_str()).collect();
    names.join(", ")
}

/// `1 of n2, n3`; where it is all of them, only their names.
fn some_of(
    f: &mut std::fmt::Formatter<'_>,
    count: usize,
    of: &BTreeSet<Standby>,
) -> std::fmt::Result {
    if count == of.len() {
        return f.write_str(&names(of));
    }
    write!(f, "{count} of {}", names(of))
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        some_of(f, self.votes, &self.voters)
    }
}

impl std::fmt::Display for Demand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_blocked() {
            f.write_str("somebody who is not there")
        } else if self.acks == 0 {
            f.write_str("nobody")
        } else {
            some_of(f, self.acks, &self.standbys)
        }
    }
}

/// One step on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put this pair into the log.
    Record(Pair),
    /// Have PostgreSQL ask for this.
    Demand(Demand),
    /// Prove that every walsender goes by what was set.
    ProveEverywhere,
    /// Prove that everything acknowledged so far is flushed as it asks.
    ProveFlushed,
    /// Nothing is left to do.
    Arrived,
}

/// The next step from `recorded` and `in_force` to `wanted`, which must be meaningful.
///
/// First the log asks for as much as both demands, the present one and the wanted one, need; then
/// PostgreSQL is set; and only when that is proven the log may ask for less. A pair that grows by
/// members asks for as many votes more: commits acknowledged under a demand from before the last proof are
/// covered by the pair alone, and a new member has none of them.
pub fn next(recorded: &Recorded<'_>, in_force: &InForce<'_>, wanted: &Demand) -> Step {
    let Recorded { pair: recorded, settled } = *recorded;
    let settled = settled || !rails().settled;
    let goal = wanted.pair();
    if in_force.demand != wanted {
        let both = enough_for_both(recorded, in_force.demand, wanted);
        if *recorded != both && rails().log_first {
            Step::Record(both)
        } else if !in_force.everywhere {
            // Never three demands at a time.
            Step::ProveEverywhere
        } else if !settled {
            Step::Record(both)
        } else {
            Step::Demand(wanted.clone())
        }
    } else if !in_force.everywhere {
        Step::ProveEverywhere
    } else if *recorded == goal {
        Step::Arrived
    } else if !in_force.flushed && rails().flushed_first {
        Step::ProveFlushed
    } else {
        Step::Record(goal)
    }
}

fn enough_for_both(recorded: &Pair, present: &Demand, wanted: &Demand) -> Pair {
    let voters: BTreeSet<Standby> = recorded.voters.union(&wanted.standbys).cloned().collect();
    let added = voters.len() - recorded.voters.len();
    let needed =
        |demand: &Demand| (voters.union(&demand.standbys).count() + 1).saturating_sub(demand.acks);
    let votes = (recorded.votes + added).max(needed(present)).max(needed(wanted));
    Pair { votes, voters }
}
