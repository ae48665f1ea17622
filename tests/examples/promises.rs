//! `make promises`: the schedule of `directed`, ten times with promises and ten times without.
//!
//! Needs a binary that is built with the feature `sabotage`; ends with 1 unless every run without promises
//! loses acknowledged writes, and none with them does.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use howdah_tests::directed::cut_freeze_elect_thaw;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let runs: usize = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let mut good = true;
    for (what, env) in [("with promises", None), ("without", Some("promise"))] {
        let mut lossy = 0;
        for run in 1..=runs {
            let env: Vec<_> = env.iter().map(|off| ("HOWDAH_TEST_RAIL_OFF", *off)).collect();
            let outcome = cut_freeze_elect_thaw("promises", &env).await?;
            let said = outcome.logs.contains("decides without the rail promise");
            ensure!(said != env.is_empty(), "build the binary with `--features sabotage`");
            let (lost, all) = (outcome.lost.len(), outcome.acknowledged);
            println!("{what}, run {run}: {lost} of {all} acknowledged writes lost");
            lossy += usize::from(lost > 0);
        }
        println!("{what}: {lossy} of {runs} runs lost writes");
        good &= lossy == if env.is_some() { runs } else { 0 };
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
