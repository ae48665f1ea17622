//! The closed loop: decisions and the log against each other, under faults. Seeds that fail are
//! printed; `HOWDAH_SIM_SEED=17 cargo nextest run -p howdah-core closed_loop` runs one alone, and
//! `HOWDAH_SIM_SEED=0-5000` many.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use howdah_core::Settings;
use howdah_core::sync::choose::Mode;
use howdah_testkit::sim::Sim;

const SEEDS: &str = "0-300";
/// What must have happened somewhere among all seeds, or the storm was none.
const JOBS: [&str; 14] = [
    "initdb",
    "start",
    "start in place",
    "stop",
    "restart",
    "kill",
    "promise",
    "promote",
    "follow",
    "rewind",
    "clone",
    "doors",
    "prepare",
    "hand over",
];

fn seeds() -> std::ops::Range<u64> {
    let wanted =
        std::env::var_os("HOWDAH_SIM_SEED").map(|seed| seed.to_string_lossy().into_owned());
    let text = wanted.unwrap_or_else(|| SEEDS.to_owned());
    let number = |text: &str| text.parse::<u64>().expect("HOWDAH_SIM_SEED is N or FROM-TO");
    match text.split_once('-') {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

/// What happened over all seeds.
#[derive(Debug, Default)]
struct Sum {
    jobs: BTreeMap<&'static str, usize>,
    changes: BTreeMap<String, usize>,
    promised: usize,
    sync_changes: usize,
    slowest: (Duration, u64),
}

/// Which state of the source this is, where git tells.
fn commit() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    described
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

#[allow(clippy::disallowed_methods, reason = "how fast it goes, for people")]
fn run_all(settings: &Settings) -> Sum {
    let began = Instant::now();
    let (mut failed, mut sum) = (Vec::new(), Sum::default());
    for seed in seeds() {
        match Sim::with(seed, settings.clone()).run() {
            Ok(report) => {
                sum.slowest = sum.slowest.max((report.rest_after, seed));
                sum.promised += report.promised;
                sum.sync_changes += report.sync_changes;
                for (job, count) in report.jobs {
                    *sum.jobs.entry(job).or_insert(0) += count;
                }
                for (kind, count) in report.changes {
                    *sum.changes.entry(kind).or_insert(0) += count;
                }
            }
            Err(story) => failed.push((seed, story)),
        }
    }
    let (count, took) = (seeds().count(), began.elapsed().as_secs_f64());
    let each_second = count as f64 / took.max(0.001);
    println!("{count} seeds in {took:.0} s, {each_second:.0} each second; {sum:?}");
    let numbers: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    if let Some((seed, story)) = failed.first() {
        let mode = settings.synchronous_mode;
        panic!(
            "mode {mode}: seeds {numbers:?} failed at commit {}; seed {seed}: {story}\n\
             again: HOWDAH_SIM_SEED={seed} cargo nextest run -p howdah-core -E 'binary(closed_loop)'",
            commit()
        );
    }
    sum
}

#[test]
fn after_faults_one_member_leads_and_the_others_stream() {
    let sum = run_all(&Settings::default());
    if seeds().count() > 100 {
        let missing: Vec<_> = JOBS.iter().filter(|job| !sum.jobs.contains_key(*job)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
        for kind in ["bootstrap", "election", "switchover", "take-back"] {
            assert!(sum.changes.contains_key(kind), "no {kind} ever happened");
        }
    }
}

fn no_promised_commit_is_lost(synchronous_mode: Mode, synchronous_mode_strict: bool) {
    let settings = Settings { synchronous_mode, synchronous_mode_strict, ..Settings::default() };
    let sum = run_all(&settings);
    if seeds().count() > 100 {
        assert!(sum.promised > 10_000, "only {} commits were promised", sum.promised);
        assert!(sum.sync_changes > 500, "whom commits wait for hardly changed");
    }
}

#[test]
fn quorum_strict_loses_no_promised_commit() {
    no_promised_commit_is_lost(Mode::Quorum, true);
}

#[test]
fn quorum_loses_no_promised_commit() {
    no_promised_commit_is_lost(Mode::Quorum, false);
}

#[test]
fn on_strict_loses_no_promised_commit() {
    no_promised_commit_is_lost(Mode::On, true);
}
