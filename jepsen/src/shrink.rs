//! Leaves cycles out of a schedule that fails, as long as it fails without them.
//!
//! Each attempt is a run in a process of its own, below the directory of the run that failed; real clusters
//! are not deterministic, so that an attempt that passes may only have been lucky: what stays is a schedule that
//! was seen to fail, not the smallest one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::Plan;
use crate::schedule::Cycle;

/// Name of what was begun in a run.
pub const SCHEDULE: &str = "schedule.json";

/// Leaves out halves, quarters, ... and single ones of `all` while the rest still `fails`; at most `tries`
/// times it is asked. After Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002).
///
/// # Errors
/// What `fails` says.
pub fn shrink<T: Clone>(
    all: &[T],
    tries: usize,
    mut fails: impl FnMut(&[T]) -> Result<bool>,
) -> Result<Vec<T>> {
    let (mut kept, mut left) = (all.to_vec(), tries);
    let mut part = kept.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < kept.len() && left > 0 {
            let end = (at + part).min(kept.len());
            let rest = [&kept[..at], &kept[end..]].concat();
            if rest.is_empty() {
                break;
            }
            left -= 1;
            if fails(&rest)? {
                kept = rest;
            } else {
                at = end;
            }
        }
        part /= 2;
    }
    Ok(kept)
}

/// Reads the plan and the schedule of a run.
///
/// # Errors
/// Which file cannot be read, and why.
pub fn read(dir: &Path) -> Result<(Plan, Vec<Cycle>)> {
    let text = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let plan = serde_json::from_str(&text("plan.json")?).context("plan.json")?;
    Ok((plan, serde_json::from_str(&text(SCHEDULE)?).context(SCHEDULE)?))
}

/// Shrinks the schedule of the run in `dir`; the result stands there as `shrunk.json`.
///
/// # Errors
/// If the run left no schedule, or an attempt cannot be made.
pub fn run_in(dir: &Path, tries: usize) -> Result<Vec<Cycle>> {
    let (plan, cycles) = read(dir)?;
    ensure!(!cycles.is_empty(), "no fault of the run in {} was begun", dir.display());
    let mut attempt = 0;
    let kept = shrink(&cycles, tries, |rest| {
        attempt += 1;
        let room = dir.join(format!("shrink-{attempt}"));
        std::fs::create_dir_all(&room)?;
        let file = room.join("wanted.json");
        std::fs::write(&file, serde_json::to_string(rest)?)?;
        let status = Command::new(std::env::current_exe()?)
            .args(plan.arguments())
            .arg("--schedule")
            .arg(&file)
            .arg("--dir")
            .arg(&room)
            .env_remove("ROUNDS")
            .status()
            .context("start a run")?;
        let failed = status.code() == Some(1);
        let word = if failed { "fails too" } else { "does not fail" };
        println!("attempt {attempt}: {} of {} cycles: {word}", rest.len(), cycles.len());
        Ok(failed)
    })?;
    let path = dir.join("shrunk.json");
    std::fs::write(&path, serde_json::to_string_pretty(&kept)?)
        .with_context(|| format!("write {}", path.display()))?;
    println!("{} of {} cycles are left: {}", kept.len(), cycles.len(), path.display());
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stays() {
        let all: Vec<u32> = (0..40).collect();
        let kept = shrink(&all, 1000, |rest| Ok(rest.contains(&3) && rest.contains(&31)));
        assert_eq!(kept.unwrap(), [3, 31]);
    }

    #[test]
    fn it_ends_after_so_many_attempts_with_what_was_seen_to_fail() {
        let (all, mut asked): (Vec<u32>, usize) = ((0..40).collect(), 0);
        let kept = shrink(&all, 3, |rest| {
            asked += 1;
            Ok(rest.contains(&39))
        });
        assert_eq!((asked, kept.unwrap().contains(&39)), (3, true));
    }

    #[test]
    fn one_cycle_stays_though_none_would_fail_too() {
        assert_eq!(shrink(&[1, 2, 3], 100, |_| Ok(true)).unwrap().len(), 1);
    }
}
