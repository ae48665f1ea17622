//! Registers: the search agrees with an oracle without memory on small histories, and is quick on
//! large ones.

use howdah_storm::check::Verdict;
use howdah_storm::check::register::{RegisterOp, check};
use howdah_storm::history::script::Script;
use howdah_storm::history::{History, Kind, Process};
use proptest::collection::vec;
use proptest::prelude::*;
use stateright::semantics::register::{Register, RegisterOp as Op, RegisterRet as Ret};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

const STEPS: usize = 1_000_000;

/// One event: who acts, and what it reads or writes if it begins.
type Move = (u64, bool, i64);

/// A client that is idle begins; one at work ends, a reader with the value that it was given.
fn play(moves: &[Move]) -> (History, LinearizabilityTester<u64, Register<i64>>) {
    let mut script = Script::default();
    let mut oracle = LinearizabilityTester::new(Register(0));
    // The oracle's register begins with a value, ours without.
    script.whole(99, RegisterOp::Write(1, 0));
    let mut open = std::collections::BTreeMap::new();
    for (client, writes, value) in moves {
        let process = Process::Client(*client);
        match open.remove(client) {
            None => {
                let op = if *writes { Op::Write(*value) } else { Op::Read };
                let begun =
                    if *writes { RegisterOp::Write(1, *value) } else { RegisterOp::Read(1, None) };
                script.begin(process, &begun);
                oracle.on_invoke(*client, op).expect("it is idle");
                open.insert(*client, (*writes, *value));
            }
            Some((true, written)) => {
                script.end(process, Kind::Ok, &RegisterOp::Write(1, written));
                oracle.on_return(*client, Ret::WriteOk).expect("it is at work");
            }
            Some((false, _)) => {
                script.end(process, Kind::Ok, &RegisterOp::Read(1, Some(*value)));
                oracle.on_return(*client, Ret::ReadOk(*value)).expect("it is at work");
            }
        }
    }
    (script.history, oracle)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn agrees_with_the_oracle(moves in vec((0_u64..3, any::<bool>(), 0_i64..3), 2..16)) {
        let (history, oracle) = play(&moves);
        prop_assert_eq!(check(&history, STEPS).is_good(), oracle.is_consistent(), "{:?}", moves);
    }
}

fn write(value: i64) -> RegisterOp {
    RegisterOp::Write(1, value)
}

fn read(value: i64) -> RegisterOp {
    RegisterOp::Read(1, Some(value))
}

#[test]
fn a_write_of_unknown_fate_may_come_late_or_never() {
    for (reads, good) in [
        (vec![read(1), read(2), read(2)], true),
        (vec![read(1), read(1)], true),
        (vec![read(2), read(1)], false),
    ] {
        let mut script = Script::default();
        script.whole(0, write(1));
        script.begin(Process::Client(1), &write(2));
        script.end(Process::Client(1), Kind::Info, &write(2));
        for read in &reads {
            script.whole(2, read.clone());
        }
        let verdict = check(&script.history, STEPS);
        assert_eq!(verdict.is_good(), good, "{reads:?}: {verdict:?}");
    }
}

#[test]
fn a_compare_and_set_holds_what_it_says() {
    for (steps, good) in [
        (vec![write(1), RegisterOp::Cas(1, 1, 2), read(2)], true),
        (vec![write(1), RegisterOp::Cas(1, 3, 2)], false),
        (vec![write(1), RegisterOp::Cas(1, 1, 2), RegisterOp::Cas(1, 1, 3)], false),
        (vec![RegisterOp::Read(1, None), write(4), read(4)], true),
        (vec![write(4), RegisterOp::Read(1, None)], false),
        // Another register has nothing to do with this one.
        (vec![write(4), RegisterOp::Read(2, None)], true),
    ] {
        let mut script = Script::default();
        for step in &steps {
            script.whole(0, step.clone());
        }
        assert_eq!(check(&script.history, STEPS).is_good(), good, "{steps:?}");
    }
}

#[test]
fn what_failed_was_not_done() {
    let mut script = Script::default();
    script.whole(0, write(1));
    script.begin(Process::Client(1), &write(2));
    script.end(Process::Client(1), Kind::Fail, &write(2));
    script.whole(0, read(2));
    assert_eq!(check(&script.history, STEPS).kinds(), ["not-linearizable"]);
}

#[test]
fn a_search_that_takes_too_long_is_not_called_good() {
    let mut script = Script::default();
    for client in 0..12 {
        script.begin(Process::Client(client), &write(client as i64));
    }
    for client in 0..12 {
        script.end(Process::Client(client), Kind::Ok, &write(client as i64));
    }
    for value in [3, 4, 3] {
        script.whole(20, read(value));
    }
    assert!(matches!(check(&script.history, 2000), Verdict::Unknown(_)));
    assert_eq!(check(&script.history, STEPS).kinds(), ["not-linearizable"]);
}

#[test]
fn thousands_of_operations_are_searched_quickly() {
    let mut script = Script::default();
    let mut now = 0;
    for round in 0..2000_i64 {
        // Three writers at once, read in the order of their ends.
        for client in 0..3 {
            script.begin(Process::Client(client), &write(round * 10 + client as i64));
        }
        for client in [2, 0, 1] {
            now = round * 10 + client as i64;
            script.end(Process::Client(client), Kind::Ok, &write(now));
        }
        script.whole(5, read(now));
    }
    assert!(check(&script.history, STEPS).is_good());
}
