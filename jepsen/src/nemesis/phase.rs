//! Faults that strike in the midst of something: whoever takes over, hands over, or is copied.

use std::time::Duration;

use anyhow::Result;
use howdah_tests::dice::Dice;
use howdah_tests::{Cluster, Fault};
use nix::sys::signal::Signal;

use super::{Stage, WHOLE};

/// An operation that was broken says so within this time, or need not say anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The record names the new leader before its PostgreSQL is promoted: then it is struck.
pub(super) async fn successor(stage: &mut Stage<'_>, leader: usize, dice: &mut Dice) -> Result<()> {
    stage.cluster.members[leader].kill_node();
    let new = stage.cluster.other_leader(leader, WHOLE).await?;
    let fault = [Fault::Agent, Fault::Guard, Fault::Postmaster, Fault::Backend][dice.throw(4)];
    fault.befall(stage.cluster, stage.net, new, Duration::ZERO, dice).await?;
    stage.cluster.start(leader)
}

/// A hand-over takes some hundred milliseconds, within which an agent or a PostgreSQL of one of the
/// two is killed.
pub(super) async fn hand_over(cluster: &Cluster, to: usize, dice: &mut Dice) -> Result<()> {
    let from = cluster.leader().await?;
    let struck = if dice.throw(2) == 0 { from } else { to };
    let operation = cluster.switchover(&cluster.members[to].name);
    let most = Duration::from_millis(600);
    break_it(cluster, operation, struck, dice.throw(2) == 0, dice.between(Duration::ZERO, most))
        .await
}

/// A copy of a small database takes a second or two.
pub(super) async fn copy(cluster: &Cluster, index: usize, dice: &mut Dice) -> Result<()> {
    let operation = cluster.reinit(&cluster.members[index].name);
    let most = Duration::from_millis(2500);
    break_it(cluster, operation, index, true, dice.between(Duration::ZERO, most)).await
}

/// What becomes of the operation is its own matter: it may be done, refused, or go on without its asker.
async fn break_it(
    cluster: &Cluster,
    operation: impl Future<Output = Result<()>>,
    struck: usize,
    agent: bool,
    after: Duration,
) -> Result<()> {
    let strike = async {
        tokio::time::sleep(after).await;
        let member = &cluster.members[struck];
        // Its PostgreSQL may be down in this very moment: then there is nothing to strike.
        let victim = if agent { member.agent() } else { member.postmaster() };
        if let Ok(victim) = victim {
            let _ = member.signal(victim, Signal::SIGKILL);
        }
    };
    let _ = tokio::join!(tokio::time::timeout(PATIENCE, operation), strike);
    Ok(())
}
