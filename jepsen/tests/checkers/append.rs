//! Lists: what a serial executor does passes at every level, what snapshots allow passes there, and
//! each kind of damage is found.

use std::collections::BTreeMap;

use howdah_storm::check::Verdict;
use howdah_storm::check::append::{Level, Step, Txn, check};
use howdah_storm::history::script::Script;
use howdah_storm::history::{History, Kind, Process};
use proptest::collection::vec;
use proptest::prelude::*;

type Lists = BTreeMap<i64, Vec<i64>>;

/// A transaction before it runs: for each step a list, and whether it is appended to.
type Plan = Vec<(i64, bool)>;

/// Runs transactions of overlapping clients, each as a whole in the middle of its time.
fn serial(plans: &[Plan]) -> History {
    let (mut script, mut lists, mut element) = (Script::default(), Lists::new(), 0);
    let mut waiting: Vec<(Process, Txn)> = Vec::new();
    for (nth, plan) in plans.iter().enumerate() {
        let client = Process::Client((nth % 3) as u64);
        // Its last transaction ends before it begins another.
        if let Some(at) = waiting.iter().position(|(process, _)| *process == client) {
            let (process, txn) = waiting.remove(at);
            script.end(process, Kind::Ok, &txn);
        }
        let asked = plan.iter().map(|(key, appends)| {
            element += 1;
            if *appends { Step::Append(*key, element) } else { Step::Read(*key, None) }
        });
        let asked = Txn(asked.collect());
        script.begin(client, &asked);
        waiting.push((client, run(&asked, &mut lists)));
    }
    for (process, txn) in waiting {
        script.end(process, Kind::Ok, &txn);
    }
    read_all(&mut script, &lists);
    script.history
}

fn run(asked: &Txn, lists: &mut Lists) -> Txn {
    let step = |step: &Step| match step {
        Step::Append(key, element) => {
            lists.entry(*key).or_default().push(*element);
            step.clone()
        }
        Step::Read(key, _) => Step::Read(*key, Some(lists.get(key).cloned().unwrap_or_default())),
    };
    Txn(asked.0.iter().map(step).collect())
}

fn read_all(script: &mut Script, lists: &Lists) {
    for (key, list) in lists {
        let asked = Txn(vec![Step::Read(*key, None)]);
        script.begin(Process::Client(9), &asked);
        let read = Txn(vec![Step::Read(*key, Some(list.clone()))]);
        script.end(Process::Client(9), Kind::Ok, &read);
    }
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    vec(vec((0_i64..3, any::<bool>()), 1..4), 3..30)
}

/// One after the other; what was read is told.
fn told(txns: &[(u64, Kind, Vec<Step>)]) -> History {
    let mut script = Script::default();
    for (client, kind, steps) in txns {
        let txn = Txn(steps.clone());
        script.begin(Process::Client(*client), &txn);
        script.end(Process::Client(*client), *kind, &txn);
    }
    script.history
}

fn append(key: i64, element: i64) -> Step {
    Step::Append(key, element)
}

fn read(key: i64, list: &[i64]) -> Step {
    Step::Read(key, Some(list.to_vec()))
}

proptest! {
    #[test]
    fn a_serial_run_passes(plans in plans()) {
        let history = serial(&plans);
        for level in [Level::Snapshot, Level::Serializable, Level::Strict] {
            let verdict = check(&history, level);
            prop_assert!(!matches!(verdict, Verdict::Bad(_)), "{level:?}: {verdict:?}");
        }
    }

    #[test]
    fn damage_to_the_last_reads_is_found(plans in plans(), at in any::<prop::sample::Index>()) {
        let good = serial(&plans);
        let long: Vec<usize> = (0..good.events.len())
            .filter(|nth| good.events[*nth].process == Process::Client(9))
            .filter(|nth| element_count(&good, *nth) >= 2)
            .collect();
        prop_assume!(!long.is_empty());
        let event = long[at.index(long.len())];
        let damaged = |damage: &dyn Fn(&mut Vec<i64>)| {
            let mut history = good.clone();
            let mut list = list_of(&good, event);
            damage(&mut list);
            let key = key_of(&good, event);
            history.events[event].value =
                howdah_storm::history::Operation::value(&Txn(vec![read(key, &list)]));
            check(&history, Level::Strict).kinds()
        };
        let lost = damaged(&|list| {
            list.pop();
        });
        // A read of an earlier transaction may still show it; then the last read is stale.
        prop_assert!(!lost.is_empty(), "a lost append was not found");
        let twice = damaged(&|list| list.push(list[0]));
        prop_assert!(twice.contains(&"duplicate"), "{twice:?}");
        let phantom = damaged(&|list| list.push(-1));
        prop_assert!(phantom.contains(&"phantom"), "{phantom:?}");
    }
}

fn parsed(history: &History, event: usize) -> Txn {
    let event = &history.events[event];
    howdah_storm::history::Operation::parse(&event.f, &event.value).expect("a transaction")
}

fn list_of(history: &History, event: usize) -> Vec<i64> {
    match &parsed(history, event).0[..] {
        [Step::Read(_, Some(list))] => list.clone(),
        _ => Vec::new(),
    }
}

fn key_of(history: &History, event: usize) -> i64 {
    match &parsed(history, event).0[..] {
        [Step::Read(key, _)] => *key,
        other => panic!("{other:?} is no read"),
    }
}

fn element_count(history: &History, event: usize) -> usize {
    list_of(history, event).len()
}

/// A kind of anomaly, the lowest level that forbids it, and transactions that show it.
type Case = (&'static str, Level, Vec<(u64, Kind, Vec<Step>)>);

/// Found at its level, and at no lower one.
fn is_found(cases: Vec<Case>) {
    for (kind, level, txns) in cases {
        let verdict = check(&told(&txns), level);
        assert!(verdict.kinds().contains(&kind), "{kind}: {verdict:?}");
        for lower in [Level::Snapshot, Level::Serializable].into_iter().filter(|one| *one < level) {
            let verdict = check(&told(&txns), lower);
            assert!(verdict.is_good(), "{kind} at {lower:?}: {verdict:?}");
        }
    }
}

#[test]
fn what_single_reads_show_has_its_name() {
    use Kind::{Fail, Info, Ok};
    is_found(vec![
        (
            "lost-append",
            Level::Snapshot,
            vec![
                (0, Ok, vec![append(1, 1)]),
                (0, Ok, vec![append(1, 2)]),
                (1, Ok, vec![read(1, &[2])]),
            ],
        ),
        ("G1a", Level::Snapshot, vec![(0, Fail, vec![append(1, 1)]), (1, Ok, vec![read(1, &[1])])]),
        (
            "G1b",
            Level::Snapshot,
            vec![
                (0, Ok, vec![append(1, 1), append(1, 2)]),
                (1, Ok, vec![read(1, &[1])]),
                (1, Ok, vec![read(1, &[1, 2])]),
            ],
        ),
        (
            "internal",
            Level::Snapshot,
            vec![(0, Ok, vec![append(1, 1), read(1, &[])]), (1, Ok, vec![read(1, &[1])])],
        ),
        (
            "incompatible-order",
            Level::Snapshot,
            vec![
                (0, Info, vec![append(1, 1)]),
                (1, Info, vec![append(1, 2)]),
                (2, Ok, vec![read(1, &[1])]),
                (2, Ok, vec![read(1, &[2])]),
            ],
        ),
    ]);
}

#[test]
fn each_cycle_has_its_name() {
    use Kind::{Info, Ok};
    let both = || [read(1, &[1, 2]), read(2, &[1, 2])].to_vec();
    is_found(vec![
        (
            "G0",
            Level::Snapshot,
            vec![
                (0, Info, vec![append(1, 1), append(2, 2)]),
                (1, Info, vec![append(1, 2), append(2, 1)]),
                (2, Ok, both()),
            ],
        ),
        (
            "G1c",
            Level::Snapshot,
            vec![
                (0, Ok, vec![append(1, 1), read(2, &[1])]),
                (1, Ok, vec![append(2, 1), read(1, &[1])]),
            ],
        ),
        (
            "G-single",
            Level::Snapshot,
            vec![
                (0, Ok, vec![append(1, 1), append(2, 1)]),
                (1, Ok, vec![read(1, &[1]), read(2, &[])]),
                (2, Ok, vec![read(2, &[1])]),
            ],
        ),
        (
            "G-nonadjacent",
            Level::Snapshot,
            vec![
                (0, Ok, vec![append(1, 1)]),
                (1, Ok, vec![append(2, 1)]),
                // Two snapshots that saw the appends in different orders.
                (2, Ok, vec![read(1, &[1]), read(2, &[])]),
                (3, Ok, vec![read(1, &[]), read(2, &[1])]),
            ],
        ),
        (
            "G2-item",
            Level::Serializable,
            vec![
                (0, Ok, vec![read(1, &[]), append(2, 1)]),
                (1, Ok, vec![read(2, &[]), append(1, 1)]),
                (2, Ok, vec![read(1, &[1]), read(2, &[1])]),
            ],
        ),
        (
            "G-single-realtime",
            Level::Strict,
            vec![
                (0, Ok, vec![append(1, 1)]),
                (1, Ok, vec![read(1, &[])]),
                (1, Ok, vec![read(1, &[1])]),
            ],
        ),
    ]);
}

#[test]
fn a_cycle_is_told_in_a_sentence() {
    let skew = told(&[
        (0, Kind::Ok, vec![read(1, &[]), append(2, 1)]),
        (1, Kind::Ok, vec![read(2, &[]), append(1, 1)]),
        (2, Kind::Ok, vec![read(1, &[1]), read(2, &[1])]),
    ]);
    let Verdict::Bad(found) = check(&skew, Level::Serializable) else { panic!("it is bad") };
    assert_eq!(
        found[0].text,
        "event 0 (read list 1: 0 elements; append 1 to list 2) had not seen what was appended by event 2 \
         (read list 2: 0 elements; append 1 to list 1), which had not seen what was appended by the \
         first one"
    );
    assert_eq!(found[0].events, [0, 2]);
}

#[test]
fn an_append_of_unknown_fate_counts_where_it_was_seen() {
    let seen = told(&[(0, Kind::Info, vec![append(1, 1)]), (1, Kind::Ok, vec![read(1, &[1])])]);
    assert!(check(&seen, Level::Strict).is_good());
    let unseen = told(&[(0, Kind::Info, vec![append(1, 1)]), (1, Kind::Ok, vec![read(1, &[])])]);
    assert!(check(&unseen, Level::Strict).is_good());
}

#[test]
fn what_nobody_read_afterwards_is_not_called_lost() {
    use Kind::Ok;
    let seen = vec![(0, Ok, vec![append(1, 1)]), (1, Ok, vec![read(1, &[1])])];
    assert!(check(&told(&seen), Level::Strict).is_good());
    let unseen = [seen, vec![(0, Ok, vec![append(1, 2)]), (0, Ok, vec![append(2, 3)])]].concat();
    let verdict = check(&told(&unseen), Level::Strict);
    assert!(
        matches!(&verdict, Verdict::Unknown(why) if why.starts_with("2 acknowledged")),
        "{verdict:?}"
    );
}
