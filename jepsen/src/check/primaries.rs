//! Two primaries: two members that acknowledge writes at one time.
//!
//! A member that merely believes to lead harms nobody; one that acknowledges does. An acknowledgement
//! was given at some moment between the begin of its operation and its end: one that was asked for
//! after a later timeline's primary had given one came too late, whatever the moment was.

use std::collections::BTreeMap;

use super::{Anomaly, Verdict};

/// One acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who acknowledged it.
    pub node: String,
    /// Timeline that it wrote, as the server says in the same transaction. Each promotion begins one,
    /// higher than all before.
    pub timeline: u32,
    /// When it was sent, nanoseconds.
    pub sent: u64,
    /// When its acknowledgement had come.
    pub acked: u64,
    /// Index of its event.
    pub index: u64,
}

/// Judges the acknowledgements of all members: each timeline has one primary, and none acknowledges what was
/// sent after a later timeline's primary had acknowledged something.
pub fn check(acks: &[Ack]) -> Verdict {
    let mut found = Vec::new();
    let mut holders: BTreeMap<u32, &Ack> = BTreeMap::new();
    for ack in acks {
        let first = holders.entry(ack.timeline).or_insert(ack);
        if first.node != ack.node {
            let text = format!(
                "{} and {} acknowledged on timeline {}",
                first.node, ack.node, ack.timeline
            );
            let events = vec![first.index, ack.index];
            found.push(Anomaly { kind: "two-primaries-of-a-timeline", text, events });
        }
    }
    let mut sorted: Vec<&Ack> = acks.iter().collect();
    sorted.sort_by_key(|ack| ack.acked);
    let mut ends = Vec::with_capacity(sorted.len());
    let mut highest: Option<&Ack> = None;
    for ack in sorted {
        highest = Some(highest.filter(|highest| highest.timeline >= ack.timeline).unwrap_or(ack));
        ends.extend(highest.map(|highest| (ack.acked, highest)));
    }
    for ack in acks {
        // The highest timeline that had acknowledged something before this was sent.
        let before = ends.partition_point(|(acked, _)| *acked < ack.sent);
        let Some((_, highest)) = before.checked_sub(1).map(|last| ends[last]) else { continue };
        if highest.timeline > ack.timeline {
            let text = format!(
                "{} acknowledged on timeline {} what was sent {} us after {} had on timeline {}",
                ack.node,
                ack.timeline,
                (ack.sent - highest.acked) / 1000,
                highest.node,
                highest.timeline
            );
            let events = vec![highest.index, ack.index];
            found.push(Anomaly { kind: "two-primaries", text, events });
        }
    }
    if acks.is_empty() {
        return Verdict::Unknown("nothing was acknowledged".to_owned());
    }
    let counted = format!("{} acknowledgements on {} timelines", acks.len(), holders.len());
    Verdict::of(found, counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(node: &str, timeline: u32, sent: u64, acked: u64) -> Ack {
        Ack { node: node.to_owned(), timeline, sent, acked, index: sent }
    }

    #[test]
    fn who_acknowledges_after_a_later_primary_is_found() {
        let good = [
            ack("n1", 1, 0, 10),
            // Under way when the next one began; it may have been acknowledged before.
            ack("n1", 1, 20, 90),
            ack("n2", 2, 40, 50),
            ack("n2", 2, 60, 70),
            ack("n1", 3, 100, 110),
        ];
        assert!(check(&good).is_good());
        let late = [&good[..], &[ack("n1", 1, 51, 60)]].concat();
        assert_eq!(check(&late).kinds(), ["two-primaries"]);
        let both = [&good[..], &[ack("n3", 2, 45, 55)]].concat();
        assert_eq!(check(&both).kinds(), ["two-primaries-of-a-timeline"]);
        assert!(matches!(check(&[]), Verdict::Unknown(_)));
    }
}
