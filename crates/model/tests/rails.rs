//! Negative controls: with a guard rail switched off an invariant must break, within a bound that is as
//! small as can be. `cargo nextest run -p howdah-model --features sabotage -E 'binary(rails)'`.
//!
//! `recorded_first` needs more steps than these bounds have; the simulation notices it.

use std::time::Duration;

use howdah_core::rails::{ALL, Rails};
use howdah_core::sync::choose::Mode;
use howdah_model::Cluster;
use howdah_model::explore::{Explored, explore, quiet, with};
use howdah_model::lease::{self, Clocks};
use howdah_model::world::Budget;

const LIMIT: Duration = Duration::from_secs(120);

fn caught(what: &str, explored: &Explored) {
    let Some((name, story)) = explored.broken.first() else {
        panic!("nobody notices when this rail is off: {what}; {explored}");
    };
    let steps = story.lines().take_while(|line| line.starts_with("  ")).count();
    println!("{what}: broke \"{name}\" after {steps} steps; {explored}");
}

fn cluster(what: &str, rails: Rails, mode: Mode, budget: Budget) {
    assert_ne!(rails, ALL);
    let mut cluster = Cluster::new(budget, mode);
    cluster.rails = rails;
    caught(what, &explore(cluster, LIMIT));
}

fn clocks(what: &str, rails: Rails, budget: lease::Budget) {
    assert_ne!(rails, ALL);
    let mut clocks = Clocks::new(budget);
    clocks.rails = rails;
    caught(what, &explore(clocks, LIMIT));
}

macro_rules! clusters {
    ($($rail:ident: $mode:ident, $budget:expr;)*) => {$(
        #[test]
        fn $rail() {
            let rails = Rails { $rail: false, ..ALL };
            cluster(stringify!($rail), rails, Mode::$mode, $budget);
        }
    )*};
}

clusters! {
    promise: Quorum, quiet(1, 1);
    votes: Quorum, quiet(1, 1);
    log_first: Quorum, quiet(1, 1);
    flushed_first: On, with(quiet(1, 1), &["crash"], 1);
    settled: Quorum, with(quiet(1, 1), &["late"], 1);
    // With both others there one of them would lead at once.
    barrier: Quorum, with(quiet(1, 1), &["crash", "agent"], 2);
    barrier_applied: Quorum, quiet(1, 2);
    data_id: Quorum, with(quiet(1, 1), &["wipe"], 1);
    bar_first: Quorum, with(quiet(1, 1), &["fence"], 1);
    numbers_once: Quorum, quiet(0, 2);
}

const CLOCKS: lease::Budget = lease::Budget {
    members: 2,
    ticks: 6,
    epochs: 1,
    renewals: 1,
    freezes: 0,
    shorter: 0,
    agents: 0,
};

#[test]
fn drift_margin() {
    clocks("drift_margin", Rails { drift_margin: false, ..ALL }, CLOCKS);
}

#[test]
fn nonce() {
    let budget = lease::Budget { ticks: 7, renewals: 2, ..CLOCKS };
    clocks("nonce", Rails { nonce: false, ..ALL }, budget);
}

#[test]
fn cut_first() {
    let budget = lease::Budget { shorter: 1, renewals: 2, ..CLOCKS };
    clocks("cut_first", Rails { cut_first: false, ..ALL }, budget);
}
