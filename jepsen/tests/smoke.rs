//! Three minutes of the storm, as CI runs it; its directory stays where it fails.
//!
//! The schedule is the same each time, so that what fails was changed, unless `SEED` names another: new ones
//! are for `make storm`, which draws them.

use std::time::Duration;

use anyhow::{Result, ensure};
use howdah_storm::report;
use howdah_storm::run::{Plan, run};
use howdah_tests::dice::number;

/// Whence the schedule follows.
const SCHEDULE: u64 = 4;

#[tokio::test]
async fn three_minutes_of_the_storm_are_explained() -> Result<()> {
    let seed = number("SEED").unwrap_or(SCHEDULE);
    let plan = Plan {
        seed,
        length: Duration::from_secs(180),
        mode: "quorum".into(),
        members: 3,
        against: "howdah".into(),
        through: "direct".into(),
        without: Vec::new(),
        cycles: None,
    };
    let dir = std::env::temp_dir().join(format!("howdah-storm-smoke-{}", std::process::id()));
    println!("SEED={seed}");
    let outcome = run(plan, &dir).await?;
    report::write(&outcome, &dir)?;
    println!("{}", report::summary(&outcome));
    let explained = outcome.verdicts.iter().all(|(_, verdict)| verdict.is_good());
    ensure!(explained, "see {}", dir.display());
    ensure!(outcome.faults.len() >= 8, "only {} faults", outcome.faults.len());
    Ok(std::fs::remove_dir_all(&dir)?)
}
