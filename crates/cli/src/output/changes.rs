//! `history`, `explain` and `events`. Pure.

use std::fmt::Write as _;

use howdah_rpc::control::{Change, Event, ExplainResponse};
use serde::Serialize;

use super::{lsn, table, time};

/// One change of leader for programs.
#[derive(Debug, Serialize)]
pub struct ChangeView {
    epoch: u64,
    kind: String,
    from: String,
    to: String,
    at: String,
    timeline: Option<u32>,
    fork_lsn: Option<String>,
    reason: String,
    ballots: Vec<BallotView>,
    waited_ms: u64,
    not_heard: Vec<String>,
    bar: String,
    loss: String,
}

#[derive(Debug, Serialize)]
struct BallotView {
    member: String,
    timeline: u32,
    lsn: String,
    eligible: bool,
    verdict: String,
    priority: i32,
    chosen: bool,
}

impl From<&Change> for ChangeView {
    fn from(change: &Change) -> Self {
        let ballots = change.ballots.iter().map(|ballot| BallotView {
            member: ballot.member.clone(),
            timeline: ballot.timeline,
            lsn: lsn(ballot.lsn),
            eligible: ballot.eligible,
            verdict: ballot.verdict.clone(),
            priority: ballot.priority,
            chosen: ballot.chosen,
        });
        ChangeView {
            epoch: change.epoch,
            kind: change.kind.clone(),
            from: change.from.clone(),
            to: change.to.clone(),
            at: time(change.at_ms),
            timeline: (change.timeline != 0).then_some(change.timeline),
            fork_lsn: (change.fork_lsn != 0).then(|| lsn(change.fork_lsn)),
            reason: change.reason.clone(),
            ballots: ballots.collect(),
            waited_ms: change.waited_ms,
            not_heard: change.not_heard.clone(),
            bar: change.bar.clone(),
            loss: change.loss.clone(),
        }
    }
}

/// `explain` for programs.
#[derive(Debug, Serialize)]
pub struct ExplainView {
    change: Option<ChangeView>,
    lines: Vec<String>,
}

impl From<&ExplainResponse> for ExplainView {
    fn from(answer: &ExplainResponse) -> Self {
        ExplainView {
            change: answer.change.as_ref().map(ChangeView::from),
            lines: answer.lines.clone(),
        }
    }
}

/// The table of `history`, in Patroni's columns with ours before and behind.
pub fn history(changes: &[Change]) -> String {
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|change| {
            let timeline =
                if change.timeline == 0 { String::new() } else { change.timeline.to_string() };
            vec![
                change.epoch.to_string(),
                timeline,
                lsn(change.fork_lsn),
                change.kind.clone(),
                time(change.at_ms),
                change.to.clone(),
                change.reason.clone(),
            ]
        })
        .collect();
    table(&["Epoch", "TL", "LSN", "Kind", "Timestamp", "New Leader", "Reason"], &rows, &[0, 1, 2])
}

/// The story of one change, and its ballots as a table.
pub fn explain(answer: &ExplainResponse) -> String {
    let mut text = String::new();
    for line in &answer.lines {
        let _ = writeln!(text, "{line}");
    }
    let Some(change) = answer.change.as_ref().filter(|change| !change.ballots.is_empty()) else {
        return text;
    };
    let rows: Vec<Vec<String>> = change
        .ballots
        .iter()
        .map(|ballot| {
            vec![
                format!("{}{}", ballot.member, if ballot.chosen { " *" } else { "" }),
                ballot.timeline.to_string(),
                lsn(ballot.lsn),
                if ballot.eligible { "yes" } else { "no" }.to_owned(),
                ballot.priority.to_string(),
                ballot.verdict.clone(),
            ]
        })
        .collect();
    let header = ["Member", "TL", "LSN", "Eligible", "Priority", "Verdict"];
    text + &table(&header, &rows, &[1, 2, 4])
}

/// One event for programs.
#[derive(Debug, Serialize)]
pub struct EventView {
    index: u64,
    at: String,
    kind: String,
    text: String,
    epoch: u64,
    member: String,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        EventView {
            index: event.index,
            at: time(event.at_ms),
            kind: event.kind.clone(),
            text: event.text.clone(),
            epoch: event.epoch,
            member: event.member.clone(),
        }
    }
}

/// One event as a line.
pub fn event(event: &Event) -> String {
    format!("{:24} {:>6}  {:16} {}\n", time(event.at_ms), event.index, event.kind, event.text)
}
