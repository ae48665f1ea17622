//! Faults of disks and directories.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use howdah_tests::dice::Dice;
use howdah_tests::{Machine, manager};
use nix::sys::signal::Signal;

use super::{SHORT, Stage, WHOLE};

/// What a member comes back without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wipe {
    /// Its replicated log.
    Log,
    /// That, its data, and who it was.
    Everything,
}

/// Who was put back is told within this time, where anybody knows.
const NOTICED: Duration = Duration::from_secs(15);
const NO_VOLUMES: &str = "it has no volumes of its own";

/// The volume of the data is full for a while. Whoever writes there notices.
pub(super) async fn fill(stage: &Stage<'_>, index: usize, length: Duration) -> Result<()> {
    let volume = &stage.machines.get(index).context(NO_VOLUMES)?.data;
    volume.fill()?;
    tokio::time::sleep(length).await;
    volume.free()
}

/// The volume of the replicated log is full for a while; who cannot go on without ends, and is started again. What
/// the log grows by in that time may still fit into what it has: now and then the agent dies, and must begin so.
pub(super) async fn fill_log(
    stage: &mut Stage<'_>,
    index: usize,
    length: Duration,
    dice: &mut Dice,
) -> Result<()> {
    let volume = &stage.machines.get(index).context(NO_VOLUMES)?.log;
    volume.fill()?;
    let member = &stage.cluster.members[index];
    // It may have ended already.
    if dice.throw(2) == 0
        && let Ok(pid) = member.agent()
    {
        let _ = member.signal(pid, Signal::SIGKILL);
    }
    manager::keep_running(stage.cluster, index, length).await?;
    volume.free()?;
    manager::until_it_stays(stage.cluster, index).await
}

/// These machines lose their power, and have it again after a while.
pub(super) async fn lose_power(
    stage: &mut Stage<'_>,
    which: &[usize],
    length: Duration,
) -> Result<()> {
    Machine::lose_power(stage.cluster, stage.machines, which)?;
    tokio::time::sleep(length.min(SHORT)).await;
    which.iter().try_for_each(|index| stage.cluster.start(*index))
}

/// The machine dies, and another one comes in its place that has its name and address.
pub(super) async fn wipe(
    stage: &mut Stage<'_>,
    index: usize,
    length: Duration,
    what: Wipe,
) -> Result<()> {
    let member = &mut stage.cluster.members[index];
    member.kill_node();
    tokio::time::sleep(length.min(SHORT)).await;
    remove(&member.raft)?;
    if what == Wipe::Everything {
        let data = member.data_dir();
        remove(&data)?;
        remove(&data.with_extension("howdah"))?;
    }
    stage.cluster.start(index)
}

/// The machine dies, and what comes back is an older copy of its replicated log. Who is told that it was removed ends,
/// and an operator does as it says.
pub(super) async fn older(stage: &mut Stage<'_>, index: usize, length: Duration) -> Result<()> {
    let cluster = &mut *stage.cluster;
    let older = cluster.members[index].dir.join("older");
    remove(&older)?;
    cluster.members[index].kill_node();
    cluster.members[index].copy_raft(&older)?;
    cluster.start(index)?;
    cluster.whole(WHOLE).await?;
    tokio::time::sleep(length.min(SHORT)).await;
    cluster.members[index].kill_node();
    cluster.members[index].put_raft_back(&older)?;
    cluster.start(index)?;
    // Raft's leader may have changed meanwhile; then it is one that lags.
    let ended = cluster.members[index].ended(NOTICED).await;
    if ended.is_ok() {
        remove(&cluster.members[index].raft)?;
        cluster.start(index)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", path.display())),
    }
}
