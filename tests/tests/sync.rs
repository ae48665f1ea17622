//! Synchronous replication on real servers: no acknowledged write is lost, whatever fails, and what
//! it costs in time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::checks::{acks_again, acks_by, first_acks, lost};
use howdah_tests::cluster::PASSWORD;
use howdah_tests::directed::cut_freeze_elect_thaw;
use howdah_tests::writer::longest_gap;
use howdah_tests::{Ack, Cluster, Member, Options, Writer, wait_for};
use nix::sys::signal::Signal;

const SETTLE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// A cluster whose commits wait for one of both standbys.
async fn quorum(test: &str, strict: bool) -> Result<(Cluster, usize)> {
    let cluster = Cluster::healthy(test, Options::synchronous("quorum", strict)).await?;
    let leader = cluster.leader().await?;
    let standbys: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    cluster.synchronous(&standbys, SOON).await?;
    Ok((cluster, leader))
}

async fn nothing_is_lost(cluster: &Cluster, acks: &[Ack]) -> Result<()> {
    ensure!(acks.len() > 50, "only {} writes were acknowledged", acks.len());
    let lost = lost(cluster, acks).await?;
    ensure!(lost.is_empty(), "{} acknowledged writes are missing: {lost:?}", lost.len());
    Ok(())
}

#[tokio::test]
async fn whatever_happens_to_the_leader_no_acknowledged_write_is_lost() -> Result<()> {
    let (mut cluster, mut leader) = quorum("sync-leader", true).await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 100).await?;

    // Who gives the promise up for itself is told.
    cluster.members[leader]
        .psql("CREATE ROLE hasty; ALTER ROLE hasty SET synchronous_commit = local")?;
    println!("{}", cluster.trouble(leader, "commits of role hasty (local)", SOON).await?);
    cluster.members[leader].psql("ALTER ROLE hasty RESET synchronous_commit")?;
    cluster.no_trouble(leader, SOON).await?;

    // Its whole node.
    cluster.members[leader].kill_node();
    let new = cluster.other_leader(leader, Duration::from_secs(30)).await?;
    acks_by(&writer, new, 50).await?;
    cluster.start(leader)?;
    cluster.settle(SETTLE).await?;
    cluster.synchronous(&(0..3).filter(|index| *index != new).collect::<Vec<_>>(), SOON).await?;

    // A switchover, to whom commits wait for.
    let to = cluster.members[(new + 1) % 3].name.clone();
    cluster.switchover(&to).await?;
    leader = cluster.settle(SETTLE).await?;
    ensure!(cluster.members[leader].name == to, "{to} does not lead");
    cluster.synchronous(&(0..3).filter(|index| *index != leader).collect::<Vec<_>>(), SOON).await?;

    // Its postmaster.
    let began = Instant::now();
    cluster.members[leader].signal(cluster.members[leader].postmaster()?, Signal::SIGKILL)?;
    acks_again(&writer, Instant::now()).await?;
    let gap = longest_gap(&writer.acks(), began - Duration::from_millis(50), Instant::now());
    println!("postmaster killed: {} ms without a write", gap.as_millis());
    cluster.settle(SETTLE).await?;
    acks_again(&writer, Instant::now()).await?;
    nothing_is_lost(&cluster, &writer.finish().await).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn a_primary_that_was_frozen_beyond_its_lease_loses_nothing() -> Result<()> {
    let (cluster, leader) = quorum("sync-frozen", true).await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 100).await?;
    // Agent, guard and server together: no clock of its runs on, no deadline fires.
    let victims: Vec<i32> =
        cluster.members[leader].processes().into_iter().map(|process| process.pid).collect();
    for pid in &victims {
        // One that ended a moment ago is no loss.
        let _ = cluster.members[leader].signal(*pid, Signal::SIGSTOP);
    }
    let new = cluster.other_leader(leader, Duration::from_secs(30)).await?;
    acks_by(&writer, new, 100).await?;
    // Three leases.
    let thaw = Instant::now() + Duration::from_secs(10);
    wait_for("three leases have passed", Duration::from_secs(15), || async {
        ensure!(Instant::now() >= thaw, "not yet");
        Ok(())
    })
    .await?;
    for pid in victims.iter().rev() {
        let _ = cluster.members[leader].signal(*pid, Signal::SIGCONT);
    }
    cluster.settle(SETTLE).await?;
    acks_again(&writer, Instant::now()).await?;
    nothing_is_lost(&cluster, &writer.finish().await).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn without_standbys_writes_wait_when_they_must_and_go_on_when_they_may() -> Result<()> {
    for strict in [true, false] {
        let test = if strict { "sync-strict" } else { "sync-alone" };
        let (cluster, leader) = quorum(test, strict).await?;
        let writer = Writer::start(&cluster);
        first_acks(&writer, 50).await?;
        // One is enough.
        let standbys: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
        cluster.members[standbys[0]]
            .signal(cluster.members[standbys[0]].postmaster()?, Signal::SIGSTOP)?;
        acks_again(&writer, Instant::now()).await?;
        cluster.members[standbys[0]]
            .signal(cluster.members[standbys[0]].postmaster()?, Signal::SIGCONT)?;
        cluster.settle(SETTLE).await?;
        // Both agents live, so that Raft has its majority, and both servers are kept stopped.
        for index in &standbys {
            let name = cluster.members[*index].name.clone();
            cluster.fence_via(leader, &name, true).await?;
        }
        if strict {
            let why = wait_for("writes wait", SOON, || async {
                let status = cluster.status_of(leader).await?;
                ensure!(!status.not_writable_because.is_empty(), "they do not");
                Ok(status.not_writable_because)
            })
            .await?;
            ensure!(why.contains("commits wait"), "{why}");
        } else {
            let text = cluster.trouble(leader, "commits wait for nobody", SOON).await?;
            println!("{text}");
            acks_again(&writer, Instant::now()).await?;
        }
        for index in &standbys {
            let name = cluster.members[*index].name.clone();
            cluster.fence_via(leader, &name, false).await?;
        }
        cluster.settle(SETTLE).await?;
        cluster.synchronous(&standbys, SOON).await?;
        acks_again(&writer, Instant::now()).await?;
        nothing_is_lost(&cluster, &writer.finish().await).await?;
        cluster.check_logs()?;
        drop(cluster);
    }
    Ok(())
}

/// Without promises this loses writes every time: `make promises`.
#[tokio::test]
async fn a_primary_that_goes_on_while_others_elect_acknowledges_nothing_that_is_lost() -> Result<()>
{
    let outcome = cut_freeze_elect_thaw("sync-directed", &[]).await?;
    ensure!(outcome.lost.is_empty(), "{:?} of {}", outcome.lost, outcome.acknowledged);
    Ok(())
}

/// How many of the row a client sees that connects now.
async fn as_client(member: &Member) -> Result<i64> {
    let mut config = tokio_postgres::Config::new();
    config.host(&member.host).port(member.pg_port).user("tester").password(PASSWORD);
    config.dbname("postgres").connect_timeout(Duration::from_millis(300));
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    let row = client.query_one("SELECT count(*) FROM t WHERE id = -1", &[]).await;
    driver.abort();
    Ok(row?.get(0))
}

#[tokio::test]
async fn what_nobody_acknowledged_is_not_seen_before_a_standby_has_it() -> Result<()> {
    let (cluster, leader) = quorum("sync-visible", true).await?;
    let standbys: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    // As long as both are heard one of them would lead at once; without one of the two it is restarted.
    let silent = &cluster.members[standbys[0]];
    silent.signal(silent.agent()?, Signal::SIGSTOP)?;
    cluster.unreachable(standbys[0], leader, SOON).await?;
    // Walreceivers that do not run take nothing in, while their connections stay.
    let mut stopped = Vec::new();
    for index in &standbys {
        let member = &cluster.members[*index];
        let receiver = member.processes().into_iter().find(|p| p.title.contains("walreceiver"));
        let pid = receiver.context("no walreceiver")?.pid;
        member.signal(pid, Signal::SIGSTOP)?;
        stopped.push((*index, pid));
    }
    let member = &cluster.members[leader];
    let mut insert = member.psql_command("INSERT INTO t VALUES (-1)").spawn()?;
    let backend = wait_for("the commit waits", SOON, || async {
        let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        member.psql(sql)?.parse::<i32>().context("nobody waits")
    })
    .await?;
    // The whole server goes down with it, as PostgreSQL does after a killed backend.
    member.signal(backend, Signal::SIGKILL)?;
    ensure!(!insert.wait()?.success(), "the insert was acknowledged");
    // It is back, with the row in its WAL, and holds clients out: whoever gets in must not see it.
    let seen = std::cell::Cell::new(0);
    let held_out = wait_for("clients are held out", SOON, || async {
        seen.set(seen.get() + as_client(member).await.unwrap_or(0));
        let recovered = member.psql("SELECT pg_is_in_recovery()")? == "f";
        let rows = member.psql("SELECT count(*) FROM t WHERE id = -1")?;
        let status = cluster.status_of(leader).await?;
        ensure!(recovered && rows == "1", "not restarted yet");
        ensure!(!status.not_writable_because.is_empty(), "clients are let in");
        Ok(status.not_writable_because)
    })
    .await?;
    println!("{held_out}");
    ensure!(seen.get() == 0, "a client saw what no standby has");
    ensure!(as_client(member).await.is_err(), "a client got in");
    silent.signal(silent.agent()?, Signal::SIGCONT)?;
    for (index, pid) in stopped {
        // It may have been ended by its own server meanwhile.
        let _ = cluster.members[index].signal(pid, Signal::SIGCONT);
    }
    let leader = cluster.settle(SETTLE).await?;
    let rows = as_client(&cluster.members[leader]).await?;
    ensure!(rows == 1, "with a standby that has it, {rows} of it are seen");
    cluster.check_logs()
}
