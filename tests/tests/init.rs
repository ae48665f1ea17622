//! A cluster from nothing, by what `howdah init` prints and nothing else; and certificates that members renew by themselves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_locks::authority::CA_LIFETIME;
use howdah_locks::files::CA_KEY;
use howdah_locks::look::{Look, in_file, today};
use howdah_locks::{Authority, Role};
use howdah_tests::checks::{Calm, first_acks, never_held_up};
use howdah_tests::keys::{self, SCOPE, issue, issue_for, paths};
use howdah_tests::member::all_processes;
use howdah_tests::net::{Net, command};
use howdah_tests::rest;
use howdah_tests::{Cluster, Ground, Options, Writer, wait_for};
use serde_json::Value;

const SETTLE: Duration = Duration::from_secs(60);
/// The files are looked at every 5 s; once they have failed, at the second look.
const SEEN: Duration = Duration::from_secs(40);

/// Three machines, which are namespaces: network, processes and mounts, `/etc` and `/var/lib` of their own.
struct Machines<'n> {
    ground: Ground,
    net: &'n Net,
    /// All processes of a machine end with its first one, and that with this.
    holders: Vec<Child>,
}

/// A machine's first process: puts what the machine has of its own in its place, and waits for children that are not its.
const INIT: &str = r#"
mount --bind "$MACHINE/etc" /etc; mount --bind "$MACHINE/lib" /var/lib; touch "$MACHINE/up"
while :; do sleep 3600 & wait $!; done
"#;

/// `ssh root@HOST COMMAND`.
const SSH: &str = r#"#!/bin/sh
export MACHINE="$MACHINES/${1#root@}"
exec nsenter --target "$(cat "$MACHINE/init")" --mount --net --pid -- sh -c "$2"
"#;

/// `systemctl enable --now howdah` with a unit that runs as postgres.
const SYSTEMCTL: &str = r#"#!/bin/sh
[ "$*" = 'enable --now howdah' ] || exit 9
setsid setpriv --reuid=postgres --regid=postgres --init-groups \
  howdah run -c /etc/howdah/howdah.yml >"$MACHINE/howdah.log" 2>&1 </dev/null &
"#;

impl<'n> Machines<'n> {
    async fn new(test: &str, net: &'n Net) -> Result<Self> {
        let mut machines = Self { ground: Ground::new(test)?, net, holders: Vec::new() };
        let bin = machines.at("bin");
        fs::create_dir(&bin)?;
        for (name, text) in [("ssh", SSH), ("systemctl", SYSTEMCTL)] {
            fs::write(bin.join(name), text)?;
            fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755))?;
        }
        symlink(&machines.ground.howdah, bin.join("howdah"))?;
        for node in 1..=3 {
            let home = machines.home(node);
            fs::create_dir_all(home.join("lib"))?;
            let copied = Command::new("cp").arg("-a").arg("/etc").arg(home.join("etc")).status()?;
            ensure!(copied.success(), "cp -a /etc: {copied}");
            let _ = fs::remove_dir_all(home.join("etc/howdah"));
            let mut holder = command(Some(&net.name(node)), "unshare");
            holder.args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]);
            holder.args(["--mount-proc", "sh", "-c", INIT]).env("MACHINE", &home);
            machines.holders.push(holder.spawn()?);
            wait_for("a machine is up", SETTLE, || async {
                ensure!(home.join("up").exists(), "its mounts are missing");
                Ok(())
            })
            .await?;
            let held = i32::try_from(machines.holders[usize::from(node) - 1].id())?;
            let init = all_processes().into_iter().find(|one| one.parent == held);
            fs::write(home.join("init"), init.context("its first process")?.pid.to_string())?;
        }
        Ok(machines)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.ground.dir.join(name)
    }

    fn home(&self, node: u16) -> PathBuf {
        self.at("machines").join(self.net.address(node))
    }

    /// A line as it is pasted into a shell.
    fn shell(&self, line: &str) -> Result<Output> {
        let path = std::env::var("PATH")?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(&self.ground.dir);
        command.env("PATH", format!("{}:{path}", self.at("bin").display()));
        command.env("MACHINES", self.at("machines"));
        // Of several versions that are installed the one that is tested.
        command.env("HOWDAH_POSTGRESQL_BIN_DIR", &self.ground.bin_dir);
        Ok(command.output()?)
    }

    fn done(&self, line: &str) -> Result<String> {
        let output = self.shell(line)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (told, why) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "{line}\n{}: {told}{why}", output.status);
        Ok(told)
    }

    fn log(&self, node: u16) -> String {
        fs::read_to_string(self.home(node).join("howdah.log")).unwrap_or_default()
    }

    /// psql on that machine, as the user postgres.
    fn psql(&self, node: u16, sql: &str) -> Result<String> {
        let psql = self.ground.bin_dir.join("psql");
        let init = fs::read_to_string(self.home(node).join("init"))?;
        let output = Command::new("nsenter")
            .args(["--mount", "--net", "--target", &init, "--"])
            .args(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"])
            .arg(psql)
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "/var/lib/howdah/data.sock"])
            .args(["-d", "postgres", "-c", sql])
            .output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "n{node}: {}", why.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// psql of a client elsewhere, by password.
    fn client(&self, node: u16, port: u16, sslmode: &str, sql: &str) -> Result<Output> {
        let (host, psql) = (self.net.address(node), self.ground.bin_dir.join("psql"));
        let dsn = format!("host={host} port={port} user=app dbname=postgres sslmode={sslmode}");
        let mut command = Command::new(psql);
        command.args(["-XqAt", &dsn, "-c", sql]).env("PGPASSWORD", "for-tests-only");
        Ok(command.env("PGCONNECT_TIMEOUT", "5").output()?)
    }
}

impl Drop for Machines<'_> {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// Waits until the command that init printed shows one leader that both others stream from; its number.
async fn healthy(machines: &Machines<'_>, look: &str) -> Result<u16> {
    wait_for("a healthy cluster", Duration::from_secs(120), || async {
        let told = machines.done(&format!("{look} -o json"))?;
        let told: Value = serde_json::from_str(&told)?;
        let members = told["members"].as_array().context("members")?;
        let streaming = members.iter().filter(|one| one["state"] == "streaming").count();
        ensure!(members.len() == 3 && streaming == 2, "{told}");
        let leader = told["leader"].as_str().context("a leader")?;
        Ok(leader.trim_start_matches('n').parse()?)
    })
    .await
}

#[tokio::test]
async fn what_init_prints_makes_a_cluster_and_nothing_else_is_needed() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let machines = Machines::new("init", &net).await?;
    net.enter(Net::CLIENTS)?;
    let named: Vec<String> = (1..=3).map(|node| format!("n{node}={}", net.address(node))).collect();
    let told = machines.done(&format!("howdah init --scope main {}", named.join(" ")))?;
    let commands: Vec<&str> = told.lines().filter(|line| line.starts_with("tar ")).collect();
    ensure!(commands.len() == 3, "{told}");
    let look = told.lines().find(|line| line.starts_with("howdah --keys")).context("a look")?;
    for command in &commands {
        let said = machines.done(command)?;
        ensure!(said.contains("/etc/howdah/howdah.yml: fine"), "{command}: {said}");
    }
    let leader = healthy(&machines, look).await.inspect_err(|_| {
        (1..=3).for_each(|node| eprintln!("---- n{node} ----\n{}", machines.log(node)));
    })?;
    ensure!(machines.done(look)?.contains("quorum 3/3"), "{}", machines.done(look)?);
    // Over certificates, and nobody without one is answered.
    let bare = look.replace("--keys main/admin ", "");
    ensure!(!machines.shell(&bare)?.status.success(), "{bare} is answered");
    let tls = !machines.psql(leader, "SHOW ssl_library")?.is_empty();
    let sql = "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) \
               WHERE ssl AND client_dn LIKE '%n%'";
    let encrypted = machines.psql(leader, sql)?;
    ensure!(!tls || encrypted == "2", "{encrypted} standbys stream through TLS");
    // It takes writes, and standbys have them.
    machines.psql(leader, "CREATE TABLE t (id int); INSERT INTO t VALUES (7)")?;
    for node in 1..=3 {
        wait_for("the row is everywhere", SETTLE, || async {
            ensure!(machines.psql(node, "SELECT id FROM t")? == "7", "not on n{node}");
            Ok(())
        })
        .await?;
    }
    if tls {
        machines.psql(leader, "CREATE ROLE app LOGIN PASSWORD 'for-tests-only'")?;
        // Through any member's door, where TLS is asked for; never in the clear.
        for node in 1..=3 {
            let output = machines.client(node, 5000, "require", "SELECT pg_is_in_recovery()")?;
            let why = String::from_utf8_lossy(&output.stderr);
            ensure!(output.stdout.starts_with(b"f"), "n{node}: {why}");
            let output = machines.client(node, 5000, "disable", "SELECT 1")?;
            ensure!(!output.status.success(), "n{node} takes a password in the clear");
        }
    }
    for node in 1..=3 {
        let log = machines.log(node);
        ensure!(!log.contains("panicked at") && !log.contains("PRIVATE"), "n{node}: {log}");
    }
    let dir = machines.ground.dir.clone();
    drop(machines);
    let _ = fs::remove_dir_all(dir);
    Ok(())
}

/// Has a member renew by itself: with this CA's key, from its next start on.
fn give(cluster: &Cluster, index: usize, key: &Path) -> Result<()> {
    let to = cluster.members[index].dir.join("tls").join(CA_KEY);
    fs::copy(key, &to)?;
    fs::set_permissions(&to, PermissionsExt::from_mode(0o600))?;
    if let Some((uid, gid)) = cluster.ground.user {
        chown(&to, Some(uid), Some(gid))?;
    }
    cluster.configure()
}

fn cert(cluster: &Cluster, index: usize) -> Result<Look> {
    let dir = cluster.members[index].dir.join("tls");
    Ok(in_file(&paths(&dir).cert)?.swap_remove(0))
}

/// A member's certificate in its place with so much life left, of an hour that is over.
fn replace(cluster: &Cluster, index: usize, left: Duration) -> Result<()> {
    let (member, ca) = (&cluster.members[index], keys::authority(&cluster.ground.dir)?);
    let (dir, owner) = (member.dir.join("tls"), cluster.ground.user);
    issue_for(&ca, Role::Member, &member.name, &[&member.host], &dir, owner, left)
}

fn count(cluster: &Cluster, index: usize, words: &str) -> usize {
    cluster.members[index].log().matches(words).count()
}

const RENEWED: &str = "renewed this member's certificate";

/// Until a member renewed so many times, and has taken up what it made.
async fn renewed(cluster: &Cluster, index: usize, times: usize) -> Result<()> {
    wait_for("a member renews", SEEN, || async {
        let (made, taken) = (count(cluster, index, RENEWED), count(cluster, index, "took up new"));
        ensure!(made == times && taken > times, "n{}: {made} made, {taken} taken up", index + 1);
        let cert = cert(cluster, index)?;
        ensure!(!cert.is_due(today()), "what lies there is due");
        Ok(())
    })
    .await
}

/// The value that a member's page of metrics has.
async fn metric(cluster: &Cluster, index: usize, labels: &str) -> Result<f64> {
    let (_, page) = rest::send(&cluster.members[index], None, rest::get("/metrics")).await?;
    let line = page.lines().find(|line| {
        line.starts_with("howdah_certificate_expiry_timestamp_seconds{") && line.contains(labels)
    });
    let value = line.and_then(|line| line.rsplit(' ').next()).context("no such sample")?;
    Ok(value.parse()?)
}

#[tokio::test]
async fn members_renew_their_certificates_under_load_and_nobody_notices() -> Result<()> {
    let mut cluster = Cluster::new("init-renewal", Options::default())?;
    let key = cluster.ground.dir.join("pki").join(CA_KEY);
    (0..3).try_for_each(|index| give(&cluster, index, &key))?;
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    let calm = Calm::of(&cluster).await?;
    let writer = Writer::start(&cluster);
    first_acks(&writer, 100).await?;
    for index in 0..3 {
        replace(&cluster, index, Duration::from_secs(600))?;
    }
    for index in 0..3 {
        renewed(&cluster, index, 1).await?;
        let (member, cert) = (&cluster.members[index], cert(&cluster, index)?);
        ensure!(cert.covers(&member.host), "{:?}", cert.hosts);
        let ends = cert.not_after.duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        wait_for("the metric is the new one's", SEEN, || async {
            let told = metric(&cluster, index, "file=\"cert\"").await?;
            ensure!((told - ends).abs() < 1.0, "{told} is not {ends}");
            Ok(())
        })
        .await?;
        ensure!(metric(&cluster, index, "file=\"ca\"").await? > ends, "the CA ends before");
    }
    // Another CA's key: told, and not tried at each look. The right one: at once.
    let other = (leader + 1) % 3;
    let theirs = cluster.ground.dir.join("theirs");
    Authority::create(&theirs, SCOPE, CA_LIFETIME)?;
    give(&cluster, other, &theirs.join(CA_KEY))?;
    replace(&cluster, other, Duration::from_secs(600))?;
    let told = cluster.trouble(other, "is not renewed", SEEN).await?;
    ensure!(told.contains("is not its key"), "{told}");
    give(&cluster, other, &key)?;
    renewed(&cluster, other, 2).await?;
    cluster.no_trouble(other, SEEN).await?;
    never_held_up(&writer).await?;
    writer.finish().await;
    calm.holds(&cluster, &cluster.status().await?)?;
    for index in (0..3).filter(|index| *index != other) {
        let made = count(&cluster, index, RENEWED);
        ensure!(made == 1, "n{} renewed {made} times", index + 1);
    }
    cluster.check_logs()
}

#[tokio::test]
async fn a_member_that_was_off_until_its_certificate_had_ended_comes_back() -> Result<()> {
    let mut cluster = Cluster::healthy("init-expired", Options::default()).await?;
    let index = (cluster.leader().await? + 1) % 3;
    cluster.members[index].kill_node();
    replace(&cluster, index, Duration::ZERO)?;
    // By hand, where it has no CA's key.
    cluster.start(index)?;
    let code = cluster.members[index].ended(SETTLE).await?;
    ensure!(code == Some(64), "{code:?}");
    ensure!(cluster.members[index].log().contains("tls.crt has expired"), "it does not say why");
    // With a key that is none of its CA's it does not begin either.
    let theirs = cluster.ground.dir.join("theirs");
    Authority::create(&theirs, SCOPE, CA_LIFETIME)?;
    give(&cluster, index, &theirs.join(CA_KEY))?;
    cluster.start(index)?;
    let code = cluster.members[index].ended(SETTLE).await?;
    ensure!(code == Some(64), "{code:?}");
    let key = cluster.ground.dir.join("pki").join(CA_KEY);
    give(&cluster, index, &key)?;
    cluster.start(index)?;
    cluster.settle(SETTLE).await?;
    ensure!(count(&cluster, index, RENEWED) == 1, "it renewed nothing");
    ensure!(!cert(&cluster, index)?.is_due(today()), "what lies there is due");
    // Another time the power failed between the key and its certificate.
    cluster.members[index].kill_node();
    let (member, fresh) = (&cluster.members[index], cluster.ground.dir.join("fresh"));
    let (ca, owner) = (keys::authority(&cluster.ground.dir)?, cluster.ground.user);
    issue(&ca, Role::Member, &member.name, &[&member.host], &fresh, owner)?;
    let (from, to) = (paths(&fresh), paths(&member.dir.join("tls")));
    fs::rename(&from.key, &to.key)?;
    fs::rename(&from.cert, to.cert.with_extension("crt.next"))?;
    cluster.start(index)?;
    cluster.settle(SETTLE).await?;
    ensure!(!to.cert.with_extension("crt.next").exists(), "it is left half done");
    cluster.check_logs()
}
