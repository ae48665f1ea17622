//! Operations: each begin with what came of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, History, HistoryError, Kind, Process, Value};

/// What a workload can do; each has a name and a value in histories.
pub trait Operation: Sized + Clone {
    /// Reads it.
    fn parse(f: &str, value: &Value) -> Option<Self>;
    /// Its name.
    fn f(&self) -> &'static str;
    /// What it is done with, or came to.
    fn value(&self) -> Value;
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was not done, and never will be.
    Fail,
    /// It was, will be, or never is done.
    Unknown,
}

/// An operation of a client, from its begin to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<O> {
    /// Who.
    pub process: Process,
    /// What: with its result where it was done, as it was asked otherwise.
    pub op: O,
    /// What came.
    pub outcome: Outcome,
    /// Index of its begin.
    pub index: u64,
    /// When it began, nanoseconds.
    pub called: u64,
    /// When its end was known; none: never.
    pub returned: Option<u64>,
    /// Member that did it, where known.
    pub node: Option<String>,
}

impl History {
    /// The operations of all clients, in the order of their begins. One that never completed is of
    /// unknown fate.
    ///
    /// # Errors
    /// That no clients can have written this: then no checker may be asked.
    pub fn operations<O: Operation>(&self) -> Result<Vec<Done<O>>, HistoryError> {
        let (mut done, mut open, mut retired) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let mut last = None;
        for event in &self.events {
            let now = (event.index, event.time);
            if last.is_some_and(|(index, time)| event.index <= index || event.time < time) {
                return Err(HistoryError::Order { index: event.index });
            }
            last = Some(now);
            let (index, process) = (event.index, event.process);
            if process == Process::Nemesis {
                continue;
            }
            if retired.contains(&process) {
                return Err(HistoryError::Retired { index, process });
            }
            if event.kind == Kind::Invoke {
                if open.insert(process, done.len()).is_some() {
                    return Err(HistoryError::Busy { index, process });
                }
                done.push(begun(event)?);
                continue;
            }
            let at = open.remove(&process).ok_or(HistoryError::NotBegun { index, process })?;
            complete(&mut done[at], event)?;
            if event.kind == Kind::Info {
                retired.insert(process);
            }
        }
        Ok(done)
    }
}

fn read<O: Operation>(event: &Event) -> Result<O, HistoryError> {
    let op = O::parse(&event.f, &event.value);
    op.ok_or_else(|| HistoryError::Operation { index: event.index, f: event.f.clone() })
}

fn begun<O: Operation>(event: &Event) -> Result<Done<O>, HistoryError> {
    Ok(Done {
        process: event.process,
        op: read(event)?,
        outcome: Outcome::Unknown,
        index: event.index,
        called: event.time,
        returned: None,
        node: event.node.clone(),
    })
}

fn complete<O: Operation>(done: &mut Done<O>, event: &Event) -> Result<(), HistoryError> {
    let op: O = read(event)?;
    if op.f() != done.op.f() {
        return Err(HistoryError::NotBegun { index: event.index, process: event.process });
    }
    match event.kind {
        Kind::Ok => {
            done.op = op;
            done.outcome = Outcome::Ok;
            done.returned = Some(event.time);
        }
        Kind::Fail => {
            done.outcome = Outcome::Fail;
            done.returned = Some(event.time);
        }
        Kind::Info | Kind::Invoke => {}
    }
    done.node = event.node.clone().or(done.node.take());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::edn;
    use super::*;
    use crate::check::set::SetOp;

    fn history(lines: &[(u64, Kind, &str, Value)]) -> History {
        let events = lines.iter().enumerate().map(|(nth, (process, kind, f, value))| Event {
            index: nth as u64,
            time: 10 * nth as u64,
            process: Process::Client(*process),
            kind: *kind,
            f: (*f).to_owned(),
            value: value.clone(),
            node: (*kind == Kind::Ok).then(|| "n1".to_owned()),
            error: (*kind == Kind::Info).then(|| "the connection \"broke\"".to_owned()),
            timeline: (*kind == Kind::Ok).then_some(3),
            xid: (*kind == Kind::Ok).then_some(1234),
        });
        History { events: events.collect() }
    }

    #[test]
    fn begins_meet_their_ends() {
        let (add, read) = (|v| Value::Int(v), Value::Nil);
        let history = history(&[
            (0, Kind::Invoke, "add", add(1)),
            (1, Kind::Invoke, "add", add(2)),
            (0, Kind::Ok, "add", add(1)),
            (2, Kind::Invoke, "read", read),
            (1, Kind::Info, "add", add(2)),
            (2, Kind::Ok, "read", Value::ints([1, 2])),
            (0, Kind::Invoke, "add", add(3)),
        ]);
        let done = history.operations::<SetOp>().unwrap();
        let told: Vec<_> =
            done.iter().map(|d| (d.op.clone(), d.outcome, d.called, d.returned)).collect();
        assert_eq!(
            told,
            [
                (SetOp::Add(1), Outcome::Ok, 0, Some(20)),
                (SetOp::Add(2), Outcome::Unknown, 10, None),
                (SetOp::Read(vec![1, 2]), Outcome::Ok, 30, Some(50)),
                (SetOp::Add(3), Outcome::Unknown, 60, None),
            ]
        );
        assert_eq!(History::parse(&history.to_json()).unwrap(), history);
        assert_eq!(edn::parse(&edn::print(&history)).unwrap(), history);
    }

    #[test]
    fn what_no_client_can_have_written_is_refused() {
        let add = |process, kind| (process, kind, "add", Value::Int(1));
        let busy = [add(0, Kind::Invoke), add(0, Kind::Invoke)];
        let unasked = [add(0, Kind::Ok)];
        let retired = [add(0, Kind::Invoke), add(0, Kind::Info), add(0, Kind::Invoke)];
        let other = [add(0, Kind::Invoke), (0, Kind::Ok, "read", Value::ints([1]))];
        let strange = [(0, Kind::Invoke, "add", Value::word("x"))];
        let process = Process::Client(0);
        for (lines, error) in [
            (&busy[..], HistoryError::Busy { index: 1, process }),
            (&unasked, HistoryError::NotBegun { index: 0, process }),
            (&retired, HistoryError::Retired { index: 2, process }),
            (&other, HistoryError::NotBegun { index: 1, process }),
            (&strange, HistoryError::Operation { index: 0, f: "add".into() }),
        ] {
            assert_eq!(history(lines).operations::<SetOp>().unwrap_err(), error);
        }
        let mut swapped = history(&[add(0, Kind::Invoke), add(0, Kind::Ok)]);
        swapped.events[1].time = 0;
        swapped.events[0].time = 5;
        let order = HistoryError::Order { index: 1 };
        assert_eq!(swapped.operations::<SetOp>().unwrap_err(), order);
    }
}
