//! A YAML document as a tree in which each value knows where it stands.
//!
//! Place: made by [`super::source`] from files and from `HOWDAH_*` variables, read by
//! [`super::reader`]. Pure. A tree instead of derived structs, so that one pass can report all
//! mistakes, each with its line, and can say what a key of another product should become.
//! Invariant: numbers keep the text that was written; a password of digits is no number.

mod parse;

use std::path::Path;
use std::sync::Arc;

pub(super) use parse::parse;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: it is missing, or the finding is about the configuration as a whole.
    Whole,
    /// In a file; line and column from 1.
    Line {
        /// Which file.
        file: Arc<Path>,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
    },
    /// An environment variable of this name.
    Env(String),
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a YAML node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// Numbers and texts, as text: PostgreSQL's parameters are texts in the end.
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// The scalar as PostgreSQL would spell it; `None` for null, lists and maps.
    pub(super) fn text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(true) => Some("on".to_owned()),
            Value::Bool(false) => Some("off".to_owned()),
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Text(_) => "a text or number",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }

    /// The node at a path of keys.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == *first)?.node.at(rest)
    }

    /// Puts `text` at `path`, making the sections on the way; what stood there is replaced.
    pub(super) fn set(&mut self, path: &[String], text: &str, place: &Place) {
        let Some((first, rest)) = path.split_first() else {
            *self = Node { place: place.clone(), value: Value::Text(text.to_owned()) };
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return };
        let at = entries.iter().position(|entry| entry.key == *first).unwrap_or_else(|| {
            let node = Node { place: place.clone(), value: Value::Null };
            entries.push(Entry { key: first.clone(), place: place.clone(), node });
            entries.len() - 1
        });
        entries[at].node.set(rest, text, place);
    }

    /// Lays `other` over this: sections are merged key by key, everything else is replaced. What is
    /// empty in `other` replaces nothing.
    pub(super) fn merge(&mut self, other: Node) {
        let Value::Map(theirs) = other.value else {
            if !matches!(other.value, Value::Null) {
                *self = other;
            }
            return;
        };
        let Value::Map(ours) = &mut self.value else {
            *self = Node { place: other.place, value: Value::Map(theirs) };
            return;
        };
        for entry in theirs {
            match ours.iter_mut().find(|known| known.key == entry.key) {
                Some(known) => known.node.merge(entry.node),
                None => ours.push(entry),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, text: &str) -> Node {
        parse(&Arc::from(Path::new(name)), text).unwrap()
    }

    fn line_of(place: &Place) -> (String, u64, u64) {
        match place {
            Place::Line { file, line, column } => (file.display().to_string(), *line, *column),
            other => panic!("no line: {other:?}"),
        }
    }

    #[test]
    fn a_variable_replaces_a_value_or_makes_its_sections() {
        let mut root = parsed("f", "raft:\n  data_dir: /a\n");
        let place = Place::Env("X".to_owned());
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        root.set(&path("raft.data_dir"), "/b", &place);
        root.set(&path("restapi.listen"), "127.0.0.1:8008", &place);
        assert_eq!(root.at(&["raft", "data_dir"]).unwrap().text().as_deref(), Some("/b"));
        assert_eq!(root.at(&["restapi", "listen"]).unwrap().place, place);
    }

    #[test]
    fn a_later_file_replaces_single_values_and_keeps_the_rest() {
        let mut root = parsed("a.yml", "scope: one\nraft:\n  data_dir: /a\n  list: [1, 2]\n");
        root.merge(parsed("b.yml", "raft:\n  list: [3]\n  self_addr:\nname: n1\n"));
        assert_eq!(root.at(&["scope"]).unwrap().text().as_deref(), Some("one"));
        assert_eq!(root.at(&["raft", "data_dir"]).unwrap().text().as_deref(), Some("/a"));
        let list = root.at(&["raft", "list"]).unwrap();
        assert_eq!(line_of(&list.place), ("b.yml".to_owned(), 2, 9));
        let Value::List(items) = &list.value else { panic!("no list") };
        assert_eq!(items.len(), 1, "lists are not joined");
        assert_eq!(line_of(&root.at(&["name"]).unwrap().place).0, "b.yml");
    }
}
