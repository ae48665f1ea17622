//! One line at the bottom of a terminal that says how far a run is; nothing where nobody looks.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Width of the bar.
const WIDTH: usize = 24;
/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// The line.
pub struct Progress {
    shown: bool,
    began: Instant,
    length: Duration,
}

impl Progress {
    /// Of a run that takes about `length`.
    pub fn new(length: Duration) -> Self {
        Self { shown: stderr().is_terminal(), began: Instant::now(), length }
    }

    /// Shows it while `work` goes on, and takes it away.
    pub async fn during<T>(
        &self,
        work: impl Future<Output = T>,
        counted: impl Fn() -> String,
    ) -> T {
        if !self.shown {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        let mut looks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                done = &mut work => {
                    put("");
                    return done;
                }
                _ = looks.tick() => put(&line(self.began.elapsed(), self.length, &counted())),
            }
        }
    }
}

/// In place of what stood there. A terminal that is gone is no reason to end a run.
fn put(text: &str) {
    let mut terminal = stderr().lock();
    let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
}

fn line(passed: Duration, length: Duration, counted: &str) -> String {
    let share = passed.as_secs_f64() / length.as_secs_f64().max(0.001);
    let full = ((share * WIDTH as f64) as usize).min(WIDTH);
    let clock = |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    format!(
        "[{}{}] {} of {}, {counted}",
        "#".repeat(full),
        " ".repeat(WIDTH - full),
        clock(passed),
        clock(length)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_it_is() {
        let half = line(Duration::from_secs(90), Duration::from_secs(180), "7 faults");
        assert_eq!(half, "[############            ] 1:30 of 3:00, 7 faults");
        let beyond = line(Duration::from_secs(200), Duration::from_secs(180), "");
        assert!(beyond.starts_with("[########################]"), "{beyond}");
    }
}
