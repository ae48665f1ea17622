//! Steps and preconditions of `switchover`, `failover` and `reinit`. Pure.

use howdah_rpc::control::{Check, Progress};
use serde::Serialize;

use super::table;

/// How an action ended, for programs.
#[derive(Debug, Default, Serialize)]
pub struct ActionView {
    done: bool,
    dry_run: bool,
    leader: Option<String>,
    steps: Vec<String>,
    checks: Vec<CheckView>,
}

#[derive(Debug, Serialize)]
struct CheckView {
    name: String,
    met: bool,
    detail: String,
}

impl ActionView {
    /// Nothing has happened yet.
    pub fn new(dry_run: bool) -> Self {
        Self { dry_run, ..Self::default() }
    }

    /// Takes one more step in.
    pub fn add(&mut self, step: &Progress) {
        if !step.text.is_empty() {
            self.steps.push(step.text.clone());
        }
        self.checks.extend(step.checks.iter().map(|check| CheckView {
            name: check.name.clone(),
            met: check.met,
            detail: check.detail.clone(),
        }));
        if step.finished {
            self.leader = (!step.leader.is_empty()).then(|| step.leader.clone());
            // A dry run does nothing; it is well if the action could be done.
            let met = self.checks.iter().all(|check| check.met);
            self.done = if self.dry_run { met } else { step.done };
        }
    }

    /// It did what was asked; for a dry run: it would.
    pub fn done(&self) -> bool {
        self.done
    }
}

/// Preconditions as a table.
pub fn checks(checks: &[Check]) -> String {
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            let met = if check.met { "met" } else { "NOT MET" };
            vec![met.to_owned(), check.name.clone(), check.detail.clone()]
        })
        .collect();
    table(&["", "Precondition", "Found"], &rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(finished: bool, done: bool, met: &[bool]) -> Progress {
        let checks = met.iter().map(|met| Check { met: *met, ..Check::default() }).collect();
        Progress { text: "x".to_owned(), finished, done, checks, ..Progress::default() }
    }

    #[test]
    fn a_dry_run_is_done_when_all_preconditions_are_met() {
        for (met, done) in [(&[true, true][..], true), (&[true, false], false)] {
            let mut view = ActionView::new(true);
            view.add(&step(true, false, met));
            assert_eq!(view.done(), done, "{met:?}");
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_not_done() {
        let mut view = ActionView::new(false);
        view.add(&step(false, false, &[]));
        assert!(!view.done());
        view.add(&step(true, true, &[]));
        assert!(view.done());
    }
}
