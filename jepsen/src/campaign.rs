//! Many runs, one seed after the other, each in a process and a directory of its own; and their sum.
//!
//! Survives a restart: every run that came to its end, by its `report.json`. Killed half way: the run
//! that was under way is made again from its beginning when the campaign is resumed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::check::Verdict;
use crate::run::{Done, Plan};

/// What one run left.
#[derive(Debug, Deserialize)]
struct Report {
    plan: Plan,
    faults: Vec<Done>,
    verdicts: Vec<Said>,
    acknowledged: usize,
    versions: String,
    skipped: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Said {
    check: String,
    verdict: String,
}

/// Directory of one run.
fn room(dir: &Path, seed: u64) -> PathBuf {
    dir.join(format!("seed-{seed}"))
}

/// Makes `rounds` runs, the first with the seed of `plan`. With `resume` those that came to their end
/// are left as they are.
///
/// # Errors
/// If a run cannot be started, or there are runs in the directory and nobody said to go on.
pub fn make(plan: &Plan, rounds: u64, dir: &Path, resume: bool) -> Result<()> {
    let program = std::env::current_exe().context("this program's own path")?;
    for seed in plan.seed..plan.seed + rounds {
        let room = room(dir, seed);
        if room.exists() {
            ensure!(resume, "{} is there; --resume goes on with what is there", room.display());
            if room.join("report.json").exists() {
                println!("seed {seed}: is there");
                continue;
            }
            std::fs::remove_dir_all(&room).with_context(|| format!("remove {}", room.display()))?;
        }
        let status = Command::new(&program)
            .args(Plan { seed, ..plan.clone() }.arguments())
            .arg("--dir")
            .arg(&room)
            .env_remove("ROUNDS")
            .status()
            .context("start a run")?;
        println!("seed {seed}: ended with {status}");
    }
    Ok(())
}

/// All runs that came to their end, as Markdown, and the worst verdict of each.
///
/// # Errors
/// If there is none, or one cannot be read.
pub fn sum(dir: &Path) -> Result<(String, Vec<(String, Verdict)>)> {
    let mut reports = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path().join("report.json");
        if path.exists() {
            let text = std::fs::read_to_string(&path)?;
            let report: Report =
                serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            reports.push(report);
        }
    }
    ensure!(!reports.is_empty(), "no run in {} came to its end", dir.display());
    reports.sort_by_key(|report| report.plan.seed);
    let verdicts = reports.iter().map(|report| (report.plan.seed.to_string(), worst(report)));
    Ok((table(&reports), verdicts.collect()))
}

fn worst(report: &Report) -> Verdict {
    let of = |word: &str| -> Vec<&str> {
        let said = report.verdicts.iter().filter(|said| said.verdict == word);
        said.map(|said| said.check.as_str()).collect()
    };
    let (bad, unknown) = (of("bad"), of("unknown"));
    if !bad.is_empty() {
        Verdict::Bad(vec![crate::check::Anomaly {
            kind: "run",
            text: bad.join(", "),
            events: Vec::new(),
        }])
    } else if !unknown.is_empty() {
        Verdict::Unknown(unknown.join(", "))
    } else {
        Verdict::Good(format!("{} faults", report.faults.len()))
    }
}

fn table(reports: &[Report]) -> String {
    let minutes: f64 = reports.iter().map(|one| one.plan.length.as_secs_f64() / 60.0).sum();
    let faults: usize = reports.iter().map(|one| one.faults.len()).sum();
    let acks: usize = reports.iter().map(|one| one.acknowledged).sum();
    let mut text = format!(
        "{} runs, {minutes:.0} minutes of faults, {faults} faults, {acks} acknowledged operations.\n\n\
         | Seed | System | Mode | Members | Faults | Acknowledged | Verdict |\n\
         |---|---|---|---|---|---|---|\n",
        reports.len()
    );
    for one in reports {
        let verdict = match worst(one) {
            Verdict::Good(_) => "good".to_owned(),
            Verdict::Unknown(what) => format!("unknown: {what}"),
            Verdict::Bad(what) => format!("BAD: {}", what[0].text),
        };
        let Plan { seed, mode, members, against, .. } = &one.plan;
        let (faults, acks) = (one.faults.len(), one.acknowledged);
        let _ = writeln!(
            text,
            "| {seed} | {against} | {mode} | {members} | {faults} | {acks} | {verdict} |"
        );
    }
    text += "\n| Fault | Times | With another | Median outage | Worst |\n|---|---|---|---|---|\n";
    for (fault, (outages, company)) in by_kind(reports) {
        let (median, worst) = (outages[outages.len() / 2], outages[outages.len() - 1]);
        let _ = writeln!(
            text,
            "| {fault} | {} | {company} | {:.3} s | {:.3} s |",
            outages.len(),
            median.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
    let lines = |of: fn(&Report) -> Vec<String>| -> Vec<String> {
        let all: std::collections::BTreeSet<String> = reports.iter().flat_map(of).collect();
        all.into_iter().collect()
    };
    let _ = writeln!(text, "\nVersions: {}.", lines(|one| vec![one.versions.clone()]).join("; "));
    for skipped in lines(|one| one.skipped.clone()) {
        let _ = writeln!(text, "SKIPPED {skipped}");
    }
    text
}

/// Outages by kind of fault and whether it befell the leader, sorted; and how many had company.
fn by_kind(reports: &[Report]) -> BTreeMap<String, (Vec<Duration>, usize)> {
    let mut kinds: BTreeMap<String, (Vec<Duration>, usize)> = BTreeMap::new();
    for one in reports.iter().flat_map(|report| &report.faults) {
        let name = if one.led { format!("{}, leader", one.fault) } else { one.fault.clone() };
        let (outages, company) = kinds.entry(name).or_default();
        outages.push(one.outage);
        *company += usize::from(one.beside.is_some());
    }
    for (outages, _) in kinds.values_mut() {
        outages.sort();
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seed: u64, verdict: &str) -> String {
        format!(
            r#"{{"plan":{{"seed":{seed},"length":{{"secs":60,"nanos":0}},"mode":"quorum","members":3}},
            "faults":[{{"fault":"Cut","beside":"Mute of n1","member":"n2","led":true,"from":1,"to":2,
            "outage":{{"secs":{seed},"nanos":0}}}}],
            "verdicts":[{{"check":"set","verdict":"{verdict}"}}],
            "acknowledged":100,"versions":"howdah 1, PostgreSQL 15","skipped":["Full: no loop mounts"]}}"#
        )
    }

    #[test]
    fn runs_are_summed_and_the_worst_of_each_is_said() {
        let dir = std::env::temp_dir().join(format!("storm-campaign-{}", std::process::id()));
        for (seed, verdict) in [(1, "good"), (2, "unknown"), (3, "bad")] {
            std::fs::create_dir_all(room(&dir, seed)).unwrap();
            std::fs::write(room(&dir, seed).join("report.json"), report(seed, verdict)).unwrap();
        }
        // One that was killed half way.
        std::fs::create_dir_all(room(&dir, 4)).unwrap();
        let (text, verdicts) = sum(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(
            text.starts_with("3 runs, 3 minutes of faults, 3 faults, 300 acknowledged"),
            "{text}"
        );
        assert!(text.contains("| Cut, leader | 3 | 3 | 2.000 s | 3.000 s |"), "{text}");
        assert!(text.contains("| 3 | howdah | quorum | 3 | 1 | 100 | BAD: set |"), "{text}");
        assert!(text.contains("SKIPPED Full: no loop mounts"), "{text}");
        let good: Vec<bool> = verdicts.iter().map(|(_, one)| one.is_good()).collect();
        assert_eq!(good, [true, false, false]);
    }
}
