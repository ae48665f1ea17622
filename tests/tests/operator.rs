//! The operator's commands, as the built binary does them on a real cluster: what they do, what they
//! refuse, and the exit code of both.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::{Cluster, Options, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

const SETTLE: Duration = Duration::from_secs(60);

/// Exit code, stdout and stderr together.
fn howdah(cluster: &Cluster, args: &[&str]) -> Result<(i32, String)> {
    let endpoints: Vec<String> = cluster.members.iter().map(|member| member.control()).collect();
    let output = cluster
        .command()
        .args(args)
        .args(["--endpoint", &endpoints.join(",")])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let code = output.status.code().context("it was killed")?;
    Ok((code, text + &String::from_utf8_lossy(&output.stderr)))
}

/// The same, with the exit code that is wanted.
fn expect(cluster: &Cluster, code: i32, args: &[&str]) -> Result<String> {
    let (found, text) = howdah(cluster, args)?;
    ensure!(found == code, "howdah {}: {found} instead of {code}: {text}", args.join(" "));
    Ok(text)
}

fn json(cluster: &Cluster, code: i32, args: &[&str]) -> Result<Value> {
    let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
    let text = expect(cluster, code, &args)?;
    serde_json::from_str(&text).with_context(|| text)
}

async fn state_of(cluster: &Cluster, index: usize) -> Result<String> {
    Ok(cluster.status().await?.members[index].state.clone())
}

#[tokio::test]
async fn what_only_looks_answers_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::healthy("looks", Options::default()).await?;
    let before = cluster.status().await?.epoch;
    let config = json(&cluster, 0, &["show-config"])?;
    ensure!(config["ttl"] == 5 && config["postgresql"]["use_slots"] == true, "{config}");
    ensure!(expect(&cluster, 0, &["show-config"])?.contains("ttl: 5"), "it is YAML for people");
    let ttl = json(&cluster, 0, &["config", "explain", "ttl"])?;
    ensure!(ttl["value"] == "5" && ttl["layer"] == "cluster", "{ttl}");
    let text = expect(&cluster, 64, &["config", "explain", "postgresql.listen"])?;
    ensure!(text.contains("each member's own"), "{text}");
    let dsn = json(&cluster, 0, &["dsn"])?;
    let dsn = dsn["dsn"].as_str().context("a string")?;
    ensure!(dsn.contains("target_session_attrs=read-write"), "{dsn}");
    for member in &cluster.members {
        ensure!(dsn.contains(&member.pg_port.to_string()), "{dsn}");
    }
    let version = json(&cluster, 0, &["version"])?;
    ensure!(version["members"].as_array().is_some_and(|list| list.len() == 3), "{version}");
    let doctor = json(&cluster, 0, &["doctor"])?;
    ensure!(doctor["healthy"] == true, "{doctor}");
    ensure!(expect(&cluster, 0, &["topology"])?.contains("+ n"), "replicas lie below");
    for shell in ["bash", "zsh", "fish"] {
        ensure!(expect(&cluster, 0, &["completions", shell])?.contains("switchover"), "{shell}");
    }
    ensure!(expect(&cluster, 0, &["man"])?.contains(".TH"), "no manual page");
    expect(&cluster, 0, &["switchover", "--dry-run"])?;
    expect(&cluster, 1, &["switchover", "--dry-run", "--candidate", "n9"])?;
    for wrong in [
        &["restart", "n9", "--yes"][..],
        &["reload", "n9"],
        &["dsn", "-m", "n9"],
        // Nobody is asked first whether they are sure.
        &["reinit", "n9"],
        &["fence", "n9"],
        &["unfence", "n9"],
    ] {
        let text = expect(&cluster, 1, wrong)?;
        ensure!(text.contains("there is no member n9"), "{text}");
    }
    for asks in [&["restart"][..], &["reinit", "n2"], &["failover"], &["fence", "n2"]] {
        let text = expect(&cluster, 64, asks)?;
        ensure!(text.contains("--yes"), "{text}");
    }
    expect(&cluster, 1, &["restart", "--pending", "--yes"])?;
    ensure!(cluster.status().await?.epoch == before, "leadership moved");
    cluster.check_logs()
}

/// A command that goes on, and the lines that it prints.
struct Watching {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watching {
    fn start(cluster: &Cluster, args: &[&str]) -> Result<Self> {
        let endpoints: Vec<String> = cluster.members.iter().map(|m| m.control()).collect();
        let mut child = cluster
            .command()
            .args(args)
            .args(["--endpoint", &endpoints.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().context("its output")?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Reads on until a line's JSON is as wanted.
    fn until(&self, what: &str, good: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).with_context(|| format!("never: {what}"))?;
            let value: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if good(&value) {
                return Ok(value);
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn who_watches_goes_on_seeing_when_members_fall() -> Result<()> {
    let mut cluster = Cluster::healthy("watch", Options::default()).await?;
    let leader = cluster.leader().await?;
    let list = Watching::start(&cluster, &["list", "-W", "-o", "json"])?;
    let events = Watching::start(&cluster, &["events", "--follow", "-o", "json"])?;
    let every = Watching::start(&cluster, &["list", "-w", "0.2", "-o", "json"])?;
    let leads = |name: &str| {
        let name = name.to_owned();
        move |value: &Value| value["leader"] == name.as_str()
    };
    let old = cluster.members[leader].name.clone();
    list.until("the first leader", leads(&old))?;
    every.until("the first leader", leads(&old))?;
    let first = events.until("an event", |event| event["index"].is_u64())?;
    // Whoever answered them falls too: they are asked in this order.
    cluster.members[leader].kill_node();
    let new = cluster.other_leader(leader, SETTLE).await?;
    let name = cluster.members[new].name.clone();
    list.until("the second leader", leads(&name))?;
    every.until("the second leader", leads(&name))?;
    let epoch = cluster.status().await?.epoch;
    let told = events.until("the change", |event| event["epoch"] == epoch)?;
    ensure!(told["index"].as_u64() > first["index"].as_u64(), "told again: {told}");
    cluster.start(leader)?;
    cluster.settle(SETTLE).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn in_maintenance_mode_nothing_happens_but_what_is_asked_for() -> Result<()> {
    let mut cluster = Cluster::healthy("pause", Options::default()).await?;
    let leader = cluster.leader().await?;
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let names: Vec<String> = cluster.members.iter().map(|member| member.name.clone()).collect();
    expect(&cluster, 0, &["pause"])?;
    expect(&cluster, 1, &["pause"])?;
    ensure!(expect(&cluster, 0, &["list"])?.contains("Maintenance mode: on"), "not shown");
    ensure!(expect(&cluster, 1, &["doctor"])?.contains("maintenance"), "no finding");

    // A standby's and the leader's PostgreSQL fall, and stay down for longer than a lease lives.
    for index in [other, leader] {
        let member = &cluster.members[index];
        member.signal(member.postmaster()?, Signal::SIGKILL)?;
    }
    let (epoch, until) = (cluster.status().await?.epoch, Instant::now() + Duration::from_secs(8));
    while Instant::now() < until {
        let status = cluster.status().await?;
        ensure!(status.epoch == epoch && status.open_election == 0, "an election: {status:?}");
        ensure!(status.members[third].state != "stopped", "the third one fell");
        for index in [other, leader] {
            ensure!(cluster.members[index].postmaster().is_err(), "{} was started", names[index]);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What a person asks for is done; the pause stays.
    expect(&cluster, 0, &["restart", &names[leader], "--yes"])?;
    // For the leader's restart the pause was left for a moment, in which the other one may have begun to start.
    wait_for("the other one is restarted too", SETTLE, || async {
        expect(&cluster, 0, &["restart", &names[other], "--yes"]).map(|_| ())
    })
    .await?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    // The leader left the pause for it, and is back in it with a renewal.
    wait_for("paused again", SETTLE, || async {
        ensure!(cluster.status().await?.paused, "the restart ended the pause");
        Ok(())
    })
    .await?;
    expect(&cluster, 0, &["switchover", "--candidate", &names[third], "--yes"])?;
    ensure!(cluster.settle(SETTLE).await? == third, "{} does not lead", names[third]);
    wait_for("paused again", SETTLE, || async {
        ensure!(cluster.status().await?.paused, "the switchover ended the pause");
        Ok(())
    })
    .await?;
    // The guard has no deadline: an agent that is dead for long costs nothing.
    let postmaster = cluster.members[third].postmaster()?;
    let agent = cluster.members[third].agent()?;
    cluster.members[third].signal(agent, Signal::SIGSTOP)?;
    tokio::time::sleep(Duration::from_secs(7)).await;
    ensure!(cluster.members[third].postmaster()? == postmaster, "the guard killed in pause");
    cluster.members[third].signal(agent, Signal::SIGCONT)?;
    expect(&cluster, 0, &["resume"])?;
    expect(&cluster, 1, &["resume"])?;
    // Everything is watched over again.
    cluster.members[third].kill_node();
    let new = cluster.other_leader(third, SETTLE).await?;
    cluster.start(third)?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    cluster.check_logs()
}

#[tokio::test]
async fn parameters_are_reloaded_and_those_that_need_it_restarted() -> Result<()> {
    let mut cluster = Cluster::healthy("reload", Options::default()).await?;
    let leader = cluster.leader().await?;
    let name = cluster.members[leader].name.clone();
    let text = expect(&cluster, 0, &["reload"])?;
    ensure!(text.contains("No changes to apply on member"), "{text}");
    cluster.members[leader].parameters =
        "    work_mem: 7MB\n    max_prepared_transactions: 3\n".to_owned();
    cluster.configure()?;
    let view = json(&cluster, 0, &["reload", &name])?;
    let has = |key: &str, value: &str| view[0][key].to_string().contains(value);
    ensure!(has("applied", "work_mem") && has("needs_restart", "max_prepared"), "{view}");
    ensure!(cluster.members[leader].psql("SHOW work_mem")? == "7MB", "not in force");
    wait_for("the restart that is pending is shown", SETTLE, || async {
        let text = expect(&cluster, 0, &["list", "-e"])?;
        ensure!(text.contains("max_prepared_transactions: 0->3"), "{text}");
        Ok(())
    })
    .await?;
    let epoch = cluster.status().await?.epoch;
    expect(&cluster, 0, &["restart", "--pending", "--yes"])?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    ensure!(cluster.status().await?.epoch == epoch, "a restart is no change of leader");
    ensure!(
        cluster.members[leader].psql("SHOW max_prepared_transactions")? == "3",
        "not restarted"
    );
    // A file with a mistake changes nothing, and is told with its place.
    cluster.members[leader].parameters = "    work_mem: 9MB\n    wrok_mem: [1]\n".to_owned();
    cluster.configure()?;
    let text = expect(&cluster, 1, &["reload", &name])?;
    ensure!(text.contains("wrok_mem"), "{text}");
    ensure!(cluster.members[leader].psql("SHOW work_mem")? == "7MB", "half of it was taken");
    cluster.check_logs()
}

#[tokio::test]
async fn a_rolling_restart_restarts_everybody_and_the_leader_last() -> Result<()> {
    let cluster = Cluster::healthy("rolling", Options::default()).await?;
    let leader = cluster.leader().await?;
    let before: Vec<i32> = cluster.members.iter().map(|m| m.postmaster()).collect::<Result<_>>()?;
    expect(&cluster, 0, &["restart", "--rolling", "--yes"])?;
    ensure!(cluster.settle(SETTLE).await? != leader, "no switchover");
    for (member, old) in cluster.members.iter().zip(before) {
        ensure!(member.postmaster()? != old, "{} was not restarted", member.name);
    }
    cluster.check_logs()
}

#[tokio::test]
async fn a_fenced_member_stays_stopped_and_a_fenced_leader_hands_over() -> Result<()> {
    let cluster = Cluster::healthy("fence", Options::default()).await?;
    let leader = cluster.leader().await?;
    let (name, other) = (cluster.members[leader].name.clone(), (leader + 1) % 3);
    let replica = cluster.members[other].name.clone();
    expect(&cluster, 0, &["fence", &replica, "--yes"])?;
    expect(&cluster, 1, &["fence", &replica, "--yes"])?;
    ensure!(state_of(&cluster, other).await? == "stopped", "it runs");
    expect(&cluster, 1, &["restart", &replica, "--yes"])?;
    expect(&cluster, 1, &["switchover", "--candidate", &replica, "--yes"])?;
    ensure!(expect(&cluster, 1, &["doctor"])?.contains("fenced"), "no finding");
    expect(&cluster, 0, &["unfence", &replica])?;
    ensure!(cluster.settle(SETTLE).await? == leader, "leadership moved");
    expect(&cluster, 0, &["fence", &name, "--yes"])?;
    let new = cluster.other_leader(leader, SETTLE).await?;
    ensure!(state_of(&cluster, leader).await? == "stopped", "it runs");
    expect(&cluster, 0, &["unfence", &name])?;
    ensure!(cluster.settle(SETTLE).await? == new, "leadership moved again");
    cluster.check_logs()
}
