//! One fault at a time, on real servers: what the cluster does, and what a client sees of it.
//!
//! Safety is asserted always; speed only as far as a deadline that no healthy machine misses.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use howdah_tests::checks::{acks_again, acks_by, first_acks, lost, never_two_writable};
use howdah_tests::writer::longest_gap;
use howdah_tests::{Ack, Cluster, Options, Writer, wait_for};
use nix::sys::signal::Signal;

const SETTLE: Duration = Duration::from_secs(40);
/// With a ttl of 5 s nobody acknowledges anything later than this after its last renewal was sent:
/// ttl (1 - 1 %) / (1 + 1 %) - 0.5 s - 0.2 s, and 0.5 s for the kill.
const HOLDER_LIMIT: Duration = Duration::from_millis(4_710);

#[tokio::test]
async fn a_crash_of_postgresql_is_healed_in_place_and_loses_nothing() -> Result<()> {
    let cluster = Cluster::healthy("crash", Options::default()).await?;
    let leader = cluster.leader().await?;
    let before = cluster.status().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let began = Instant::now();
    cluster.members[leader].signal(cluster.members[leader].postmaster()?, Signal::SIGKILL)?;
    acks_again(&writer, began + Duration::from_millis(300)).await?;
    let now = cluster.settle(SETTLE).await?;
    let acks = writer.finish().await;
    let after = cluster.status().await?;
    println!("write outage {:?}", longest_gap(&acks, began, Instant::now()));
    ensure!(now == leader && after.epoch == before.epoch, "leadership moved");
    ensure!(after.timeline == before.timeline, "a new timeline was begun");
    ensure!(lost(&cluster, &acks).await?.is_empty(), "acknowledged writes are missing");
    cluster.check_logs()
}

#[tokio::test]
async fn a_hung_postmaster_counts_as_crashed() -> Result<()> {
    let cluster = Cluster::healthy("hung", Options::default()).await?;
    let leader = cluster.leader().await?;
    let old = cluster.members[leader].postmaster()?;
    cluster.members[leader].signal(old, Signal::SIGSTOP)?;
    wait_for("another postmaster serves", SETTLE, || async {
        let leader = cluster.leader().await?;
        ensure!(cluster.members[leader].postmaster()? != old, "the hung one is still there");
        Ok(())
    })
    .await?;
    cluster.settle(SETTLE).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn the_death_of_the_leaders_node_moves_leadership_and_the_old_one_is_rewound() -> Result<()> {
    let mut cluster = Cluster::healthy("node-death", Options::default()).await?;
    let leader = cluster.leader().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let began = Instant::now();
    cluster.members[leader].kill_node();
    let new = cluster.other_leader(leader, Duration::from_secs(30)).await?;
    acks_again(&writer, Instant::now()).await?;
    cluster.start(leader)?;
    let now = cluster.settle(SETTLE).await?;
    ensure!(now == new, "leadership moved again");
    let acks = writer.finish().await;
    println!("write outage {:?}", longest_gap(&acks, began, Instant::now()));
    for index in 0..3 {
        let explained = cluster.explain(index).await?;
        let story = explained.lines.join("\n");
        let change = explained.change.unwrap_or_default();
        ensure!(change.to == cluster.members[new].name, "{story}");
        ensure!(change.ballots.len() >= 2 && change.ballots.iter().any(|b| b.chosen), "{story}");
    }
    cluster.check_logs()
}

#[tokio::test]
async fn a_switchover_loses_nothing_and_the_old_leader_follows() -> Result<()> {
    let cluster = Cluster::healthy("switchover", Options::default()).await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    for _ in 0..3 {
        let leader = cluster.leader().await?;
        let to = (leader + 1) % 3;
        let began = Instant::now();
        cluster.switchover(&cluster.members[to].name.clone()).await?;
        acks_again(&writer, Instant::now()).await?;
        println!("write outage {:?}", longest_gap(&writer.acks(), began, Instant::now()));
        ensure!(cluster.settle(SETTLE).await? == to, "another member leads");
    }
    let acks = writer.finish().await;
    ensure!(lost(&cluster, &acks).await?.is_empty(), "acknowledged writes are missing");
    cluster.check_logs()
}

#[tokio::test]
async fn an_agent_that_is_killed_is_restarted_and_postgresql_does_not_notice() -> Result<()> {
    let cluster = Cluster::healthy("agent-killed", Options::default()).await?;
    let leader = cluster.leader().await?;
    let before = cluster.status().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let (postmaster, began) = (cluster.members[leader].postmaster()?, Instant::now());
    for index in 0..3 {
        cluster.members[index].signal(cluster.members[index].agent()?, Signal::SIGKILL)?;
        cluster.settle(SETTLE).await?;
    }
    acks_again(&writer, Instant::now()).await?;
    let acks = writer.finish().await;
    let after = cluster.status().await?;
    ensure!(after.epoch == before.epoch, "leadership moved");
    ensure!(cluster.members[leader].postmaster()? == postmaster, "PostgreSQL was restarted");
    let gap = longest_gap(&acks, began, Instant::now());
    ensure!(gap < Duration::from_secs(1), "writes stood still for {gap:?}");
    ensure!(lost(&cluster, &acks).await?.is_empty(), "acknowledged writes are missing");
    cluster.check_logs()
}

#[tokio::test]
async fn an_agent_that_is_stopped_is_fenced_and_comes_back_as_a_standby() -> Result<()> {
    let cluster = Cluster::healthy("agent-stopped", Options::default()).await?;
    let leader = cluster.leader().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let agent = cluster.members[leader].agent()?;
    cluster.members[leader].signal(agent, Signal::SIGSTOP)?;
    let new = cluster.other_leader(leader, Duration::from_secs(30)).await?;
    acks_by(&writer, new, 100).await?;
    cluster.members[leader].signal(agent, Signal::SIGCONT)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    never_two_writable(&writer.finish().await)?;
    cluster.check_logs()
}

#[tokio::test]
async fn without_its_agent_postgresql_is_dead_by_the_deadline() -> Result<()> {
    let options = Options { flags: vec!["--no-agent-restart"], ..Options::default() };
    let cluster = Cluster::healthy("no-agent", options).await?;
    let leader = cluster.leader().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    cluster.members[leader].signal(cluster.members[leader].agent()?, Signal::SIGKILL)?;
    let killed = Instant::now();
    let new = cluster.other_leader(leader, Duration::from_secs(30)).await?;
    acks_by(&writer, new, 100).await?;
    let acks = writer.finish().await;
    let late = acks.iter().filter(|a| a.member == leader).map(|a| a.acked).max();
    let late = late.map_or(Duration::ZERO, |at| at.saturating_duration_since(killed));
    ensure!(late < HOLDER_LIMIT, "acknowledged {late:?} after the agent's death");
    never_two_writable(&acks)?;
    cluster.check_logs()
}

#[tokio::test]
async fn without_the_guards_deadline_two_members_would_acknowledge() -> Result<()> {
    let mut options = Options { flags: vec!["--no-agent-restart"], ..Options::default() };
    options.env.insert("HOWDAH_TEST_GUARD_DISABLED".into(), "1".into());
    let cluster = Cluster::healthy("guard-disabled", options).await?;
    let leader = cluster.leader().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    cluster.members[leader].signal(cluster.members[leader].agent()?, Signal::SIGKILL)?;
    let new = cluster.other_leader(leader, Duration::from_secs(30)).await?;
    acks_by(&writer, new, 1).await?;
    wait_for("the checker sees two that acknowledge", Duration::from_secs(10), || async {
        ensure!(never_two_writable(&writer.acks()).is_err(), "it sees nothing wrong");
        Ok(())
    })
    .await?;
    cluster.check_logs()
}

#[tokio::test]
async fn a_guard_that_is_killed_takes_its_postgresql_along() -> Result<()> {
    let mut cluster = Cluster::healthy("guard-killed", Options::default()).await?;
    let leader = cluster.leader().await?;
    let processes = cluster.members[leader].processes();
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let guard = cluster.members[leader].guard()?;
    cluster.members[leader].signal(guard, Signal::SIGKILL)?;
    wait_for("nothing of it is left", Duration::from_secs(10), || async {
        let left = processes.iter().filter(|p| p.pid != guard).find(|p| alive(p.pid));
        ensure!(left.is_none(), "{left:?} is alive");
        Ok(())
    })
    .await?;
    cluster.members[leader].kill_node();
    cluster.start(leader)?;
    cluster.settle(SETTLE).await?;
    never_two_writable_in_epochs(&writer.finish().await)?;
    cluster.check_logs()
}

/// As above, but one member may come back under a later epoch.
fn never_two_writable_in_epochs(acks: &[Ack]) -> Result<()> {
    let mut sorted = acks.to_vec();
    sorted.sort_by_key(|ack| ack.acked);
    // Two members overlap if each acknowledged between two acknowledgements of the other.
    let mut turns: Vec<usize> = sorted.iter().map(|ack| ack.member).collect();
    turns.dedup();
    ensure!(turns.len() <= 3, "leadership changed hands {} times: {turns:?}", turns.len() - 1);
    Ok(())
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn the_raft_leaders_death_does_not_touch_postgresql() -> Result<()> {
    let mut cluster = Cluster::healthy("raft-leader", Options::default()).await?;
    let leader = cluster.leader().await?;
    let mut before = cluster.status().await?;
    if before.raft_leader == before.leader {
        // Move PostgreSQL's leadership away, so that Raft's can be killed alone.
        let to = cluster.members[(leader + 1) % 3].name.clone();
        cluster.switchover(&to).await?;
        cluster.settle(SETTLE).await?;
        before = cluster.status().await?;
    }
    let (leader, raft) = (cluster.index(&before.leader)?, cluster.index(&before.raft_leader)?);
    ensure!(leader != raft, "both are on {}", before.leader);
    let postmaster = cluster.members[leader].postmaster()?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let began = Instant::now();
    cluster.members[raft].kill_node();
    wait_for("another Raft leader", Duration::from_secs(20), || async {
        let status = cluster.status_of(leader).await?;
        ensure!(status.quorum && status.raft_leader != before.raft_leader, "none yet");
        ensure!(!status.raft_leader.is_empty(), "none yet");
        Ok(())
    })
    .await?;
    acks_again(&writer, Instant::now()).await?;
    let gap = longest_gap(&writer.acks(), began, Instant::now());
    ensure!(gap < Duration::from_secs(1), "writes stood still for {gap:?}");
    cluster.start(raft)?;
    cluster.settle(SETTLE).await?;
    ensure!(cluster.status().await?.epoch == before.epoch, "leadership moved");
    ensure!(cluster.members[leader].postmaster()? == postmaster, "PostgreSQL was restarted");
    cluster.check_logs()
}

#[tokio::test]
async fn without_a_quorum_nothing_is_acknowledged_and_with_it_all_comes_back() -> Result<()> {
    let mut cluster = Cluster::healthy("quorum", Options::default()).await?;
    let leader = cluster.leader().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    for index in &others {
        cluster.members[*index].kill_node();
    }
    let cut = Instant::now();
    wait_for("the leader stops serving", Duration::from_secs(10), || async {
        let quiet = writer.acks().last().is_some_and(|a| a.acked.elapsed().as_millis() > 500);
        ensure!(quiet, "it goes on acknowledging");
        Ok(())
    })
    .await?;
    let last = writer.acks().last().map(|ack| ack.acked.saturating_duration_since(cut));
    ensure!(last.is_some_and(|last| last < HOLDER_LIMIT), "until {last:?}");
    for index in others {
        cluster.start(index)?;
    }
    cluster.settle(SETTLE).await?;
    acks_again(&writer, Instant::now()).await?;
    let acks = writer.finish().await;
    ensure!(lost(&cluster, &acks).await?.is_empty(), "acknowledged writes are missing");
    cluster.check_logs()
}

#[tokio::test]
async fn a_whole_cluster_comes_back_in_any_order() -> Result<()> {
    let mut cluster = Cluster::healthy("all-down", Options::default()).await?;
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let writer = Writer::start(&cluster);
        first_acks(&writer, 20).await?;
        let acks = writer.finish().await;
        cluster.settle(SETTLE).await?;
        for member in &mut cluster.members {
            member.kill_node();
        }
        for index in order {
            cluster.start(index)?;
        }
        cluster.settle(SETTLE).await?;
        let lost = lost(&cluster, &acks).await?;
        ensure!(lost.is_empty(), "started in order {order:?}: missing {lost:?}");
    }
    cluster.check_logs()
}

#[tokio::test]
async fn sigterm_hands_over_first_and_ends_everything() -> Result<()> {
    let mut cluster = Cluster::healthy("sigterm", Options::default()).await?;
    let leader = cluster.leader().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    let processes = cluster.members[leader].processes();
    let began = Instant::now();
    cluster.members[leader].signal(cluster.members[leader].guard()?, Signal::SIGTERM)?;
    let code = cluster.members[leader].ended(Duration::from_secs(30)).await?;
    ensure!(code == Some(0), "it ended with {code:?}");
    let left = processes.iter().find(|process| alive(process.pid));
    ensure!(left.is_none(), "{left:?} is left");
    let new = cluster.other_leader(leader, Duration::from_secs(10)).await?;
    acks_again(&writer, Instant::now()).await?;
    println!("write outage {:?}", longest_gap(&writer.acks(), began, Instant::now()));
    let change = cluster.explain(new).await?.change.unwrap_or_default();
    ensure!(change.kind == "switchover", "it was a {}", change.kind);
    cluster.start(leader)?;
    cluster.settle(SETTLE).await?;
    let acks = writer.finish().await;
    ensure!(lost(&cluster, &acks).await?.is_empty(), "acknowledged writes are missing");
    cluster.check_logs()
}

/// Until its next restart point a standby's control file names the timeline from before a change of leader;
/// who forgot what it saw, and streams no more, must not take its own data for divergent.
#[tokio::test]
async fn a_standby_whose_agent_is_new_knows_its_timeline_and_leads_at_the_first_try() -> Result<()>
{
    let mut cluster = Cluster::healthy("young-timeline", Options::default()).await?;
    if cluster.leader().await? != 2 {
        cluster.switchover("n3").await?;
    }
    let last = cluster.leader().await?;
    wait_for("both stream on its timeline", SETTLE, || async {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' \
                   AND replay_lsn = pg_current_wal_lsn()";
        ensure!(cluster.members[last].psql(sql)? == "2", "they do not");
        Ok(())
    })
    .await?;
    let before = cluster.status().await?.epoch;
    cluster.members[last].kill_node();
    for member in &cluster.members[..last] {
        member.signal(member.agent()?, Signal::SIGKILL)?;
    }
    let new = cluster.other_leader(last, SETTLE).await?;
    cluster.start(last)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    ensure!(cluster.status().await?.epoch == before + 1, "more than one election");
    for member in &cluster.members[..last] {
        let taken = member.log().contains("to be rewound");
        ensure!(!taken, "{} took its data for divergent", member.name);
    }
    cluster.check_logs()
}
