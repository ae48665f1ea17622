//! REST and refusals: what load balancers and people see of a real cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_tests::rest::{self, Ask, get};
use howdah_tests::{Cluster, Member, Options, wait_for};

/// Status code and body of one request.
async fn ask(member: &Member, method: &str, path: &str) -> Result<(u16, String)> {
    rest::send(member, None, Ask { method, ..get(path) }).await
}

#[tokio::test]
async fn health_paths_answer_with_patronis_codes() -> Result<()> {
    let extra = "tags: { noloadbalance: false, zone: a }\n";
    let options = Options { extra: extra.into(), ..Options::default() };
    let cluster = Cluster::healthy("rest", options).await?;
    let leader = cluster.leader().await?;
    let standby = (leader + 1) % 3;
    // It may have streamed more since it was looked at.
    wait_for("the standby is seen to have everything", Duration::from_secs(20), || async {
        let (code, body) = ask(&cluster.members[standby], "GET", "/replica?lag=1MB").await?;
        ensure!(code == 200, "{code} {body}");
        Ok(())
    })
    .await?;
    // Path, code on the primary, code on a standby.
    for (path, primary, replica) in [
        ("/", 200, 503),
        ("/primary", 200, 503),
        ("/read-write", 200, 503),
        ("/leader", 200, 503),
        ("/primary?lease_only=true", 200, 503),
        ("/replica", 503, 200),
        ("/replica?lag=1MB", 503, 200),
        ("/replica?lag=1TB&replication_state=streaming", 503, 200),
        ("/replica?tag_zone=a", 503, 200),
        ("/replica?tag_zone=b", 503, 503),
        ("/replica?lag=much", 400, 400),
        ("/read-only", 200, 200),
        ("/async", 503, 200),
        ("/sync", 503, 503),
        ("/health", 200, 200),
        ("/liveness", 200, 200),
        ("/readiness", 200, 200),
        ("/patroni", 200, 200),
        ("/cluster", 200, 200),
        ("/nonsense", 404, 404),
    ] {
        for method in ["GET", "OPTIONS"] {
            let (code, body) = ask(&cluster.members[leader], method, path).await?;
            ensure!(code == primary, "{method} {path} on the primary: {code} {body}");
            let (code, body) = ask(&cluster.members[standby], method, path).await?;
            ensure!(code == replica, "{method} {path} on a standby: {code} {body}");
        }
    }
    let (_, body) = ask(&cluster.members[standby], "GET", "/cluster").await?;
    let shown: serde_json::Value = serde_json::from_str(&body)?;
    let members = shown["members"].as_array().context("members")?;
    ensure!(members.len() == 3 && members.iter().filter(|m| m["role"] == "leader").count() == 1);
    let (_, body) = ask(&cluster.members[leader], "GET", "/patroni").await?;
    let shown: serde_json::Value = serde_json::from_str(&body)?;
    ensure!(shown["role"] == "primary" && shown["state"] == "running", "{shown}");
    cluster.check_logs()
}

/// Starts a standby that must refuse, and what it said.
async fn refuses(cluster: &mut Cluster, index: usize) -> Result<String> {
    cluster.members[index].start(&[], &BTreeMap::new())?;
    let code = cluster.members[index].ended(Duration::from_secs(30)).await?;
    let log = cluster.members[index].log();
    ensure!(code == Some(78), "it ended with {code:?}: {log}");
    Ok(log)
}

#[tokio::test]
async fn a_wrong_major_version_and_a_foreign_raft_directory_are_refused_by_name() -> Result<()> {
    let mut cluster = Cluster::healthy("refusals", Options::default()).await?;
    let leader = cluster.leader().await?;
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.members[one].kill_node();
    let version = cluster.members[one].data_dir().join("PG_VERSION");
    let right = std::fs::read(&version)?;
    std::fs::write(&version, "13\n")?;
    let log = refuses(&mut cluster, one).await?;
    ensure!(log.contains("belongs to 13"), "it did not say which version: {log}");
    std::fs::write(&version, right)?;
    // The raft directory of another member, as after a mix-up of volumes.
    cluster.members[two].kill_node();
    let (mine, theirs) = (cluster.members[one].raft.clone(), cluster.members[two].raft.clone());
    std::fs::rename(&mine, mine.with_extension("kept"))?;
    std::fs::rename(&theirs, &mine)?;
    let log = refuses(&mut cluster, one).await?;
    ensure!(log.contains("n1") && log.contains("n2") || log.contains("n3"), "{log}");
    std::fs::rename(&mine, &theirs)?;
    std::fs::rename(mine.with_extension("kept"), &mine)?;
    for index in [one, two] {
        cluster.members[index].kill_node();
        cluster.start(index)?;
    }
    cluster.settle(Duration::from_secs(60)).await?;
    cluster.check_logs()
}
