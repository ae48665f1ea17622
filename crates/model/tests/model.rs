//! Everything within a bound that a build server can afford: `cargo nextest run -p howdah-model
//! --no-capture` prints what was seen. Larger bounds: `make model`.

use std::time::Duration;

use howdah_core::sync::choose::Mode;
use howdah_model::Cluster;
use howdah_model::act::KINDS;
use howdah_model::explore::{Counts, Explored, FAULTS, explore, quiet, with};
use howdah_model::lease::{self, Clocks};
use howdah_model::world::Budget;

/// So long at most for each exploration; one that is not complete by then fails.
const LIMIT: Duration = Duration::from_secs(240);

fn holds(what: &str, explored: &Explored) {
    println!("{what}: {explored}");
    if let Some((name, story)) = explored.broken.first() {
        panic!("{what}: {name}:\n{story}");
    }
    assert!(explored.complete, "{what}: not everything was seen within {LIMIT:?}");
}

/// Explores each budget; how often each kind of step was taken in all of them together.
fn all_hold(mode: Mode, budgets: &[(String, Budget)]) -> Counts {
    let counts = Counts::of(&KINDS);
    for (what, budget) in budgets {
        let mut cluster = Cluster::new(*budget, mode);
        cluster.counts = counts.clone();
        holds(&format!("{mode}, {what}"), &explore(cluster, LIMIT));
    }
    counts
}

fn all_kinds_occur(counts: &Counts) {
    println!("{counts}");
    assert!(counts.never().is_empty(), "never happened: {:?}", counts.never());
}

/// Three members, two changes of leader; and one change, two writes and one fault, of each kind in turn.
fn budgets() -> Vec<(String, Budget)> {
    let mut budgets = vec![("two changes of leader".to_owned(), quiet(1, 2))];
    let taken_back = with(quiet(0, 2), &["switchover"], 1);
    budgets.push(("a hand-over that may be taken back".to_owned(), taken_back));
    // With everybody there a crash moves leadership; it takes a second fault for a restart in place.
    let in_place = with(quiet(1, 1), &["crash", "agent"], 2);
    budgets.push(("a crash while another's agent is away".to_owned(), in_place));
    for (fault, _) in FAULTS {
        budgets.push((format!("one fault: {fault}"), with(quiet(2, 1), &[fault], 1)));
    }
    budgets
}

#[test]
fn quorum() {
    all_kinds_occur(&all_hold(Mode::Quorum, &budgets()));
}

#[test]
fn on() {
    all_hold(Mode::On, &budgets());
}

#[test]
fn clocks() {
    let bound = lease::Budget {
        members: 2,
        ticks: 6,
        epochs: 1,
        renewals: 2,
        freezes: 0,
        shorter: 0,
        agents: 0,
    };
    let wider = [
        ("renewals out of order", bound),
        ("three members", lease::Budget { members: 3, renewals: 1, ..bound }),
        ("two changes of leader", lease::Budget { ticks: 9, epochs: 2, renewals: 1, ..bound }),
        ("frozen", lease::Budget { freezes: 1, ticks: 7, renewals: 1, ..bound }),
        ("another agent", lease::Budget { agents: 1, ticks: 5, ..bound }),
        ("a shorter ttl", lease::Budget { shorter: 1, ticks: 5, ..bound }),
    ];
    let counts = Counts::of(&lease::KINDS);
    for (what, budget) in wider {
        let mut clocks = Clocks::new(budget);
        clocks.counts = counts.clone();
        holds(what, &explore(clocks, LIMIT));
    }
    all_kinds_occur(&counts);
}
