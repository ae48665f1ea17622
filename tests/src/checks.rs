//! What tests ask of the writers' memories, and of a cluster that is to be as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_rpc::control::ClusterStatus;

use crate::cluster::Cluster;
use crate::ground::wait_for;
use crate::writer::{Ack, LIST, Writer, longest_gap};

/// Acknowledged ids that are not on the leader now.
///
/// # Errors
/// If there is no leader.
pub async fn lost(cluster: &Cluster, acks: &[Ack]) -> Result<BTreeSet<i64>> {
    let leader = cluster.leader().await?;
    let text = cluster.members[leader].psql("SELECT id FROM t")?;
    let there: BTreeSet<i64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    Ok(acks.iter().map(|ack| ack.id).filter(|id| !there.contains(id)).collect())
}

/// What is wrong with the lists on the leader: an append that was acknowledged and is not there, is there
/// twice, or stands before one that was acknowledged before it was sent.
///
/// # Errors
/// If there is no leader.
pub async fn misplaced(cluster: &Cluster, acks: &[Ack]) -> Result<Vec<String>> {
    let leader = cluster.leader().await?;
    let text = cluster.members[leader].psql("SELECT array_to_string(v, ' ') FROM lists")?;
    let mut place: BTreeMap<i64, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for list in text.lines() {
        for (nth, id) in list.split(' ').filter_map(|id| id.parse().ok()).enumerate() {
            if place.insert(id, nth).is_some() {
                wrong.push(format!("{id} was appended twice"));
            }
        }
    }
    let mut lists: BTreeMap<i64, Vec<&Ack>> = BTreeMap::new();
    for ack in acks {
        lists.entry(ack.id / LIST).or_default().push(ack);
        if !place.contains_key(&ack.id) {
            wrong.push(format!("{} is missing", ack.id));
        }
    }
    for acks in lists.values() {
        for (one, other) in acks.iter().flat_map(|one| acks.iter().map(move |other| (one, other))) {
            let before = place.get(&one.id) < place.get(&other.id);
            if one.acked < other.sent && !before {
                wrong.push(format!("{} stands before {}, which came first", other.id, one.id));
            }
        }
    }
    Ok(wrong)
}

/// Waits until so many writes were acknowledged.
///
/// # Errors
/// If they are not, in time.
pub async fn first_acks(writer: &Writer, count: usize) -> Result<()> {
    wait_for("writes are acknowledged", Duration::from_secs(10), || async {
        let acks = writer.acks().len();
        ensure!(acks >= count, "{acks} so far");
        Ok(())
    })
    .await
}

/// Waits until somebody acknowledged a write that was sent after `since`.
///
/// # Errors
/// If nobody does, in time.
pub async fn acks_again(writer: &Writer, since: Instant) -> Result<()> {
    wait_for("writes are acknowledged again", Duration::from_secs(30), || async {
        let found = writer.acks().iter().rev().take(200).any(|ack| ack.sent > since);
        ensure!(found, "none");
        Ok(())
    })
    .await
}

/// Waits until this member acknowledged so many writes.
///
/// # Errors
/// If it does not, in time.
pub async fn acks_by(writer: &Writer, member: usize, count: usize) -> Result<()> {
    wait_for("this member acknowledges", Duration::from_secs(30), || async {
        let acks = writer.acks().iter().filter(|ack| ack.member == member).count();
        ensure!(acks >= count, "member {} acknowledged {acks}", member + 1);
        Ok(())
    })
    .await
}

/// No acknowledgement of one member comes after another member has taken over. All times are of one
/// clock, that of this process. Only for a run in which no member leads twice.
///
/// # Errors
/// Who acknowledged what too late.
pub fn never_two_writable(acks: &[Ack]) -> Result<()> {
    let mut sorted = acks.to_vec();
    sorted.sort_by_key(|ack| ack.acked);
    let (mut finished, mut current) = (BTreeSet::new(), None);
    for ack in sorted {
        if current != Some(ack.member) {
            finished.extend(current);
            current = Some(ack.member);
        }
        ensure!(
            !finished.contains(&ack.member),
            "member {} acknowledged {} after another had taken over",
            ack.member + 1,
            ack.id
        );
    }
    Ok(())
}

/// Who leads, and by which agents: what work that nobody is to notice leaves as it is.
pub struct Calm {
    leader: String,
    epoch: u64,
    agents: Vec<i32>,
}

impl Calm {
    /// As it is now.
    ///
    /// # Errors
    /// If nobody answers, or an agent does not run.
    pub async fn of(cluster: &Cluster) -> Result<Self> {
        let status = cluster.status().await?;
        Ok(Self { leader: status.leader, epoch: status.epoch, agents: agents(cluster)? })
    }

    /// It is so still; `now` is what a member says.
    ///
    /// # Errors
    /// What changed.
    pub fn holds(&self, cluster: &Cluster, now: &ClusterStatus) -> Result<()> {
        ensure!((&self.leader, self.epoch) == (&now.leader, now.epoch), "leadership moved");
        ensure!(self.agents == agents(cluster)?, "an agent was restarted");
        Ok(())
    }
}

fn agents(cluster: &Cluster) -> Result<Vec<i32>> {
    cluster.members.iter().map(crate::Member::agent).collect()
}

/// Writes go on, and none had to wait for long.
///
/// # Errors
/// If they do not, or one did.
pub async fn never_held_up(writer: &Writer) -> Result<()> {
    acks_again(writer, Instant::now()).await?;
    let acks = writer.acks();
    let first = acks.first().context("a write")?.acked;
    let longest = longest_gap(&acks, first, Instant::now());
    ensure!(longest < Duration::from_secs(5), "{longest:?} without a write");
    eprintln!("{} writes, longest time without one {longest:?}", acks.len());
    Ok(())
}
