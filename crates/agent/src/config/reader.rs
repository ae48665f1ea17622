//! Reads typed values out of a [`Node`] tree and collects all that is wrong on the way.
//!
//! Place: used by the section readers beside it. Every key that is asked for becomes a known key;
//! what remains is reported by [`Section::finish`] with the nearest known key. Pure.
//! Invariant: no message contains the value of a key that [`super::keys::is_secret`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::Finding;
use super::foreign::{self, Advice};
use super::keys;
use super::units;
use super::value::{Entry, Node, Place, Value};

/// Collects findings about one configuration.
pub(super) struct Report {
    file: PathBuf,
    modes: BTreeMap<Arc<Path>, u32>,
    pub(super) errors: RefCell<Vec<Finding>>,
    pub(super) warnings: RefCell<Vec<Finding>>,
    /// Paths of all keys that a reader asked for.
    pub(super) asked: RefCell<BTreeSet<String>>,
}

impl Report {
    pub(super) fn new(file: PathBuf, modes: BTreeMap<Arc<Path>, u32>) -> Self {
        Self {
            file,
            modes,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    /// Whether everybody can read the file that `place` is in.
    pub(super) fn readable_by_all(&self, place: &Place) -> bool {
        match place {
            Place::Line { file, .. } => self.modes.get(file).is_some_and(|mode| mode & 0o004 != 0),
            Place::Whole | Place::Env(_) => false,
        }
    }

    fn finding(&self, place: &Place, key: &str, what: String, remedy: &str) -> Finding {
        // A value is told between backticks; a key stands alone.
        let what = without_password(what, '`');
        Finding {
            file: self.file.clone(),
            place: place.clone(),
            key: one_line(&without_password(key.to_owned(), '\0')),
            what: one_line(&what),
            remedy: one_line(remedy),
        }
    }

    /// Something that keeps the agent from running.
    pub(super) fn error(&self, place: &Place, key: &str, what: impl Into<String>, remedy: &str) {
        self.errors.borrow_mut().push(self.finding(place, key, what.into(), remedy));
    }

    /// What is to be said of a key of Patroni's that does nothing here.
    pub(super) fn advise(&self, entry: &Entry, path: &str, advice: &Advice) {
        match advice {
            // `false`, `off` and nothing ask for no function, so that none is missed.
            Advice::Refuse { .. } if foreign::asks_for_nothing(&entry.node) => {}
            Advice::Refuse { what, remedy } => self.error(&entry.place, path, *what, remedy),
            Advice::Warn { what, remedy } => self.warn(&entry.place, path, *what, remedy),
        }
    }

    /// Something odd.
    pub(super) fn warn(&self, place: &Place, key: &str, what: impl Into<String>, remedy: &str) {
        self.warnings.borrow_mut().push(self.finding(place, key, what.into(), remedy));
    }
}

/// A value or key that is told may be a whole line whose colon lacks its space, and then has the password in it.
fn without_password(what: String, closes: char) -> String {
    const KEY: &str = "password:";
    let Some(at) = what.find(KEY).map(|at| at + KEY.len()) else { return what };
    let end = what[at..].rfind(closes).map_or(what.len(), |end| at + end);
    format!("{}(not shown){}", &what[..at], &what[end..])
}

/// One section that is being read.
pub(super) struct Section<'a> {
    pub(super) report: &'a Report,
    /// Something else stands where it belongs, which was told; more would be noise.
    broken: bool,
    path: String,
    place: Place,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The document itself.
    pub(super) fn root(report: &'a Report, node: &'a Node) -> Self {
        Self::of(report, String::new(), node)
    }

    fn of(report: &'a Report, path: String, node: &'a Node) -> Self {
        let broken = !matches!(node.value, Value::Map(_) | Value::Null);
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                let what = format!("{} stands where a section belongs", node.kind());
                let remedy = if path.is_empty() {
                    "write keys and values, as `scope: demo`"
                } else {
                    "indent keys below it"
                };
                report.error(&node.place, &path, what, remedy);
                &[]
            }
        };
        let (place, asked) = (node.place.clone(), RefCell::default());
        Self { report, broken, path, place, entries, asked }
    }

    /// Full path of a key in this section.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where the key's value stands, or the section when it is missing.
    pub(super) fn place(&self, key: &str) -> Place {
        self.find(key).map_or_else(|| self.place.clone(), |entry| entry.node.place.clone())
    }

    /// Where a key of a section below stands, or as near to it as there is something.
    pub(super) fn place_of(&self, section: &str, key: &str) -> Place {
        let Some(entry) = self.find(section) else { return self.place.clone() };
        let node = entry.node.at(&[key]).unwrap_or(&entry.node);
        node.place.clone()
    }

    fn find(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The raw value of a key; null counts as missing.
    pub(super) fn take(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        self.report.asked.borrow_mut().insert(self.path(key));
        self.find(key).map(|entry| &entry.node).filter(|node| !matches!(node.value, Value::Null))
    }

    /// All entries, for sections with free keys.
    pub(super) fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// A section below; an empty one when it is missing.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        self.take(key).map(|node| Section::of(self.report, self.path(key), node))
    }

    /// An error about one key.
    pub(super) fn error(&self, key: &str, what: impl Into<String>, remedy: &str) {
        if !self.broken {
            self.report.error(&self.place(key), &self.path(key), what, remedy);
        }
    }

    /// A warning about one key.
    pub(super) fn warn(&self, key: &str, what: impl Into<String>, remedy: &str) {
        if !self.broken {
            self.report.warn(&self.place(key), &self.path(key), what, remedy);
        }
    }

    /// A scalar as text.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let node = self.take(key)?;
        let text = node.text();
        if text.is_none() {
            self.error(
                key,
                format!("{} stands where one value belongs", node.kind()),
                "write one value",
            );
        }
        text
    }

    /// A scalar that must be there; an error and an empty text otherwise.
    pub(super) fn required(&self, key: &'static str, remedy: &str) -> String {
        if self.take(key).is_none() {
            self.error(key, "is missing", remedy);
            return String::new();
        }
        let text = self.text(key);
        if text.as_deref() == Some("") {
            self.error(key, "is empty", remedy);
        }
        text.unwrap_or_default()
    }

    fn parsed<T>(
        &self,
        key: &'static str,
        wanted: &str,
        remedy: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        let value = parse(&text);
        if value.is_none() {
            self.error(key, format!("`{text}` is no {wanted}"), remedy);
        }
        value
    }

    /// A boolean: true, false, on, off, yes, no.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.parsed(key, "boolean", "write true or false", boolean)
    }

    /// A whole number.
    pub(super) fn integer(&self, key: &'static str) -> Option<i64> {
        self.parsed(key, "whole number", "write digits only", |text| text.trim().parse().ok())
    }

    /// A duration.
    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        self.parsed(key, "duration", "write seconds, or as 5s, 500ms, 5min", units::duration)
    }

    /// A size in bytes.
    pub(super) fn bytes(&self, key: &'static str) -> Option<u64> {
        self.parsed(key, "size", "write bytes, or as 16kB, 1MB, 1GB", units::bytes)
    }

    /// A list of scalars; one scalar may hold several, separated by commas.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<(String, Place)>> {
        let node = self.take(key)?;
        let Value::List(items) = &node.value else {
            let text = self.text(key)?;
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return Some(parts.map(|part| (part.to_owned(), node.place.clone())).collect());
        };
        Some(self.items(key, items))
    }

    /// A list of lines; a scalar is one line (or several, by line breaks), commas do not separate.
    pub(super) fn lines(&self, key: &'static str) -> Option<Vec<(String, Place)>> {
        let node = self.take(key)?;
        if let Value::List(items) = &node.value {
            return Some(self.items(key, items));
        }
        let text = self.text(key)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Some(lines.map(|line| (line.to_owned(), node.place.clone())).collect())
    }

    /// A text that no message may contain. A boolean is refused: `true` lost its spelling.
    pub(super) fn secret(&self, key: &'static str) -> Option<String> {
        if matches!(self.take(key)?.value, Value::Bool(_)) {
            self.error(key, "is a boolean", "write it in quotes");
            return None;
        }
        self.text(key)
    }

    fn items(&self, key: &str, items: &[Node]) -> Vec<(String, Place)> {
        let mut texts = Vec::new();
        for item in items {
            match item.text() {
                Some(text) => texts.push((text, item.place.clone())),
                None => {
                    let what = format!("{} stands in a list of single values", item.kind());
                    self.report.error(
                        &item.place,
                        &self.path(key),
                        what,
                        "write one value per item",
                    );
                }
            }
        }
        texts
    }

    /// One of several words.
    /// Later words for a value that was named before are taken and not told.
    pub(super) fn choice<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        what: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| text.trim().eq_ignore_ascii_case(word));
        if found.is_none() {
            let first = |nth: usize| words[..nth].iter().all(|(_, value)| *value != words[nth].1);
            let names: Vec<&str> =
                (0..words.len()).filter(|nth| first(*nth)).map(|nth| words[nth].0).collect();
            let remedy = format!("write {}", either(&names));
            self.error(key, format!("`{text}` is no {what}"), &remedy);
        }
        found.map(|(_, value)| *value)
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.entries {
            if asked.contains(&entry.key.as_str()) {
                continue;
            }
            let path = self.path(&entry.key);
            if let Some(advice) = foreign::advice(&path) {
                self.report.advise(entry, &path, &advice);
                continue;
            }
            let remedy = match (keys::elsewhere(&entry.key), nearest(&entry.key, &asked)) {
                (Some(known), _) => format!("it belongs elsewhere: `{known}`"),
                (None, Some(known)) => format!("did you mean `{known}`?"),
                (None, None) => "remove it".to_owned(),
            };
            self.report.error(&entry.place, &path, "unknown key", &remedy);
        }
    }
}

/// A text without line breaks and other characters that could disguise a message.
pub(super) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `a, b or c`.
fn either(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    }
}

/// Reads a boolean in the spellings of YAML and PostgreSQL.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// The known key that a mistyped one most likely means.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let scored = known.iter().map(|candidate| (distance(key, candidate), *candidate));
    let (score, best) = scored.min_by_key(|(score, _)| *score)?;
    (score <= key.len().max(best.len()) / 3 + 1 && score < key.len()).then_some(best)
}

/// Damerau-Levenshtein distance (with transposition of neighbours), over bytes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_without_its_space_is_not_told() {
        let told = |what: &str| without_password(what.to_owned(), '`');
        assert_eq!(
            told("`password:hunter2` is no section"),
            "`password:(not shown)` is no section"
        );
        assert_eq!(told("`x` is no name"), "`x` is no name");
        assert_eq!(told("a password:hunter2"), "a password:(not shown)");
        let key = "a.password:hun`ter2".to_owned();
        assert_eq!(without_password(key, '\0'), "a.password:(not shown)");
    }

    #[test]
    fn the_nearest_key_is_found_and_strangers_are_not() {
        let known = ["listen", "connect_address", "data_dir", "bin_dir"];
        assert_eq!(nearest("lsiten", &known), Some("listen"));
        assert_eq!(nearest("datadir", &known), Some("data_dir"));
        assert_eq!(nearest("connect_adress", &known), Some("connect_address"));
        assert_eq!(nearest("watchdog", &known), None);
        assert_eq!(nearest("x", &known), None);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
