//! What clients asked, when, and what came of it.
//!
//! Written by the clients of one process, so that one clock and one order serve all of them; read by
//! the checkers. One line of JSON per event, or Jepsen's EDN ([`edn`]), which other checkers read.
//! Invariants, which [`History::operations`] checks: a client has one operation under way at most; a
//! completion names what was begun; a client whose operation ended in `info` is never heard of again,
//! for that operation may still take effect.

pub mod edn;
mod pair;
pub mod script;
mod value;

use serde::{Deserialize, Serialize};

pub use pair::{Done, Operation, Outcome};
pub use value::Value;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// A client.
    Client(u64),
    /// Who breaks things.
    Nemesis,
}

impl Serialize for Process {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Client(number) => serializer.serialize_u64(*number),
            Self::Nemesis => serializer.serialize_str(":nemesis"),
        }
    }
}

impl<'de> Deserialize<'de> for Process {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::of(&value).ok_or_else(|| serde::de::Error::custom("no process"))
    }
}

impl Process {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(number) => u64::try_from(*number).ok().map(Self::Client),
            Value::Word(word) if word == "nemesis" => Some(Self::Nemesis),
            _ => None,
        }
    }
}

/// What an event says of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It was done; the server said so.
    Ok,
    /// It was not done and never will be: certain.
    Fail,
    /// Whether it was or will be done is not known.
    Info,
}

impl Kind {
    /// As histories call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Place in the order of all events.
    pub index: u64,
    /// Nanoseconds since the run began.
    pub time: u64,
    /// Who acts.
    pub process: Process,
    /// Begin, or what came.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What is done.
    pub f: String,
    /// With what, and with what result.
    pub value: Value,
    /// Member that it was done on, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why it failed, or may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Timeline that the server wrote, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// The transaction's id on that server, where it changed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<u64>,
}

/// Events, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The events.
    pub events: Vec<Event>,
}

/// A history that cannot be read, or that no clients can have written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HistoryError {
    /// A line is no event.
    #[error("line {line} is no event: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Two events have no order.
    #[error("event {index} does not come after the one before it")]
    Order {
        /// Of the later one.
        index: u64,
    },
    /// A client began something while it was at something else.
    #[error("event {index}: {process:?} was at something else still")]
    Busy {
        /// Of the event.
        index: u64,
        /// The client.
        process: Process,
    },
    /// A client completed what it had not begun.
    #[error("event {index}: {process:?} had not begun this")]
    NotBegun {
        /// Of the event.
        index: u64,
        /// The client.
        process: Process,
    },
    /// A client acted after an operation of unknown fate.
    #[error("event {index}: {process:?} may not act again after an operation of unknown fate")]
    Retired {
        /// Of the event.
        index: u64,
        /// The client.
        process: Process,
    },
    /// An operation has a value that its workload does not know.
    #[error("event {index}: {f} with such a value is none of this workload")]
    Operation {
        /// Of the event.
        index: u64,
        /// What was to be done.
        f: String,
    },
}

impl History {
    /// Reads lines of JSON; empty ones are skipped.
    ///
    /// # Errors
    /// Which line is no event. A last line that was cut off by a kill is one too.
    pub fn parse(text: &str) -> Result<Self, HistoryError> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let events = lines.map(|(nth, line)| {
            serde_json::from_str(line)
                .map_err(|why| HistoryError::Line { line: nth + 1, why: why.to_string() })
        });
        Ok(Self { events: events.collect::<Result<_, _>>()? })
    }

    /// As lines of JSON.
    ///
    /// # Panics
    /// Never: an event has nothing that JSON lacks.
    pub fn to_json(&self) -> String {
        let line = |event: &Event| {
            let text = serde_json::to_string(event).expect("an event is representable");
            text + "\n"
        };
        self.events.iter().map(line).collect()
    }
}
