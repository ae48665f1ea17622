//! Patroni's keys that do nothing here, and what to write instead.
//!
//! Place: asked by the reader for each key that nobody wanted. Pure.
//! Rule: what can be left out without harm is a warning. What its owner relies on for safety, for
//! secrecy, or for where the data comes from is refused, because a warning is easily not read.

use super::reader::boolean;
use super::value::{Node, Value};

mod table;

/// What to say about a key.
#[derive(Clone, Copy)]
pub(super) enum Advice {
    /// It may stand there.
    Warn { what: &'static str, remedy: &'static str },
    /// It may not, unless its value asks for nothing.
    Refuse { what: &'static str, remedy: &'static str },
}

/// What to say about `path`; `None` if it is no key of Patroni's either.
pub(super) fn advice(path: &str) -> Option<Advice> {
    // The three roles have the same keys.
    let role =
        path.strip_prefix("postgresql.authentication.").and_then(|rest| rest.split_once('.'));
    let path = match role {
        Some((_, key)) => &format!("postgresql.authentication.ROLE.{key}"),
        None => path,
    };
    table::TABLE.iter().find(|(known, _)| *known == path).map(|(_, advice)| *advice)
}

/// Words that ask for nothing that is not so anyway.
const NOTHING: &[&str] = &["none", "disable", "allow", "prefer"];

/// Whether a value says that its key is not used.
pub(super) fn asks_for_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Text(text) => {
            text.is_empty() || boolean(text) == Some(false) || NOTHING.contains(&text.as_str())
        }
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::KEYS;
    use super::*;

    #[test]
    fn no_key_of_howdah_is_foreign_and_none_stands_twice() {
        let mut paths: Vec<&str> = table::TABLE.iter().map(|(path, _)| *path).collect();
        assert!(paths.iter().all(|path| KEYS.iter().all(|key| key.path != *path)), "{paths:?}");
        paths.sort_unstable();
        let all = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }
}
