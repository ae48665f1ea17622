//! What can be done to a member of a running cluster, and undone.
//!
//! Each is done to its end: what was stopped runs again, what was killed is started again, what was cut
//! off is heard again. Whether the cluster is well afterwards is for the caller to ask.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::ground::wait_for;
use crate::member::Member;
use crate::net::Net;

/// Limit of the wait for a process that is to be struck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the agent.
    Agent,
    /// kill -9 of the guard.
    Guard,
    /// kill -9 of the postmaster.
    Postmaster,
    /// kill -9 of one of its children.
    Backend,
    /// kill -9 of everything.
    Node,
    /// Everything stands still.
    Frozen,
    /// The agent stands still.
    AgentStopped,
    /// The postmaster stands still.
    PostmasterStopped,
    /// The walreceiver stands still.
    ReceiverStopped,
    /// No network, in silence.
    Cut,
    /// A planned hand-over to it.
    Switchover,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Agent,
        Fault::Guard,
        Fault::Postmaster,
        Fault::Backend,
        Fault::Node,
        Fault::Frozen,
        Fault::AgentStopped,
        Fault::PostmasterStopped,
        Fault::ReceiverStopped,
        Fault::Cut,
        Fault::Switchover,
    ];

    /// Does it to a member, where it takes time for `length`, and undoes it.
    ///
    /// # Errors
    /// If it could not be done or undone.
    pub async fn befall(
        self,
        cluster: &mut Cluster,
        net: Option<&Net>,
        index: usize,
        length: Duration,
        dice: &mut Dice,
    ) -> Result<()> {
        match self {
            Fault::Agent | Fault::Postmaster | Fault::Backend => {
                self.kill(&cluster.members[index], dice).await
            }
            Fault::Guard => kill_guard(cluster, index).await,
            Fault::Node => {
                cluster.members[index].kill_node();
                tokio::time::sleep(length).await;
                cluster.start(index)
            }
            Fault::Frozen => {
                let everything = cluster.members[index].processes();
                let pids: Vec<i32> = everything.into_iter().map(|process| process.pid).collect();
                stop(&cluster.members[index], &pids, length).await
            }
            Fault::AgentStopped | Fault::PostmasterStopped | Fault::ReceiverStopped => {
                let member = &cluster.members[index];
                let pid = self.found(member, dice).await?;
                stop(member, &[pid], length).await
            }
            Fault::Cut => {
                let net = net.context("no network namespaces")?;
                let node = u16::try_from(index + 1)?;
                net.isolate(node)?;
                tokio::time::sleep(length).await;
                net.heal(node)
            }
            Fault::Switchover => {
                let to = cluster.members[index].name.clone();
                cluster.switchover(&to).await
            }
        }
    }

    /// The process that it strikes.
    fn victim(self, member: &Member, dice: &mut Dice) -> Result<i32> {
        match self {
            Fault::Agent | Fault::AgentStopped => member.agent(),
            Fault::Postmaster | Fault::PostmasterStopped => member.postmaster(),
            Fault::ReceiverStopped => member.walreceiver(),
            _ => {
                let postmaster = member.postmaster()?;
                let processes = member.processes();
                let below: Vec<i32> =
                    processes.iter().filter(|p| p.parent == postmaster).map(|p| p.pid).collect();
                below.get(dice.throw(below.len().max(1))).copied().context("no backend")
            }
        }
    }

    /// The same, waited for: what was struck before may be on its way back, for the picture that was whole
    /// was a moment old.
    async fn found(self, member: &Member, dice: &mut Dice) -> Result<i32> {
        let before = *dice;
        dice.throw(1);
        wait_for("a victim", PATIENCE, || async { self.victim(member, &mut { before }) }).await
    }

    /// A session may have ended by itself between the look and the signal: then another one.
    async fn kill(self, member: &Member, dice: &mut Dice) -> Result<()> {
        let before = *dice;
        dice.throw(1);
        wait_for("a victim was killed", PATIENCE, || async {
            let victim = self.victim(member, &mut { before })?;
            member.signal(victim, Signal::SIGKILL)
        })
        .await
    }
}

/// Kills a guard, and does the service manager's part: what is left ends by itself, then it is started
/// again.
///
/// # Errors
/// If its end or its start failed.
async fn kill_guard(cluster: &mut Cluster, index: usize) -> Result<()> {
    let member = &mut cluster.members[index];
    member.signal(member.guard()?, Signal::SIGKILL)?;
    member.ended(Duration::from_secs(5)).await?;
    wait_for("what it left has ended", Duration::from_secs(10), || async {
        cluster.members[index].is_gone()
    })
    .await?;
    cluster.start(index)
}

/// Stops processes for a while. One that ends meanwhile is no loss.
async fn stop(member: &Member, pids: &[i32], length: Duration) -> Result<()> {
    for pid in pids {
        let _ = member.signal(*pid, Signal::SIGSTOP);
    }
    tokio::time::sleep(length).await;
    for pid in pids.iter().rev() {
        let _ = member.signal(*pid, Signal::SIGCONT);
    }
    Ok(())
}
