//! The environment: variables that go before the files.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use howdah_agent::config::keys::KEYS;
use howdah_agent::config::{Config, ConfigError, Layer, Place, SourceFile, Sources};

use crate::config::mistake;

/// A configuration that is right, over which the variables are laid.
const BASE: &str = include_str!("../../corpus/config/good-every-section.yml");
/// What other programs set, or read.
const OTHERS: [&str; 13] = [
    "HOWDAH_CONFIG",
    "HOWDAH_ENDPOINT",
    "HOWDAH_KEYS",
    "HOWDAH_LOG",
    "HOWDAH_GUARD_FD",
    "HOWDAH_TEST_",
    "HOWDAH_SIM_",
    "HOWDAH_DSN_",
    "_SERVICE_HOST",
    "_SERVICE_PORT",
    "_PORT",
    "_TCP",
    "_UDP",
];

/// Variables of one input at most: each is looked at by reading all anew.
const MOST: usize = 6;

/// Every variable that begins with `HOWDAH_` sets a key, is refused by its name, or is one of other programs'.
/// The input is as `/proc/PID/environ`: `NAME=VALUE`, ended by zero bytes or line breaks.
pub fn environment(bytes: &[u8]) -> bool {
    let pairs: Vec<(&[u8], &[u8])> = bytes
        .split(|byte| matches!(byte, 0 | b'\n'))
        .filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            Some((&pair[..at], &pair[at + 1..]))
        })
        .filter(|(name, _)| !name.is_empty() && !ends_with(name, b"PASSWORD_FILE"))
        .take(MOST)
        .collect();
    let file = SourceFile { path: "base.yml".into(), text: BASE.to_owned(), mode: 0o600 };
    let mut sources = Sources { named: "base.yml".into(), files: vec![file], ..Sources::default() };
    let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    sources.take_variables(pairs.iter().map(|(name, value)| (owned(name), owned(value))));
    assert!(sources.variables.keys().chain(&sources.unreadable).all(|name| of_howdah(name)));
    match Config::from_sources(&sources) {
        Err(error) => {
            mistake(&error, BASE.lines().count() as u64);
            refused_by_name(&sources, &error);
            false
        }
        Ok(_) => {
            assert!(sources.unreadable.iter().all(|name| of_others(name)), "{sources:?}");
            sources.variables.keys().for_each(|name| sets_something(&sources, name));
            !sources.variables.is_empty()
        }
    }
}

fn ends_with(name: &[u8], end: &[u8]) -> bool {
    name.to_ascii_uppercase().ends_with(end)
}

fn of_howdah(name: &str) -> bool {
    name.starts_with("HOWDAH_")
}

fn of_others(name: &str) -> bool {
    OTHERS.iter().any(|other| name.contains(other))
}

/// The base is right: whatever is wrong comes from a variable that is there.
fn refused_by_name(sources: &Sources, error: &ConfigError) {
    let ConfigError::Invalid { findings, .. } = error else { panic!("{error}") };
    let there =
        |name: &String| sources.variables.contains_key(name) || sources.unreadable.contains(name);
    let named =
        findings.iter().any(|finding| matches!(&finding.place, Place::Env(name) if there(name)));
    // Two values that are right by themselves may not fit together: then the base's place is told.
    assert!(named || !sources.variables.is_empty(), "{error}");
}

/// Of the keys, the one whose variable this is takes its value from it.
fn sets_something(sources: &Sources, name: &str) {
    if of_others(name) {
        return;
    }
    let key = KEYS.iter().find(|key| {
        let long = format!("HOWDAH_{}", key.path.replace('.', "_").to_ascii_uppercase());
        let short = howdah_agent::config::keys::variable(key.path);
        name == long || name == short
    });
    let Some(key) = key else {
        let families = KEYS.iter().filter_map(|key| key.path.strip_suffix(".NAME"));
        let mut families =
            families.map(|path| format!("HOWDAH_{}_", path.replace('.', "_").to_ascii_uppercase()));
        assert!(families.any(|family| name.starts_with(&family)), "{name} sets nothing, silently");
        return;
    };
    let shown = Config::explain(sources, key.path).ok().flatten().expect(key.path);
    // Two names may stand for one key.
    assert!(matches!(shown.layer, Layer::Written(Place::Env(_))), "{name}: {:?}", shown.layer);
}
