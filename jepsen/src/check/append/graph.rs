//! Who came after whom: one node per transaction that took effect, one edge per observation.

use std::collections::BTreeSet;

use petgraph::graph::{DiGraph, NodeIndex};

use super::reads::{Lists, appends, reads};
use super::{Step, Txn};
use crate::history::{Done, Outcome};

/// What makes one transaction come after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    /// It appended behind the other's element.
    WriteWrite,
    /// It read the other's element.
    WriteRead,
    /// The other had read the list before its element was there.
    ReadWrite,
    /// The other had ended before it began.
    Realtime,
}

/// A node is the place of a transaction in the history; those without effect have no edges.
pub(super) type Graph = DiGraph<usize, Edge>;

pub(super) fn of(done: &[Done<Txn>], lists: &Lists) -> Graph {
    let mut graph = Graph::with_capacity(done.len(), done.len() * 4);
    for nth in 0..done.len() {
        graph.add_node(nth);
    }
    let mut edges = BTreeSet::new();
    let mut add = |from: usize, to: usize, edge: Edge| {
        if from != to && lists.committed[from] && lists.committed[to] {
            edges.insert((from, to, edge));
        }
    };
    for (key, order) in &lists.orders {
        for pair in order.windows(2) {
            let writer = |element| lists.writers.get(&(*key, element)).copied();
            if let (Some(from), Some(to)) = (writer(pair[0]), writer(pair[1])) {
                add(from, to, Edge::WriteWrite);
            }
        }
    }
    for (key, list, reader) in reads(done) {
        let seen = foreign(list, key, &done[reader].op);
        let writer = |element: &i64| lists.writers.get(&(key, *element)).copied();
        if let Some(from) = seen.last().and_then(writer) {
            add(from, reader, Edge::WriteRead);
        }
        let order = lists.orders.get(&key).map(Vec::as_slice).unwrap_or_default();
        if let Some(to) = order.get(seen.len()).and_then(writer) {
            add(reader, to, Edge::ReadWrite);
        }
    }
    realtime(done, &lists.committed, &mut add);
    for (from, to, edge) in edges {
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), edge);
    }
    graph
}

/// The read without what the reader itself had appended.
fn foreign<'a>(list: &'a [i64], key: i64, reader: &Txn) -> &'a [i64] {
    let own: BTreeSet<i64> =
        appends(reader).filter(|(one, _)| *one == key).map(|(_, element)| element).collect();
    let end = list.iter().rposition(|element| !own.contains(element)).map_or(0, |last| last + 1);
    &list[..end]
}

/// Edges from those that had ended to who begins, without those that follow from others.
fn realtime(done: &[Done<Txn>], committed: &[bool], add: &mut impl FnMut(usize, usize, Edge)) {
    let taken = || done.iter().enumerate().filter(|(nth, _)| committed[*nth]);
    let begins = taken().map(|(nth, txn)| (txn.called, false, nth));
    let ends = taken()
        .filter(|(_, txn)| txn.outcome == Outcome::Ok)
        .filter_map(|(nth, txn)| Some((txn.returned?, true, nth)));
    let mut moments: Vec<(u64, bool, usize)> = begins.chain(ends).collect();
    moments.sort_unstable();
    // Who has ended, and is not known to be before another one that has ended; and at each begin, a
    // copy of that.
    let mut frontier: BTreeSet<usize> = BTreeSet::new();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); done.len()];
    for (_, is_end, nth) in moments {
        if is_end {
            for earlier in std::mem::take(&mut before[nth]) {
                frontier.remove(&earlier);
            }
            frontier.insert(nth);
        } else {
            for earlier in &frontier {
                add(*earlier, nth, Edge::Realtime);
            }
            before[nth] = frontier.iter().copied().collect();
        }
    }
}

/// A transaction in a few words.
pub(super) fn told(txn: &Done<Txn>) -> String {
    let step = |step: &Step| match step {
        Step::Append(key, element) => format!("append {element} to list {key}"),
        Step::Read(key, list) => {
            let list = list.as_deref().unwrap_or_default();
            let last = list.last().map(|last| format!(" up to {last}")).unwrap_or_default();
            format!("read list {key}: {} elements{last}", list.len())
        }
    };
    let steps: Vec<String> = txn.op.0.iter().map(step).collect();
    format!("event {} ({})", txn.index, steps.join("; "))
}
