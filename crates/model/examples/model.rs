//! `make model`: everything within ever larger bounds, as far as the time goes (MINUTES, 60 unless said).
//!
//! Prints each bound with its states, steps and seconds, and how often each kind of step was taken; ends
//! with 1 if an invariant breaks, and then tells the steps that lead there.

#![allow(clippy::expect_used, reason = "a tool for developers")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use howdah_core::sync::choose::Mode;
use howdah_model::Cluster;
use howdah_model::act::KINDS;
use howdah_model::explore::{Counts, Explored, FAULTS, explore, quiet, with};
use howdah_model::lease::{self, Clocks};
use howdah_model::world::Budget;

/// So long at most for one bound.
const EACH: Duration = Duration::from_secs(240);

const CLOCKS: lease::Budget = lease::Budget {
    members: 2,
    ticks: 7,
    epochs: 1,
    renewals: 2,
    freezes: 0,
    shorter: 0,
    agents: 0,
};

/// What is left of the time, and what was seen so far.
struct Run {
    end: Instant,
    states: usize,
    steps: usize,
    /// Bounds that were seen whole, and those that were not.
    whole: usize,
    cut_short: usize,
    broken: bool,
    /// Steps of clusters.
    counts: Counts,
}

impl Run {
    /// For the next bound: one that is larger than the others must not take the time of all of them.
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).min(EACH)
    }

    fn add(&mut self, what: &str, explored: &Explored) {
        println!("{what}: {explored}");
        self.states += explored.states;
        self.steps += explored.steps;
        if explored.complete {
            self.whole += 1;
        } else {
            self.cut_short += 1;
        }
        if let Some((name, story)) = explored.broken.first() {
            println!("BROKEN: {name}\n{story}");
            self.broken = true;
        }
    }

    fn cluster(&mut self, what: &str, mode: Mode, budget: Budget) {
        if self.broken || self.left().is_zero() {
            return;
        }
        let mut cluster = Cluster::new(budget, mode);
        cluster.counts = self.counts.clone();
        self.add(&format!("{mode}, {what}"), &explore(cluster, self.left()));
    }

    fn clocks(&mut self, what: &str, budget: lease::Budget) {
        if !self.broken && !self.left().is_zero() {
            self.add(&format!("clocks, {what}"), &explore(Clocks::new(budget), self.left()));
        }
    }
}

/// Two faults at a time, of any two kinds: the smaller worlds first.
fn pairs() -> Vec<(String, Budget)> {
    let mut pairs = Vec::new();
    for (nth, (one, _)) in FAULTS.iter().enumerate() {
        for (other, _) in &FAULTS[nth + 1..] {
            pairs.push((format!("{one} and {other}"), with(quiet(1, 1), &[one, other], 2)));
        }
    }
    pairs
}

fn main() -> ExitCode {
    let minutes = std::env::var("MINUTES").ok();
    let minutes: u64 = minutes.map_or(60, |text| text.parse().expect("MINUTES is a number"));
    let began = Instant::now();
    let end = began + Duration::from_secs(minutes * 60);
    let counts = Counts::of(&KINDS);
    let mut run = Run { end, states: 0, steps: 0, whole: 0, cut_short: 0, broken: false, counts };

    run.clocks("renewals out of order", CLOCKS);
    run.clocks("frozen", lease::Budget { freezes: 1, ticks: 6, ..CLOCKS });
    run.clocks("another agent", lease::Budget { agents: 1, ticks: 6, ..CLOCKS });
    run.clocks("a shorter ttl", lease::Budget { shorter: 1, ticks: 6, ..CLOCKS });
    run.clocks("two changes", lease::Budget { epochs: 2, ticks: 11, renewals: 1, ..CLOCKS });
    run.clocks("three members", lease::Budget { members: 3, renewals: 1, ticks: 6, ..CLOCKS });
    for mode in [Mode::Quorum, Mode::On] {
        run.cluster("two changes of leader, two writes", mode, quiet(2, 2));
        let taken_back = with(quiet(0, 2), &["switchover"], 1);
        run.cluster("a hand-over that may be taken back", mode, taken_back);
        for (fault, _) in FAULTS {
            let budget = with(quiet(2, 1), &[fault], 1);
            run.cluster(&format!("two writes, {fault}"), mode, budget);
        }
    }
    for (what, budget) in pairs() {
        run.cluster(&format!("one write, {what}"), Mode::Quorum, budget);
    }
    for (fault, _) in FAULTS {
        let budget = with(quiet(1, 2), &[fault], 1);
        run.cluster(&format!("two changes of leader, {fault}"), Mode::Quorum, budget);
    }

    println!("steps of clusters by kind: {}", run.counts);
    println!(
        "{} bounds whole, {} cut short: {} states, {} steps in {:.1} minutes; {}",
        run.whole,
        run.cut_short,
        run.states,
        run.steps,
        began.elapsed().as_secs_f64() / 60.0,
        if run.broken { "AN INVARIANT BROKE" } else { "every invariant holds" }
    );
    if run.broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
