//! Trouble that is not a crash: what is full, broken, blocked or failing is told with what to do, and
//! nothing fails over that should not.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_rpc::control::FailoverRequest;
use howdah_tests::checks::{acks_again, first_acks, lost};
use howdah_tests::{Cluster, Disks, Options, Volume, Writer, wait_for};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(90);

/// A healthy cluster in which one member, which does not lead or does, has its data on a volume of
/// its own. `None`: this machine cannot.
async fn on_a_volume(test: &str, leads: bool) -> Result<Option<(Cluster, usize, Volume)>> {
    let mut cluster = Cluster::new(test, Options::default())?;
    let at = cluster.members[0].dir.join("volume");
    let Some(volume) = Volume::new(&at, 600, cluster.ground.user)? else { return Ok(None) };
    cluster.members[0].data = at.join("data");
    cluster.configure()?;
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    if leads != (leader == 0) {
        let to = if leads { "n1" } else { "n2" };
        cluster.switchover(to).await?;
        cluster.settle(SETTLE).await?;
    }
    Ok(Some((cluster, 0, volume)))
}

/// Holds for `time` that nobody else leads.
async fn nobody_else_leads(cluster: &Cluster, leader: usize, time: Duration) -> Result<()> {
    let (until, epoch) = (Instant::now() + time, cluster.status().await?.epoch);
    while Instant::now() < until {
        let status = cluster.status().await?;
        ensure!(status.epoch == epoch, "epoch {} instead of {epoch}", status.epoch);
        ensure!(status.leader == cluster.members[leader].name, "{} leads", status.leader);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_full_volume_of_a_standby_costs_nobody_else_anything() -> Result<()> {
    let Some((cluster, full, volume)) = on_a_volume("full-standby", false).await? else {
        return Ok(());
    };
    let leader = cluster.leader().await?;
    volume.fill()?;
    cluster.members[leader]
        .psql("CREATE TABLE much AS SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g")?;
    let told = cluster.trouble(full, "make room", SOON).await?;
    ensure!(told.contains("volume"), "{told}");
    nobody_else_leads(&cluster, leader, Duration::from_secs(6)).await?;
    volume.free()?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    cluster.no_trouble(full, SOON).await?;
    cluster.check_own_logs()
}

#[tokio::test]
async fn a_leader_whose_volume_is_full_gives_way_and_comes_back() -> Result<()> {
    let Some((cluster, full, volume)) = on_a_volume("full-leader", true).await? else {
        return Ok(());
    };
    cluster.members[full].psql("INSERT INTO t VALUES (1)")?;
    volume.fill()?;
    // WAL until no segment is left: PostgreSQL panics, and cannot start without room.
    let more = "SELECT pg_logical_emit_message(true, 'more', repeat('x', 8000000))";
    for _ in 0..40 {
        if cluster.members[full].psql(more).is_err() {
            break;
        }
    }
    let new = cluster.other_leader(full, SETTLE).await?;
    cluster.trouble(full, "make room", SOON).await?;
    volume.free()?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    ensure!(cluster.members[full].psql("SELECT count(*) FROM t")? == "1", "an old row is lost");
    cluster.check_own_logs()
}

#[tokio::test]
async fn a_leader_whose_volume_became_read_only_gives_way() -> Result<()> {
    let Some((cluster, broken, volume)) = on_a_volume("read-only", true).await? else {
        return Ok(());
    };
    volume.break_it()?;
    cluster.trouble(broken, "read-only", SOON).await?;
    // Whoever writes makes PostgreSQL notice.
    let _ = cluster.members[broken].psql("INSERT INTO t SELECT generate_series(1, 1000)");
    let _ = cluster.members[broken].psql("CHECKPOINT");
    let new = cluster.other_leader(broken, SETTLE).await?;
    volume.repair()?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    cluster.check_own_logs()
}

#[tokio::test]
async fn a_leader_whose_volume_is_gone_gives_way_and_nothing_is_put_in_its_place() -> Result<()> {
    let Some((cluster, lost, volume)) = on_a_volume("gone", true).await? else {
        return Ok(());
    };
    volume.detach()?;
    volume.close_the_place()?;
    let postmaster = cluster.members[lost].postmaster()?;
    cluster.members[lost].signal(postmaster, Signal::SIGKILL)?;
    let new = cluster.other_leader(lost, SETTLE).await?;
    cluster.trouble(lost, "failed", SETTLE).await?;
    ensure!(!volume.at.join("data").exists(), "data was put below the mount point");
    volume.mount()?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    cluster.check_own_logs()
}

#[tokio::test]
async fn wrong_owner_or_mode_of_the_data_is_named_or_mended() -> Result<()> {
    let cluster = Cluster::healthy("permissions", Options::default()).await?;
    let leader = cluster.leader().await?;
    let other = (leader + 1) % 3;
    let (member, data) = (&cluster.members[other], cluster.members[other].data_dir());
    let copies = || member.log().matches("copies the data").count();
    let copies_before = copies();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777))?;
    cluster.trouble(other, "0700", SOON).await?;
    member.signal(member.postmaster()?, Signal::SIGKILL)?;
    cluster.no_trouble(other, SOON).await?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    let mode = std::fs::metadata(&data)?.permissions().mode() & 0o777;
    ensure!(mode == 0o700, "mode {mode:o}");
    if cluster.ground.user.is_some() {
        std::os::unix::fs::chown(&data, Some(0), Some(0))?;
        cluster.trouble(other, "chown", SOON).await?;
        // It cannot be started until somebody mends that, and is then, by the agent that waited for it.
        let agent = member.agent()?;
        if let Ok(postmaster) = member.postmaster() {
            // A restartpoint may have ended it by now.
            let _ = member.signal(postmaster, Signal::SIGKILL);
        }
        wait_for("it is left alone", SOON, || async {
            let reason = cluster.status().await?.members[other].reason.clone();
            ensure!(reason.contains("cannot list"), "{reason}");
            Ok(())
        })
        .await?;
        let (uid, gid) = cluster.ground.user.context("root has a user")?;
        std::os::unix::fs::chown(&data, Some(uid), Some(gid))?;
        cluster.no_trouble(other, SOON).await?;
        ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
        ensure!(member.agent()? == agent, "the agent ended");
    }
    ensure!(copies() == copies_before, "it was copied for that");
    nobody_else_leads(&cluster, leader, Duration::from_secs(1)).await?;
    cluster.check_logs()
}

/// psql sessions of `tester` that stay; they end with the value.
struct Clients(Vec<std::process::Child>);

impl Drop for Clients {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn clients(cluster: &Cluster, leader: usize, count: usize) -> Result<Clients> {
    let member = &cluster.members[leader];
    let psql = cluster.ground.bin_dir.join("psql");
    let sessions = (0..count).map(|_| {
        let dsn =
            format!("host={} port={} user=tester dbname=postgres", member.host, member.pg_port);
        Command::new(&psql)
            .args(["-X", "-q", "-d", &dsn, "-c", "SELECT pg_sleep(120)"])
            .env("PGPASSWORD", howdah_tests::cluster::PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("psql")
    });
    Ok(Clients(sessions.collect::<Result<_>>()?))
}

#[tokio::test]
async fn taken_connections_and_locked_catalogs_restart_nothing() -> Result<()> {
    let cluster = Cluster::healthy("connections", Options::default()).await?;
    let leader = cluster.leader().await?;
    let postmaster = cluster.members[leader].postmaster()?;
    {
        let _clients = clients(&cluster, leader, 60)?;
        let told = cluster.trouble(leader, "clients have taken", SOON).await?;
        ensure!(told.contains("max_connections"), "{told}");
        nobody_else_leads(&cluster, leader, Duration::from_secs(11)).await?;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tester'";
        cluster.members[leader].psql(end)?;
    }
    cluster.no_trouble(leader, SOON).await?;
    let member = &cluster.members[leader];
    let lock = "BEGIN; LOCK pg_authid IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)";
    let mut holder = Clients(vec![member.psql_command(lock).stdout(Stdio::null()).spawn()?]);
    let told = cluster.trouble(leader, "lock on a catalog", SOON).await?;
    ensure!(told.contains("pg_locks"), "{told}");
    nobody_else_leads(&cluster, leader, Duration::from_secs(11)).await?;
    // Nobody new gets in; the one that holds the lock is found from its own side.
    holder.0[0].kill()?;
    cluster.members[leader].signal(backend_of(&cluster, leader)?, Signal::SIGTERM)?;
    cluster.no_trouble(leader, SOON).await?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    ensure!(member.postmaster()? == postmaster, "PostgreSQL was restarted");
    cluster.check_logs()
}

/// The one backend that sleeps in a transaction.
fn backend_of(cluster: &Cluster, index: usize) -> Result<i32> {
    let processes = cluster.members[index].processes();
    let found = processes.iter().find(|process| process.title.contains("[local] SELECT"));
    Ok(found.context("no backend sleeps")?.pid)
}

#[tokio::test]
async fn an_archive_that_fails_is_told_and_restarts_nothing() -> Result<()> {
    let mut cluster = Cluster::new("archive", Options::default())?;
    let working = cluster.ground.dir.join("archive-works");
    for member in &mut cluster.members {
        let test = format!("test -e {}", working.display());
        member.parameters = format!("    archive_mode: 'on'\n    archive_command: '{test}'\n");
    }
    cluster.configure()?;
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    cluster.members[leader].psql("SELECT pg_switch_wal()")?;
    let told = cluster.trouble(leader, "archive_command fails", SOON).await?;
    ensure!(told.contains("WAL piles up"), "{told}");
    nobody_else_leads(&cluster, leader, Duration::from_secs(6)).await?;
    std::fs::write(&working, "")?;
    // PostgreSQL tries a failed segment again once a minute; a new one wakes it.
    wait_for("the archive works", Duration::from_secs(90), || async {
        cluster.members[leader].psql("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t")?;
        cluster.members[leader].psql("SELECT pg_switch_wal()")?;
        cluster.no_trouble(leader, Duration::from_secs(6)).await
    })
    .await?;
    cluster.check_logs()
}

#[tokio::test]
async fn a_promotion_that_hangs_is_given_up_and_another_member_leads() -> Result<()> {
    let mut cluster = Cluster::healthy("promotion-hangs", Options::default()).await?;
    let old = cluster.leader().await?;
    // Among equals the first name wins; its replay stands still.
    let first = (0..3).find(|index| *index != old).context("three members")?;
    let last = (0..3).rfind(|index| *index != old).context("three members")?;
    let startup = cluster.members[first].processes();
    let startup = startup.iter().find(|process| process.title.contains("startup recovering"));
    let startup = startup.context("a standby has a startup process")?.pid;
    cluster.members[first].signal(startup, Signal::SIGSTOP)?;
    cluster.members[old].kill_node();
    cluster.trouble(first, "promotion waits for the replay", SOON).await?;
    wait_for("the other one leads", SETTLE, || async {
        ensure!(cluster.leader().await? == last, "not yet");
        Ok(())
    })
    .await?;
    cluster.start(old)?;
    cluster.settle(SETTLE).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn a_standby_whose_wal_was_removed_says_so_and_is_copied() -> Result<()> {
    let cluster = Cluster::healthy("wal-removed", Options::default()).await?;
    let leader = cluster.leader().await?;
    let away = (leader + 1) % 3;
    let name = cluster.members[away].name.clone();
    cluster.fence(&name, true).await?;
    let primary = &cluster.members[leader];
    // Its slot keeps WAL for it up to a limit only, and is lost beyond.
    primary.psql("ALTER SYSTEM SET wal_keep_size = 0")?;
    primary.psql("ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'")?;
    primary.psql("SELECT pg_reload_conf()")?;
    wait_for("old WAL is removed", SETTLE, || async {
        primary.psql("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t")?;
        primary.psql("SELECT pg_switch_wal()")?;
        primary.psql("CHECKPOINT")?;
        let oldest =
            primary.psql("SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'")?;
        let kept = primary.psql("SELECT pg_walfile_name(pg_current_wal_lsn())")?;
        ensure!(oldest.as_str() > "00000001000000000000000C", "{oldest} of {kept} is there");
        Ok(())
    })
    .await?;
    cluster.fence(&name, false).await?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    let log = cluster.members[away].log();
    let (before, _) = log.split_once("no longer has").context("it was not said why")?;
    let since = before.rsplit("PostgreSQL stays stopped").next().unwrap_or_default();
    ensure!(!since.contains("streams from"), "it was said to stream while it could not: {since}");
    let failover = FailoverRequest { candidate: name, dry_run: true, ..Default::default() };
    cluster.failover(leader, failover).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn a_disk_that_refuses_to_write_through_ends_its_member_until_it_is_well() -> Result<()> {
    let mut cluster = Cluster::new("sync-fails", Options::synchronous("quorum", true))?;
    let disks = Disks::prepare(&mut cluster)?;
    let disks = disks.context("not built: cargo build -p howdah-test-shim")?;
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    for index in [(leader + 1) % 3, leader] {
        disks.fail(&mut cluster, index, Duration::from_secs(4)).await?;
        let log = cluster.members[index].log();
        ensure!(log.contains("raft store failed"), "its disk was well");
        cluster.settle(SETTLE).await?;
        acks_again(&writer, Instant::now()).await?;
    }
    let acks = writer.finish().await;
    ensure!(lost(&cluster, &acks).await?.is_empty(), "acknowledged writes are missing");
    cluster.check_own_logs()
}
