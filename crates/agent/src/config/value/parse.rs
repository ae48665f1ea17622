//! Text to tree. Pure.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{Entry, Node, Place, Value};

/// Deeper than any configuration; bounds the recursion of everything that walks the tree.
const MAX_DEPTH: usize = 32;

/// Parses one document.
pub(in super::super) fn parse(file: &Arc<Path>, text: &str) -> Result<Node, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    let only_comments = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(only_comments) {
        return Ok(Node { place: Place::Whole, value: Value::Map(Vec::new()) });
    }
    let raw: RawNode = serde_saphyr::from_str_with_options(text, options)?;
    Ok(Source { file, text }.node(raw))
}

/// What the parser makes: no file name, and numbers that lost their spelling.
struct RawNode(Spanned<RawValue>);

enum RawValue {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<RawNode>),
    Map(Vec<(String, Location, RawNode)>),
}

struct Source<'a> {
    file: &'a Arc<Path>,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, at: &Location) -> Place {
        Place::Line { file: Arc::clone(self.file), line: at.line(), column: at.column() }
    }

    fn node(&self, RawNode(spanned): RawNode) -> Node {
        let value = match spanned.value {
            RawValue::Null => Value::Null,
            RawValue::Bool(value) => Value::Bool(value),
            RawValue::Text(text) => Value::Text(text),
            RawValue::Number(parsed) => {
                Value::Text(self.spelled(&spanned.defined).unwrap_or(parsed))
            }
            RawValue::List(items) => {
                Value::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            RawValue::Map(entries) => {
                let entry = |(key, at, node): (String, Location, RawNode)| Entry {
                    key,
                    place: self.place(&at),
                    node: self.node(node),
                };
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Node { place: self.place(&spanned.referenced), value }
    }

    /// A plain number as it was written: `1e3` is no 1000 where it is part of a name.
    fn spelled(&self, at: &Location) -> Option<String> {
        let span = at.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        let text = self.text.get(start..end)?.trim();
        let number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        (!text.is_empty() && text.chars().all(number)).then(|| text.to_owned())
    }
}

impl<'de> Deserialize<'de> for RawNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(RawNode)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a section")
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<RawNode>()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<RawValue>>()? {
            let at = key.referenced;
            let key = match key.value {
                RawValue::Text(key) | RawValue::Number(key) => key,
                // A key of PostgreSQL or a tag may well be called so.
                RawValue::Bool(key) => key.to_string(),
                RawValue::Null | RawValue::List(_) | RawValue::Map(_) => {
                    return Err(de::Error::custom("a key must be a plain text"));
                }
            };
            entries.push((key, at, map.next_value()?));
        }
        Ok(RawValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Node, serde_saphyr::Error> {
        parse(&Arc::from(Path::new("f")), text)
    }

    fn line(place: &Place) -> (u64, u64) {
        match place {
            Place::Line { line, column, .. } => (*line, *column),
            other => panic!("no line: {other:?}"),
        }
    }

    #[test]
    fn values_know_their_lines_at_every_depth() {
        let root = parsed("a:\n  b: on\n  c:\n    - 5\n    - x: 1.5\n").unwrap();
        let Value::Map(entries) = &root.value else { panic!("no map") };
        assert_eq!((entries[0].key.as_str(), line(&entries[0].place)), ("a", (1, 1)));
        assert_eq!(root.at(&["a", "b"]).unwrap().text().as_deref(), Some("on"));
        let Value::List(items) = &root.at(&["a", "c"]).unwrap().value else { panic!("no list") };
        assert_eq!(line(&items[0].place), (4, 7));
        let inner = items[1].at(&["x"]).unwrap();
        assert_eq!((line(&inner.place), inner.text().as_deref()), ((5, 10), Some("1.5")));
    }

    #[test]
    fn numbers_keep_their_spelling() {
        for text in
            ["007", "1e3", "0x1F", "1_000", "+5", "1.50", "-0", "99999999999999999999", ".5"]
        {
            for yaml in
                [format!("k: {text}"), format!("k: [{text}, x]"), format!("é: 1\nk: {text}")]
            {
                let root = parsed(&yaml).unwrap();
                let node = root.at(&["k"]).unwrap();
                let node = if let Value::List(items) = &node.value { &items[0] } else { node };
                assert_eq!(node.text().as_deref(), Some(text), "{yaml}");
            }
        }
        let root = parsed("a: &x 007.50\nb: *x\n").unwrap();
        assert_eq!(root.at(&["b"]).unwrap().text().as_deref(), Some("007.50"));
    }

    #[test]
    fn a_repeated_key_and_a_bottomless_document_are_refused() {
        assert!(parsed("a: 1\na: 2\n").is_err());
        assert!(parsed(&"[".repeat(100_000)).is_err());
        assert!(parsed(&"a: {".repeat(5_000)).is_err());
        assert!(parsed("# nothing\n\n  # but comments\n").is_ok());
    }
}
