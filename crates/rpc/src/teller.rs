//! Tells of strangers now and then: a flood of them must not become a flood of lines.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most so often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Tells, and counts what it does not tell.
#[derive(Debug, Default)]
pub struct Teller(Mutex<(Option<Instant>, u64)>);

impl Teller {
    /// Tells this as a warning, or counts it.
    pub fn tell(&self, text: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            told.1 += 1;
            return;
        }
        let others = std::mem::take(&mut told.1);
        told.0 = Some(Instant::now());
        tracing::warn!(others, "{text}");
    }
}
