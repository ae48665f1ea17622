//! What PostgreSQL has on its disk, and when it acknowledges: the little of it that rules rest on.
//!
//! Shared by the simulation and the model, which both play PostgreSQL. Pure.

use std::collections::BTreeMap;

use howdah_core::sync::{Demand, Standby};
use howdah_core::{Ballot, DataId, HistoryEntry, Incarnation, Lsn, Position, Timeline};

/// The WAL on a disk: where it ends, and how it came to that timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wal {
    /// Where it ends.
    pub end: Position,
    /// Where it left each earlier timeline.
    pub history: Vec<HistoryEntry>,
}

impl Wal {
    /// Whether everything up to `lsn` of `timeline` is here.
    pub fn holds(&self, timeline: Timeline, lsn: Lsn) -> bool {
        if timeline == self.end.timeline {
            return lsn <= self.end.lsn;
        }
        self.history.iter().any(|entry| entry.timeline == timeline && lsn <= entry.end)
    }

    /// Whether what is here is a beginning of what `other` holds.
    pub fn begins(&self, other: &Wal) -> bool {
        let depth = self.history.len();
        let there = other.history.get(depth).copied();
        let last = HistoryEntry { timeline: other.end.timeline, end: other.end.lsn };
        let there = there.unwrap_or(last);
        depth <= other.history.len()
            && self.history[..] == other.history[..depth]
            && self.end.timeline == there.timeline
            && self.end.lsn <= there.end
    }

    /// Leaves its timeline for another one.
    pub fn fork(&mut self, timeline: Timeline) {
        let Position { timeline: parent, lsn } = self.end;
        self.history.push(HistoryEntry { timeline: parent, end: lsn });
        self.end.timeline = timeline;
    }

    /// Gives up what lies past `fork`.
    pub fn rewind(&mut self, fork: Position) {
        self.history.retain(|entry| entry.timeline < fork.timeline);
        self.end = fork;
    }

    /// The ballot of a member that has this, by that life of its guard.
    pub fn ballot(&self, incarnation: Incarnation, data_id: DataId) -> Ballot {
        Ballot {
            incarnation,
            data_id,
            position: self.end,
            history: self.history.clone(),
            priority: 1,
            ..Ballot::default()
        }
    }

    /// The timeline that what ends at `position` was written on: what stands where a timeline begins was
    /// written on its parent.
    pub fn written_on(&self, position: Position) -> Timeline {
        let Position { mut timeline, lsn } = position;
        for entry in self.history.iter().rev() {
            if entry.end == lsn && entry.timeline < timeline {
                timeline = entry.timeline;
            }
        }
        timeline
    }
}

/// A walsender: the setting that it read last, and what its standby has flushed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// It releases commits by this alone.
    pub demand: Demand,
    /// So far.
    pub flushed: Lsn,
}

/// Whether a commit that ends at `lsn` is acknowledged: where nobody is asked for at once, else when a
/// walsender of a standby that counts finds enough of them.
pub fn acknowledged(asked: &Demand, senders: &BTreeMap<Standby, Sender>, lsn: Lsn) -> bool {
    let flushed = || senders.iter().map(|(standby, sender)| (standby, sender.flushed));
    asked.acks == 0
        || senders.iter().any(|(standby, sender)| {
            sender.demand.standbys.contains(standby)
                && sender.flushed >= lsn
                && sender.demand.is_flushed(lsn, flushed())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wal(timeline: u32, lsn: u64, history: &[(u32, u64)]) -> Wal {
        let entry = |(timeline, end): &(u32, u64)| HistoryEntry {
            timeline: Timeline(*timeline),
            end: Lsn(*end),
        };
        Wal {
            end: Position { timeline: Timeline(timeline), lsn: Lsn(lsn) },
            history: history.iter().map(entry).collect(),
        }
    }

    #[test]
    fn a_beginning_ends_before_the_other_leaves_the_timeline() {
        let there = wal(2, 30, &[(1, 20)]);
        for (here, begins) in [
            (wal(1, 20, &[]), true),
            (wal(1, 21, &[]), false),
            (wal(2, 30, &[(1, 20)]), true),
            (wal(2, 31, &[(1, 20)]), false),
            (wal(2, 25, &[(1, 19)]), false),
            (wal(3, 25, &[(1, 20)]), false),
            (wal(3, 30, &[(1, 20), (2, 25)]), false),
        ] {
            assert_eq!(here.begins(&there), begins, "{here:?}");
        }
    }

    #[test]
    fn what_a_timeline_begins_with_was_written_on_its_parent() {
        let there = wal(3, 30, &[(1, 20), (2, 20)]);
        let at = |lsn| Position { timeline: Timeline(3), lsn: Lsn(lsn) };
        assert_eq!(there.written_on(at(20)), Timeline(1));
        assert_eq!(there.written_on(at(21)), Timeline(3));
        assert!(there.holds(Timeline(1), Lsn(20)) && !there.holds(Timeline(1), Lsn(21)));
    }

    #[test]
    fn forking_and_rewinding_are_each_others_opposite() {
        let before = wal(1, 20, &[]);
        let mut after = before.clone();
        after.fork(Timeline(4));
        assert_eq!(after, wal(4, 20, &[(1, 20)]));
        after.rewind(before.end);
        assert_eq!(after, before);
    }
}
