//! Every file of `fuzz/corpus` and `fuzz/regressions` through its property; and that none is forgotten.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use howdah_fuzz_properties::TARGETS;

/// Bytes of all seeds together at most: they are for people to read.
const SEEDS: u64 = 300 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names(dir: &str) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    files(&fuzz().join(dir)).into_iter().map(stem).collect()
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// `good-` is taken, `bad-` is refused; of the others nothing is asked but that the property holds.
#[test]
fn every_seed_and_every_input_that_broke_something_holds() {
    let mut wrong = Vec::new();
    for (target, holds) in TARGETS {
        for dir in ["corpus", "regressions"] {
            for file in files(&fuzz().join(dir).join(target)) {
                let (name, bytes) = (name_of(&file), fs::read(&file).unwrap());
                match catch_unwind(AssertUnwindSafe(|| holds(&bytes))) {
                    Err(_) => wrong.push(format!("{target}/{name}: does not hold; see above")),
                    Ok(taken) if taken && name.starts_with("bad-") => {
                        wrong.push(format!("{target}/{name}: is taken"));
                    }
                    Ok(taken) if !taken && name.starts_with("good-") => {
                        wrong.push(format!("{target}/{name}: is refused"));
                    }
                    Ok(_) => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_target_has_seeds_that_are_taken_and_seeds_that_are_refused() {
    for (target, _) in TARGETS {
        let seeds = files(&fuzz().join("corpus").join(target));
        for kind in ["good-", "bad-"] {
            let some = seeds.iter().any(|file| name_of(file).starts_with(kind));
            assert!(some, "fuzz/corpus/{target} has no file {kind}*");
        }
    }
}

#[test]
fn each_target_has_a_program_and_each_program_and_directory_a_target() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known.len(), TARGETS.len(), "one stands twice");
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
    assert!(names("regressions").is_subset(&known));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in &known {
        let program = format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"");
        assert!(manifest.contains(&program), "fuzz/Cargo.toml lacks {target}");
        let text = fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(
            text.contains(&format!("howdah_fuzz_properties::{target}(")),
            "{target} runs another"
        );
    }
    let page = fs::read_to_string(fuzz().join("../docs/fuzzing.md")).unwrap();
    for target in &known {
        assert!(
            page.contains(&format!("| `{target}` |")),
            "docs/fuzzing.md does not name {target}"
        );
    }
}

#[test]
fn the_seeds_are_small() {
    let all = TARGETS.iter().flat_map(|(target, _)| files(&fuzz().join("corpus").join(target)));
    let bytes: u64 = all.map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= SEEDS, "{bytes} bytes");
}
