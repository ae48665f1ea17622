//! Runs the golden scripts, and checks that every action and every reason occurs in one.

use std::collections::BTreeSet;
use std::path::Path;

use howdah_testkit::golden::Golden;
use test_each_file::test_each_path;

test_each_path! { in "crates/core/testscripts/apply" as apply => run }
test_each_path! { in "crates/core/testscripts/decide" as decide => run }

fn run(path: &Path) {
    let mut golden = Golden::default();
    goldenscript::run(&mut golden, path).expect("the script runs");
}

/// The names of an enum's variants, read from its source.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let body = source.split(&format!("pub enum {name} {{")).nth(1).expect("the enum is there");
    let body = body.split("\n}").next().expect("the enum ends");
    body.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(|line| line.split(['(', '{', ',', ' ']).next().expect("a name"))
        .map(|variant| format!("{name}::{variant}"))
        .collect()
}

#[test]
fn every_action_and_reason_occurs_in_a_script() {
    let mut seen = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts/decide");
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let mut golden = Golden::default();
        let input = std::fs::read_to_string(entry.expect("an entry").path()).expect("a script");
        goldenscript::generate(&mut golden, &input).expect("the script runs");
        seen.extend(golden.seen);
    }
    let mut wanted = variants(include_str!("../src/action.rs"), "Action");
    wanted.extend(variants(include_str!("../src/reason.rs"), "Reason"));
    let missing: Vec<_> = wanted.difference(&seen).collect();
    assert!(missing.is_empty(), "occur in no script: {missing:#?}");
}
