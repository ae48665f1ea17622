//! A counter per session: what a session has read once, it never reads less than again.

use std::collections::BTreeMap;

use super::{Anomaly, Verdict};
use crate::history::{Done, History, Operation, Outcome, Process, Value};

/// What a session does to its counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CounterOp {
    /// Adds one; what it then was, none while it is asked.
    Add(Option<i64>),
    /// Reads it; none while it is asked.
    Read(Option<i64>),
}

impl Operation for CounterOp {
    fn parse(f: &str, value: &Value) -> Option<Self> {
        let number = match value {
            Value::Nil => None,
            other => Some(other.int()?),
        };
        match f {
            "add" => Some(Self::Add(number)),
            "read" => Some(Self::Read(number)),
            _ => None,
        }
    }

    fn f(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Read(_) => "read",
        }
    }

    fn value(&self) -> Value {
        let (Self::Add(number) | Self::Read(number)) = self;
        number.map_or(Value::Nil, Value::Int)
    }
}

/// Judges sessions on the primary, each with a counter of its own that nobody else adds to.
pub fn check(history: &History) -> Verdict {
    let done = match history.operations::<CounterOp>() {
        Ok(done) => done,
        Err(error) => return error.into(),
    };
    let mut last: BTreeMap<Process, (i64, u64)> = BTreeMap::new();
    let (mut found, mut seen) = (Vec::new(), 0_usize);
    for one in &done {
        let Some((now, added)) = told(one) else { continue };
        seen += 1;
        if let Some((before, index)) = last.insert(one.process, (now, one.index))
            && now < before + i64::from(added)
        {
            found.push(Anomaly {
                kind: "went-back",
                text: format!("a session saw {before}, and {now} afterwards"),
                events: vec![index, one.index],
            });
        }
    }
    if seen == 0 {
        return Verdict::Unknown("no session saw its counter".to_owned());
    }
    Verdict::of(found, format!("{} sessions saw their counters {seen} times", last.len()))
}

/// What the session saw, and whether it had added one to it.
fn told(one: &Done<CounterOp>) -> Option<(i64, bool)> {
    match one.op {
        _ if one.outcome != Outcome::Ok => None,
        CounterOp::Add(now) => Some((now?, true)),
        CounterOp::Read(now) => Some((now?, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script::Script;

    #[test]
    fn a_counter_never_goes_back() {
        let (add, read) = (|n| CounterOp::Add(Some(n)), |n| CounterOp::Read(Some(n)));
        for (steps, good) in [
            (vec![add(1), read(1), add(2), add(4)], true),
            (vec![add(1), add(1)], false),
            (vec![add(1), add(2), read(1)], false),
            (vec![read(3), add(4), read(4)], true),
        ] {
            let mut script = Script::default();
            for (nth, step) in steps.into_iter().enumerate() {
                script.whole(7, step);
                script.whole(8, add(nth as i64));
            }
            let verdict = check(&script.history);
            assert_eq!(verdict.is_good(), good, "{verdict:?}");
        }
    }
}
