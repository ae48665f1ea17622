//! Asynchronous replication: acknowledged writes may be lost at a failover, but only so many, and each of
//! them is in what the member that had it kept.

use std::collections::BTreeSet;

use super::set::SetOp;
use super::{Anomaly, Verdict};
use crate::history::{Event, History, Kind, Operation};

/// What a member kept when the cluster went on without it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Whose it was.
    pub member: String,
    /// Bytes of WAL from the fork to its end.
    pub bytes: u64,
    /// Transactions that committed there, as 32 bits.
    pub committed: BTreeSet<u32>,
    /// Whether all of them are listed.
    pub whole: bool,
}

/// Elements of the set that were acknowledged and are not in its last read: each is in what somebody kept,
/// and nobody kept more than `allowed` bytes.
pub fn check(history: &History, kept: &[Kept], allowed: u64) -> Verdict {
    let added = |event: &&Event| event.kind == Kind::Ok && event.f == "add";
    let last = history.events.iter().rev().find_map(|event| {
        let read = event.kind == Kind::Ok && event.f == "read";
        read.then(|| SetOp::parse(&event.f, &event.value)).flatten()
    });
    let Some(SetOp::Read(last)) = last else {
        return Verdict::Unknown("nobody read the set".to_owned());
    };
    let last: BTreeSet<i64> = last.into_iter().collect();
    let acked: Vec<&Event> = history.events.iter().filter(added).collect();
    let missing = |event: &&&Event| event.value.int().is_none_or(|one| !last.contains(&one));
    let lost: Vec<&Event> = acked.iter().filter(missing).copied().collect();
    let mut found: Vec<Anomaly> = lost.iter().filter_map(|event| unlisted(event, kept)).collect();
    for one in kept.iter().filter(|one| one.bytes > allowed) {
        found.push(Anomaly {
            kind: "too-much-lost",
            text: format!("{} kept {} bytes, {allowed} may be lost", one.member, one.bytes),
            events: Vec::new(),
        });
    }
    let (lost, acked) = (lost.len(), acked.len());
    Verdict::of(found, format!("{lost} of {acked} acknowledged elements lost, each of them listed"))
}

fn unlisted(event: &Event, kept: &[Kept]) -> Option<Anomaly> {
    // History --lost shows the lower half of an id, as WAL does.
    let xid = event.xid.map(|xid| (xid & u64::from(u32::MAX)) as u32);
    let of_member = |one: &&Kept| event.node.as_ref().is_none_or(|node| *node == one.member);
    let mut there = kept.iter().filter(of_member);
    let listed = there.any(|one| !one.whole || xid.is_some_and(|xid| one.committed.contains(&xid)));
    (!listed).then(|| Anomaly {
        kind: "lost-unlisted",
        text: format!(
            "{:?} (transaction {xid:?} of {:?}) was acknowledged, is lost, and nobody lists it",
            event.value, event.node
        ),
        events: vec![event.index],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Process, Value};

    fn history(acked: &[(i64, u64)], read: &[i64]) -> History {
        let event = |index: usize, f: &str, value: Value, xid: Option<u64>| Event {
            index: index as u64,
            time: index as u64,
            process: Process::Client(1),
            kind: Kind::Ok,
            f: f.to_owned(),
            value,
            node: xid.map(|_| "n1".to_owned()),
            error: None,
            timeline: Some(1),
            xid,
        };
        let mut events: Vec<Event> = acked
            .iter()
            .enumerate()
            .map(|(nth, (one, xid))| event(nth, "add", Value::Int(*one), Some(*xid)))
            .collect();
        events.push(event(acked.len(), "read", Value::ints(read.iter().copied()), None));
        History { events }
    }

    fn kept(member: &str, bytes: u64, committed: &[u32]) -> Kept {
        let committed = committed.iter().copied().collect();
        Kept { member: member.to_owned(), bytes, committed, whole: true }
    }

    #[test]
    fn what_is_lost_is_listed_and_little() {
        let history = history(&[(1, 700), (2, 701), (3, (1 << 32) + 702)], &[1]);
        let all = [kept("n1", 100, &[701, 702])];
        assert!(check(&history, &all, 100).is_good());
        assert_eq!(check(&history, &all, 99).kinds(), ["too-much-lost"]);
        assert_eq!(check(&history, &[kept("n1", 1, &[702])], 100).kinds(), ["lost-unlisted"]);
        let elsewhere = [kept("n2", 1, &[701, 702])];
        assert_eq!(check(&history, &elsewhere, 100).kinds(), ["lost-unlisted"; 2]);
    }

    #[test]
    fn without_a_last_read_nothing_is_known() {
        let mut history = history(&[(1, 700)], &[1]);
        history.events.pop();
        assert!(matches!(check(&history, &[], 0), Verdict::Unknown(_)));
    }
}
