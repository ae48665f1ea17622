//! The systemd unit that is shipped: what systemd says of it, and a cluster whose members it runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_tests::booted::{self, Booted};
use howdah_tests::member::Process;
use howdah_tests::net::Net;
use howdah_tests::{Cluster, Ground, Options, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SETTLE: Duration = Duration::from_secs(60);
const ADDRESS: &str = "10.78.0.210";
/// What `systemd-analyze security` may rate it at most, in tenths: 23 by version 252; others look at more.
const EXPOSURE: u32 = 25;
/// Numbers of what the unit grants (linux/capability.h).
const CAPABILITIES: [(&str, u32); 2] = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13)];
const NONE: &str = "0000000000000000";

#[test]
fn systemd_understands_every_line_and_rates_it_low() -> Result<()> {
    let ground = Ground::new("unit-verify")?;
    let analyze = |words: &[&str], file: &Path| {
        Command::new("systemd-analyze").args(words).arg(file).output()
    };
    if analyze(&["--version"], Path::new("")).is_err() {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return Ok(());
    }
    // It looks whether the program is there.
    let text = std::fs::read_to_string(booted::UNIT)?;
    let file = ground.dir.join("howdah.service");
    std::fs::write(&file, text.replace("/usr/bin/howdah", &ground.howdah.to_string_lossy()))?;
    let verified = analyze(&["verify", "--man=no", "--recursive-errors=no"], &file)?;
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    ensure!(verified.status.success() && !said.contains("howdah.service"), "{said}");
    // A line that it does not know must not pass.
    std::fs::write(&file, text.replace("\nProtectClock=", "\nProtectClocks="))?;
    let verified = analyze(&["verify", "--man=no", "--recursive-errors=no"], &file)?;
    ensure!(String::from_utf8_lossy(&verified.stderr).contains("ProtectClocks"), "it passed");

    std::fs::write(&file, &text)?;
    let threshold = format!("--threshold={EXPOSURE}");
    let rated = analyze(&["security", "--offline=true", "--no-pager", &threshold], &file)?;
    let said = String::from_utf8_lossy(&rated.stdout).into_owned();
    let overall = said.lines().find(|line| line.contains("Overall")).context(said.clone())?;
    eprintln!("{overall}");
    ensure!(rated.status.success(), "{overall}");
    std::fs::remove_dir_all(&ground.dir)?;
    Ok(())
}

/// The address is where the leader is.
async fn address_follows(cluster: &Cluster, net: &Net) -> Result<usize> {
    wait_for("the address is the leader's", Duration::from_secs(20), || async {
        let leader = cluster.leader().await?;
        let holders = net.holders(ADDRESS)?;
        ensure!(holders == [u16::try_from(leader)? + 1], "nodes {holders:?} have it");
        Ok(leader)
    })
    .await
}

fn is(process: &Process, what: &str) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid));
    name.is_ok_and(|name| name.trim() == what)
}

/// What the unit grants, as /proc shows it.
fn granted() -> Result<String> {
    let settings = booted::settings()?;
    let of = |name: &str| settings.get(name).with_context(|| format!("{name} is not written"));
    let names = of("CapabilityBoundingSet")?;
    ensure!(names == of("AmbientCapabilities")?, "more in one list than in the other");
    let bits = names.split(' ').map(|name| {
        let known = CAPABILITIES.iter().find(|(known, _)| *known == name);
        known.map(|(_, bit)| 1_u64 << bit).with_context(|| format!("{name} is new here"))
    });
    Ok(format!("{:016x}", bits.sum::<Result<u64>>()?))
}

/// Each process has what the unit and the guard leave it, and no more.
fn rights(machine: &Booted, ground: &Ground) -> Result<()> {
    let granted = granted()?;
    let uid = ground.user.context("root runs this")?.0.to_string();
    let (mut keepers, mut elephants) = (0, 0);
    for process in &machine.processes() {
        let line = |name| booted::status_line(process.pid, name);
        let (keeper, elephant) = (is(process, "howdah-vip"), is(process, "postgres"));
        keepers += usize::from(keeper);
        elephants += usize::from(elephant);
        // Effective, permitted, of programs that it starts, and at most.
        let rights = [line("CapEff")?, line("CapPrm")?, line("CapAmb")?, line("CapBnd")?];
        let held = if keeper { granted.as_str() } else { NONE };
        ensure!(rights == [held, held, NONE, &granted], "{process:?} has {rights:?}");
        ensure!(line("NoNewPrivs")? == "1" && line("Seccomp")? == "2", "{process:?} is free");
        ensure!(line("Uid")?.split_whitespace().all(|id| id == uid), "{process:?} is another's");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let core = core.context("no limit")?.split_whitespace().rev().nth(1) == Some("0");
        ensure!(core, "{process:?} may leave its memory in a file");
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid))?;
        let part = if elephant { "/postgres" } else { "/agent" };
        let own = |line: &str| line.contains("howdah.service/howdah-") && line.ends_with(part);
        ensure!(group.lines().any(own), "{process:?} is in {group}");
    }
    ensure!(keepers == 1 && elephants > 5, "{keepers} keepers, {elephants} of PostgreSQL");
    Ok(())
}

/// What PostgreSQL may and may not do there.
fn walls(cluster: &Cluster, leader: usize) -> Result<()> {
    let member = &cluster.members[leader];
    let jit = member.psql(
        "SET jit = on; SET jit_above_cost = 0; EXPLAIN ANALYZE SELECT sum(n) FROM generate_series(1, 9) n",
    )?;
    let can = member.psql("SELECT pg_jit_available()")?;
    ensure!(can == "f" || jit.contains("JIT"), "no JIT: {jit}");
    let refused = |what: &str, why: &str| match member.psql(what) {
        Ok(_) => Err(anyhow::anyhow!("{what} was let through")),
        Err(said) if format!("{said}").contains(why) => Ok(()),
        Err(said) => Err(said.context(format!("not refused as {why:?}: {what}"))),
    };
    for place in ["/var/lib/other", "/etc/howdah"] {
        refused(&format!("COPY (SELECT 1) TO '{place}/file'"), "Read-only file system")?;
    }
    // A member with a CA's key renews its certificate there.
    member.psql("COPY (SELECT 1) TO '/etc/howdah/tls/file'")?;
    refused("COPY (SELECT 1) TO PROGRAM 'unshare --user true'", "failed")?;
    member.psql("COPY (SELECT 1) TO '/tmp/of-the-unit'")?;
    ensure!(!Path::new("/tmp/of-the-unit").exists(), "/tmp is the machine's");
    Ok(())
}

#[tokio::test]
async fn a_cluster_lives_by_the_unit_as_it_is_shipped() -> Result<()> {
    if !booted::possible() {
        return Ok(());
    }
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let net = net.with_lan()?;
    let extra = format!("vip: {{ address: {ADDRESS}/24, interface: {} }}\n", Net::LAN);
    let mut cluster = Cluster::in_network("unit", Options { extra, ..Options::default() }, &net)?;
    let mut machines = Vec::new();
    booted::prepare(&mut cluster)?;
    for member in &cluster.members {
        let Some(machine) = Booted::up(member, &cluster.ground).await? else {
            cluster.passed();
            return Ok(());
        };
        machines.push(machine);
    }
    let lived = life(&cluster, &net, &machines).await;
    match &lived {
        Ok(()) => cluster.passed(),
        Err(_) => machines
            .iter()
            .for_each(|one| eprintln!("---- its log ends ----\n{}", one.last_lines())),
    }
    lived
}

async fn life(cluster: &Cluster, net: &Net, machines: &[Booted]) -> Result<()> {
    for machine in machines {
        machine.systemctl(&["start", "howdah"])?;
        machine.until("ActiveState", "active", SETTLE).await?;
    }
    cluster.settle(SETTLE).await?;
    cluster.make_table().await?;
    let first = address_follows(cluster, net).await?;
    for machine in machines {
        rights(machine, &cluster.ground)?;
    }
    walls(cluster, first)?;

    let second = (first + 1) % 3;
    cluster.switchover(&cluster.members[second].name).await?;
    ensure!(address_follows(cluster, net).await? == second, "another one leads");
    cluster.settle(SETTLE).await?;

    // The guard dies, and its agent hangs: nothing is left when the unit is started again.
    let machine = &machines[second];
    let before = machine.processes();
    let agent = before.iter().find(|one| one.title.split('\0').nth(1) == Some("agent"));
    kill(Pid::from_raw(agent.context("no agent")?.pid), Signal::SIGSTOP)?;
    machine.systemctl(&["kill", "--kill-whom=main", "--signal=KILL", "howdah"])?;
    machine.until("NRestarts", "1", SETTLE).await?;
    let mut left = machine.processes();
    left.retain(|one| before.iter().any(|it| it.pid == one.pid));
    ensure!(left.is_empty(), "{left:?}");
    cluster.settle(SETTLE).await?;

    let third = address_follows(cluster, net).await?;
    let machine = &machines[third];
    machine.systemctl(&["reload", "howdah"])?;
    machine.systemctl(&["stop", "howdah"])?;
    ensure!(machine.property("Result")? == "success", "it did not stop well");
    ensure!(machine.processes().is_empty(), "something is left");
    cluster.other_leader(third, SETTLE).await?;
    machine.systemctl(&["start", "howdah"])?;
    cluster.settle(SETTLE).await?;
    for machine in machines {
        let log = machine.log();
        for bad in ["panicked at", "no control group of our own", "cannot announce"] {
            ensure!(!log.contains(bad), "{bad}: {log}");
        }
    }
    Ok(())
}
