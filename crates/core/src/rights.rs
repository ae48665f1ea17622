//! Who may do what without a certificate, and what was asked of the cluster by whom. Pure.
//!
//! Place: stored in the replicated state; the agent checks tokens at its doors and records orders.
//! Invariants: a token's secret is nowhere in the log, only its hash; an order is recorded before it is
//! begun, and its end is recorded once.

use serde::{Deserialize, Serialize};

use crate::ids::{MemberName, WallTime};

/// Tokens that a cluster may have: each request with one is compared with all of them.
pub const TOKENS_MAX: usize = 256;
/// Orders that are kept.
pub const AUDITS_KEPT: usize = 1000;
/// Longest text in an audit, characters.
const TEXT_MAX: usize = 500;

/// How much a person or a program may do; each may all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Right {
    /// Looks.
    Viewer,
    /// Moves the leadership, restarts, pauses.
    Operator,
    /// Changes what the cluster is.
    Admin,
}

impl Right {
    /// As people write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The one of this word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|right| right.word() == word)
    }
}

/// What lets in whoever knows its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What for.
    pub right: Right,
    /// SHA-256 of the whole token, lower-case hexadecimal.
    pub hash: String,
    /// Who had it made.
    pub by: String,
    /// When.
    pub made: WallTime,
    /// From when on it counts no more; none: until it is revoked.
    pub expires: Option<WallTime>,
}

/// An order that somebody gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Drawn by the member that took the order: its begin and its end belong together.
    pub id: u64,
    /// When it was taken.
    pub at: WallTime,
    /// Who, with role, and how that was shown.
    pub who: String,
    /// From which address; "this machine" for a socket.
    pub from: String,
    /// The member that took it.
    pub through: MemberName,
    /// What was asked.
    pub what: String,
    /// How it ended; none: it has not, or nobody was left to say so.
    pub end: Option<AuditEnd>,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEnd {
    /// When.
    pub at: WallTime,
    /// It was done as asked.
    pub done: bool,
    /// Its last words.
    pub text: String,
}

impl Audit {
    /// Nothing in it is longer than a person would read, or an order to his terminal: part of it is a stranger's text.
    pub(crate) fn clipped(mut self) -> Self {
        for text in [&mut self.who, &mut self.from, &mut self.what, &mut self.through.0] {
            clip(text);
        }
        self.end = None;
        self
    }
}

/// Text as it can be shown and kept on one line: what would move a terminal's cursor or turn its writing is escaped.
pub fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Makes a text plain, and ends it after so many characters.
pub(crate) fn clip(text: &mut String) {
    *text = plain(text);
    if let Some((at, _)) = text.char_indices().nth(TEXT_MAX) {
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_a_terminals_cursor_is_escaped() {
        assert_eq!(plain("fence n1, größer"), "fence n1, größer");
        assert_eq!(plain("x\r\n\u{1b}[2K\u{9b}"), "x\\r\\n\\u{1b}[2K\\u{9b}");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
        let mut long = "\u{1b}".repeat(TEXT_MAX);
        clip(&mut long);
        assert_eq!(long.chars().count(), TEXT_MAX + 1);
    }
}
