//! Ends a PostgreSQL that has no guard.
//!
//! Called by the agent when its guard is gone, and at its start when a server runs that is not its
//! guard's: such a server is never taken as writable. Whoever calls is not the parent, so "gone"
//! means dead: zombies are left to their parents.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::monotonic_now;
use crate::procfs::{self, Scan};

/// Longest wait for the proof.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Why a server without a guard could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum OrphanError {
    /// Processes of the system could not be listed.
    #[error("cannot read {path}: {error}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something does not die.
    #[error(
        "processes {left:?} of the PostgreSQL in {data_dir} do not die within 10 s; \
         they hang in the kernel or belong to another user"
    )]
    NotProven {
        /// The directory.
        data_dir: PathBuf,
        /// What is left.
        left: Vec<i32>,
    },
}

/// Kills every process of the PostgreSQL that runs in `data_dir`, and proves it. How many there
/// were. Processes count as its own that run `postgres` in that directory, and all below them.
///
/// # Errors
/// If processes cannot be listed, or something is alive after ten seconds.
pub fn kill_postgres_of(data_dir: &Path) -> Result<usize, OrphanError> {
    let read = |path: &Path, error| OrphanError::Read { path: path.to_owned(), error };
    let data_dir = match fs::canonicalize(data_dir) {
        Ok(path) => path,
        // A directory that is not there has no server.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(read(data_dir, error)),
    };
    let began = monotonic_now();
    let mut killed = std::collections::BTreeSet::new();
    let mut clean = 0;
    while clean < 2 {
        let scan = Scan::take().map_err(|error| read(Path::new("/proc"), error))?;
        let victims = victims(&scan, &data_dir);
        if victims.is_empty() {
            clean += 1;
            continue;
        }
        clean = 0;
        if monotonic_now().saturating_sub(began) > LIMIT {
            return Err(OrphanError::NotProven { data_dir, left: victims });
        }
        // Nothing forks any more once all are stopped; errors mean that it died meanwhile, or show
        // in the next scan.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in &victims {
                let _ = kill(Pid::from_raw(*pid), signal);
            }
        }
        killed.extend(victims);
        std::thread::sleep(PAUSE);
    }
    Ok(killed.len())
}

fn victims(scan: &Scan, data_dir: &Path) -> Vec<i32> {
    let here = |pid: i32| {
        procfs::working_directory(pid).as_deref() == Some(data_dir) && procfs::is_postgres(pid)
    };
    let roots: Vec<i32> = scan.processes.keys().copied().filter(|pid| here(*pid)).collect();
    let me = std::process::id().cast_signed();
    let mut all: Vec<i32> = roots.iter().flat_map(|root| scan.below(*root)).collect();
    all.extend(roots);
    all.sort_unstable();
    all.dedup();
    all.retain(|pid| *pid != me && scan.processes.get(pid).is_some_and(|it| !it.zombie));
    all
}
