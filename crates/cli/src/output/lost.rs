//! `history --lost`. Pure.

use std::fmt::Write as _;

use howdah_rpc::control::Rescue;
use serde::Serialize;

use super::{lsn, table};

/// What members kept of what the cluster went on without.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    rescues: Vec<RescueView>,
    not_heard: Vec<Silent>,
}

#[derive(Debug, Serialize)]
struct Silent {
    member: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct RescueView {
    member: String,
    directory: String,
    timeline: u32,
    fork_lsn: String,
    end_lsn: String,
    commits: u64,
    transactions: Vec<TransactionView>,
    unread: String,
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TransactionView {
    xid: u32,
    lsn: String,
    kind: String,
    detail: String,
}

impl Report {
    /// One member's answer.
    pub fn add(&mut self, rescues: &[Rescue]) {
        self.rescues.extend(rescues.iter().map(|rescue| {
            RescueView {
                member: rescue.member.clone(),
                directory: rescue.directory.clone(),
                timeline: rescue.timeline,
                fork_lsn: lsn(rescue.fork_lsn),
                end_lsn: lsn(rescue.end_lsn),
                commits: rescue.commits,
                transactions: rescue
                    .transactions
                    .iter()
                    .map(|one| TransactionView {
                        xid: one.xid,
                        lsn: one.lsn.clone(),
                        kind: one.kind.clone(),
                        detail: one.detail.clone(),
                    })
                    .collect(),
                unread: rescue.unread.clone(),
                left_out: rescue.left_out.clone(),
            }
        }));
    }

    /// A member that did not answer may have kept something too.
    pub fn silent(&mut self, member: &str, why: String) {
        self.not_heard.push(Silent { member: member.to_owned(), why });
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.rescues.is_empty() {
            text += "No member had anything that the cluster went on without\n";
        }
        for rescue in &self.rescues {
            let _ = writeln!(
                text,
                "{}: {} commits between {} and {} of timeline {}, kept in {}",
                rescue.member,
                rescue.commits,
                rescue.fork_lsn,
                rescue.end_lsn,
                rescue.timeline,
                rescue.directory
            );
            if !rescue.unread.is_empty() {
                let _ = writeln!(text, "  not all could be read: {}", rescue.unread);
            }
            if !rescue.left_out.is_empty() {
                let _ = writeln!(text, "  not kept, too large: {}", rescue.left_out.join(", "));
            }
            let rows: Vec<Vec<String>> = rescue
                .transactions
                .iter()
                .map(|one| {
                    let detail = one.detail.clone();
                    vec![one.xid.to_string(), one.lsn.clone(), one.kind.clone(), detail]
                })
                .collect();
            if !rows.is_empty() {
                text += &table(&["Xid", "LSN", "Kind", "When"], &rows, &[0, 1]);
            }
        }
        for Silent { member, why } in &self.not_heard {
            let _ = writeln!(text, "{member} does not say what it kept: {why}");
        }
        text
    }
}
