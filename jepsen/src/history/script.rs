//! A history that is written step by step, for tests and for generators of histories.

use super::{Event, History, Kind, Operation, Process};

/// Nanoseconds between two events.
const STEP: u64 = 1000;

/// A history in the making; each event comes one step after the last.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// What was written so far.
    pub history: History,
}

impl Script {
    /// A client begins.
    pub fn begin(&mut self, process: Process, op: &impl Operation) {
        self.write(process, Kind::Invoke, op);
    }

    /// What came of it.
    pub fn end(&mut self, process: Process, kind: Kind, op: &impl Operation) {
        self.write(process, kind, op);
    }

    /// A client does something that nothing else overlaps.
    pub fn whole(&mut self, client: u64, op: impl Operation) {
        self.begin(Process::Client(client), &op);
        self.end(Process::Client(client), Kind::Ok, &op);
    }

    fn write(&mut self, process: Process, kind: Kind, op: &impl Operation) {
        let index = self.history.events.len() as u64;
        self.history.events.push(Event {
            index,
            time: index * STEP,
            process,
            kind,
            f: op.f().to_owned(),
            value: op.value(),
            node: None,
            error: None,
            timeline: None,
            xid: None,
        });
    }
}
