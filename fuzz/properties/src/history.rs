//! Timeline history files, which PostgreSQL and other members write.

use howdah_core::Timeline;
use howdah_postgres::history::{self, HistoryError, render};

use crate::text;

/// What is read goes up in timelines and never back in positions, and reads the same when it is written again; a
/// line that is refused is named by its number. A first line `NNNNNNNN.history` is taken for the file's name.
pub fn history(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let (name, body) = text.split_once('\n').unwrap_or(("", &text));
    let named = history::timeline_of(name);
    if let Some(timeline) = named {
        assert_eq!(history::file_name(timeline).to_ascii_lowercase(), name.to_ascii_lowercase());
    }
    let body = if named.is_some() { body } else { &text };
    match history::parse("f", body) {
        Ok(entries) => {
            assert!(entries.iter().all(|entry| entry.timeline > Timeline(0)));
            assert!(
                entries.is_sorted_by(|a, b| a.timeline < b.timeline && a.end <= b.end),
                "{entries:?}"
            );
            let written = render(&entries, "a\nreason");
            assert_eq!(history::parse("f", &written).expect("what was written"), entries);
            true
        }
        Err(HistoryError::Syntax { name, line, text }) => {
            assert_eq!((name.as_str(), body.lines().nth(line - 1)), ("f", Some(text.as_str())));
            false
        }
        Err(other) => panic!("{other}"),
    }
}
