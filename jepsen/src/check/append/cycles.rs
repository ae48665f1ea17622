//! Cycles, and which levels of isolation forbid them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::algo::tarjan_scc;
use petgraph::graph::NodeIndex;
use petgraph::visit::{EdgeFiltered, EdgeRef};

use super::Txn;
use super::graph::{Edge, Graph, told};
use crate::check::Anomaly;
use crate::history::Done;

/// What isolation transactions ran under, as PostgreSQL keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// REPEATABLE READ: snapshot isolation.
    Snapshot,
    /// SERIALIZABLE on the primary.
    Serializable,
    /// Serializable, in an order that agrees with the clock.
    Strict,
}

/// A kind of cycle, the gravest first.
struct Class {
    kind: &'static str,
    realtime: &'static str,
    /// Edges that it may take beside its reads before writes.
    base: &'static [Edge],
    /// How many reads before writes, and whether two may follow each other.
    anti: Anti,
    /// From this level on it is forbidden.
    forbidden: Level,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Anti {
    None,
    One,
    Apart,
    Any,
}

const DEPENDENCIES: &[Edge] = &[Edge::WriteWrite, Edge::WriteRead];

const CLASSES: [Class; 5] = [
    Class {
        kind: "G0",
        realtime: "G0-realtime",
        base: &[Edge::WriteWrite],
        anti: Anti::None,
        forbidden: Level::Snapshot,
    },
    Class {
        kind: "G1c",
        realtime: "G1c-realtime",
        base: DEPENDENCIES,
        anti: Anti::None,
        forbidden: Level::Snapshot,
    },
    Class {
        kind: "G-single",
        realtime: "G-single-realtime",
        base: DEPENDENCIES,
        anti: Anti::One,
        forbidden: Level::Snapshot,
    },
    Class {
        kind: "G-nonadjacent",
        realtime: "G-nonadjacent-realtime",
        base: DEPENDENCIES,
        anti: Anti::Apart,
        forbidden: Level::Snapshot,
    },
    Class {
        kind: "G2-item",
        realtime: "G2-item-realtime",
        base: DEPENDENCIES,
        anti: Anti::Any,
        forbidden: Level::Serializable,
    },
];

/// One cycle of the gravest class in each knot of the graph that `level` forbids.
pub(super) fn find(graph: &Graph, done: &[Done<Txn>], level: Level) -> Vec<Anomaly> {
    let (mut found, mut told_of) = (Vec::new(), BTreeSet::new());
    for realtime in [false, true] {
        if realtime && level != Level::Strict {
            break;
        }
        for class in CLASSES.iter().filter(|class| class.forbidden <= level) {
            for cycle in class.cycles(graph, realtime) {
                // A graver one was told of these already.
                if cycle.iter().any(|(node, _)| told_of.contains(node)) {
                    continue;
                }
                told_of.extend(cycle.iter().map(|(node, _)| *node));
                found.push(class.anomaly(&cycle, done, realtime));
            }
        }
    }
    found
}

/// Transactions, each with the edge to the next one; the last one's leads to the first.
type Cycle = Vec<(usize, Edge)>;

impl Class {
    fn allows(&self, edge: Edge, realtime: bool) -> bool {
        self.base.contains(&edge)
            || (edge == Edge::ReadWrite && self.anti != Anti::None)
            || (edge == Edge::Realtime && realtime)
    }

    /// A cycle of each knot, if it has one of this class: the shortest through some edge.
    fn cycles(&self, graph: &Graph, realtime: bool) -> Vec<Cycle> {
        let allowed = EdgeFiltered::from_fn(graph, |edge| self.allows(*edge.weight(), realtime));
        let knots = tarjan_scc(&allowed).into_iter().filter(|knot| knot.len() > 1);
        let mut cycles: Vec<Cycle> = knots
            .filter_map(|knot| {
                let knot: BTreeSet<NodeIndex> = knot.into_iter().collect();
                self.shortest(graph, &knot, realtime)
            })
            .collect();
        cycles.sort();
        cycles
    }

    fn shortest(&self, graph: &Graph, knot: &BTreeSet<NodeIndex>, realtime: bool) -> Option<Cycle> {
        let inside = knot.iter().flat_map(|node| graph.edges(*node));
        let mut starts =
            inside.filter(|edge| knot.contains(&edge.target())).filter(|edge| match self.anti {
                Anti::None => self.allows(*edge.weight(), realtime),
                _ => *edge.weight() == Edge::ReadWrite,
            });
        starts.find_map(|edge| {
            let (from, to) = (edge.source(), edge.target());
            let mut cycle = self.way(graph, knot, to, from, realtime)?;
            cycle.insert(0, (from.index(), *edge.weight()));
            Some(cycle)
        })
    }

    /// The shortest way back, as the edge that was taken first asks for.
    fn way(
        &self,
        graph: &Graph,
        knot: &BTreeSet<NodeIndex>,
        from: NodeIndex,
        to: NodeIndex,
        realtime: bool,
    ) -> Option<Cycle> {
        // A node may be come to by a read before a write, and otherwise.
        let start = (from, self.anti != Anti::None);
        let mut came: BTreeMap<(NodeIndex, bool), ((NodeIndex, bool), Edge)> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        let mut end = None;
        while let Some(at) = queue.pop_front() {
            let (node, by_anti) = at;
            for edge in graph.edges(node).filter(|edge| knot.contains(&edge.target())) {
                let (kind, anti) = (*edge.weight(), *edge.weight() == Edge::ReadWrite);
                let closes = edge.target() == to;
                let fits = self.allows(kind, realtime)
                    && match self.anti {
                        Anti::None | Anti::One => !anti,
                        // The edge that the cycle began with is one, and comes after the last.
                        Anti::Apart => !anti || !(by_anti || closes),
                        Anti::Any => true,
                    };
                let next = (edge.target(), anti);
                if !fits || next == start || came.contains_key(&next) {
                    continue;
                }
                came.insert(next, (at, kind));
                if closes {
                    end = Some(next);
                    queue.clear();
                    break;
                }
                queue.push_back(next);
            }
        }
        let (mut at, mut way) = (end?, Vec::new());
        while at != start {
            let (before, edge) = came[&at];
            way.push((before.0.index(), edge));
            at = before;
        }
        way.reverse();
        Some(way)
    }

    fn anomaly(&self, cycle: &Cycle, done: &[Done<Txn>], realtime: bool) -> Anomaly {
        let mut text = String::new();
        for (nth, (node, edge)) in cycle.iter().enumerate() {
            let what = match edge {
                Edge::WriteWrite => "was followed in a list by",
                Edge::WriteRead => "was read by",
                Edge::ReadWrite => "had not seen what was appended by",
                Edge::Realtime => "had ended before the begin of",
            };
            let link = if nth > 0 { ", which " } else { " " };
            text += &format!("{}{link}{what} ", told(&done[*node]));
        }
        Anomaly {
            kind: if realtime { self.realtime } else { self.kind },
            text: text + "the first one",
            events: cycle.iter().map(|(node, _)| done[*node].index).collect(),
        }
    }
}
