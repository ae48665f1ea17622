//! Random configurations, random edits of a good one, random variables: never a panic, and every
//! error names a place and a remedy.

use std::collections::BTreeMap;
use std::path::Path;

use howdah_agent::config::keys::{KEYS, variable};
use howdah_agent::config::{Config, ConfigError, Finding, Place};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// What every error must have; `lines` is the length of the file.
pub(super) fn names_place_and_remedy(error: &ConfigError, lines: u64) -> Result<(), String> {
    let bad = |why: &str| Err(format!("{why}: {error}"));
    match error {
        ConfigError::Syntax { line, message, .. } => {
            if message.is_empty() || !(1..=lines + 1).contains(line) {
                return bad("no message or no line of the file");
            }
        }
        ConfigError::Invalid { findings, warnings, .. } => {
            if findings.is_empty() {
                return bad("no finding");
            }
            for finding in findings.iter().chain(warnings) {
                finding_is_whole(finding, lines).or_else(|why| bad(&why))?;
            }
        }
        ConfigError::Read { .. } | ConfigError::Empty { .. } | ConfigError::Large { .. } => {}
    }
    if !error.to_string().contains("; ") { bad("no remedy") } else { Ok(()) }
}

fn finding_is_whole(finding: &Finding, lines: u64) -> Result<(), String> {
    let placed = match &finding.place {
        // Only what is missing altogether stands nowhere.
        Place::Whole => finding.what == "is missing" || finding.key.is_empty(),
        Place::Line { line, column, .. } => (1..=lines + 1).contains(line) && *column >= 1,
        Place::Env(name) => name.starts_with("HOWDAH_"),
    };
    match (placed, finding.what.is_empty(), finding.remedy.is_empty()) {
        (true, false, false) => Ok(()),
        _ => Err(format!("{finding:?} lacks a place, a fault or a remedy")),
    }
}

fn judge(text: &str, variables: &BTreeMap<String, String>) -> Result<bool, TestCaseError> {
    let lines = text.lines().count() as u64;
    match Config::from_text(Path::new("t.yml"), text, 0o600, variables) {
        Ok(_) => Ok(true),
        Err(error) => {
            let told = names_place_and_remedy(&error, lines);
            told.map_err(TestCaseError::fail)?;
            Ok(false)
        }
    }
}

/// A configuration with every section, one key or item on a line.
const GOOD: &str = "\
scope: demo
name: n1
profile: default
user: postgres
insecure: true
stop_timeout: 60
log:
  level: info
raft:
  data_dir: /var/lib/howdah/raft
  self_addr: 10.0.0.1:7432
  bind_addr: 0.0.0.0:7432
  partner_addrs: [10.0.0.2:7432, 10.0.0.3:7432]
restapi:
  listen: 0.0.0.0:8008
  connect_address: 10.0.0.1:8008
postgresql:
  listen: 0.0.0.0:5432
  connect_address: 10.0.0.1:5432
  data_dir: /var/lib/postgresql/15/main
  bin_dir: /usr/lib/postgresql/15/bin
  authentication:
    replication:
      username: replicator
      password: hunter2
  parameters:
    work_mem: 64MB
    shared_preload_libraries: pg_stat_statements
  pg_hba:
    - host all all 10.0.0.0/8 scram-sha-256
  pg_ident:
    - ops root postgres
bootstrap:
  dcs:
    ttl: 5
    maximum_lag_on_failover: 1MB
    primary_start_timeout: 300
    synchronous_mode: off
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        max_connections: 200
  initdb:
    - encoding: UTF8
    - data-checksums
";

#[test]
fn the_good_configuration_is_good() {
    let none = BTreeMap::new();
    let (_, warnings) = Config::from_text(Path::new("t.yml"), GOOD, 0o600, &none).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// Values of the wrong type or no sense, among them some that are right here and there.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("~".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[a, {b: [c]}]".to_owned()),
        Just("{a: {b: c}}".to_owned()),
        Just(".nan".to_owned()),
        Just("99999999999999999999999999".to_owned()),
        Just("&a [*a]".to_owned()),
        Just("'é\u{1F418}'".to_owned()),
        Just("|".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[0-9]{1,4}(ms|s|min|kB|MB|GB|XB)",
        "[a-z]{0,8}:[0-9]{0,6}",
        "/?[a-z/.]{0,12}",
        "[ -~]{0,20}",
    ]
}

/// One edit of one line.
#[derive(Clone, Debug)]
enum Edit {
    Drop(usize),
    Double(usize),
    Retype(usize, String),
    Misspell(usize, usize),
    Indent(usize, usize),
    Cut(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let line = 0..GOOD.lines().count();
    prop_oneof![
        line.clone().prop_map(Edit::Drop),
        line.clone().prop_map(Edit::Double),
        (line.clone(), value()).prop_map(|(line, value)| Edit::Retype(line, value)),
        (line.clone(), 0..30_usize).prop_map(|(line, at)| Edit::Misspell(line, at)),
        (line, 0..9_usize).prop_map(|(line, by)| Edit::Indent(line, by)),
        (0..GOOD.len()).prop_map(Edit::Cut),
    ]
}

/// Two neighbouring letters of the key change places; `None` where that changes nothing.
fn misspelled(line: &str, at: usize) -> Option<String> {
    let (key, rest) = line.split_once(':')?;
    let start = key.len() - key.trim_start().len();
    let mut letters: Vec<char> = key.chars().collect();
    let at = start + at % (letters.len() - start).saturating_sub(1).max(1);
    if letters.len() < at + 2 || letters[at] == letters[at + 1] || key.contains('-') {
        return None;
    }
    letters.swap(at, at + 1);
    Some(format!("{}:{rest}", letters.into_iter().collect::<String>()))
}

fn edited(text: &str, edit: &Edit) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let count = lines.len().max(1);
    match edit {
        _ if lines.is_empty() => {}
        Edit::Drop(at) => {
            lines.remove(at % count);
        }
        Edit::Double(at) => lines.insert(at % count, lines[at % count].clone()),
        Edit::Retype(at, value) => {
            let line = &mut lines[at % count];
            let key = line.split_once(':').map_or(line.as_str(), |(key, _)| key).to_owned();
            *line = format!("{key}: {value}");
        }
        Edit::Misspell(at, letter) => {
            if let Some(line) = misspelled(&lines[at % count], *letter) {
                lines[at % count] = line;
            }
        }
        Edit::Indent(at, by) => {
            let line = &mut lines[at % count];
            *line = format!("{}{}", " ".repeat(*by), line.trim_start());
        }
        Edit::Cut(at) => {
            let whole = lines.join("\n");
            return whole.chars().take(*at).collect();
        }
    }
    lines.join("\n") + "\n"
}

/// A tree of known and unknown keys.
fn tree() -> impl Strategy<Value = String> {
    let keys: Vec<String> = KEYS
        .iter()
        .flat_map(|key| key.path.split('.').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let key = prop_oneof![proptest::sample::select(keys), "[a-z_]{1,10}"];
    let leaf = value().prop_map(|value| value.replace(['\n', '|'], " "));
    let node = leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec((key.clone(), inner.clone()), 1..6).prop_map(|entries| {
                let all = entries.into_iter().map(|(key, value)| format!("{key}: {value}"));
                format!("{{{}}}", all.collect::<Vec<_>>().join(", "))
            }),
            proptest::collection::vec(inner, 0..5)
                .prop_map(|items| format!("[{}]", items.join(", "))),
        ]
    });
    node.prop_map(|node| node + "\n")
}

fn quiet() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(quiet())]

    #[test]
    fn any_text_is_judged(text in "\\PC{0,60}") {
        judge(&text, &BTreeMap::new())?;
    }

    #[test]
    fn any_tree_is_judged(text in tree()) {
        judge(&text, &BTreeMap::new())?;
    }

    #[test]
    fn edits_of_a_good_configuration_are_judged(edits in proptest::collection::vec(edit(), 1..4)) {
        let text = edits.iter().fold(GOOD.to_owned(), |text, edit| edited(&text, edit));
        judge(&text, &BTreeMap::new())?;
    }

    #[test]
    fn any_value_of_any_variable_is_judged(
        set in proptest::collection::btree_map(proptest::sample::select(KEYS.to_vec().iter()
            .map(|key| variable(&key.path.replace("NAME", "work_mem"))).collect::<Vec<_>>()),
            value(), 1..4)
    ) {
        judge(GOOD, &set)?;
    }

    #[test]
    fn a_variable_with_a_wrong_letter_sets_nothing_silently(
        key in 0..KEYS.len(), at in 8..60_usize, letter in "[A-Z]"
    ) {
        let right = variable(&KEYS[key].path.replace(".NAME", ".x"));
        let at = at % right.len();
        let wrong = format!("{}{letter}{}", &right[..at], &right[at..]);
        let known = KEYS.iter().any(|key| {
            let family = variable(&key.path.replace("NAME", ""));
            variable(key.path) == wrong || (key.path.ends_with(".NAME") && wrong.starts_with(&family))
        });
        let elsewhere = ["HOWDAH_TEST_", "HOWDAH_SIM_", "HOWDAH_DSN_"];
        prop_assume!(!known && wrong.starts_with("HOWDAH_"));
        prop_assume!(!elsewhere.iter().any(|prefix| wrong.starts_with(prefix)));
        let passes = judge(GOOD, &BTreeMap::from([(wrong.clone(), "1".to_owned())]))?;
        prop_assert!(!passes, "{wrong} is taken");
    }
}

/// Each key of the good configuration, misspelled in each way that `misspelled` knows.
#[test]
fn no_misspelled_key_is_taken_silently() {
    let mut tried = 0;
    for (nth, line) in GOOD.lines().enumerate() {
        for letter in 0..30 {
            let Some(wrong) = misspelled(line, letter) else { continue };
            // `dcs` of three letters is also what `- encoding` of a list is not.
            if line.trim_start().starts_with('-') {
                continue;
            }
            let mut lines: Vec<&str> = GOOD.lines().collect();
            lines[nth] = &wrong;
            let text = lines.join("\n");
            let verdict = Config::from_text(Path::new("t.yml"), &text, 0o600, &BTreeMap::new());
            let error = verdict.err().unwrap_or_else(|| panic!("`{wrong}` is taken"));
            let told = error.to_string();
            assert!(told.contains(&format!("t.yml:{}:", nth + 1)), "`{wrong}`: {told}");
            assert!(!told.contains("hunter2"), "{told}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

/// Each line of the good configuration with each of some wrong values.
#[test]
fn a_key_of_the_wrong_type_is_refused_at_its_line_or_harmless() {
    for (nth, line) in GOOD.lines().enumerate() {
        for value in ["{a: b}", "[[a]]", "'a\u{7}b: {'"] {
            let Some((key, _)) = line.split_once(':') else { continue };
            let wrong = format!("{key}: {value}");
            let mut lines: Vec<&str> = GOOD.lines().collect();
            lines[nth] = &wrong;
            let text = lines.join("\n");
            match judge(&text, &BTreeMap::new()) {
                Ok(false) => {}
                // Texts that may be anything.
                Ok(true) => assert!(
                    ["password", "shared_preload_libraries", "user", "encoding", "username"]
                        .contains(&key.trim().trim_start_matches("- ")),
                    "`{wrong}` is taken"
                ),
                Err(why) => panic!("`{wrong}`: {why}"),
            }
        }
    }
}
