//! Faults of disks and directories.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{SHORT, Stage};

/// What a member comes back without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wipe {
    /// Its replicated log.
    Log,
    /// That, its data, and who it was.
    Everything,
}

/// The volume is full for a while. Whoever writes there notices.
pub(super) async fn fill(stage: &Stage<'_>, index: usize, length: Duration) -> Result<()> {
    let volume = stage.volumes.get(index).context("it has no volume of its own")?;
    volume.fill()?;
    tokio::time::sleep(length).await;
    volume.free()
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
    remove(&member.dir.join("raft"))?;
    if what == Wipe::Everything {
        let data = member.data_dir();
        remove(&data)?;
        remove(&data.with_extension("howdah"))?;
    }
    stage.cluster.start(index)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", path.display())),
    }
}
