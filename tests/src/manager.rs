//! What a service manager does for a member: it is started again when it has ended.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::Cluster;

/// From the end of a member to its next start.
const RESTART: Duration = Duration::from_secs(1);
/// A member that has all it needs answers within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// For this long.
///
/// # Errors
/// If it cannot be started.
pub async fn keep_running(cluster: &mut Cluster, index: usize, length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        tokio::time::sleep(RESTART.min(end.saturating_duration_since(Instant::now()))).await;
        start_if_ended(cluster, index)?;
    }
    Ok(())
}

/// Until it stays.
///
/// # Errors
/// If it cannot be started, or does not answer in time.
pub async fn until_it_stays(cluster: &mut Cluster, index: usize) -> Result<()> {
    let limit = Instant::now() + PATIENCE;
    // Three answers a second apart: one that is about to end answers too.
    let mut answers = 0;
    while answers < 3 {
        ensure!(Instant::now() < limit, "{} does not answer", cluster.members[index].name);
        tokio::time::sleep(RESTART).await;
        let ended = start_if_ended(cluster, index)?;
        let answered = !ended && cluster.status_of(index).await.is_ok();
        answers = if answered { answers + 1 } else { 0 };
    }
    Ok(())
}

fn start_if_ended(cluster: &mut Cluster, index: usize) -> Result<bool> {
    let ended = !cluster.members[index].is_running();
    if ended {
        cluster.start(index)?;
    }
    Ok(ended)
}
