//! Writes down what clients do, while they do it: in memory for the checkers, and line by line into a
//! file, so that a run that is killed leaves what it saw.
//!
//! Called by all clients of one process. Invariant: an operation stands in the file before it is sent.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::history::{Event, History, Kind, Operation, Process};

/// What is known of an event beside the operation.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// Member that it was done on.
    pub node: Option<String>,
    /// Why it failed, or may have.
    pub error: Option<String>,
    /// Timeline that the server wrote.
    pub timeline: Option<u32>,
    /// Its id there, if it changed something.
    pub xid: Option<u64>,
}

/// A history that is being written.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    history: History,
    /// When operations were acknowledged, in their order.
    acked: Vec<u64>,
    file: File,
    failed: Option<io::Error>,
}

impl Recorder {
    /// A history that began at `began`, in a new file.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path, began: Instant) -> io::Result<Self> {
        let file = File::create(path)?;
        let inner = Inner { history: History::default(), acked: Vec::new(), file, failed: None };
        Ok(Self { began, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes an event down; its index.
    pub fn write(&self, process: Process, kind: Kind, op: &impl Operation, note: Note) -> u64 {
        let mut inner = self.inner();
        // Under the lock, so that times and indices have one order.
        let event = Event {
            index: inner.history.events.len() as u64,
            time: self.now(),
            process,
            kind,
            f: op.f().to_owned(),
            value: op.value(),
            node: note.node,
            error: note.error,
            timeline: note.timeline,
            xid: note.xid,
        };
        let written = serde_json::to_vec(&event).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            inner.file.write_all(&line)
        });
        if let Err(why) = written {
            inner.failed.get_or_insert(why);
        }
        let index = event.index;
        if kind == Kind::Ok {
            inner.acked.push(event.time);
        }
        inner.history.events.push(event);
        index
    }

    /// How many operations were acknowledged so far.
    pub fn acks(&self) -> usize {
        self.inner().acked.len()
    }

    /// When operations were acknowledged since `from`, nanoseconds, and the last time before that.
    pub fn acked_since(&self, from: u64) -> Vec<u64> {
        let inner = self.inner();
        let first = inner.acked.partition_point(|at| *at <= from);
        inner.acked[first.saturating_sub(1)..].to_vec()
    }

    /// What was written so far.
    ///
    /// # Errors
    /// If the file could not be written: then the history is not what a later look would find.
    pub fn history(&self) -> io::Result<History> {
        let mut inner = self.inner();
        match inner.failed.take() {
            Some(why) => Err(why),
            None => Ok(inner.history.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::counter::CounterOp;

    #[test]
    fn the_file_holds_what_memory_holds() {
        let dir = std::env::temp_dir().join(format!("storm-record-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("counter.jsonl");
        let recorder = Recorder::create(&path, Instant::now()).unwrap();
        let node = Some("n1".to_owned());
        recorder.write(Process::Client(1), Kind::Invoke, &CounterOp::Add(None), Note::default());
        let note = Note { node, timeline: Some(3), ..Note::default() };
        recorder.write(Process::Client(1), Kind::Ok, &CounterOp::Add(Some(1)), note);
        let history = recorder.history().unwrap();
        assert_eq!((history.events.len(), recorder.acks()), (2, 1));
        let acked = history.events[1].time;
        assert_eq!(recorder.acked_since(0), [acked]);
        assert_eq!(recorder.acked_since(acked + 1), [acked]);
        assert!(history.events[0].time <= history.events[1].time);
        assert_eq!(History::parse(&std::fs::read_to_string(&path).unwrap()).unwrap(), history);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
