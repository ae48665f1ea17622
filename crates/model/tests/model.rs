//! Everything within a bound that a build server can afford: `cargo nextest run -p howdah-model
//! --no-capture` prints what was seen. Larger bounds: `make model`.

use std::time::Duration;

use howdah_core::sync::choose::Mode;
use howdah_model::act::KINDS;
use howdah_model::explore::{Explored, FAULTS, explore, quiet, with};
use howdah_model::lease::{self, Clocks};
use howdah_model::world::Budget;
use howdah_model::{Cluster, lease::KINDS as CLOCK_KINDS};

/// So long at most for each exploration; one that is not complete by then fails.
const LIMIT: Duration = Duration::from_secs(240);

fn holds(what: &str, explored: &Explored) {
    println!("{what}: {explored}");
    if let Some((name, story)) = explored.broken.first() {
        panic!("{what}: {name}:\n{story}");
    }
    assert!(explored.complete, "{what}: not everything was seen within {LIMIT:?}");
}

/// Explores each budget; what happened in all of them together, by kind.
fn all_hold(mode: Mode, budgets: &[(String, Budget)]) -> [u64; KINDS.len()] {
    let mut counts = [0; KINDS.len()];
    for (what, budget) in budgets {
        let cluster = Cluster::new(*budget, mode);
        holds(&format!("{mode}, {what}"), &explore(cluster.clone(), LIMIT));
        for (count, (_, more)) in counts.iter_mut().zip(cluster.counts()) {
            *count += more;
        }
    }
    counts
}

/// Three members, two changes of leader; and one change, two writes and one fault, of each kind in turn.
fn budgets() -> Vec<(String, Budget)> {
    let mut budgets = vec![("two changes of leader".to_owned(), quiet(1, 2))];
    let taken_back = with(quiet(0, 2), &["switchover"], 1);
    budgets.push(("a hand-over that may be taken back".to_owned(), taken_back));
    for (fault, _) in FAULTS {
        budgets.push((format!("one fault: {fault}"), with(quiet(2, 1), &[fault], 1)));
    }
    budgets
}

#[test]
fn quorum() {
    let counts = all_hold(Mode::Quorum, &budgets());
    let counted: Vec<_> = KINDS.iter().zip(counts).collect();
    println!("{counted:?}");
    let never: Vec<_> = counted.iter().filter(|(_, count)| *count == 0).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
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
    let mut counts = [0; CLOCK_KINDS.len()];
    for (what, budget) in wider {
        let clocks = Clocks::new(budget);
        holds(what, &explore(clocks.clone(), LIMIT));
        for (count, (_, more)) in counts.iter_mut().zip(clocks.counts()) {
            *count += more;
        }
    }
    let counted: Vec<_> = CLOCK_KINDS.iter().zip(counts).collect();
    println!("{counted:?}");
    let never: Vec<_> = counted.iter().filter(|(_, count)| *count == 0).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
}
