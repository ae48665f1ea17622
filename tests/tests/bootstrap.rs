//! How a cluster begins: with new data, or with data that is there already.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_tests::{Cluster, Options};

/// Runs a program as the user that PostgreSQL runs as.
fn as_postgres(cluster: &Cluster, program: &str, args: &[&str]) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(cluster.ground.bin_dir.join(program));
    command.args(args).current_dir("/");
    if let Some((uid, gid)) = cluster.ground.user {
        command.gid(gid).uid(uid);
    }
    let output = command.output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} {args:?}: {said}");
    Ok(())
}

#[tokio::test]
async fn an_existing_data_directory_is_adopted_with_all_that_is_in_it() -> Result<()> {
    let mut cluster = Cluster::new("adopt", Options::default())?;
    let data = cluster.members[1].data_dir();
    let data = data.to_str().context("a path in UTF-8")?.to_owned();
    as_postgres(&cluster, "initdb", &["-k", "-U", "postgres", "-A", "trust", "-D", &data])?;
    let dir = cluster.members[1].dir.to_str().context("UTF-8")?.to_owned();
    let options = format!("-c listen_addresses= -c unix_socket_directories={dir}");
    let log = format!("{dir}/by-hand.log");
    as_postgres(&cluster, "pg_ctl", &["-D", &data, "-o", &options, "-l", &log, "-w", "start"])?;
    let psql =
        ["-X", "-h", &dir, "-U", "postgres", "-c", "CREATE TABLE mine AS SELECT 42 AS answer"];
    as_postgres(&cluster, "psql", &psql)?;
    as_postgres(&cluster, "pg_ctl", &["-D", &data, "-w", "-m", "fast", "stop"])?;
    for index in 0..3 {
        cluster.start(index)?;
    }
    let leader = cluster.settle(Duration::from_secs(60)).await?;
    ensure!(leader == 1, "{} leads, not the one that had the data", cluster.members[leader].name);
    for member in &cluster.members {
        let answer = member.psql("SELECT answer FROM mine")?;
        ensure!(answer == "42", "{} has {answer:?}", member.name);
    }
    cluster.check_logs()
}

#[tokio::test]
async fn a_new_cluster_has_checksums_scram_and_roles_with_least_rights() -> Result<()> {
    let cluster = Cluster::healthy("new", Options::default()).await?;
    let leader = cluster.leader().await?;
    let ask = |sql: &str| cluster.members[leader].psql(sql);
    ensure!(ask("SHOW data_checksums")? == "on", "no checksums");
    ensure!(ask("SHOW password_encryption")? == "scram-sha-256", "no SCRAM");
    ensure!(ask("SHOW restart_after_crash")? == "off", "restart_after_crash is on");
    let roles = ask(
        "SELECT string_agg(rolname || ':' || rolsuper || ':' || rolreplication, ',' ORDER BY 1) \
         FROM pg_roles WHERE rolname IN ('replicator', 'rewinder')",
    )?;
    ensure!(roles == "replicator:false:true,rewinder:false:false", "{roles}");
    let slots = ask("SELECT count(*) FROM pg_replication_slots WHERE active")?;
    ensure!(slots == "2", "{slots} slots are in use");
    ensure!(
        ask(
            "SELECT bool_and(rolpassword LIKE 'SCRAM%') FROM pg_authid WHERE rolpassword IS NOT NULL"
        )? == "t"
    );
    for member in &cluster.members {
        ensure!(!member.log().contains("SCRAM-SHA-256$"), "a verifier is in the log");
    }
    cluster.check_logs()
}
