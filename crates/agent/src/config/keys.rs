//! Every key that a configuration may have: the one list behind variables, `config explain` and
//! docs/configuration.md. Pure.
//!
//! Invariant, held by tests: the section readers ask for exactly these keys, the page lists exactly
//! these keys, and `effective` knows the value of each.

mod table;

pub use table::{KEYS, Takes};

/// One key, or with `NAME` at its end a family of them.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path, as `postgresql.listen`.
    pub path: &'static str,
    /// What is to be written, as `duration`.
    pub kind: &'static str,
    /// What holds when it is not written.
    pub default: &'static str,
    /// What a change of it needs.
    pub takes: Takes,
    /// What it does.
    pub meaning: &'static str,
}

/// Ends the path of a family of keys.
const FAMILY: &str = ".NAME";

/// What a variable's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// This key.
    Key(Vec<String>),
    /// Nothing.
    Unknown,
}

/// The variable that sets the key. In a parameter's name, `__` stands for the dot that shells do
/// not allow.
pub fn variable(path: &str) -> String {
    let (family, name) = split(path);
    let family = family.replace('.', "_");
    let name = name.map(|name| format!("_{}", name.replace('.', "__"))).unwrap_or_default();
    let short = shortened(&family).unwrap_or(family);
    format!("HOWDAH_{}{}", short.to_ascii_uppercase(), name.to_ascii_uppercase())
}

/// Patroni's users know these without the section names in front; both forms are taken.
fn shortened(family: &str) -> Option<String> {
    family.strip_prefix("postgresql_authentication_").map(str::to_owned)
}

/// Parts a path into that of its family and the free name; the name is `None` for other keys.
fn split(path: &str) -> (String, Option<String>) {
    for family in families() {
        if let Some(name) = path.strip_prefix(family).and_then(|rest| rest.strip_prefix('.'))
            && !KEYS.iter().any(|key| key.path == path)
        {
            return (family.to_owned(), Some(name.to_owned()));
        }
    }
    (path.to_owned(), None)
}

/// Paths of the sections that take free names.
fn families() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(|key| key.path.strip_suffix(FAMILY))
}

/// Names of all variables; families as `HOWDAH_TAGS_NAME`.
pub(super) fn variables() -> Vec<String> {
    KEYS.iter().map(|key| variable(key.path)).collect()
}

/// The key that a variable sets.
pub(super) fn named(name: &str) -> Named {
    let parts = |path: &str| path.split('.').map(str::to_owned).collect::<Vec<_>>();
    let whole = KEYS.iter().filter(|key| !key.path.ends_with(FAMILY));
    for key in whole {
        let long = format!("HOWDAH_{}", key.path.replace('.', "_").to_ascii_uppercase());
        if name == long || name == variable(key.path) {
            return Named::Key(parts(key.path));
        }
    }
    for family in families() {
        let prefix = format!("HOWDAH_{}_", family.replace('.', "_").to_ascii_uppercase());
        let free = name.strip_prefix(&prefix).filter(|free| !free.is_empty());
        if let Some(free) = free {
            let mut path = parts(family);
            path.push(free.to_ascii_lowercase().replace("__", "."));
            return Named::Key(path);
        }
    }
    Named::Unknown
}

/// The key of this path, or its family.
pub fn find(path: &str) -> Option<&'static Key> {
    let exact = KEYS.iter().find(|key| key.path == path);
    exact.or_else(|| {
        let (family, name) = split(path);
        name.filter(|name| !name.is_empty())?;
        KEYS.iter().find(|key| key.path.strip_suffix(FAMILY) == Some(family.as_str()))
    })
}

/// The path of a key as it stands in the tree: a free name may have dots of its own.
pub(super) fn steps(path: &str) -> Vec<String> {
    let (family, name) = split(path);
    family.split('.').map(str::to_owned).chain(name).collect()
}

/// The key that a mistyped one most likely means, by its whole path or by its last part.
pub fn suggestion(asked: &str) -> Option<&'static str> {
    let paths: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    elsewhere(asked).or_else(|| super::reader::nearest(asked, &paths)).or_else(|| {
        let names: Vec<&str> = paths.iter().map(|path| last(path)).collect();
        let name = super::reader::nearest(asked, &names)?;
        paths.iter().copied().find(|path| last(path) == name)
    })
}

/// Whether its value must not be shown.
pub fn is_secret(path: &str) -> bool {
    path.rsplit('.').next() == Some("password")
}

/// The one key of this name in some section, for a key that stands in the wrong place.
pub(super) fn elsewhere(key: &str) -> Option<&'static str> {
    let in_section =
        |known: &&Key| known.path.rsplit_once('.').is_some_and(|(_, last)| last == key);
    let mut found = KEYS.iter().filter(in_section);
    let first = found.next()?;
    found.next().is_none().then_some(first.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_variable_of_its_own_that_leads_back_to_it() {
        for key in KEYS {
            let path = key.path.replace("NAME", "some_name");
            let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(named(&variable(&path)), Named::Key(steps), "{path}");
            assert!(find(&path).is_some_and(|found| found.path == key.path), "{path}");
        }
        let mut names = variables();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn names_follow_from_paths() {
        assert_eq!(variable("raft.self_addr"), "HOWDAH_RAFT_SELF_ADDR");
        assert_eq!(
            variable("postgresql.authentication.superuser.password_file"),
            "HOWDAH_SUPERUSER_PASSWORD_FILE"
        );
        let dotted = "postgresql.parameters.pg_stat_statements.max";
        assert_eq!(variable(dotted), "HOWDAH_POSTGRESQL_PARAMETERS_PG_STAT_STATEMENTS__MAX");
        assert_eq!(steps(dotted), ["postgresql", "parameters", "pg_stat_statements.max"]);
        assert_eq!(named("HOWDAH_POSTGRESQL_PARAMETERS_"), Named::Unknown);
        assert_eq!(named("HOWDAH_TAGS_NOFAILOVER"), Named::Key(steps("tags.nofailover")));
    }
}
