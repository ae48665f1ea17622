//! A YAML document as a tree in which each value knows where it stands.
//!
//! Place: read by [`super::reader`], filled from a file and from `HOWDAH_*` variables. Pure. A
//! tree instead of derived structs, so that one pass can report all mistakes, each with its line,
//! and can say what a key of another product should become.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: it is missing, or the finding is about the file as a whole.
    Whole,
    /// Line and column in the file, from 1.
    Line(u64, u64),
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

    /// Puts `text` at `path`, making the sections on the way; what stood there is replaced.
    pub(super) fn set(&mut self, path: &[&str], text: &str, place: &Place) {
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
            entries.push(Entry { key: (*first).to_owned(), place: place.clone(), node });
            entries.len() - 1
        });
        entries[at].node.set(rest, text, place);
    }
}

fn place_of<T>(spanned: &Spanned<T>) -> Place {
    Place::Line(spanned.referenced.line(), spanned.referenced.column())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { place: place_of(&spanned), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a section")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        Value::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Node>()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<Value>>()? {
            let place = place_of(&key);
            let Value::Text(key) = key.value else {
                return Err(de::Error::custom("a key must be a plain text"));
            };
            entries.push(Entry { key, place, node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

/// Parses one document.
pub(super) fn parse(text: &str) -> Result<Node, serde_saphyr::Error> {
    if text.trim().is_empty() {
        return Ok(Node { place: Place::Whole, value: Value::Map(Vec::new()) });
    }
    serde_saphyr::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(node: &Node) -> &[Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            other => panic!("no map: {other:?}"),
        }
    }

    #[test]
    fn values_know_their_lines_at_every_depth() {
        let root = parse("a:\n  b: on\n  c:\n    - 5\n    - x: 1.5\n").unwrap();
        let a = &map(&root)[0];
        assert_eq!((a.key.as_str(), &a.place), ("a", &Place::Line(1, 1)));
        let inner = map(&a.node);
        assert_eq!(inner[0].node.text().as_deref(), Some("on"));
        assert_eq!(inner[1].place, Place::Line(3, 3));
        let Value::List(items) = &inner[1].node.value else { panic!("no list") };
        assert_eq!(items[0].place, Place::Line(4, 7));
        assert_eq!(map(&items[1])[0].node.place, Place::Line(5, 10));
        assert_eq!(map(&items[1])[0].node.text().as_deref(), Some("1.5"));
    }

    #[test]
    fn a_variable_replaces_a_value_or_makes_its_sections() {
        let mut root = parse("raft:\n  data_dir: /a\n").unwrap();
        let place = Place::Env("X".to_owned());
        root.set(&["raft", "data_dir"], "/b", &place);
        root.set(&["restapi", "listen"], "127.0.0.1:8008", &place);
        assert_eq!(map(&map(&root)[0].node)[0].node.text().as_deref(), Some("/b"));
        assert_eq!(map(&map(&root)[1].node)[0].node.place, place);
    }

    #[test]
    fn a_repeated_key_is_refused() {
        assert!(parse("a: 1\na: 2\n").is_err());
    }
}
