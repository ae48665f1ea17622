//! What is done in a run, one cycle after the other: drawn from a seed, or read from a file.
//!
//! Place: made by [`crate::run`], which writes what was begun into the run's directory as `schedule.json`;
//! [`crate::shrink`] leaves cycles out. Pure.
//! Invariants: a seed gives the same cycles wherever the same kinds can be done. What a cycle does beyond its
//! kind (who is struck, what comes beside it) follows from its own number and from who leads then.

use std::collections::VecDeque;
use std::time::Duration;

use howdah_tests::dice::Dice;
use serde::{Deserialize, Serialize};

use crate::nemesis::Nemesis;

/// Faults last at least and at most so long: shorter and longer than a lease of 5 s, and than three of them.
const LENGTHS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(16));

/// One fault of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// Which.
    pub fault: Nemesis,
    /// How long, where it takes time.
    pub length_ms: u64,
    /// Whence all else follows.
    pub number: u64,
}

impl Cycle {
    /// How long, where it takes time.
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms)
    }
}

/// Cycles in their order.
pub enum Schedule {
    /// Without an end.
    Drawn(Deck),
    /// Of a file.
    Given(VecDeque<Cycle>),
}

/// Each kind comes once before any comes again.
pub struct Deck {
    kinds: Vec<Nemesis>,
    hand: Vec<Nemesis>,
    dice: Dice,
}

impl Schedule {
    /// From a seed.
    pub fn drawn(seed: u64, kinds: &[Nemesis]) -> Self {
        Self::Drawn(Deck { kinds: kinds.to_vec(), hand: Vec::new(), dice: Dice(seed) })
    }

    /// From a list.
    ///
    /// # Errors
    /// Which of its faults is none of `kinds`: it would not be what the file says.
    pub fn given(cycles: &[Cycle], kinds: &[Nemesis]) -> Result<Self, String> {
        match cycles.iter().find(|cycle| !kinds.contains(&cycle.fault)) {
            Some(cycle) => Err(format!("{} cannot be done here", cycle.fault.name())),
            None => Ok(Self::Given(cycles.to_vec().into())),
        }
    }

    /// Whether it ends by itself.
    pub fn ends(&self) -> bool {
        matches!(self, Self::Given(_))
    }
}

impl Iterator for Schedule {
    type Item = Cycle;

    fn next(&mut self) -> Option<Cycle> {
        match self {
            Self::Drawn(deck) => deck.draw(),
            Self::Given(cycles) => cycles.pop_front(),
        }
    }
}

impl Deck {
    fn draw(&mut self) -> Option<Cycle> {
        if self.hand.is_empty() {
            self.hand.clone_from(&self.kinds);
        }
        let sides = Some(self.hand.len()).filter(|left| *left > 0)?;
        let fault = self.hand.swap_remove(self.dice.throw(sides));
        let length = self.dice.between(LENGTHS.0, LENGTHS.1);
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        // As many as a person may want to type.
        Some(Cycle { fault, length_ms, number: self.dice.throw(1 << 30) as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule_and_a_file_repeats_it() {
        let kinds = Nemesis::all();
        let drawn = |seed| -> Vec<Cycle> { Schedule::drawn(seed, &kinds).take(70).collect() };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let text = serde_json::to_string(&drawn(7)).unwrap();
        let read: Vec<Cycle> = serde_json::from_str(&text).unwrap();
        let given = Schedule::given(&read, &kinds).unwrap();
        assert_eq!(given.collect::<Vec<_>>(), drawn(7));
        assert!(text.starts_with(r#"[{"fault":""#), "{text}");
    }

    #[test]
    fn each_kind_comes_once_before_any_comes_again() {
        let kinds = Nemesis::all();
        let drawn: Vec<Cycle> = Schedule::drawn(3, &kinds).take(kinds.len()).collect();
        for kind in &kinds {
            assert_eq!(drawn.iter().filter(|cycle| cycle.fault == *kind).count(), 1, "{kind:?}");
        }
        assert_eq!(Schedule::drawn(3, &[]).next(), None);
    }

    #[test]
    fn what_cannot_be_done_here_or_is_unknown_is_refused() {
        let cycle = Cycle { fault: Nemesis::Full, length_ms: 1, number: 2 };
        let refused = Schedule::given(&[cycle], &[Nemesis::Deaf]).err();
        assert_eq!(refused.as_deref(), Some("Full cannot be done here"));
        let unknown = r#"[{"fault":"Earthquake","length_ms":1,"number":2}]"#;
        let why = serde_json::from_str::<Vec<Cycle>>(unknown).unwrap_err().to_string();
        assert!(why.contains("there is no fault `Earthquake`"), "{why}");
    }
}
