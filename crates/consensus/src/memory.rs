//! What other nodes acknowledged to this one while it led, so that one whose log went back is noticed.
//!
//! Place: asked by the network's links about every answer; the leader's round retires who went back. Pure.
//! State: none that survives: a leader that was restarted, or elected since, knows nothing of what was acknowledged
//! before, and takes the node as one that lags.
//! Invariants: what a node acknowledged under a vote it can lose under that vote only by losing its disk's word: to
//! have it cut away by another leader it would have to know of a higher vote, and say so. So nobody is called
//! behind itself who is not.
//! Failure: such a node's answers count for nothing from then on, though nobody may be there to remove it.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{LogId, Vote};

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    acknowledged: BTreeMap<u64, (Vote, Option<LogId>)>,
    gone_back: BTreeSet<u64>,
}

impl Memory {
    /// That node holds everything up to there, it says to the leader of this vote.
    pub fn took(&mut self, node: u64, vote: Vote, upto: Option<LogId>) {
        let known = self.acknowledged.entry(node).or_insert((vote, upto));
        let before = if known.0 == vote { known.1 } else { None };
        *known = (vote, before.max(upto));
    }

    /// Up to where that node acknowledged to hold everything, to the leader of this vote.
    pub fn acknowledged(&self, node: u64, vote: Vote) -> Option<LogId> {
        let (under, upto) = self.acknowledged.get(&node)?;
        upto.filter(|_| *under == vote)
    }

    /// That node lacks this entry, it says to what was sent when it `had` acknowledged everything up to there: later
    /// acknowledgements say nothing of an older question. Answers whether its log went back.
    pub fn lacks(&mut self, node: u64, had: Option<LogId>, entry: Option<LogId>) -> bool {
        had.is_some() && had >= entry && self.gone_back.insert(node)
    }

    /// Whether that node's log went back.
    pub fn went_back(&self, node: u64) -> bool {
        self.gone_back.contains(&node)
    }

    /// All of those.
    pub fn gone_back(&self) -> Vec<u64> {
        self.gone_back.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use openraft::alias::LeaderIdOf;

    use super::*;
    use crate::types::Types;

    fn leader(term: u64) -> LeaderIdOf<Types> {
        LeaderIdOf::<Types> { term, node_id: 1 }
    }

    fn vote(term: u64) -> Vote {
        Vote { leader_id: leader(term), committed: true }
    }

    fn entry(term: u64, index: u64) -> Option<LogId> {
        Some(LogId { leader_id: leader(term), index })
    }

    #[test]
    fn what_was_acknowledged_cannot_be_lacking() {
        let mut memory = Memory::default();
        memory.took(2, vote(3), entry(3, 10));
        memory.took(2, vote(3), entry(3, 8));
        let had = memory.acknowledged(2, vote(3));
        assert_eq!(had, entry(3, 10));
        assert!(!memory.lacks(2, had, entry(3, 11)), "it never had that one");
        assert!(!memory.lacks(2, entry(3, 9), entry(3, 10)), "it was asked before it had it");
        assert!(!memory.went_back(2));
        assert!(memory.lacks(2, had, entry(3, 10)));
        assert!(memory.went_back(2));
        assert_eq!(memory.gone_back(), [2]);
    }

    #[test]
    fn another_leader_may_have_cut_it_away() {
        let mut memory = Memory::default();
        memory.took(2, vote(3), entry(3, 10));
        assert_eq!(memory.acknowledged(2, vote(5)), None);
        memory.took(2, vote(5), entry(2, 4));
        assert_eq!(memory.acknowledged(2, vote(5)), entry(2, 4));
        assert_eq!(memory.acknowledged(3, vote(5)), None, "nobody has heard of node 3");
        assert!(!memory.lacks(3, None, None));
    }
}
