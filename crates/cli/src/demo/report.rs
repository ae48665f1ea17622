//! What a tour found. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::output::{bytes, table};

/// The whole tour.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ttl_ms: u64,
    pub(crate) held: bool,
    pub(crate) steps: Vec<StepReport>,
}

/// One fault and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct StepReport {
    pub(crate) step: &'static str,
    pub(crate) leader_before: String,
    pub(crate) leader_after: String,
    /// Longest time without an acknowledged write.
    pub(crate) outage_ms: u64,
    /// From the fault until the former leader was whole again.
    pub(crate) old_primary_back_ms: u64,
    pub(crate) rows_lost: u64,
    /// Bytes of log between the first lost row and the last.
    pub(crate) bytes_lost: u64,
    /// Why the leader leads now.
    pub(crate) explanation: Vec<String>,
    /// What was expected and did not come; empty when all held.
    pub(crate) broken: Vec<String>,
}

/// What a step must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    /// Whether somebody else must lead afterwards; `None`: either is fine.
    pub(crate) leader_changes: Option<bool>,
    pub(crate) outage_most: Duration,
    pub(crate) bytes_lost_most: u64,
}

impl StepReport {
    /// Compares with what was expected.
    pub(crate) fn judge(&mut self, expected: &Expectation) {
        let changed = self.leader_before != self.leader_after;
        match expected.leader_changes {
            Some(true) if !changed => self.broken.push("nobody else took over".to_owned()),
            Some(false) if changed => self.broken.push("leadership changed".to_owned()),
            _ => {}
        }
        let most = expected.outage_most.as_millis();
        if u128::from(self.outage_ms) > most {
            self.broken.push(format!("outage {} ms, at most {most} expected", self.outage_ms));
        }
        let too_much = self.bytes_lost > expected.bytes_lost_most;
        if too_much || (self.rows_lost > 0 && expected.bytes_lost_most == 0) {
            self.broken.push(format!(
                "{} rows lost ({} bytes), at most {} bytes expected",
                self.rows_lost, self.bytes_lost, expected.bytes_lost_most
            ));
        }
    }

    /// The step in some lines for people, as soon as it is over.
    pub(crate) fn lines(&self) -> String {
        let mut text = format!(
            "  outage {}, leader {} -> {}, {} whole again after {}, {} rows lost\n",
            seconds(self.outage_ms),
            self.leader_before,
            self.leader_after,
            self.leader_before,
            seconds(self.old_primary_back_ms),
            self.rows_lost
        );
        for line in &self.explanation {
            let _ = writeln!(text, "  {line}");
        }
        for broken in &self.broken {
            let _ = writeln!(text, "  NOT AS EXPECTED: {broken}");
        }
        text
    }
}

impl Report {
    pub(crate) fn new(ttl: Duration, steps: Vec<StepReport>) -> Report {
        let held = steps.iter().all(|step| step.broken.is_empty());
        Report { ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX), held, steps }
    }

    /// Every expectation held.
    pub(crate) fn held(&self) -> bool {
        self.held
    }

    /// The table at the end.
    pub(crate) fn table(&self) -> String {
        let row = |step: &StepReport| {
            vec![
                step.step.to_owned(),
                format!("{} -> {}", step.leader_before, step.leader_after),
                seconds(step.outage_ms),
                seconds(step.old_primary_back_ms),
                step.rows_lost.to_string(),
                bytes(step.bytes_lost),
                if step.broken.is_empty() { "yes".to_owned() } else { step.broken.join("; ") },
            ]
        };
        let rows: Vec<Vec<String>> = self.steps.iter().map(row).collect();
        let header =
            ["Step", "Leader", "Outage", "Back after", "Rows lost", "Bytes", "As expected"];
        table(&header, &rows, &[2, 3, 4, 5])
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> StepReport {
        StepReport {
            step: "switchover",
            leader_before: "n1".to_owned(),
            leader_after: "n2".to_owned(),
            outage_ms: 1250,
            old_primary_back_ms: 3001,
            rows_lost: 0,
            bytes_lost: 0,
            explanation: vec!["n2 leads since epoch 2".to_owned()],
            broken: Vec::new(),
        }
    }

    const STRICT: Expectation = Expectation {
        leader_changes: Some(true),
        outage_most: Duration::from_secs(2),
        bytes_lost_most: 0,
    };

    #[test]
    fn one_lost_row_breaks_a_step_that_must_lose_none() {
        let mut good = step();
        good.judge(&STRICT);
        assert_eq!(good.broken, Vec::<String>::new());
        // The log position of one row spans no bytes; the row is lost all the same.
        let mut bad = StepReport { rows_lost: 1, ..step() };
        bad.judge(&STRICT);
        assert_eq!(bad.broken.len(), 1);
        let lenient = Expectation { bytes_lost_most: 1024, ..STRICT };
        let mut within = StepReport { rows_lost: 3, bytes_lost: 1024, ..step() };
        within.judge(&lenient);
        assert!(within.broken.is_empty());
        let mut beyond = StepReport { rows_lost: 3, bytes_lost: 1025, ..step() };
        beyond.judge(&lenient);
        assert_eq!(beyond.broken.len(), 1);
    }

    #[test]
    fn outages_and_leaders_are_judged() {
        let mut slow = StepReport { outage_ms: 2001, ..step() };
        slow.judge(&STRICT);
        assert_eq!(slow.broken.len(), 1);
        let mut stayed = StepReport { leader_after: "n1".to_owned(), ..step() };
        stayed.judge(&STRICT);
        assert_eq!(stayed.broken, ["nobody else took over"]);
        let mut moved = step();
        moved.judge(&Expectation { leader_changes: Some(false), ..STRICT });
        assert_eq!(moved.broken, ["leadership changed"]);
    }

    #[test]
    fn the_table_shows_one_row_for_each_step() {
        let report = Report::new(Duration::from_secs(5), vec![step()]);
        assert!(report.held());
        let text = report.table();
        assert!(text.contains("switchover  n1 -> n2  1.250 s     3.001 s"), "{text}");
        let mut broken = step();
        broken.broken.push("x".to_owned());
        assert!(!Report::new(Duration::from_secs(5), vec![broken]).held());
    }
}
