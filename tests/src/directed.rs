//! The schedule that shows what promises are for: cut, freeze, elect, thaw.
//!
//! Agent and guard of the primary stand still, so that nobody hears of it and no deadline fires, while its
//! PostgreSQL goes on serving its clients, and its standbys go on receiving what they write. The others elect. A
//! standby that has voted and receives all the same acknowledges commits that its ballot did not count.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::checks::{acks_again, first_acks, lost};
use crate::cluster::{Cluster, Options};
use crate::ground::wait_for;
use crate::writer::Writer;

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Those of them that are missing afterwards.
    pub lost: BTreeSet<i64>,
    /// What the members' logs say.
    pub logs: String,
}

/// Runs it once, in mode `quorum`, strict, with this environment for the members.
///
/// # Errors
/// If nobody is elected, or the cluster does not come to rest.
pub async fn cut_freeze_elect_thaw(test: &str, env: &[(&str, &str)]) -> Result<Outcome> {
    let mut options = Options::synchronous("quorum", true);
    options.env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let cluster = Cluster::healthy(test, options).await?;
    let leader = cluster.leader().await?;
    let standbys: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    cluster.synchronous(&standbys, Duration::from_secs(20)).await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 100).await?;
    let member = &cluster.members[leader];
    let stopped = [member.agent()?, member.guard()?];
    for pid in stopped {
        member.signal(pid, Signal::SIGSTOP)?;
    }
    // It need not be writable: a standby that went on receiving lies past its fork, and there may be
    // nobody left for commits to wait for until the frozen one is back.
    let old = cluster.members[leader].name.clone();
    wait_for("somebody else is primary", Duration::from_secs(30), || async {
        let status = cluster.status().await?;
        ensure!(status.leader != old, "{old} still leads");
        let new = &status.members[cluster.index(&status.leader)?];
        ensure!(new.state == "running" && new.timeline > 1, "{} is {}", new.name, new.state);
        Ok(())
    })
    .await?;
    for pid in stopped.into_iter().rev() {
        member.signal(pid, Signal::SIGCONT)?;
    }
    cluster.settle(Duration::from_secs(60)).await?;
    acks_again(&writer, Instant::now()).await?;
    let acks = writer.finish().await;
    ensure!(acks.iter().any(|ack| ack.member == leader), "the old primary took no write");
    let lost = lost(&cluster, &acks).await?;
    let logs = cluster.members.iter().map(crate::member::Member::log).collect();
    cluster.check_logs()?;
    Ok(Outcome { acknowledged: acks.len(), lost, logs })
}
