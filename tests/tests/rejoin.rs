//! How members come back: rewound, copied, refused; and what an operator can ask for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
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

/// A leader that diverges some segments behind its last checkpoint. The new one has removed the WAL from
/// there to the fork since, or `all` that the old one lacks; the old and the new leader.
async fn diverge_far_behind_a_checkpoint(
    cluster: &mut Cluster,
    all: bool,
) -> Result<(usize, usize)> {
    let primary = &cluster.members[cluster.leader().await?];
    primary.psql("CHECKPOINT")?;
    let first = primary.psql("SELECT pg_walfile_name(redo_lsn) FROM pg_control_checkpoint()")?;
    for row in 0..3 {
        primary.psql(&format!("INSERT INTO t VALUES (800000 + {row})"))?;
        primary.psql("SELECT pg_switch_wal()")?;
    }
    cluster.settle(SETTLE).await?;
    let (old, new) = diverge(cluster).await?;
    let (primary, slot) = (&cluster.members[new], &cluster.members[old].name);
    primary.psql("ALTER SYSTEM SET wal_keep_size = 0")?;
    primary.psql("SELECT pg_reload_conf()")?;
    // The slot is made again with the next look, and holds what comes after the last checkpoint: once
    // from the fork's segment on, then, for `all`, from later ones.
    let drop = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
         WHERE NOT active AND slot_name = 'howdah_{slot}'"
    );
    primary.psql("CHECKPOINT")?;
    primary.psql(&drop)?;
    wait_for("the slot is there again", SETTLE, || async {
        let slots = format!("SELECT FROM pg_replication_slots WHERE slot_name = 'howdah_{slot}'");
        let there = primary.psql(&format!("SELECT EXISTS ({slots})"))?;
        ensure!(there == "t", "it is not");
        Ok(())
    })
    .await?;
    let fork = primary.psql("SELECT pg_walfile_name(redo_lsn) FROM pg_control_checkpoint()")?;
    let last = if all { &fork } else { &first };
    let left = format!(
        "SELECT count(*) FROM pg_ls_waldir() WHERE length(name) = 24 \
         AND substr(name, 9) <= substr('{last}', 9)"
    );
    wait_for("the checkpoint's WAL is removed", SETTLE, || async {
        primary.psql("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t")?;
        primary.psql("SELECT pg_switch_wal()")?;
        if all {
            primary.psql(&drop)?;
        }
        primary.psql("CHECKPOINT")?;
        let left = primary.psql(&left)?;
        ensure!(left == "0", "{left} segments up to {last} are there");
        Ok(())
    })
    .await?;
    Ok((old, new))
}

#[tokio::test]
async fn a_rewound_member_begins_with_wal_that_it_alone_has() -> Result<()> {
    let mut cluster = Cluster::healthy("rewind-far", Options::default()).await?;
    let (old, new) = diverge_far_behind_a_checkpoint(&mut cluster, false).await?;
    cluster.start(old)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    let log = cluster.members[old].log();
    ensure!(log.contains("rewinds to"), "it was not rewound");
    ensure!(!log.contains("copies the data"), "it was copied");
    cluster.check_logs()
}

#[tokio::test]
async fn a_rewound_member_that_lacks_what_nobody_has_is_copied() -> Result<()> {
    let mut cluster = Cluster::healthy("rewind-gone", Options::default()).await?;
    let (old, new) = diverge_far_behind_a_checkpoint(&mut cluster, true).await?;
    cluster.start(old)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    let log = cluster.members[old].log();
    let (_, since) = log.split_once("rewinds to").context("it was not rewound")?;
    ensure!(since.contains("no longer has") && since.contains("copies the data"), "not copied");
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
async fn what_a_copy_replaced_is_not_put_back_where_the_data_was_deleted() -> Result<()> {
    let mut cluster = Cluster::healthy("replaced", Options::default()).await?;
    let other = (cluster.leader().await? + 1) % 3;
    cluster.members[other].kill_node();
    let data = cluster.members[other].data_dir();
    // The machine died while it removed what it had before its last copy; then somebody deleted the data.
    std::fs::rename(&data, data.with_extension("old"))?;
    std::fs::remove_file(data.with_extension("old").join("PG_VERSION"))?;
    cluster.start(other)?;
    cluster.settle(SETTLE).await?;
    ensure!(cluster.members[other].log().contains("copies"), "it was not copied");
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

/// The last entry of the log that a member applied.
async fn applied(cluster: &Cluster, index: usize) -> Result<u64> {
    let log = cluster.client(index)?.log(howdah_rpc::control::LogRequest {}).await?;
    Ok(log.into_inner().applied_index)
}

#[tokio::test]
async fn an_older_raft_directory_that_is_put_back_is_refused_and_disturbs_nobody() -> Result<()> {
    let mut cluster = Cluster::healthy("older", Options::default()).await?;
    let leader = cluster.leader().await?;
    // It is the leader of Raft who notices, as long as it leads: its death is another matter.
    let notices = cluster.index(&cluster.status().await?.raft_leader)?;
    let other = (0..3).find(|index| *index != leader && *index != notices);
    let other = other.context("three members, two leaders")?;
    let older = cluster.members[other].dir.join("older");
    cluster.members[other].kill_node();
    cluster.members[other].copy_raft(&older)?;
    cluster.start(other)?;
    cluster.settle(SETTLE).await?;
    let before = cluster.status().await?;
    let since = applied(&cluster, other).await?;
    wait_for("the log goes on", SETTLE, || async {
        let now = applied(&cluster, other).await?;
        ensure!(now > since + 5, "entry {now}");
        Ok(())
    })
    .await?;
    cluster.members[other].kill_node();
    cluster.members[other].put_raft_back(&older)?;
    cluster.start(other)?;
    let code = cluster.members[other].ended(SETTLE).await?;
    ensure!(code == Some(78), "it ended with {code:?}");
    let log = cluster.members[other].log();
    ensure!(log.contains("move its raft directory away"), "it is not told what to do");
    let after = cluster.status().await?;
    ensure!(after.epoch == before.epoch && after.leader == before.leader, "leadership moved");
    std::fs::remove_dir_all(&cluster.members[other].raft)?;
    cluster.start(other)?;
    cluster.settle(SETTLE).await?;
    let id = |status: &howdah_rpc::control::ClusterStatus| status.members[other].node_id.clone();
    ensure!(id(&cluster.status().await?) != id(&before), "it is known under its old id");
    cluster.check_logs()
}
