//! Runs a model to its end, or to a time limit, and tells what came of it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::world::Budget;

/// How often each kind of step was taken; clones count together.
#[derive(Clone, Debug)]
pub struct Counts {
    kinds: &'static [&'static str],
    taken: Arc<[AtomicU64]>,
}

impl Counts {
    /// None yet.
    pub fn of(kinds: &'static [&'static str]) -> Self {
        Self { kinds, taken: kinds.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    /// One more of this kind.
    pub fn add(&self, kind: usize) {
        self.taken[kind].fetch_add(1, Ordering::Relaxed);
    }

    /// Kinds that never occurred.
    pub fn never(&self) -> Vec<&'static str> {
        let never = |(_, taken): &(_, &AtomicU64)| taken.load(Ordering::Relaxed) == 0;
        self.kinds.iter().zip(&*self.taken).filter(never).map(|(kind, _)| *kind).collect()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (nth, (kind, taken)) in self.kinds.iter().zip(&*self.taken).enumerate() {
            let comma = if nth > 0 { ", " } else { "" };
            write!(f, "{comma}{kind} {}", taken.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps that were taken.
    pub steps: usize,
    /// The longest path.
    pub depth: usize,
    pub took: Duration,
    /// Everything within the bound was seen.
    pub complete: bool,
    /// Which invariants broke, each with the steps that lead there.
    pub broken: Vec<(&'static str, String)>,
}

/// Explores `model`, until something breaks, with as many threads as there are processors.
pub fn explore<M>(model: M, limit: Duration) -> Explored
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + PartialEq + std::hash::Hash + Send + Sync + std::fmt::Debug,
    M::Action: Clone + PartialEq + std::fmt::Debug,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let options = model.checker().threads(threads).timeout(limit);
    let checker = options.finish_when(HasDiscoveries::Any).spawn_dfs().join();
    let took = began.elapsed();
    let broken = checker.discoveries().into_iter().map(|(name, path)| {
        let mut story = String::new();
        for action in path.clone().into_actions() {
            let _ = writeln!(story, "  {action:?}");
        }
        let _ = writeln!(story, "{:#?}", path.last_state());
        (name, story)
    });
    let broken: Vec<_> = broken.collect();
    Explored {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took,
        complete: took < limit && broken.is_empty(),
        broken,
    }
}

impl std::fmt::Display for Explored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { states, steps, depth, took, complete, .. } = self;
        let end = if *complete { "all" } else { "NOT ALL" };
        let seconds = took.as_secs_f64();
        write!(f, "{end} {states} states, {steps} steps, {depth} deep, in {seconds:.1} s")
    }
}

/// A kind of fault, and how a budget gets one of it.
type Fault = (&'static str, fn(&mut Budget));

/// The kinds of faults of a cluster, by name.
pub const FAULTS: [Fault; 10] = [
    ("late", |budget| budget.late = 1),
    ("repeated", |budget| budget.repeated = 1),
    ("deaf", |budget| budget.deaf = 1),
    ("deadline", |budget| budget.deadline = 1),
    ("crash", |budget| budget.crash = 1),
    ("agent", |budget| budget.agent = 1),
    ("machine", |budget| budget.machine = 1),
    ("wipe", |budget| budget.wipe = 1),
    ("switchover", |budget| budget.switchover = 1),
    ("fence", |budget| budget.fence = 1),
];

/// A budget without faults.
pub fn quiet(writes: u8, changes_of_leader: u8) -> Budget {
    Budget { writes, epochs: changes_of_leader, ..Budget::default() }
}

/// The same with one fault of each of these kinds, and so many at most in one run.
pub fn with(budget: Budget, kinds: &[&str], faults: u8) -> Budget {
    let mut budget = Budget { faults, ..budget };
    for (name, add) in FAULTS {
        if kinds.contains(&name) {
            add(&mut budget);
        }
    }
    budget
}
