//! `howdah-storm`: breaks a cluster of this machine, and says what its clients saw.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use howdah_storm::check::Verdict;
use howdah_storm::run::{Plan, WITHOUT, default_dir, run};
use howdah_storm::{campaign, crew::Histories, patroni, plain, report, shrink};
use tokio::signal::unix::{SignalKind, signal};

/// Breaks clusters of the built binary on real PostgreSQL, and checks what their clients saw.
///
/// Ends with 0 when everything is explained, 1 when something is not, 2 when the run broke off, 3 when it
/// proves nothing.
#[derive(Parser)]
#[command(name = "howdah-storm", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A cluster is made, broken for a while, and judged.
    Run {
        /// How long faults go on, minutes.
        #[arg(long, default_value_t = 10.0, env = "MINUTES")]
        minutes: f64,
        /// The same seed gives the same faults in the same order.
        #[arg(long, env = "SEED")]
        seed: Option<u64>,
        /// synchronous_mode: off, on or quorum.
        #[arg(long, default_value = "quorum", env = "MODE", value_parser = ["off", "on", "quorum"])]
        mode: String,
        /// Members of the cluster.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=7))]
        members: u16,
        /// What it is let loose on: a cluster of howdah, one of Patroni and etcd, which must be installed
        /// (tools/needs patroni), or one plain PostgreSQL, in which nothing may be found.
        #[arg(long, default_value = "howdah", env = "AGAINST", value_parser = ["howdah", "patroni", "postgres"])]
        against: String,
        /// How clients reach it: each way that there is, or all through howdah's doors.
        #[arg(long, default_value = "direct", env = "THROUGH", value_parser = ["direct", "doors"])]
        through: String,
        /// A negative control, in which something must be found: members run without this; may be given again.
        /// Takes a binary that is built for it; see tools/storm-sabotage.
        #[arg(long, value_parser = WITHOUT.map(|(what, _, _)| what))]
        without: Vec<String>,
        /// Does what this file says, the schedule.json of a run, and no more.
        #[arg(long, conflicts_with_all = ["rounds", "resume"])]
        schedule: Option<PathBuf>,
        /// Directory for histories and report; a new one below /var/tmp when left out.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// So many runs, with this seed and those that follow it, each in a directory of its own.
        #[arg(long, default_value_t = 1, env = "ROUNDS", value_parser = clap::value_parser!(u64).range(1..=1000))]
        rounds: u64,
        /// Runs that came to their end in an earlier campaign in this directory are not made again.
        #[arg(long, requires = "dir")]
        resume: bool,
    },
    /// The sum of many runs, as Markdown.
    Sum {
        /// Directory of the campaign.
        dir: PathBuf,
    },
    /// Leaves faults out of a run that failed, as long as it fails without them.
    Shrink {
        /// Directory of the run.
        dir: PathBuf,
        /// Runs that are made for it at most.
        #[arg(long, default_value_t = 20)]
        tries: usize,
    },
    /// The histories of a run are judged once more.
    Check {
        /// Directory of the run.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run {
            minutes,
            seed,
            mode,
            members,
            against,
            through,
            without,
            schedule,
            dir,
            rounds,
            resume,
        } => {
            let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
            let length = Duration::from_secs_f64(minutes.clamp(0.0, 1e6) * 60.0);
            let plan =
                Plan { seed, length, mode, members, against, through, without, cycles: None };
            let dir = dir.unwrap_or_else(|| default_dir(seed));
            if rounds > 1 || resume {
                campaign::make(&plan, rounds, &dir, resume).and_then(|()| sum(&dir))
            } else {
                with_schedule(plan, schedule.as_deref()).and_then(|plan| storm(plan, &dir))
            }
        }
        Command::Sum { dir } => sum(&dir),
        Command::Shrink { dir, tries } => shrink::run_in(&dir, tries).map(|_| Vec::new()),
        Command::Check { dir } => Histories::read(&dir)
            .and_then(|histories| {
                let plan = std::fs::read_to_string(dir.join("plan.json"))?;
                let plan: Plan = serde_json::from_str(&plan)?;
                Ok(howdah_storm::judge::judge(&histories, 0, &plan.mode))
            })
            .inspect(|verdicts| print!("{}", report::verdicts(verdicts))),
    };
    match done {
        Ok(verdicts) if verdicts.iter().any(|(_, one)| matches!(one, Verdict::Bad(_))) => 1.into(),
        Ok(verdicts) if verdicts.iter().all(|(_, one)| one.is_good()) => 0.into(),
        Ok(_) => 3.into(),
        Err(why) => {
            eprintln!("howdah-storm: {why:#}");
            2.into()
        }
    }
}

/// The plan with the cycles of a file, if one was given.
fn with_schedule(plan: Plan, file: Option<&Path>) -> Result<Plan> {
    let Some(file) = file else { return Ok(plan) };
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let cycles = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    Ok(Plan { cycles: Some(cycles), ..plan })
}

fn sum(dir: &Path) -> Result<Vec<(String, Verdict)>> {
    let (text, verdicts) = campaign::sum(dir)?;
    print!("{text}");
    Ok(verdicts)
}

fn storm(plan: Plan, dir: &Path) -> Result<Vec<(String, Verdict)>> {
    println!("seed {}, mode {}, into {}", plan.seed, plan.mode, dir.display());
    // One thread, for it is that which enters the clients' network; each member's clients have their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut told_to_end = signal(SignalKind::terminate())?;
        let weather = async {
            match plan.against.as_str() {
                "patroni" => patroni::run(plan, dir).await,
                "postgres" => plain::run(plan, dir).await,
                _ => run(plan, dir).await,
            }
        };
        tokio::select! {
            outcome = weather => outcome,
            // What was started ends with what is dropped here.
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            _ = told_to_end.recv() => Err(anyhow::anyhow!("told to end")),
        }
    })?;
    report::write(&outcome, dir)?;
    print!("{}", report::summary(&outcome));
    println!("Report: {}", dir.join("report.html").display());
    Ok(outcome.verdicts)
}
