//! Configuration files: YAML, laid over each other.

use std::collections::BTreeMap;

use howdah_agent::config::keys::{KEYS, is_secret};
use howdah_agent::config::{
    Config, ConfigError, Explanation, Finding, Layer, Place, SourceFile, Sources,
};

use crate::parts;

/// Files that are laid over each other at most.
const FILES: usize = 3;
/// Keys that are looked at in one input; which ones, its length says.
const LOOKED_AT: usize = 10;

/// A mistake names its file, line and remedy; no password stands in what is said; what `config explain` shows of
/// a key is taken, and means the same, in the variable that it names.
pub fn config(bytes: &[u8]) -> bool {
    let texts: Result<Vec<&str>, _> =
        parts(bytes, FILES).into_iter().map(std::str::from_utf8).collect();
    let Ok(texts) = texts else { return false };
    // It would be read.
    if texts.iter().any(|text| text.contains("password_file")) {
        return false;
    }
    let sources = sources(&texts);
    match Config::from_sources(&sources) {
        Ok((config, warnings)) => {
            let lines = lines(&texts);
            warnings.iter().for_each(|warning| whole(warning, lines));
            let told: Vec<String> = warnings.iter().map(Finding::to_string).collect();
            keeps_secrets(&texts, &told.join("\n"));
            hides_passwords(&config, &texts);
            explains(&sources, &config, bytes.len());
            can_be_waited_for(&config);
            true
        }
        Err(error) => {
            mistake(&error, lines(&texts));
            keeps_secrets(&texts, &error.to_string());
            let again = Config::from_sources(&sources).err().map(|error| error.to_string());
            assert_eq!(again, Some(error.to_string()));
            false
        }
    }
}

fn sources(texts: &[&str]) -> Sources {
    let files = texts.iter().enumerate().map(|(number, text)| SourceFile {
        path: format!("{number}.yml").into(),
        text: (*text).to_owned(),
        mode: 0o600,
    });
    Sources { named: "conf.d".into(), files: files.collect(), ..Sources::default() }
}

fn lines(texts: &[&str]) -> u64 {
    // YAML breaks lines at more characters than Rust does.
    let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    texts.iter().map(|text| 1 + text.matches(breaks).count()).max().unwrap_or(0) as u64
}

/// What every error must have; `lines` is the length of the longest file.
pub(crate) fn mistake(error: &ConfigError, lines: u64) {
    match error {
        ConfigError::Syntax { line, column, message, .. } => {
            assert!(!message.is_empty() && *column >= 1, "{error}");
            assert!((1..=lines + 1).contains(line), "no line of the file: {error}");
        }
        ConfigError::Invalid { findings, warnings, .. } => {
            assert!(!findings.is_empty(), "no finding");
            findings.iter().chain(warnings).for_each(|finding| whole(finding, lines));
        }
        ConfigError::Read { .. } | ConfigError::Empty { .. } | ConfigError::Large { .. } => {}
    }
    let told = error.to_string();
    assert!(told.contains("; "), "no remedy: {told}");
    assert_eq!(error.exit_code(), 64);
}

/// A finding has a place, a fault and a remedy, on one line.
fn whole(finding: &Finding, lines: u64) {
    let placed = match &finding.place {
        // Only what is missing altogether stands nowhere.
        Place::Whole => finding.what == "is missing" || finding.key.is_empty(),
        Place::Line { line, column, .. } => (1..=lines + 1).contains(line) && *column >= 1,
        Place::Env(name) => name.starts_with("HOWDAH_"),
    };
    let told = finding.to_string();
    assert!(placed && !finding.what.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
    assert!(!told.contains(['\n', '\r', '\u{1b}']), "more than a line: {told:?}");
}

/// What stands behind `password:` is repeated nowhere.
fn keeps_secrets(texts: &[&str], told: &str) {
    let all = texts.concat();
    // In a text of several lines it would be no key.
    if all.contains(['"', '\'', '|', '>']) {
        return;
    }
    for line in all.lines() {
        let line = line.trim_start_matches([' ', '-', '{']);
        let Some(value) = line.strip_prefix("password:") else { continue };
        let words = value.split(|c: char| !c.is_ascii_alphanumeric());
        let secret = words.max_by_key(|word| word.len()).unwrap_or_default();
        let odd = secret.len() >= 8
            && secret.contains(|c: char| c.is_ascii_digit())
            && secret.contains(|c: char| c.is_ascii_alphabetic());
        if odd && all.matches(secret).count() == 1 {
            assert!(!told.contains(secret), "{secret} is told: {told}");
        }
    }
}

/// A time limit that cannot be added to the clock would be a panic where it is first waited for.
fn can_be_waited_for(config: &Config) {
    let proxy = &config.proxy.limits;
    let timings = config.timings();
    let limits = [
        config.stop_timeout,
        config.handover_timeout,
        proxy.hold_timeout,
        proxy.idle_timeout.unwrap_or_default(),
        timings.ttl * 12 + timings.handover,
        config.bootstrap.settings.ttl(),
    ];
    for limit in limits {
        assert!(std::time::Instant::now().checked_add(limit).is_some(), "{limit:?}");
    }
}

fn hides_passwords(config: &Config, texts: &[&str]) {
    let shown = format!("{config:?}");
    let auth = &config.postgresql.authentication;
    let roles = [&auth.superuser, &auth.replication, &auth.rewind, &config.pgbouncer.role];
    for password in roles.into_iter().filter_map(|role| role.password.as_ref()) {
        let secret = password.reveal();
        assert!(!secret.is_empty() && !secret.contains(['\n', '\0']));
        if secret.len() >= 8 && texts.concat().matches(secret).count() == 1 {
            assert!(!shown.contains(secret), "{secret} is shown: {shown}");
        }
    }
}

fn explains(sources: &Sources, config: &Config, seed: usize) {
    let own =
        config.postgresql.parameters.keys().map(|name| format!("postgresql.parameters.{name}"));
    let seeds = config.bootstrap.settings.parameters.keys();
    let seeds = seeds.map(|name| format!("bootstrap.dcs.postgresql.parameters.{name}"));
    let plain = KEYS.iter().filter(|key| !key.path.ends_with(".NAME") && !is_secret(key.path));
    let paths: Vec<String> = plain.map(|key| key.path.to_owned()).chain(own).chain(seeds).collect();
    let begin = seed.wrapping_mul(LOOKED_AT) % paths.len();
    for path in paths.iter().cycle().skip(begin).take(LOOKED_AT) {
        explained(sources, path);
    }
}

/// Whether a value is shown for people alone: nothing is in force, it is what two keys say together, or it has
/// what stands between values in a variable.
fn for_people(path: &str, value: &str) -> bool {
    let listed = matches!(path, "pgbouncer.addresses" | "bootstrap.initdb") && value.contains(',');
    let together = path.starts_with("bootstrap.") && path.ends_with("pg_hba");
    let blank = value.starts_with('\n') || value.ends_with('\n') || value.contains("\n\n");
    // A name with two underscores, or a dot beside one, has no variable of its own.
    let nameless = path.contains("__") || path.contains("_.") || path.contains("._");
    matches!(value, "off" | "0s") || listed || together || blank || nameless || value.contains('\0')
}

fn explained(sources: &Sources, path: &str) {
    let shown = |sources: &Sources| -> Explanation {
        let answer = Config::explain(sources, path);
        answer.unwrap_or_else(|error| panic!("{path} as it is shown: {error}")).expect(path)
    };
    let first = shown(sources);
    let (Layer::Written(_), Some(value)) = (&first.layer, &first.value) else { return };
    if for_people(path, value) {
        return;
    }
    let variables = BTreeMap::from([(first.variable.clone(), value.clone())]);
    let again = shown(&Sources { variables, ..sources.clone() });
    assert_eq!(again.value.as_ref(), Some(value), "{path} by its variable");
    assert_eq!(again.layer, Layer::Written(Place::Env(first.variable)), "{path}");
}
