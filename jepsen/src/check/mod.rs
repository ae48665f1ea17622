//! Checkers: each looks for an explanation of a history, and says what has none.
//!
//! Invariant: what cannot be judged, for want of time or of acknowledgements, is `Unknown`, never good.

pub mod append;
pub mod bank;
pub mod counter;
pub mod gaps;
pub mod lost;
pub mod primaries;
pub mod register;
pub mod set;

use crate::history::HistoryError;

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anomaly {
    /// Its name in the literature, or a word of ours.
    pub kind: &'static str,
    /// What shows it, in a sentence.
    pub text: String,
    /// Indices of the events that show it.
    pub events: Vec<u64>,
}

/// What a checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is explained; what was counted.
    Good(String),
    /// What has no explanation, the gravest first.
    Bad(Vec<Anomaly>),
    /// It cannot be told, and why.
    Unknown(String),
}

impl Verdict {
    /// Good, unless something was found.
    pub(crate) fn of(anomalies: Vec<Anomaly>, counted: String) -> Self {
        if anomalies.is_empty() { Self::Good(counted) } else { Self::Bad(anomalies) }
    }

    /// Whether there is nothing to be found.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }

    /// The kinds of what was found.
    pub fn kinds(&self) -> Vec<&'static str> {
        match self {
            Self::Bad(anomalies) => anomalies.iter().map(|anomaly| anomaly.kind).collect(),
            _ => Vec::new(),
        }
    }
}

impl From<HistoryError> for Verdict {
    fn from(error: HistoryError) -> Self {
        Self::Unknown(format!("the history cannot be checked: {error}"))
    }
}

/// At most some of them, for people.
fn some<T: ToString>(all: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = all.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &tail
}
