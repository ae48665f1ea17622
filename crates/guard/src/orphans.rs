//! Ends a PostgreSQL that has no guard: after the guard died, or one that somebody else started.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::procfs;

/// How long the processes may take to die of SIGKILL.
const LIMIT: Duration = Duration::from_secs(10);

/// Processes of a data directory's PostgreSQL outlived SIGKILL.
#[derive(Debug, thiserror::Error)]
#[error("{count} processes of the PostgreSQL in {data_dir} outlive SIGKILL; they hang in the kernel")]
pub struct OutliveError {
    /// How many.
    pub count: usize,
    /// Whose.
    pub data_dir: String,
}

/// Kills every process of the PostgreSQL in `data_dir`: the one that `postmaster.pid` names, if it
/// works in that directory, all below it, and every other process that works there. How many were
/// killed.
///
/// # Errors
/// `OutliveError` if some did not die.
pub fn kill_postgres_of(data_dir: &Path) -> Result<usize, OutliveError> {
    let end = Instant::now() + LIMIT;
    let mut killed = std::collections::BTreeSet::new();
    loop {
        let left = processes_of(data_dir);
        if left.is_empty() {
            return Ok(killed.len());
        }
        if Instant::now() >= end {
            let data_dir = data_dir.display().to_string();
            return Err(OutliveError { count: left.len(), data_dir });
        }
        for pid in left {
            // It may have ended a moment ago.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            killed.insert(pid);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes_of(data_dir: &Path) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let named = fs::read_to_string(data_dir.join("postmaster.pid")).ok();
    let named = named.and_then(|text| text.lines().next()?.trim().parse::<i32>().ok());
    let works_there = |pid: i32| {
        procfs::cwd(pid).is_some_and(|cwd| procfs::same_dir(&cwd, data_dir))
    };
    let named = named.filter(|pid| works_there(*pid));
    let mut found: Vec<i32> = procfs::all()
        .into_iter()
        .map(|(pid, _)| pid)
        .filter(|pid| works_there(*pid) && is_postgres(*pid))
        .collect();
    found.extend(named);
    found.extend(procfs::descendants(&found.clone(), None));
    found.sort_unstable();
    found.dedup();
    found.retain(|pid| *pid != own && procfs::lives(*pid));
    found
}

/// A shell that a person opened in that directory is nobody's PostgreSQL.
fn is_postgres(pid: i32) -> bool {
    procfs::process(pid).is_some_and(|process| {
        let program = process.title.split([' ', ':']).next().unwrap_or_default();
        program.ends_with("postgres") || program.ends_with("postmaster")
    })
}
