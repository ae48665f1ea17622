//! Sets: a correct one passes, each kind of loss and damage is found.

use howdah_storm::check::Verdict;
use howdah_storm::check::set::{SetOp, check};
use howdah_storm::history::script::Script;
use howdah_storm::history::{History, Kind, Process, Value};
use proptest::collection::vec;
use proptest::prelude::*;

/// What becomes of an add: acknowledged, failed, unknown and done, unknown and not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acked,
    Failed,
    Done,
    Vanished,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Acked),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Done),
        1 => Just(Fate::Vanished),
    ]
}

/// Adds by clients in turn, a read now and then, and one at the end.
fn run(fates: &[Fate]) -> History {
    let (mut script, mut there) = (Script::default(), Vec::new());
    for (nth, fate) in fates.iter().enumerate() {
        // A client of unknown fate is not heard of again.
        let client = Process::Client(nth as u64);
        let add = SetOp::Add(nth as i64);
        script.begin(client, &add);
        if matches!(fate, Fate::Acked | Fate::Done) {
            there.push(nth as i64);
        }
        let kind = match fate {
            Fate::Acked => Kind::Ok,
            Fate::Failed => Kind::Fail,
            Fate::Done | Fate::Vanished => Kind::Info,
        };
        script.end(client, kind, &add);
        if nth % 3 == 0 {
            script.whole(1000, SetOp::Read(there.clone()));
        }
    }
    script.whole(1000, SetOp::Read(there));
    script.history
}

/// The event with the last read's elements.
fn last_read(history: &mut History) -> &mut Value {
    &mut history.events.last_mut().expect("a history ends with a read").value
}

proptest! {
    #[test]
    fn a_correct_set_passes(fates in vec(fate(), 1..40)) {
        let verdict = check(&run(&fates));
        // Where nothing was acknowledged, nothing is proven.
        let proves = fates.contains(&Fate::Acked);
        prop_assert_eq!(verdict.is_good(), proves, "{:?}", verdict);
        prop_assert!(!matches!(verdict, Verdict::Bad(_)));
    }

    #[test]
    fn what_is_missing_or_strange_is_found(
        mut fates in vec(fate(), 4..40),
        at in any::<prop::sample::Index>(),
    ) {
        fates[0] = Fate::Acked;
        let good = run(&fates);
        let acked: Vec<i64> =
            (0..fates.len()).filter(|nth| fates[*nth] == Fate::Acked).map(|nth| nth as i64).collect();
        let mut elements = good.events.last().unwrap().value.int_list().unwrap();
        let gone = acked[at.index(acked.len())];
        let mut lost = good.clone();
        let left = elements.iter().copied().filter(|one| *one != gone);
        *last_read(&mut lost) = Value::ints(left);
        prop_assert!(check(&lost).kinds().contains(&"lost"));
        if let Some(failed) = fates.iter().position(|fate| *fate == Fate::Failed) {
            let mut back = good.clone();
            let more = elements.iter().copied().chain([failed as i64]);
            *last_read(&mut back) = Value::ints(more);
            prop_assert_eq!(check(&back).kinds(), ["resurrected"]);
        }
        let mut phantom = good.clone();
        *last_read(&mut phantom) = Value::ints(elements.iter().copied().chain([-7]));
        prop_assert_eq!(check(&phantom).kinds(), ["phantom"]);
        if let Some(one) = elements.first().copied() {
            elements.push(one);
            let mut twice = good.clone();
            *last_read(&mut twice) = Value::ints(elements);
            prop_assert_eq!(check(&twice).kinds(), ["duplicate"]);
        }
    }
}

#[test]
fn a_read_that_missed_what_came_back_was_stale() {
    let mut script = Script::default();
    script.whole(0, SetOp::Add(1));
    script.whole(1, SetOp::Read(Vec::new()));
    script.whole(1, SetOp::Read(vec![1]));
    assert_eq!(check(&script.history).kinds(), ["stale"]);
}

#[test]
fn a_set_that_nobody_read_at_the_end_is_not_judged() {
    let mut script = Script::default();
    script.whole(0, SetOp::Add(1));
    assert!(matches!(check(&script.history), Verdict::Unknown(_)));
    script.whole(1, SetOp::Read(vec![1]));
    script.whole(0, SetOp::Add(2));
    assert!(matches!(check(&script.history), Verdict::Unknown(_)));
}
