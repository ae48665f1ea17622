//! Speed limits, measured on the demo's tour: `make perf`, alone on the machine, never in CI.
//!
//! `perf [RUNS]` runs the tour so often with each profile (10 unless said) and ends with 1 if a
//! limit is passed: node death, postmaster crash, switchover (median and worst), agent's death.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Worst outage allowed, milliseconds, by step; and the median for the switchover.
fn limits(profile: &str) -> [(&'static str, u64); 3] {
    let node_death = if profile == "fast" { 3000 } else { 6000 };
    [
        ("switchover", 1500),
        ("kill -9 of the postmaster", 1500),
        ("kill -9 of the whole node", node_death),
    ]
}

const SWITCHOVER_MEDIAN_MS: u64 = 500;

fn tour(howdah: &str, profile: &str) -> Result<Value> {
    let output = Command::new(howdah)
        .args(["demo", "--tour", "--profile", profile, "-o", "json"])
        .output()
        .with_context(|| format!("run {howdah}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{profile}: {said}{told}");
    serde_json::from_str(&said).context("the tour's report")
}

fn main() -> Result<ExitCode> {
    let runs: usize = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let howdah = std::env::var("HOWDAH_TEST_BINARY").unwrap_or("target/debug/howdah".into());
    let mut good = true;
    for profile in ["default", "fast"] {
        let mut outages: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut back: Vec<u64> = Vec::new();
        for run in 1..=runs {
            let report = tour(&howdah, profile)?;
            for step in report["steps"].as_array().context("steps")? {
                let name = step["step"].as_str().context("a step's name")?.to_owned();
                outages.entry(name).or_default().push(step["outage_ms"].as_u64().context("ms")?);
                back.push(step["old_primary_back_ms"].as_u64().context("ms")?);
            }
            eprintln!("{profile}: run {run} of {runs} held");
        }
        println!("profile {profile}, outages in ms over {runs} runs:");
        for (step, times) in &mut outages {
            times.sort_unstable();
            let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
            println!("  {step:<28} median {median:>6}  worst {worst:>6}");
            let limit = limits(profile).iter().find(|(name, _)| name == step).map(|(_, ms)| *ms);
            let slow = limit.is_some_and(|limit| worst > limit)
                || (step == "switchover" && median > SWITCHOVER_MEDIAN_MS);
            if slow {
                println!("  {step}: above its limit");
                good = false;
            }
        }
        println!("  the old primary was back after {} ms at most", back.iter().max().unwrap_or(&0));
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
