//! Secrets stand nowhere that others can read; and they are replaced while everything runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_tests::checks::Calm;
use howdah_tests::cluster::PASSWORD;
use howdah_tests::keys::paths;
use howdah_tests::member::all_processes;
use howdah_tests::rest::{self, Ask};
use howdah_tests::{Cluster, Options, wait_for};
use nix::sys::signal::Signal;

const SETTLE: Duration = Duration::from_secs(60);

/// The passwords that a member connects with now, by role.
fn passwords(cluster: &Cluster, index: usize) -> Result<Vec<(String, String)>> {
    let mut file = cluster.members[index].data_dir().into_os_string();
    file.push(".pgpass");
    let text = fs::read_to_string(&file).context("the password file")?;
    let line = |line: &str| {
        let mut parts = line.splitn(5, ':').skip(3).map(str::to_owned);
        Some((parts.next()?, parts.next()?))
    };
    let found: Vec<_> = text.lines().filter_map(line).collect();
    ensure!(found.len() == 2, "{} lines", found.len());
    Ok(found)
}

/// A line from the middle of a PEM file.
fn middle(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("-----")).collect();
    Ok((*lines.get(lines.len() / 2).context("an empty file")?).to_owned())
}

/// Watches what every process of the machine says of itself, where words of ours could stand.
struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn start() -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<BTreeSet<_>>>::default());
        let (stopped, into) = (stop.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                for process in all_processes() {
                    for what in ["cmdline", "environ"] {
                        if let Ok(text) = fs::read(format!("/proc/{}/{what}", process.pid)) {
                            into.lock().unwrap_or_else(PoisonError::into_inner).insert(text);
                        }
                    }
                }
                rounds += 1;
                // Between two looks; nothing is waited for.
                std::thread::sleep(Duration::from_millis(10));
            }
            rounds
        });
        Self { stop, seen, thread }
    }

    fn end(self) -> Result<(u64, BTreeSet<Vec<u8>>)> {
        self.stop.store(true, Ordering::Relaxed);
        let rounds = self.thread.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        Ok((rounds, std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))))
    }
}

fn holds(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|part| part == word.as_bytes())
}

/// Files below a directory that `reads` and that hold one of these words.
fn found_in(
    dir: &Path,
    words: &[String],
    open: bool,
    reads: &dyn Fn(&Path, &fs::Metadata, bool) -> bool,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
        if meta.is_dir() {
            found.extend(found_in(&path, words, open && meta.mode() & 0o001 != 0, reads)?);
        } else if meta.is_file() && reads(&path, &meta, open) {
            let Ok(text) = fs::read(&path) else { continue };
            let held = words.iter().filter(|word| holds(&text, word));
            found.extend(held.map(|word| format!("{}: {}...", path.display(), &word[..6])));
        }
    }
    Ok(found)
}

fn is_log(path: &Path) -> bool {
    let in_log = path.parent().is_some_and(|dir| dir.ends_with("log"));
    in_log || path.extension().is_some_and(|end| end == "log")
}

/// Everything in which a password is used: replication, rewinding, a copy; and what howdah prints.
async fn live(cluster: &Cluster, printed: &mut Vec<String>) -> Result<()> {
    let leader = cluster.leader().await?;
    printed.push(cluster.howdah(&["rotate-passwords"])?);
    let to = cluster.members[(leader + 1) % 3].name.clone();
    cluster.switchover(&to).await?;
    let leader = cluster.settle(SETTLE).await?;
    // PostgreSQL itself is told to log whatever it is told.
    for sql in ["ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"] {
        cluster.members[leader].psql(sql)?;
    }
    printed.push(cluster.howdah(&["rotate-passwords"])?);
    cluster.reinit(&cluster.members[(leader + 1) % 3].name.clone()).await?;
    cluster.settle(SETTLE).await?;
    for args in [
        &["list", "-e", "-o", "json"][..],
        &["history", "-o", "json"],
        &["events", "-o", "json"],
        &["audit", "-o", "json"],
        &["explain"],
        &["show-config", "-o", "json"],
        &["token", "list", "-o", "json"],
        &["doctor"],
    ] {
        printed.push(cluster.howdah(args).unwrap_or_else(|why| format!("{why:#}")));
    }
    let file = cluster.members[0].dir.join("howdah.yml").display().to_string();
    for key in ["restapi.authentication.password", "postgresql.authentication.replication.password"]
    {
        printed.push(cluster.howdah(&["config", "explain", key, "-c", &file]).unwrap_or_default());
    }
    printed.push(cluster.howdah(&["config", "check", "-c", &file]).unwrap_or_default());
    for path in ["/patroni", "/cluster", "/config", "/history", "/events", "/metrics", "/primary"] {
        let ask = Ask { method: "GET", path, body: "", shown: Some(rest::BASIC) };
        printed.push(rest::send(&cluster.members[0], None, ask).await?.1);
    }
    Ok(())
}

#[tokio::test]
async fn no_secret_stands_where_others_can_read_it() -> Result<()> {
    let cluster = Cluster::healthy("secrets-nowhere", Options::default()).await?;
    let mut words: Vec<String> =
        passwords(&cluster, 0)?.into_iter().map(|(_, word)| word).collect();
    let token = cluster.howdah(&["token", "create", "x", "--role", "viewer"])?.trim().to_owned();
    let (watch, mut printed) = (Watch::start(), Vec::new());
    live(&cluster, &mut printed).await?;
    let (rounds, seen) = watch.end()?;
    words.extend(passwords(&cluster, 0)?.into_iter().map(|(_, word)| word));
    ensure!(words.iter().collect::<BTreeSet<_>>().len() == 4, "the passwords were not replaced");
    words.extend([token, rest::PASSWORD.to_owned()]);
    words.push(middle(&paths(&cluster.members[0].dir.join("tls")).key)?);
    words.push(middle(&cluster.ground.dir.join("pki/ca.key"))?);
    for member in &cluster.members {
        let limits = fs::read_to_string(format!("/proc/{}/limits", member.agent()?))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let core = core.context("a limit")?.split_whitespace().nth(4).unwrap_or_default();
        ensure!(core == "0", "an agent may dump {core} bytes of core");
    }
    // The control: these are the secrets, and this is how they would be found.
    let all = found_in(&cluster.ground.dir, &words, true, &|path, _, _| !is_log(path))?;
    for word in &words[2..4] {
        ensure!(
            all.iter().any(|place| place.contains(&word[..6])),
            "{all:?} has none of {}",
            &word[..6]
        );
    }
    for (nth, text) in printed.iter().enumerate() {
        let held = words.iter().find(|word| text.contains(*word));
        ensure!(held.is_none(), "answer {nth} has a secret in it");
    }
    let mut places: Vec<String> = Vec::new();
    for text in &seen {
        let held = words.iter().filter(|word| holds(text, word));
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
        places.extend(held.map(|word| format!("process {shown}: {}...", &word[..6])));
    }
    ensure!(places.is_empty() && rounds > 100, "in {rounds} looks at all processes: {places:#?}");
    let logged = found_in(&cluster.ground.dir, &words, true, &|path, _, _| is_log(path))?;
    ensure!(logged.is_empty(), "logged: {logged:#?}");
    let readable = |_: &Path, meta: &fs::Metadata, open: bool| open && meta.mode() & 0o004 != 0;
    let open = found_in(&cluster.ground.dir, &words, true, &readable)?;
    ensure!(open.is_empty(), "everybody can read: {open:#?}");
    eprintln!("{} words, {rounds} looks at {} texts of processes", words.len(), seen.len());
    cluster.check_logs()
}

#[tokio::test]
async fn whoever_watches_has_a_role_that_may_watch_and_nothing_else() -> Result<()> {
    let mut cluster = Cluster::new("secrets-monitoring", Options::default())?;
    for member in &mut cluster.members {
        let file = member.dir.join("tls/rest.password");
        member.parameters = format!(
            "  authentication:\n    monitoring: {{ username: watcher, password_file: {} }}\n",
            file.display()
        );
    }
    cluster.configure()?;
    cluster.start_all().await?;
    let member = &cluster.members[cluster.leader().await?];
    let sql = "SELECT rolcanlogin AND NOT (rolsuper OR rolreplication OR rolcreaterole OR rolcreatedb OR rolbypassrls), \
               (SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members WHERE member = r.oid) \
               FROM pg_roles r WHERE rolname = 'watcher'";
    wait_for("the role is there", SETTLE, || async {
        let found = member.psql(sql)?;
        ensure!(found == "t|pg_monitor", "{found}");
        Ok(())
    })
    .await?;
    let verifier = member.psql(
        "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'watcher'",
    )?;
    ensure!(verifier == "t", "its password is no SCRAM verifier");
    cluster.check_logs()
}

/// Sessions that PostgreSQL's standbys have, by the process of their walreceiver.
fn walreceivers(cluster: &Cluster, leader: usize) -> Result<Vec<i32>> {
    (0..3)
        .filter(|index| *index != leader)
        .map(|index| cluster.members[index].walreceiver())
        .collect()
}

/// That this role and password begin replication at the leader, or do not.
fn opens(
    cluster: &Cluster,
    leader: usize,
    (name, password): (&str, &str),
    good: bool,
) -> Result<()> {
    let pg = &cluster.members[leader];
    // By the certificate too, that members must show.
    let tls = paths(&pg.dir.join("tls"));
    let dsn = format!(
        "host=127.0.0.1 port={} user={name} dbname=postgres replication=true sslmode=prefer sslcert={} sslkey={}",
        pg.pg_port,
        tls.cert.display(),
        tls.key.display()
    );
    let mut command = std::process::Command::new(cluster.ground.bin_dir.join("psql"));
    command.args(["-XAtqc", "IDENTIFY_SYSTEM", &dsn]).env("PGPASSWORD", password);
    let output = command.current_dir("/").output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() == good, "{}: {text}", if good { "new" } else { "old" });
    Ok(())
}

#[tokio::test]
async fn passwords_and_tokens_are_replaced_under_load_and_nobody_notices() -> Result<()> {
    let cluster = Cluster::healthy("secrets-rotation", Options::default()).await?;
    let leader = cluster.settle(SETTLE).await?;
    let calm = Calm::of(&cluster).await?;
    let receivers = walreceivers(&cluster, leader)?;
    cluster.members[leader].psql("GRANT ALL ON SCHEMA public TO tester")?;
    let port = cluster.members[leader].pg_port.to_string();
    let pgbench = || {
        let mut command = std::process::Command::new(cluster.ground.bin_dir.join("pgbench"));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "tester"]);
        command.env("PGPASSWORD", PASSWORD).current_dir("/");
        command
    };
    let made = pgbench().args(["-i", "-q", "-s", "1", "postgres"]).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let run = pgbench()
        .args(["-n", "-C", "-c", "4", "-T", "20", "postgres"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let waiting = tokio::task::spawn_blocking(move || run.wait_with_output());
    let mut known = vec![passwords(&cluster, 0)?];
    for round in 0..3 {
        let name = format!("robot{round}");
        cluster.howdah(&["token", "create", &name, "--role", "operator"])?;
        if round > 0 {
            cluster.howdah(&["token", "revoke", &format!("robot{}", round - 1)])?;
        }
        let told = cluster.howdah(&["rotate-passwords"])?;
        ensure!(told.contains("were replaced"), "{told}");
        wait_for("each member has the same new ones", SETTLE, || async {
            let now = passwords(&cluster, 0)?;
            ensure!(!known.contains(&now), "n1 has the old ones");
            for index in 1..3 {
                ensure!(passwords(&cluster, index)? == now, "n{} has others", index + 1);
            }
            Ok(())
        })
        .await?;
        known.push(passwords(&cluster, 0)?);
        ensure!(walreceivers(&cluster, leader)? == receivers, "a standby's stream was broken");
    }
    ensure!(!waiting.is_finished(), "pgbench ended before the last replacement");
    let ended = waiting.await??;
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success() && !told.contains("error"), "pgbench: {told}");
    calm.holds(&cluster, &cluster.status().await?)?;
    // Who connects anew uses the new one, and the old one opens nothing.
    let standby = &cluster.members[(leader + 1) % 3];
    let receiver = standby.walreceiver()?;
    standby.signal(receiver, Signal::SIGTERM)?;
    wait_for("it streams again", SETTLE, || async {
        ensure!(standby.walreceiver()? != receiver, "the old one");
        Ok(())
    })
    .await?;
    cluster.settle(SETTLE).await?;
    cluster.reinit(&standby.name).await?;
    cluster.settle(SETTLE).await?;
    let (name, old) = &known[0][0];
    opens(&cluster, leader, (name, old), false)?;
    opens(&cluster, leader, (name, &known[3][0].1), true)?;
    cluster.check_logs()
}
