//! Every walk between synchronous pairs, with every interruption, over a small cluster: no
//! acknowledged commit can be missing from all ballots that close an election.
//!
//! The model is a primary and three standbys. One commit is watched: who has it, of the standbys.
//! Walsenders take a new demand one by one, so that for a while a commit may be acknowledged under
//! either; what was acknowledged before is flushed later, or never. What is wanted changes at any moment,
//! as often as it likes. A change of the log may be committed long before the primary sees it, and an
//! agent that is restarted forgets what it has proposed. The walk's production code is asked at each
//! state; mutants of it must be caught.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, VecDeque};

use howdah_core::DataId;
use howdah_core::sync::{Demand, InForce, Pair, Recorded, Standby, Step, next};

const STANDBYS: usize = 3;

/// A set of standbys as bits.
type Bits = u8;

fn set(bits: Bits) -> BTreeSet<Standby> {
    let member = |nth: usize| Standby {
        member: format!("n{nth}").as_str().into(),
        data_id: DataId(nth as u64),
    };
    (0..STANDBYS).filter(|nth| bits & (1 << nth) != 0).map(member).collect()
}

fn bits(set: &BTreeSet<Standby>) -> Bits {
    set.iter().map(|standby| 1 << standby.data_id.0).sum()
}

/// ANY n (of).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Any {
    n: u32,
    of: Bits,
}

impl Any {
    fn met_by(self, holders: Bits) -> bool {
        (holders & self.of).count_ones() >= self.n
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// As the primary has applied it.
    recorded: Any,
    /// A proposal that names `recorded` as the last change: it may have been committed, unseen.
    on_its_way: Option<Any>,
    /// The primary's agent knows that there is none.
    settled: bool,
    set: Any,
    /// The demand that some walsenders may still go by.
    before: Option<Any>,
    flushed: bool,
    wanted: Any,
    /// Standbys that have the watched commit; none: not acknowledged yet.
    holders: Option<Bits>,
}

fn wishes() -> Vec<Any> {
    let of = 1..(1 << STANDBYS) as Bits;
    of.flat_map(|of| (1..=of.count_ones()).map(move |n| Any { n, of })).collect()
}

type WalkFn = dyn Fn(&Recorded<'_>, &InForce<'_>, &Demand) -> Step;

fn step(state: &State, walk: &WalkFn) -> Step {
    let pair = Pair { votes: state.recorded.n as usize, voters: set(state.recorded.of) };
    let recorded = Recorded { pair: &pair, settled: state.settled };
    let demand = |any: Any| Demand { acks: any.n as usize, standbys: set(any.of) };
    let (everywhere, flushed) = (state.before.is_none(), state.flushed);
    let in_force = InForce { demand: &demand(state.set), everywhere, flushed };
    walk(&recorded, &in_force, &demand(state.wanted))
}

/// All states that may come after this one.
fn after(state: &State, walk: &WalkFn) -> Vec<State> {
    let mut found: Vec<State> =
        wishes().into_iter().map(|wanted| State { wanted, ..*state }).collect();
    // The watched commit is acknowledged, under any demand that some walsender goes by.
    if state.holders.is_none() {
        let demands = [Some(state.set), state.before];
        for holders in 0..(1 << STANDBYS) as Bits {
            if demands.iter().flatten().any(|demand| demand.met_by(holders)) {
                found.push(State { holders: Some(holders), ..*state });
            }
        }
    }
    match step(state, walk) {
        Step::Record(pair) => {
            let recorded = Any { n: u32::try_from(pair.votes).unwrap(), of: bits(&pair.voters) };
            // It is proposed, and seen to be applied, which voids whatever else was on its way; or
            // no answer comes.
            found.push(State { recorded, on_its_way: None, settled: true, ..*state });
            if state.on_its_way.is_none() {
                found.push(State { on_its_way: Some(recorded), settled: false, ..*state });
            }
        }
        Step::Demand(demand) => {
            assert!(state.before.is_none(), "three demands at a time: {state:?}");
            let new = Any { n: u32::try_from(demand.acks).unwrap(), of: bits(&demand.standbys) };
            let before = Some(state.set);
            found.push(State { set: new, before, flushed: false, ..*state });
        }
        _ => {}
    }
    // What was on its way is seen to be applied, or its agent is restarted and forgets.
    if let Some(recorded) = state.on_its_way {
        found.push(State { recorded, on_its_way: None, settled: false, ..*state });
    }
    found.push(State { settled: false, ..*state });
    // What happens by itself: the last walsender takes the demand, and later all is flushed by it.
    if state.before.is_some() {
        found.push(State { before: None, ..*state });
    } else if !state.flushed {
        let more = |holders: Bits| (0..(1 << STANDBYS) as Bits).map(move |bits| bits | holders);
        match state.holders {
            None => found.push(State { flushed: true, ..*state }),
            Some(holders) => {
                found.extend(
                    more(holders)
                        .filter(|holders| state.set.met_by(*holders))
                        .map(|holders| State { flushed: true, holders: Some(holders), ..*state }),
                )
            }
        }
    }
    found
}

/// Whether ballots that close an election may all be of members without the commit.
fn can_lose(state: &State) -> bool {
    let Some(holders) = state.holders else { return false };
    let loses = |pair: Any| (pair.of & !holders).count_ones() >= pair.n;
    loses(state.recorded) || state.on_its_way.is_some_and(loses)
}

fn begin(wish: Any) -> State {
    let of = wish.of;
    let recorded = Any { n: of.count_ones() - wish.n + 1, of };
    State {
        recorded,
        on_its_way: None,
        settled: true,
        set: wish,
        before: None,
        flushed: true,
        wanted: wish,
        holders: None,
    }
}

/// Every state that can be reached, or the first in which a commit can be lost.
fn explore(walk: &WalkFn) -> Result<BTreeSet<State>, State> {
    let mut known: BTreeSet<State> = wishes().into_iter().map(begin).collect();
    let mut open: VecDeque<State> = known.iter().copied().collect();
    while let Some(state) = open.pop_front() {
        for later in after(&state, walk) {
            if can_lose(&later) {
                return Err(later);
            }
            if known.insert(later) {
                open.push_back(later);
            }
        }
    }
    Ok(known)
}

#[test]
fn no_walk_loses_an_acknowledged_commit_and_every_one_arrives() {
    let states = explore(&next).unwrap_or_else(|state| panic!("a commit can be lost: {state:?}"));
    assert!(states.len() > 10_000, "only {} states were seen", states.len());
    for state in &states {
        assert!(
            state.recorded.n <= state.recorded.of.count_ones(),
            "no election could ever close: {state:?}"
        );
        let mut at = *state;
        for nth in 0.. {
            assert!(nth < 8, "the walk does not arrive: {state:?}");
            let later = match step(&at, &next) {
                Step::Arrived => break,
                Step::Record(pair) => State {
                    recorded: Any { n: u32::try_from(pair.votes).unwrap(), of: bits(&pair.voters) },
                    on_its_way: None,
                    settled: true,
                    ..at
                },
                Step::Demand(demand) => State {
                    set: Any { n: u32::try_from(demand.acks).unwrap(), of: bits(&demand.standbys) },
                    before: Some(at.set),
                    flushed: false,
                    ..at
                },
                Step::ProveEverywhere => State { before: None, ..at },
                Step::ProveFlushed => State { flushed: true, ..at },
            };
            assert_ne!(at, later, "the walk stands still: {state:?}");
            at = later;
        }
        assert_eq!((at.set, at.recorded), (at.wanted, begin(at.wanted).recorded), "{state:?}");
    }
    println!("{} states", states.len());
}

#[test]
fn a_walk_with_a_rule_left_out_is_caught() {
    type Walk = fn(&Recorded<'_>, &InForce<'_>, &Demand) -> Step;
    let mutants: [(&str, Walk); 7] = [
        ("less is asked of commits while a change is on its way", |recorded, in_force, wanted| {
            next(&Recorded { settled: true, ..recorded.clone() }, in_force, wanted)
        }),
        ("one vote too few", |recorded, in_force, wanted| match next(recorded, in_force, wanted) {
            Step::Record(pair) => Step::Record(Pair { votes: pair.votes - 1, ..pair }),
            other => other,
        }),
        ("the demand before the log", |recorded, in_force, wanted| {
            if in_force.demand == wanted || !in_force.everywhere {
                next(recorded, in_force, wanted)
            } else {
                Step::Demand(wanted.clone())
            }
        }),
        (
            "less is asked of elections before all is flushed",
            |recorded, in_force, wanted| match next(recorded, in_force, wanted) {
                Step::ProveFlushed => Step::Record(wanted.pair()),
                other => other,
            },
        ),
        ("and before every walsender goes by it", |recorded, in_force, wanted| {
            match next(recorded, in_force, wanted) {
                Step::ProveEverywhere if in_force.demand == wanted => Step::Record(wanted.pair()),
                other => other,
            }
        }),
        ("new voters without more votes", |recorded, in_force, wanted| {
            match next(recorded, in_force, wanted) {
                Step::Record(pair) if in_force.demand != wanted => {
                    let all = pair.voters.union(&in_force.demand.standbys).count();
                    let least = |demand: &Demand| all + 1 - demand.acks;
                    let votes = least(in_force.demand).max(least(wanted));
                    let smaller = Pair { votes, ..pair };
                    if *recorded.pair != smaller || !recorded.settled {
                        Step::Record(smaller)
                    } else if in_force.everywhere {
                        Step::Demand(wanted.clone())
                    } else {
                        Step::ProveEverywhere
                    }
                }
                other => other,
            }
        }),
        ("members out of the log too early", |recorded, in_force, wanted| {
            let goal = wanted.pair();
            if *recorded.pair == goal {
                next(recorded, in_force, wanted)
            } else {
                Step::Record(goal)
            }
        }),
    ];
    for (name, walk) in mutants {
        assert!(explore(&walk).is_err(), "nobody notices: {name}");
    }
}
