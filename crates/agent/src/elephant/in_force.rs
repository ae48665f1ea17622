//! What a holder has proven of the commits' waiting, remembered for its next agent.
//!
//! A small file beside the data directory. It is removed before the setting is touched and written
//! when the proof is there, so that it never says more than was proven; it names the postmaster, so that
//! it says nothing of another. Missing, torn or foreign: the next agent proves it anew, which costs a
//! stream of its standbys for milliseconds. Not synced to disk: it does not outlive the postmaster.

use std::path::{Path, PathBuf};

use howdah_core::Lsn;
use howdah_core::sync::Demand;
use howdah_postgres::settings::{parse_sync_names, sync_names};

use super::JobError;

fn file(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".sync");
    name.into()
}

/// Process id and start time, which no two processes share between two starts of the machine.
fn life(postmaster: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{postmaster}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let started = stat.rsplit_once(") ")?.1.split(' ').nth(19)?;
    Some(format!("{postmaster} {started}"))
}

/// Nothing is proven any more.
pub(super) fn forget(data_dir: &Path) -> Result<(), JobError> {
    let file = file(data_dir);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(JobError(format!("remove {}: {error}", file.display())))
        }
        _ => Ok(()),
    }
}

/// This is proven of this postmaster.
pub(super) fn remember(
    data_dir: &Path,
    postmaster: i32,
    demand: &Demand,
    since: Lsn,
) -> Result<(), JobError> {
    let Some(life) = life(postmaster) else { return Ok(()) };
    let (file, names) = (file(data_dir), sync_names(demand)?);
    let failed = |error: std::io::Error| JobError(format!("write {}: {error}", file.display()));
    let fresh = file.with_extension("sync.new");
    std::fs::write(&fresh, format!("{life}\n{since}\n{names}\n")).map_err(failed)?;
    std::fs::rename(&fresh, &file).map_err(failed)
}

/// What an earlier agent had proven of this postmaster.
pub(super) fn recall(data_dir: &Path, postmaster: i32) -> Option<(Demand, Lsn)> {
    let text = std::fs::read_to_string(file(data_dir)).ok()?;
    let (known, rest) = text.split_once('\n')?;
    let (since, names) = rest.split_once('\n')?;
    let same = life(postmaster)?.as_str() == known;
    let demand = parse_sync_names(names.strip_suffix('\n')?).filter(|_| same)?;
    Some((demand, since.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_remembered_of_this_process_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let own = i32::try_from(std::process::id()).expect("a process id");
        assert_eq!(recall(&data, own), None);
        remember(&data, own, &Demand::blocked(), Lsn(7)).expect("written");
        assert_eq!(recall(&data, own), Some((Demand::blocked(), Lsn(7))));
        assert_eq!(recall(&data, 1), None, "of another process");
        std::fs::write(file(&data), "1 2\n").expect("written");
        assert_eq!(recall(&data, own), None, "torn");
        forget(&data).expect("removed");
        forget(&data).expect("removed already");
        assert_eq!(recall(&data, own), None);
    }
}
