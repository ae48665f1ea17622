//! PostgreSQL's parameters as its versions 14 to 18 have them, from `table.tsv`. Pure.
//!
//! tools/parameter-table makes that file. Invariant, held by a test: every line of it can be read.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a parameter's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Integer,
    Real,
    Text,
    Enum,
}

/// One parameter in some versions.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// First and last major version that this is said of.
    pub(super) versions: (u32, u32),
    pub(super) kind: Kind,
    /// What a bare number counts, in PostgreSQL's spelling; may be empty.
    pub(super) unit: &'static str,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) values: Vec<&'static str>,
    /// Cannot be set at all.
    pub(super) fixed: bool,
    /// Takes effect when PostgreSQL is started anew.
    pub(super) needs_restart: bool,
}

/// Name, and what each version says of it, older ones first.
pub(super) static TABLE: LazyLock<BTreeMap<&'static str, Vec<Row>>> = LazyLock::new(|| {
    let mut table: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for line in include_str!("table.tsv").lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, row)) = row(line) {
            table.entry(name).or_default().push(row);
        }
    }
    table
});

fn row(line: &'static str) -> Option<(&'static str, Row)> {
    let mut cells = line.split('\t');
    let mut cell = || cells.next();
    let (name, versions) = (cell()?, cell()?);
    let (first, last) = versions.split_once('-')?;
    let kind = match cell()? {
        "bool" => Kind::Bool,
        "integer" => Kind::Integer,
        "real" => Kind::Real,
        "string" => Kind::Text,
        "enum" => Kind::Enum,
        _ => return None,
    };
    let (unit, least, most, values, context) = (cell()?, cell()?, cell()?, cell()?, cell()?);
    let limit =
        |text: &str, none: f64| if text.is_empty() { Some(none) } else { text.parse().ok() };
    let row = Row {
        versions: (first.parse().ok()?, last.parse().ok()?),
        kind,
        unit,
        least: limit(least, f64::NEG_INFINITY)?,
        most: limit(most, f64::INFINITY)?,
        values: values.split(',').filter(|value| !value.is_empty()).collect(),
        fixed: context == "internal",
        needs_restart: context == "postmaster",
    };
    Some((name, row))
}

/// Whether a change of the parameter waits for a restart of PostgreSQL; `None` if it is unknown.
pub(crate) fn needs_restart(name: &str) -> Option<bool> {
    TABLE.get(name).map(|rows| rows.iter().any(|row| row.needs_restart))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read_and_versions_do_not_overlap() {
        let lines = include_str!("table.tsv").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(TABLE.values().map(Vec::len).sum::<usize>(), lines);
        assert!(TABLE.len() > 390, "{}", TABLE.len());
        for (name, rows) in TABLE.iter() {
            for pair in rows.windows(2) {
                assert!(pair[0].versions.1 < pair[1].versions.0, "{name}");
            }
        }
        assert_eq!(needs_restart("shared_buffers"), Some(true));
        assert_eq!(needs_restart("work_mem"), Some(false));
    }
}
