//! Lists that transactions append to and read: from what was read follows who came after whom, and a
//! cycle in that is a history that no isolation of the wanted level allows. After Kingsbury and Alvaro,
//! "Elle" (VLDB 2020).
//!
//! Every element is appended once, so that a read names the transactions that it saw. The order of the
//! versions of a list is the longest read of it. What was acknowledged after the last read of a list is not
//! judged, and said to be unknown: a history ends with reads of all lists.

mod cycles;
mod graph;
mod reads;

pub use cycles::Level;

use super::{Anomaly, Verdict};
use crate::history::{History, Operation, Value};

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Appends an element to a list.
    Append(i64, i64),
    /// Reads a list; none while it is asked.
    Read(i64, Option<Vec<i64>>),
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn(pub Vec<Step>);

impl Operation for Txn {
    fn parse(f: &str, value: &Value) -> Option<Self> {
        let steps = value.list().filter(|_| f == "txn")?;
        steps.iter().map(step).collect::<Option<_>>().map(Self)
    }

    fn f(&self) -> &'static str {
        "txn"
    }

    fn value(&self) -> Value {
        let show = |step: &Step| {
            Value::List(match step {
                Step::Append(key, element) => {
                    vec![Value::word("append"), Value::Int(*key), Value::Int(*element)]
                }
                Step::Read(key, read) => {
                    let read = read.as_ref().map(|list| Value::ints(list.iter().copied()));
                    vec![Value::word("r"), Value::Int(*key), read.unwrap_or(Value::Nil)]
                }
            })
        };
        Value::List(self.0.iter().map(show).collect())
    }
}

fn step(value: &Value) -> Option<Step> {
    let [Value::Word(what), Value::Int(key), value] = value.list()? else { return None };
    match (what.as_str(), value) {
        ("append", Value::Int(element)) => Some(Step::Append(*key, *element)),
        ("r", Value::Nil) => Some(Step::Read(*key, None)),
        ("r", list) => list.int_list().map(|list| Step::Read(*key, Some(list))),
        _ => None,
    }
}

/// Judges transactions that ran under `level`.
pub fn check(history: &History, level: Level) -> Verdict {
    let done = match history.operations::<Txn>() {
        Ok(done) => done,
        Err(error) => return error.into(),
    };
    let lists = match reads::Lists::of(&done) {
        Ok(lists) => lists,
        Err(why) => return Verdict::Unknown(why),
    };
    if lists.orders.is_empty() {
        return Verdict::Unknown("nobody read a list".to_owned());
    }
    let mut found: Vec<Anomaly> = reads::judge(&done, &lists);
    let graph = graph::of(&done, &lists);
    found.extend(cycles::find(&graph, &done, level));
    let unread = lists.unread(&done);
    if found.is_empty() && unread > 0 {
        return Verdict::Unknown(format!(
            "{unread} acknowledged appends are on lists that nobody read afterwards"
        ));
    }
    let counted = format!(
        "{} transactions, {} of them committed, {} lists, {} edges",
        done.len(),
        lists.committed.iter().filter(|committed| **committed).count(),
        lists.orders.len(),
        graph.edge_count()
    );
    Verdict::of(found, counted)
}
