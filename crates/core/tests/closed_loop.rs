//! The closed loop: decisions and the log against each other, under faults. Seeds that fail are
//! printed; `HOWDAH_SIM_SEED=17 cargo nextest run -p howdah-core closed_loop` runs one alone, and
//! `HOWDAH_SIM_SEED=0-5000` many.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_testkit::sim::Sim;

const SEEDS: &str = "0-200";
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

#[test]
fn after_faults_one_member_leads_and_the_others_stream() {
    let (mut failed, mut slowest) = (Vec::new(), (Duration::ZERO, 0));
    let (mut jobs, mut changes) = (BTreeMap::new(), BTreeMap::new());
    for seed in seeds() {
        match Sim::new(seed).run() {
            Ok(report) => {
                slowest = slowest.max((report.rest_after, seed));
                for (job, count) in report.jobs {
                    *jobs.entry(job).or_insert(0) += count;
                }
                for (kind, count) in report.changes {
                    *changes.entry(kind).or_insert(0) += count;
                }
            }
            Err(story) => failed.push((seed, story)),
        }
    }
    println!("{jobs:?}\n{changes:?}\nslowest: {slowest:?}");
    let numbers: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    if let Some((seed, story)) = failed.first() {
        panic!("seeds {numbers:?} failed; seed {seed}: {story}");
    }
    if seeds().count() > 100 {
        let missing: Vec<_> = JOBS.iter().filter(|job| !jobs.contains_key(*job)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
        for kind in ["bootstrap", "election", "switchover", "take-back"] {
            assert!(changes.contains_key(kind), "no {kind} ever happened");
        }
    }
}
