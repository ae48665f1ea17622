//! How members come back: rewound, copied, refused; and what an operator can ask for.

use std::time::Duration;

use anyhow::{Result, ensure};
use howdah_rpc::control::{FailoverRequest, LostRequest};
use howdah_tests::{Cluster, Options, wait_for};

const SETTLE: Duration = Duration::from_secs(60);

/// Kills the leader's node, makes its data diverge, and returns it; the old and the new leader.
async fn diverge(cluster: &mut Cluster) -> Result<(usize, usize)> {
    let old = cluster.leader().await?;
    // WAL that no standby gets: their walreceivers are stopped while it is written.
    for index in (0..3).filter(|index| *index != old) {
        cluster.members[index].psql("ALTER SYSTEM SET primary_conninfo = ''")?;
        cluster.members[index].psql("SELECT pg_reload_conf()")?;
    }
    cluster.members[old].psql("INSERT INTO t SELECT generate_series(900000, 901000)")?;
    cluster.members[old].kill_node();
    let new = cluster.other_leader(old, Duration::from_secs(30)).await?;
    Ok((old, new))
}

/// The insert that no standby had is listed by whoever had it.
async fn lists_the_lost_commit(cluster: &Cluster, old: usize) -> Result<()> {
    let rescues = cluster.client(old)?.lost(LostRequest {}).await?.into_inner().rescues;
    ensure!(rescues.len() == 1, "{rescues:?}");
    let rescue = &rescues[0];
    ensure!(rescue.unread.is_empty() && rescue.left_out.is_empty(), "{rescue:?}");
    ensure!(rescue.commits >= 1 && rescue.end_lsn > rescue.fork_lsn, "{rescue:?}");
    let commit = rescue.transactions.iter().find(|one| one.kind == "COMMIT");
    ensure!(commit.is_some_and(|one| one.xid > 0 && !one.detail.is_empty()), "{rescue:?}");
    Ok(())
}

#[tokio::test]
async fn a_diverged_leader_is_rewound_and_what_it_alone_had_is_saved() -> Result<()> {
    let mut cluster = Cluster::healthy("rewind", Options::default()).await?;
    let (old, new) = diverge(&mut cluster).await?;
    cluster.start(old)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    let rows = cluster.members[old].psql("SELECT count(*) FROM t WHERE id >= 900000")?;
    ensure!(rows == "0", "{rows} rows of the abandoned branch are visible");
    let log = cluster.members[old].log();
    ensure!(log.contains("rewinds to"), "it was not rewound");
    lists_the_lost_commit(&cluster, old).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn a_diverged_leader_whose_wal_is_gone_is_copied() -> Result<()> {
    let mut cluster = Cluster::healthy("wal-gone", Options::default()).await?;
    let (old, new) = diverge(&mut cluster).await?;
    std::fs::remove_dir_all(cluster.members[old].data_dir().join("pg_wal"))?;
    cluster.start(old)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    let rows = cluster.members[old].psql("SELECT count(*) FROM t WHERE id >= 900000")?;
    ensure!(rows == "0", "{rows} rows of the abandoned branch are visible");
    cluster.check_logs()
}

#[tokio::test]
async fn a_diverged_leader_without_checksums_and_hints_is_copied() -> Result<()> {
    let extra = "  initdb: [encoding: UTF8, no-data-checksums]\n".into();
    let options = Options { extra, ..Options::default() };
    let mut cluster = Cluster::healthy("no-hints", options).await?;
    let (old, new) = diverge(&mut cluster).await?;
    // howdah has hints on; whoever starts the data by hand without them makes rewinding unsafe.
    cluster.members[old].start_by_hand(&["wal_log_hints=off"])?;
    cluster.start(old)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    let rows = cluster.members[old].psql("SELECT count(*) FROM t WHERE id >= 900000")?;
    ensure!(rows == "0", "{rows} rows of the abandoned branch are visible");
    let log = cluster.members[old].log();
    ensure!(!log.contains("rewinds to"), "it was rewound");
    ensure!(log.contains("copies the data"), "no reason for a copy was told");
    lists_the_lost_commit(&cluster, old).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn a_wiped_member_returns_as_a_new_node_with_a_fresh_copy() -> Result<()> {
    let mut cluster = Cluster::healthy("wiped", Options::default()).await?;
    let leader = cluster.leader().await?;
    let other = (leader + 1) % 3;
    let before = cluster.status().await?;
    cluster.members[other].kill_node();
    let dir = cluster.members[other].dir.clone();
    for name in ["raft", "data"] {
        std::fs::remove_dir_all(dir.join(name))?;
    }
    let _ = std::fs::remove_file(dir.join("data.howdah"));
    cluster.start(other)?;
    let id = |status: &howdah_rpc::control::ClusterStatus| status.members[other].node_id.clone();
    wait_for("it is a new node", SETTLE, || async {
        ensure!(id(&before) != id(&cluster.status().await?), "it is known under its old id");
        Ok(())
    })
    .await?;
    cluster.settle(SETTLE).await?;
    let after = cluster.status().await?;
    ensure!(after.epoch == before.epoch, "leadership moved");
    cluster.check_logs()
}

#[tokio::test]
async fn reinit_replaces_a_standbys_data_and_refuses_the_leaders() -> Result<()> {
    let cluster = Cluster::healthy("reinit", Options::default()).await?;
    let leader = cluster.leader().await?;
    let other = cluster.members[(leader + 1) % 3].name.clone();
    cluster.reinit(&other).await?;
    cluster.settle(SETTLE).await?;
    let refused = cluster.reinit(&cluster.members[leader].name.clone()).await;
    ensure!(refused.is_err(), "the leader's data was to be replaced");
    cluster.check_logs()
}

#[tokio::test]
async fn an_operator_can_fail_over_from_a_living_leader() -> Result<()> {
    let cluster = Cluster::healthy("operator", Options::default()).await?;
    let leader = cluster.leader().await?;
    let to = (leader + 2) % 3;
    let candidate = cluster.members[to].name.clone();
    let dry = FailoverRequest { candidate: candidate.clone(), dry_run: true, ..Default::default() };
    cluster.failover(leader, dry).await?;
    ensure!(cluster.leader().await? == leader, "a dry run changed the leader");
    let request = FailoverRequest { candidate, ..Default::default() };
    cluster.failover(to, request).await?;
    ensure!(cluster.settle(SETTLE).await? == to, "another member leads");
    cluster.check_logs()
}

#[tokio::test]
async fn foreign_data_is_refused_by_name_and_not_touched() -> Result<()> {
    let mut cluster = Cluster::healthy("foreign", Options::default()).await?;
    let mut other =
        Cluster::healthy("foreign2", Options { members: 1, ..Options::default() }).await?;
    let leader = cluster.leader().await?;
    let standby = (leader + 1) % 3;
    other.members[0].kill_node();
    cluster.members[standby].kill_node();
    let dir = cluster.members[standby].data_dir();
    std::fs::rename(&dir, dir.with_extension("mine"))?;
    std::fs::rename(other.members[0].data_dir(), &dir)?;
    let control = std::fs::read(dir.join("global/pg_control"))?;
    cluster.start(standby)?;
    let code = cluster.members[standby].ended(Duration::from_secs(30)).await?;
    ensure!(code == Some(78), "it ended with {code:?}");
    let log = cluster.members[standby].log();
    ensure!(log.contains("the data directory is of system"), "it did not say why");
    ensure!(std::fs::read(dir.join("global/pg_control"))? == control, "it was touched");
    other.check_logs()?;
    cluster.check_logs()
}
