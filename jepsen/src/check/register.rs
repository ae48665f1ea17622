//! Registers: is there an order of all operations, each between its begin and its end, in which every
//! read sees the last write? Searched per key by the algorithm of Wing and Gong with Lowe's memory.
//!
//! An operation of unknown fate may stand anywhere after its begin, or nowhere. The search is cut off
//! after so many steps; then the answer is `Unknown`.

use std::collections::{BTreeMap, HashSet};

use super::{Anomaly, Verdict, some};
use crate::history::{Done, History, Operation, Outcome, Value};

/// What clients do to a register, by its key. A register that was never written holds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterOp {
    /// Reads; nothing while it is asked, too.
    Read(i64, Option<i64>),
    /// Writes.
    Write(i64, i64),
    /// Writes the second value where the first one stands; fails otherwise.
    Cas(i64, i64, i64),
}

impl Operation for RegisterOp {
    fn parse(f: &str, value: &Value) -> Option<Self> {
        let [Value::Int(key), value] = value.list()? else { return None };
        match (f, value) {
            ("read", Value::Nil) => Some(Self::Read(*key, None)),
            ("read", Value::Int(value)) => Some(Self::Read(*key, Some(*value))),
            ("write", Value::Int(value)) => Some(Self::Write(*key, *value)),
            ("cas", pair) => match pair.int_list()?[..] {
                [old, new] => Some(Self::Cas(*key, old, new)),
                _ => None,
            },
            _ => None,
        }
    }

    fn f(&self) -> &'static str {
        match self {
            Self::Read(..) => "read",
            Self::Write(..) => "write",
            Self::Cas(..) => "cas",
        }
    }

    fn value(&self) -> Value {
        let value = match self {
            Self::Read(_, value) => value.map_or(Value::Nil, Value::Int),
            Self::Write(_, value) => Value::Int(*value),
            Self::Cas(_, old, new) => Value::ints([*old, *new]),
        };
        Value::List(vec![Value::Int(self.key()), value])
    }
}

impl RegisterOp {
    /// Which register.
    pub fn key(&self) -> i64 {
        let (Self::Read(key, _) | Self::Write(key, _) | Self::Cas(key, ..)) = self;
        *key
    }

    /// What it holds afterwards, if the operation can be done, with its result, on what it holds now.
    fn step(&self, now: Option<i64>) -> Option<Option<i64>> {
        match self {
            Self::Read(_, seen) => (*seen == now).then_some(now),
            Self::Write(_, value) => Some(Some(*value)),
            Self::Cas(_, old, new) => (Some(*old) == now).then_some(Some(*new)),
        }
    }
}

/// Judges every register by itself, with at most `steps` steps of the search for each.
pub fn check(history: &History, steps: usize) -> Verdict {
    let done = match history.operations::<RegisterOp>() {
        Ok(done) => done,
        Err(error) => return error.into(),
    };
    let mut registers: BTreeMap<i64, Vec<Done<RegisterOp>>> = BTreeMap::new();
    let count = done.len();
    for one in done.into_iter().filter(matters) {
        registers.entry(one.op.key()).or_default().push(one);
    }
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for (key, operations) in &registers {
        match Search::of(operations).run(steps) {
            Found::Order => {}
            Found::None(stuck) => found.push(Anomaly {
                kind: "not-linearizable",
                text: format!(
                    "register {key}: no order explains {}",
                    told(operations.iter().find(|one| one.index == stuck))
                ),
                events: vec![stuck],
            }),
            Found::TooLong => open.push(*key),
        }
    }
    if found.is_empty() && !open.is_empty() {
        return Verdict::Unknown(format!("no order was found in time for {}", some(&open)));
    }
    if registers.is_empty() {
        return Verdict::Unknown("nothing was done to a register".to_owned());
    }
    Verdict::of(found, format!("{count} operations on {} registers", registers.len()))
}

/// What failed was not done, and a read of unknown fate says nothing.
fn matters(one: &Done<RegisterOp>) -> bool {
    match one.outcome {
        Outcome::Ok => true,
        Outcome::Fail => false,
        Outcome::Unknown => !matches!(one.op, RegisterOp::Read(..)),
    }
}

fn told(one: Option<&Done<RegisterOp>>) -> String {
    one.map(|one| format!("{:?} by {:?}, event {}", one.op, one.process, one.index))
        .unwrap_or_default()
}

enum Found {
    Order,
    /// Index of the operation that no order reached.
    None(u64),
    TooLong,
}

/// Begins and ends in their order, as a list from which operations are taken and put back. Place 0 is
/// before the first, the last one is behind the last.
struct Search<'a> {
    operations: &'a [Done<RegisterOp>],
    /// Operation, and whether this is its end.
    entries: Vec<(usize, bool)>,
    next: Vec<usize>,
    before: Vec<usize>,
    /// Places of each operation's begin and end.
    begin: Vec<usize>,
    end: Vec<Option<usize>>,
    /// Ends that are still in the list.
    ends: usize,
}

impl<'a> Search<'a> {
    fn of(operations: &'a [Done<RegisterOp>]) -> Self {
        let begins = operations.iter().enumerate().map(|(nth, one)| (one.called, nth, false));
        let ends =
            operations.iter().enumerate().filter_map(|(nth, one)| Some((one.returned?, nth, true)));
        let mut entries: Vec<(u64, bool, usize)> =
            begins.chain(ends).map(|(time, nth, end)| (time, end, nth)).collect();
        // What begins in the moment in which something else ends overlaps it.
        entries.sort_unstable();
        let (mut begin, mut end) = (vec![0; operations.len()], vec![None; operations.len()]);
        let mut list = vec![(usize::MAX, false)];
        for (_, is_end, nth) in entries {
            if is_end {
                end[nth] = Some(list.len());
            } else {
                begin[nth] = list.len();
            }
            list.push((nth, is_end));
        }
        let places = list.len() + 1;
        Self {
            ends: end.iter().flatten().count(),
            operations,
            entries: list,
            next: (1..=places).collect(),
            before: (0..places).map(|place| place.saturating_sub(1)).collect(),
            begin,
            end,
        }
    }

    fn take(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn put_back(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = place;
        self.before[next] = place;
    }

    fn lift(&mut self, operation: usize) {
        self.take(self.begin[operation]);
        if let Some(end) = self.end[operation] {
            self.take(end);
            self.ends -= 1;
        }
    }

    fn unlift(&mut self, operation: usize) {
        if let Some(end) = self.end[operation] {
            self.put_back(end);
            self.ends += 1;
        }
        self.put_back(self.begin[operation]);
    }

    fn run(mut self, steps: usize) -> Found {
        let mut placed = vec![0_u64; self.operations.len().div_ceil(64)];
        let mut known: HashSet<(Vec<u64>, Option<i64>)> = HashSet::new();
        let mut stack: Vec<(usize, Option<i64>)> = Vec::new();
        let (mut state, mut at, mut farthest) = (None, self.next[0], (0, 0));
        for _ in 0..steps {
            if self.ends == 0 {
                return Found::Order;
            }
            let (operation, is_end) = self.entries[at];
            if is_end {
                // Nothing placed so far lets this one be done before its end.
                farthest = farthest.max((stack.len(), self.operations[operation].index));
                let Some((last, earlier)) = stack.pop() else {
                    return Found::None(farthest.1);
                };
                state = earlier;
                placed[last / 64] &= !(1 << (last % 64));
                self.unlift(last);
                at = self.next[self.begin[last]];
                continue;
            }
            let stepped = self.operations[operation].op.step(state);
            if let Some(after) = stepped {
                placed[operation / 64] |= 1 << (operation % 64);
                if known.insert((placed.clone(), after)) {
                    stack.push((operation, state));
                    state = after;
                    self.lift(operation);
                    at = self.next[0];
                    continue;
                }
                placed[operation / 64] &= !(1 << (operation % 64));
            }
            at = self.next[at];
        }
        Found::TooLong
    }
}
