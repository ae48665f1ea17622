//! `token` and `audit`. Pure.

use howdah_rpc::control::{AuditEntry, CreateTokenResponse, TokenEntry};
use serde::Serialize;

use super::{table, time};

/// A new token for programs: the only place where it is ever seen.
#[derive(Debug, Serialize)]
pub struct MadeView {
    name: String,
    role: String,
    token: String,
    expires: String,
}

impl MadeView {
    /// Of the answer.
    pub fn new(name: &str, role: &str, made: &CreateTokenResponse) -> Self {
        Self {
            name: name.to_owned(),
            role: role.to_owned(),
            token: made.token.clone(),
            expires: time(made.expires_ms),
        }
    }
}

/// A token that was taken away.
#[derive(Debug, Serialize)]
pub struct RevokedView {
    /// Its name.
    pub revoked: String,
}

/// A token for programs.
#[derive(Debug, Serialize)]
pub struct TokenView {
    name: String,
    role: String,
    by: String,
    made: String,
    expires: String,
    state: &'static str,
}

impl From<&TokenEntry> for TokenView {
    fn from(entry: &TokenEntry) -> Self {
        Self {
            name: entry.name.clone(),
            role: entry.role.clone(),
            by: entry.by.clone(),
            made: time(entry.made_ms),
            expires: time(entry.expires_ms),
            state: if entry.expired { "expired" } else { "good" },
        }
    }
}

/// Tokens for people.
pub fn tokens(views: &[TokenView]) -> String {
    let row = |view: &TokenView| {
        let expires = if view.expires.is_empty() { "never" } else { &view.expires };
        [&view.name, &view.role, &view.by, &view.made, expires, view.state]
            .map(str::to_owned)
            .into()
    };
    let rows: Vec<Vec<String>> = views.iter().map(row).collect();
    table(&["Name", "Role", "Made by", "Made", "Expires", "State"], &rows, &[])
}

/// An order for programs.
#[derive(Debug, Serialize)]
pub struct AuditView {
    at: String,
    who: String,
    from: String,
    through: String,
    what: String,
    /// done, not done, or open: nobody said how it ended.
    outcome: &'static str,
    text: String,
    ended: String,
}

impl From<&AuditEntry> for AuditView {
    fn from(entry: &AuditEntry) -> Self {
        let outcome = match (entry.ended, entry.done) {
            (false, _) => "open",
            (true, true) => "done",
            (true, false) => "not done",
        };
        Self {
            at: time(entry.at_ms),
            who: entry.who.clone(),
            from: entry.from.clone(),
            through: entry.through.clone(),
            what: entry.what.clone(),
            outcome,
            text: entry.text.clone(),
            ended: time(entry.ended_ms),
        }
    }
}

/// Orders for people.
pub fn audit(views: &[AuditView]) -> String {
    let row = |view: &AuditView| {
        let cells =
            [&view.at, &view.who, &view.from, &view.through, &view.what, view.outcome, &view.text];
        cells.map(str::to_owned).into()
    };
    let rows: Vec<Vec<String>> = views.iter().map(row).collect();
    table(&["When", "Who", "From", "Through", "What", "Outcome", "How it ended"], &rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_without_an_end_says_so() {
        let entry = AuditEntry {
            at_ms: 1_700_000_000_000,
            who: "operator alice (certificate)".into(),
            from: "10.0.0.9:4711".into(),
            through: "n2".into(),
            what: "switch over to n3".into(),
            ..AuditEntry::default()
        };
        let shown = audit(&[AuditView::from(&entry)]);
        assert!(shown.contains("alice") && shown.contains("open"), "{shown}");
        let ended = AuditEntry { ended: true, done: false, text: "refused".into(), ..entry };
        assert!(audit(&[AuditView::from(&ended)]).contains("not done"));
    }
}
