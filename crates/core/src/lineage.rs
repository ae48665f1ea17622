//! The log's map of timelines: which epoch wrote which timeline, and where each one forks off.
//!
//! Place: part of the replicated state; asked by elections (how far does a ballot reach?) and by
//! rejoining (does this data lie past a fork?). Pure.
//! Invariants: recorded timelines form one tree; the newest one (by epoch) and its ancestors are
//! the *chain*, and nothing off the chain was acknowledged under the present leader.
//! Source: docs/protocol.md, "Lineage".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, HistoryEntry, Lsn, Position, Timeline};
use crate::rails::rails;

/// What the log knows of one timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimelineRecord {
    /// Epoch whose holder wrote it.
    pub epoch: Epoch,
    /// Parent and fork; none for the first one known.
    pub parent: Option<HistoryEntry>,
}

/// All recorded timelines, and the numbers that grants have reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timelines {
    /// Recorded ones.
    pub recorded: BTreeMap<Timeline, TimelineRecord>,
    /// Numbers that grants have drawn, with their epochs; never drawn twice, recorded or not.
    pub reserved: BTreeMap<Timeline, Epoch>,
}

/// A position made comparable between members: first by the epoch that the log records for its
/// timeline, then by LSN. The raw timeline number decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reach {
    /// Epoch of the timeline on which the position counts.
    pub epoch: Epoch,
    /// Position there.
    pub lsn: Lsn,
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of epoch {}", self.lsn, self.epoch)
    }
}

/// Why a history cannot be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HistoryConflict {
    /// The log has another fork for a timeline.
    #[error("timeline {child} forks off at {given}, the log says {recorded}")]
    OtherFork {
        /// The timeline.
        child: Timeline,
        /// Where the history says that it begins.
        given: Lsn,
        /// Where the log says so.
        recorded: Lsn,
    },
    /// A timeline in the history was neither recorded nor reserved.
    #[error("timeline {0} was never granted")]
    Unknown(Timeline),
    /// The history does not go back to a recorded timeline.
    #[error("timeline {0} descends from no recorded timeline")]
    Rootless(Timeline),
    /// The history leaves the log's past a fork: what it goes on from was abandoned.
    #[error("it goes on from timeline {0} past the fork at which that was abandoned")]
    Abandoned(Timeline),
    /// A timeline does not have a higher number, or begins earlier, than its parent.
    #[error("timeline {0} does not come after its parent")]
    Disorder(Timeline),
}

impl Timelines {
    /// The next number that a grant may draw: above every reserved or recorded one.
    pub fn next_free(&self) -> Timeline {
        let recorded = self.recorded.keys().next_back().copied().unwrap_or_default();
        let reserved = self.reserved.keys().next_back().copied().unwrap_or_default();
        let reserved = if rails().numbers_once { reserved } else { Timeline::default() };
        Timeline(recorded.max(reserved).0.saturating_add(1))
    }

    /// Whether the last number there is was drawn.
    pub(crate) fn is_spent(&self) -> bool {
        let last = Timeline(u32::MAX);
        self.recorded.contains_key(&last) || self.reserved.contains_key(&last)
    }

    /// Whether a timeline was recorded, or at least granted; data on another one is rogue.
    pub fn knows(&self, timeline: Timeline) -> bool {
        self.recorded.contains_key(&timeline) || self.reserved.contains_key(&timeline)
    }

    /// The newest recorded timeline: that of the highest epoch.
    pub fn newest(&self) -> Option<Timeline> {
        self.recorded.iter().max_by_key(|(number, t)| (t.epoch, **number)).map(|(n, _)| *n)
    }

    /// Whether the holder of `epoch` has recorded its timeline.
    pub fn recorded_by(&self, epoch: Epoch) -> Option<Timeline> {
        self.recorded.iter().find(|(_, record)| record.epoch == epoch).map(|(number, _)| *number)
    }

    /// The chain from the first timeline to the newest one: each with the LSN at which the next
    /// one forks off, `None` for the newest.
    pub fn chain(&self) -> Vec<(Timeline, Option<Lsn>)> {
        let mut chain = Vec::new();
        let mut next = self.newest().map(|newest| (newest, None));
        while let Some((number, end)) = next {
            chain.push((number, end));
            // Parents have smaller numbers, so that this ends whatever was recorded.
            next = self
                .recorded
                .get(&number)
                .and_then(|record| record.parent)
                .filter(|parent| parent.timeline < number)
                .map(|parent| (parent.timeline, Some(parent.end)));
        }
        chain.reverse();
        chain
    }

    /// How far a position reaches. On a recorded timeline: itself. On another: its fork on the
    /// newest recorded ancestor in its own `history`, for nothing past it was acknowledged.
    /// `None`: its history shares nothing with the log.
    pub fn reach(&self, position: Position, history: &[HistoryEntry]) -> Option<Reach> {
        if let Some(record) = self.recorded.get(&position.timeline) {
            return Some(Reach { epoch: record.epoch, lsn: position.lsn });
        }
        history
            .iter()
            .filter_map(|entry| {
                let record = self.recorded.get(&entry.timeline)?;
                Some(Reach { epoch: record.epoch, lsn: entry.end.min(position.lsn) })
            })
            .max()
    }

    /// The fork past which data at `position` lies, if it lies past one: the last position that
    /// it shares with the chain. `None`: it does not lie past any, so it may follow.
    pub fn diverges_at(&self, position: Position, history: &[HistoryEntry]) -> Option<Position> {
        let chain = self.chain();
        let (newest, _) = chain.last()?;
        if self.goes_on(*newest, position.timeline, history) {
            return None;
        }
        let shared = Self::shared_end(&chain, position, history);
        match shared {
            Some(end) if position.timeline == end.timeline && position.lsn <= end.lsn => None,
            Some(end) => Some(end),
            None => Some(Position { timeline: chain[0].0, lsn: Lsn(0) }),
        }
    }

    /// Whether a timeline that nobody recorded goes on from the chain: a granted promotion that fell before
    /// clients were let in. It continues the newest timeline; or it was granted after that one was recorded,
    /// to a member that was behind and led nevertheless, and leaves the chain farther up. Nothing that was
    /// acknowledged since lies elsewhere.
    fn goes_on(&self, newest: Timeline, timeline: Timeline, history: &[HistoryEntry]) -> bool {
        if self.recorded.contains_key(&timeline) {
            return false;
        }
        let continues = history.iter().any(|entry| entry.timeline == newest);
        let granted = self.reserved.get(&timeline).copied();
        let since = granted > self.recorded.get(&newest).map(|record| record.epoch);
        let rooted = history.iter().any(|entry| self.recorded.contains_key(&entry.timeline));
        continues || since && rooted && self.abandoned(history).is_none()
    }

    /// The last position that data (on `position`, having come by `history`) and the chain have in
    /// common; on the newest timeline that is the data's own position.
    fn shared_end(
        chain: &[(Timeline, Option<Lsn>)],
        position: Position,
        history: &[HistoryEntry],
    ) -> Option<Position> {
        let mut own: Vec<(Timeline, Lsn)> =
            history.iter().map(|entry| (entry.timeline, entry.end)).collect();
        own.push((position.timeline, position.lsn));
        // From the youngest common timeline down: there both histories part, or one of them ends.
        chain.iter().rev().find_map(|(number, chain_end)| {
            let (_, own_end) = own.iter().find(|(own_number, _)| own_number == number)?;
            let end = chain_end.map_or(*own_end, |chain_end| chain_end.min(*own_end));
            Some(Position { timeline: *number, lsn: end })
        })
    }

    /// Records `timeline` with its `history` for `epoch`, and along with it those ancestors that
    /// were granted but never recorded.
    ///
    /// # Errors
    /// `HistoryConflict` if a fork differs from the log's, or an ancestor was never granted. Then
    /// nothing was changed.
    pub fn record(
        &mut self,
        epoch: Epoch,
        timeline: Timeline,
        history: &[HistoryEntry],
    ) -> Result<(), HistoryConflict> {
        let mut added = Vec::new();
        let rooted = history.first().is_some_and(|root| self.recorded.contains_key(&root.timeline));
        if !rooted && !self.recorded.is_empty() {
            return Err(HistoryConflict::Rootless(timeline));
        }
        in_order(history, timeline)?;
        if let Some(abandoned) = self.abandoned(history) {
            return Err(HistoryConflict::Abandoned(abandoned));
        }
        let children = history.iter().skip(1).map(|entry| entry.timeline).chain([timeline]);
        for (parent, child) in history.iter().zip(children) {
            if let Some(known) = self.recorded.get(&child) {
                let recorded = known.parent.map_or(parent.end, |known| known.end);
                if recorded != parent.end {
                    return Err(HistoryConflict::OtherFork { child, given: parent.end, recorded });
                }
                continue;
            }
            let by =
                if child == timeline { Some(epoch) } else { self.reserved.get(&child).copied() };
            let by = by.ok_or(HistoryConflict::Unknown(child))?;
            added.push((child, TimelineRecord { epoch: by, parent: Some(*parent) }));
        }
        if history.is_empty() && !self.recorded.contains_key(&timeline) {
            added.push((timeline, TimelineRecord { epoch, parent: None }));
        }
        self.recorded.extend(added);
        Ok(())
    }

    /// The newest recorded timeline in `history`, if it is left past the end of its part of the chain.
    fn abandoned(&self, history: &[HistoryEntry]) -> Option<Timeline> {
        let known = |entry: &HistoryEntry| self.recorded.contains_key(&entry.timeline);
        let last = history.iter().rposition(known)?;
        let HistoryEntry { timeline, end } = history[last];
        let left = Position { timeline, lsn: end };
        self.diverges_at(left, &history[..last]).map(|_| timeline)
    }

    /// Takes over the whole history of the data that a cluster begins with.
    pub fn found(&mut self, epoch: Epoch, timeline: Timeline, history: &[HistoryEntry]) {
        for (index, entry) in history.iter().enumerate() {
            let parent = index.checked_sub(1).map(|before| history[before]);
            self.recorded.insert(entry.timeline, TimelineRecord { epoch: Epoch(0), parent });
        }
        let parent = history.last().copied();
        self.recorded.insert(timeline, TimelineRecord { epoch, parent });
        self.reserved.insert(timeline, epoch);
    }
}

/// Whether a history goes up to `timeline`.
pub(crate) fn in_order(
    history: &[HistoryEntry],
    timeline: Timeline,
) -> Result<(), HistoryConflict> {
    out_of_order(history, timeline).map_or(Ok(()), |child| Err(HistoryConflict::Disorder(child)))
}

/// The first timeline of a history that does not come after its parent.
fn out_of_order(history: &[HistoryEntry], timeline: Timeline) -> Option<Timeline> {
    let ends = history.iter().zip(history.iter().skip(1));
    let falls = ends.filter(|(parent, child)| parent.end > child.end).map(|(_, c)| c.timeline);
    let children = history.iter().skip(1).map(|entry| entry.timeline).chain([timeline]);
    let numbers = history.iter().zip(children);
    numbers
        .filter(|(parent, child)| parent.timeline >= *child)
        .map(|(_, child)| child)
        .chain(falls)
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(timeline: u32, end: u64) -> HistoryEntry {
        HistoryEntry { timeline: Timeline(timeline), end: Lsn(end) }
    }

    fn at(timeline: u32, lsn: u64) -> Position {
        Position { timeline: Timeline(timeline), lsn: Lsn(lsn) }
    }

    /// 1 forks at 100 to 2 (epoch 2), and at 80 to 3 (epoch 3): 2 was abandoned.
    fn abandoned_branch() -> Timelines {
        let mut timelines = Timelines::default();
        timelines.found(Epoch(1), Timeline(1), &[]);
        timelines.record(Epoch(2), Timeline(2), &[entry(1, 100)]).unwrap();
        timelines.record(Epoch(3), Timeline(3), &[entry(1, 80)]).unwrap();
        timelines
    }

    #[test]
    fn a_larger_lsn_on_an_older_branch_reaches_less() {
        let timelines = abandoned_branch();
        let stale = timelines.reach(at(2, 5000), &[entry(1, 100)]).unwrap();
        let fresh = timelines.reach(at(3, 90), &[entry(1, 80)]).unwrap();
        assert!(fresh > stale);
    }

    #[test]
    fn divergence_is_found_where_the_histories_part() {
        let timelines = abandoned_branch();
        assert_eq!(timelines.diverges_at(at(1, 80), &[]), None, "at the fork");
        assert_eq!(timelines.diverges_at(at(1, 81), &[]), Some(at(1, 80)), "past the fork");
        assert_eq!(timelines.diverges_at(at(2, 120), &[entry(1, 100)]), Some(at(1, 80)));
        assert_eq!(timelines.diverges_at(at(3, 999), &[entry(1, 80)]), None, "on the chain");
        assert_eq!(timelines.diverges_at(at(9, 5), &[]), Some(at(1, 0)), "nothing shared");
    }

    #[test]
    fn an_unrecorded_timeline_counts_as_its_fork() {
        let timelines = abandoned_branch();
        let reach = timelines.reach(at(4, 500), &[entry(1, 80), entry(3, 90)]).unwrap();
        assert_eq!(reach, Reach { epoch: Epoch(3), lsn: Lsn(90) });
        assert_eq!(timelines.reach(at(9, 5), &[]), None);
    }

    #[test]
    fn a_promotion_that_nobody_recorded_is_recorded_along_if_it_was_granted() {
        let mut timelines = abandoned_branch();
        let history = [entry(1, 80), entry(3, 90), entry(4, 95)];
        let refused = timelines.record(Epoch(6), Timeline(5), &history);
        assert_eq!(refused, Err(HistoryConflict::Unknown(Timeline(4))));
        timelines.reserved.insert(Timeline(4), Epoch(5));
        timelines.record(Epoch(6), Timeline(5), &history).unwrap();
        let resurrected = [entry(1, 100), entry(2, 110)];
        let refused = timelines.record(Epoch(7), Timeline(7), &resurrected);
        assert_eq!(refused, Err(HistoryConflict::Abandoned(Timeline(2))));
        let past = timelines.record(Epoch(7), Timeline(7), &[entry(1, 81)]);
        assert_eq!(past, Err(HistoryConflict::Abandoned(Timeline(1))));
        assert_eq!(timelines.recorded[&Timeline(4)].epoch, Epoch(5));
        assert_eq!(timelines.newest(), Some(Timeline(5)));
    }

    #[test]
    fn a_promotion_that_fell_goes_on_if_it_was_granted_since() {
        let mut timelines = abandoned_branch();
        let (end, behind) = (at(4, 75), [entry(1, 70)]);
        assert_eq!(timelines.diverges_at(end, &behind), Some(at(1, 70)), "never granted");
        timelines.reserved.insert(Timeline(4), Epoch(2));
        assert_eq!(timelines.diverges_at(end, &behind), Some(at(1, 70)), "the chain went on since");
        timelines.reserved.insert(Timeline(4), Epoch(4));
        assert_eq!(timelines.diverges_at(end, &behind), None);
        let abandoned = timelines.diverges_at(at(4, 95), &[entry(1, 90)]);
        assert_eq!(abandoned, Some(at(1, 80)), "it goes on from what was abandoned");
        timelines.record(Epoch(5), Timeline(5), &[entry(1, 70), entry(4, 75)]).unwrap();
        assert_eq!(timelines.chain().len(), 3, "1, 4 and 5");
    }

    #[test]
    fn another_fork_than_the_recorded_one_is_refused() {
        let mut timelines = abandoned_branch();
        let refused = timelines.record(Epoch(4), Timeline(4), &[entry(1, 79), entry(3, 90)]);
        assert!(matches!(refused, Err(HistoryConflict::OtherFork { .. })));
    }
}
