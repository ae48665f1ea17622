//! The doors of a real cluster: what clients notice of a change of leader.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_tests::checks::first_acks;
use howdah_tests::cluster::PASSWORD;
use howdah_tests::net::Net;
use howdah_tests::visitor::{Outcome, longest_gaps, refusals, session, through, to_read, writes};
use howdah_tests::{Cluster, Haproxy, Options, Pgbouncer, Visitors, Writer, pgbouncer, wait_for};

const SETTLE: Duration = Duration::from_secs(60);

/// How often, where a person wants to see more than the suite takes the time for.
fn count(variable: &str, default: u32) -> Result<u32> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(default),
    }
}

#[tokio::test]
async fn every_members_doors_lead_to_the_primary_and_to_the_standbys() -> Result<()> {
    let cluster = Cluster::healthy("doors", Options::default()).await?;
    let leader = cluster.leader().await?;
    let mut readers = BTreeSet::new();
    for index in 0..cluster.members.len() {
        let writer = session(&through(&cluster, index)).await?;
        let sql = "SELECT current_setting('port'), pg_is_in_recovery()";
        let row = writer.query_one(sql, &[]).await?;
        let (port, standby): (String, bool) = (row.get(0), row.get(1));
        ensure!(port == cluster.members[leader].pg_port.to_string() && !standby, "{port}");
        // Both standbys are read from, since one with a session is not the one with the fewest.
        let config = to_read(&cluster, index);
        let (first, second) = (session(&config).await?, session(&config).await?);
        for reader in [&first, &second] {
            let row = reader.query_one(sql, &[]).await?;
            let (port, standby): (String, bool) = (row.get(0), row.get(1));
            ensure!(standby, "a read at {port}, which is no standby");
            readers.insert(port);
        }
    }
    ensure!(readers.len() == 2, "reads went to {readers:?}");
    cluster.check_logs()
}

#[tokio::test]
async fn a_switchover_is_a_pause_for_clients_that_come_anew() -> Result<()> {
    let cluster = Cluster::healthy("doors-switchover", Options::default()).await?;
    let visitors = Visitors::start(&cluster, &[0, 1, 2, 0, 1, 2]);
    visitors.more(100).await?;
    let mut ordered = Vec::new();
    for _ in 0..count("SWITCHOVERS", 6)? {
        let leader = cluster.leader().await?;
        let to = cluster.members[(leader + 1) % 3].name.clone();
        ordered.push(Instant::now());
        cluster.switchover(&to).await?;
        cluster.settle(SETTLE).await?;
        visitors.more(100).await?;
    }
    let visits = visitors.finish().await;
    let refused = refusals(&visits);
    ensure!(refused.is_empty(), "{} were refused: {:?}", refused.len(), &refused[..1]);
    let read_only = visits
        .iter()
        .filter(|visit| matches!(&visit.outcome, Outcome::Broken(code) if code == "25006"));
    ensure!(read_only.count() == 0, "somebody met a read-only server");
    let gaps = longest_gaps(&visits, &ordered);
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    eprintln!(
        "{} switchovers, {} visits, none refused; without a write for {median:?} in the median, \
         {longest:?} at most",
        gaps.len(),
        visits.len()
    );
    cluster.check_logs()
}

#[tokio::test]
async fn after_a_failover_no_client_reaches_the_old_primary() -> Result<()> {
    let mut cluster = Cluster::healthy("doors-failover", Options::default()).await?;
    for _ in 0..count("FAILOVERS", 2)? {
        let old = cluster.leader().await?;
        let others: Vec<usize> = (0..3).filter(|index| *index != old).collect();
        let visitors = Visitors::start(&cluster, &[others[0], others[1], others[0], others[1]]);
        visitors.more(50).await?;
        let died = Instant::now();
        cluster.members[old].kill_node();
        cluster.other_leader(old, Duration::from_secs(30)).await?;
        visitors.more(50).await?;
        // It comes back as a standby while clients go on.
        cluster.start(old)?;
        cluster.settle(SETTLE).await?;
        let visits = visitors.finish().await;
        let old_port = cluster.members[old].pg_port;
        let wrote = writes(&visits);
        let first_elsewhere = wrote.iter().find(|write| write.1 != old_port);
        let (_, _, _, open) = first_elsewhere.context("nobody wrote at the new primary")?;
        let late = wrote.iter().filter(|(_, port, at, _)| port == &old_port && at > open);
        ensure!(late.count() == 0, "the old primary took writes after the new one");
        for visit in &visits {
            let code = match &visit.outcome {
                Outcome::Broken(code) => code.as_str(),
                _ => "",
            };
            ensure!(code != "25006", "a client behind the door met a read-only server");
        }
        // Who was being let in when it died had to notice.
        let after: Vec<_> = visits.into_iter().filter(|visit| visit.at > died).collect();
        ensure!(refusals(&after).is_empty(), "{:?}", refusals(&after));
    }
    cluster.check_logs()
}

#[tokio::test]
async fn the_door_of_an_isolated_primary_says_nothing_once_the_other_side_has_one() -> Result<()> {
    let Some(net) = Net::or_skip()? else { return Ok(()) };
    let mut cluster = Cluster::in_network("doors-isolated", Options::default(), &net)?;
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    let node = u16::try_from(leader + 1)?;
    // A client beside the primary reads its clock through its door, again and again, on a thread in
    // its namespace.
    let (config, name) = (through(&cluster, leader), net.name(node));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (heard, answers) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || -> Result<()> {
        howdah_tests::net::enter(&name)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            while !*stopped.borrow() {
                let connected = tokio::time::timeout(Duration::from_secs(1), session(&config));
                let Ok(Ok(client)) = connected.await else { continue };
                while !*stopped.borrow() {
                    let asked = Instant::now();
                    let answer = tokio::time::timeout(Duration::from_secs(1), async {
                        client.query_one("SELECT count(*) FROM t", &[]).await
                    });
                    let Ok(Ok(_)) = answer.await else { break };
                    let _ = heard.send((asked, Instant::now()));
                }
            }
            Ok(())
        })
    });
    let writer = Writer::start(&cluster);
    first_acks(&writer, 50).await?;
    net.isolate(node)?;
    let new = cluster.other_leader(leader, Duration::from_secs(30)).await?;
    let open = Instant::now();
    // As long as a lease lasts twice; whatever the isolated side might say, it has had time to.
    wait_for("the new primary takes writes", Duration::from_secs(30), || async {
        let acks = writer.acks();
        let last = acks.iter().rfind(|ack| ack.member == new).context("no write yet")?;
        ensure!(last.acked > open + Duration::from_secs(10), "not for long enough yet");
        Ok(())
    })
    .await?;
    stop.send(true)?;
    net.heal(node)?;
    reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let heard: Vec<(Instant, Instant)> = answers.try_iter().collect();
    ensure!(!heard.is_empty(), "nothing was read before");
    let late = heard.iter().filter(|(_, answered)| *answered > open).count();
    ensure!(late == 0, "{late} answers after another primary was open");
    writer.finish().await;
    cluster.settle(SETTLE).await?;
    cluster.check_logs()
}

#[tokio::test]
async fn who_cancels_a_wait_for_standbys_is_not_told_of_success() -> Result<()> {
    let cluster = Cluster::healthy("doors-cancel", Options::synchronous("quorum", true)).await?;
    let leader = cluster.leader().await?;
    let client = session(&through(&cluster, leader)).await?;
    client.batch_execute("INSERT INTO t VALUES (1)").await?;
    // Nobody acknowledges any more.
    let mut stopped = Vec::new();
    for index in (0..3).filter(|index| *index != leader) {
        let receiver = cluster.members[index].walreceiver()?;
        cluster.members[index].signal(receiver, nix::sys::signal::Signal::SIGSTOP)?;
        stopped.push((index, receiver));
    }
    let cancel = client.cancel_token();
    let commit = client.batch_execute("BEGIN; INSERT INTO t VALUES (2); COMMIT");
    let cancelling = async {
        wait_for("the commit waits", Duration::from_secs(20), || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            ensure!(cluster.members[leader].psql(sql)? != "0", "nobody waits");
            Ok(())
        })
        .await?;
        // Through the same door, as any client would.
        cancel.cancel_query(tokio_postgres::NoTls).await?;
        anyhow::Ok(())
    };
    let (committed, cancelled) = tokio::join!(commit, cancelling);
    cancelled?;
    let error = committed.err().context("the client was told of success")?;
    let code = error.code().map(|code| code.code().to_owned());
    ensure!(code.as_deref() == Some("08007"), "{error:?}");
    for (index, receiver) in stopped {
        cluster.members[index].signal(receiver, nix::sys::signal::Signal::SIGCONT)?;
    }
    // The session goes on.
    client.batch_execute("INSERT INTO t VALUES (3)").await?;
    Ok(())
}

/// pgbench's own log of its transactions: how long the longest took.
fn longest_transaction(prefix: &std::path::Path) -> Result<Duration> {
    let (dir, name) = (prefix.parent().context("a directory")?, prefix.file_name());
    let name = name.context("a name")?.to_string_lossy().into_owned();
    let mut longest = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&name)) {
            for line in std::fs::read_to_string(&path)?.lines() {
                let micros = line.split(' ').nth(2).context("a time")?.parse::<u64>()?;
                longest = longest.max(micros);
            }
        }
    }
    Ok(Duration::from_micros(longest))
}

#[tokio::test]
async fn behind_pgbouncer_a_switchover_is_no_error() -> Result<()> {
    let mut cluster = Cluster::new("doors-pgbouncer", Options::default())?;
    // Each member's pooler is looked after by its member; here n1 has one.
    let file = cluster.members[0].dir.join("howdah.yml");
    let text = std::fs::read_to_string(&file)? + &pgbouncer::looked_after(&cluster);
    std::fs::write(&file, text)?;
    cluster.start_all().await?;
    let Some(bouncer) = Pgbouncer::start(&cluster, 0).await? else { return Ok(()) };
    let leader = cluster.leader().await?;
    cluster.members[leader].psql("GRANT ALL ON SCHEMA public TO tester")?;
    let pgbench = || {
        let mut command = std::process::Command::new(cluster.ground.bin_dir.join("pgbench"));
        command.args(["-h", "127.0.0.1", "-p", &bouncer.port.to_string(), "-U", "tester"]);
        command.env("PGPASSWORD", PASSWORD).current_dir("/");
        command
    };
    let made = pgbench().args(["-i", "-q", "-s", "1", "postgres"]).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let switchovers = count("SWITCHOVERS", 4)?;
    let seconds = (switchovers * 8).to_string();
    let prefix = cluster.ground.dir.join("transactions");
    let run = pgbench()
        .args(["-n", "-c", "8", "-T", &seconds, "-l", "--log-prefix"])
        .arg(&prefix)
        .arg("postgres")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let waiting = tokio::task::spawn_blocking(move || run.wait_with_output());
    for _ in 0..switchovers {
        let leader = cluster.leader().await?;
        let to = &cluster.members[(leader + 1) % 3].name;
        // Refused while the candidate lags too far behind so many writes.
        wait_for("a switchover", SETTLE, || cluster.switchover(to)).await?;
        cluster.settle(SETTLE).await?;
    }
    ensure!(!waiting.is_finished(), "pgbench ended before the last switchover");
    let ended = waiting.await??;
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "pgbench met an error: {told}");
    ensure!(!told.contains("error") && !told.contains("abort"), "{told}");
    let longest = longest_transaction(&prefix)?;
    eprintln!("{switchovers} switchovers, longest transaction {longest:?}");
    ensure!(longest < Duration::from_secs(10), "a transaction took {longest:?}");
    cluster.check_logs()
}

#[tokio::test]
async fn the_printed_haproxy_configuration_follows_the_primary() -> Result<()> {
    // Each member has its agent check at the same distance from its doors.
    let mut cluster = Cluster::new("doors-haproxy", Options::default())?;
    let mut checks = Vec::new();
    for member in &cluster.members {
        let file = member.dir.join("howdah.yml");
        let port = member.read_port + 4;
        let wanted = format!("proxy: {{ agent_check: '127.0.0.1:{port}', ");
        std::fs::write(&file, std::fs::read_to_string(&file)?.replace("proxy: { ", &wanted))?;
        checks.push(port);
    }
    cluster.start_all().await?;
    let Some(haproxy) = Haproxy::printed(&cluster, &checks)? else { return Ok(()) };
    let ask = |port: u16| async move {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("tester").password(PASSWORD).dbname("postgres");
        config.connect_timeout(Duration::from_secs(2));
        let client = session(&config).await?;
        let row = client.query_one("SELECT current_setting('port')", &[]).await?;
        Ok::<String, anyhow::Error>(row.get(0))
    };
    let leads_to = |cluster: &Cluster, leader: usize| {
        let (wanted, write, read) =
            (cluster.members[leader].pg_port.to_string(), haproxy.write, haproxy.read);
        async move {
            wait_for("HAProxy leads where it should", Duration::from_secs(20), || async {
                let (writes, reads) = (ask(write).await?, ask(read).await?);
                ensure!(writes == wanted, "writes go to {writes}, {wanted} leads");
                ensure!(reads != wanted, "reads go to the primary");
                Ok(())
            })
            .await
        }
    };
    let first = cluster.leader().await?;
    leads_to(&cluster, first).await?;
    cluster.members[first].kill_node();
    let second = cluster.other_leader(first, Duration::from_secs(30)).await?;
    leads_to(&cluster, second).await?;
    cluster.start(first)?;
    cluster.settle(SETTLE).await?;
    cluster.switchover(&cluster.members[first].name).await?;
    leads_to(&cluster, first).await
}

/// What one process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    resident_kb: u64,
}

fn held(pid: i32) -> Result<Held> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let resident_kb = resident.split_whitespace().next().context("a number")?.parse()?;
    Ok(Held { descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(), resident_kb })
}

/// Growth that is a buffer's or an allocator's, and not a leak.
const SPARE_DESCRIPTORS: usize = 8;
const SPARE_KB: u64 = 48 << 10;

#[tokio::test]
async fn a_storm_of_connections_at_a_failover_leaves_nothing_behind() -> Result<()> {
    let mut cluster = Cluster::new("doors-storm", Options::default())?;
    for member in &cluster.members {
        let file = member.dir.join("howdah.yml");
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, text.replace("max_connections: 40", "max_connections: 200"))?;
    }
    cluster.start_all().await?;
    let old = cluster.leader().await?;
    let doors: Vec<usize> = (0..3).filter(|index| *index != old).collect();
    let agents =
        doors.iter().map(|index| cluster.members[*index].agent()).collect::<Result<Vec<_>>>()?;
    let total = count("CONNECTIONS", 3_000)? as usize;
    let crowd = std::sync::Arc::new(tokio::sync::Semaphore::new(150));
    let mut clients = tokio::task::JoinSet::new();
    let (mut before, mut died) = (Vec::new(), false);
    let mut told = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..total {
        let permit = crowd.clone().acquire_owned().await?;
        let door = doors[number % doors.len()];
        let (config, member) = (through(&cluster, door), &cluster.members[door]);
        let raw = format!("{}:{}", member.host, member.write_port);
        clients.spawn(async move {
            let outcome = come(number, &config, &raw).await;
            drop(permit);
            outcome
        });
        // Warm, so that what is compared is not what a first client takes.
        if number == total / 10 {
            before = agents.iter().map(|pid| held(*pid)).collect::<Result<Vec<_>>>()?;
        }
        if number == total / 2 && !died {
            died = true;
            cluster.members[old].kill_node();
        }
        while let Some(done) = clients.try_join_next() {
            *told.entry(done?).or_default() += 1;
        }
    }
    while let Some(done) = clients.join_next().await {
        *told.entry(done?).or_default() += 1;
    }
    eprintln!("{total} connections: {told:?}");
    ensure!(told.keys().all(|what| KNOWN.contains(&what.as_str())), "{told:?}");
    let served = told.get("served").copied().unwrap_or_default();
    ensure!(served > total / 2, "{served} of {total} were served: {told:?}");
    wait_for("nothing is left of them", Duration::from_secs(30), || async {
        for (pid, before) in agents.iter().zip(&before) {
            let now = held(*pid)?;
            // What was there while clients came is not less than what is there without them.
            ensure!(
                now.descriptors <= before.descriptors + SPARE_DESCRIPTORS,
                "{now:?}, {before:?}"
            );
            ensure!(now.resident_kb <= before.resident_kb + SPARE_KB, "{now:?}, {before:?}");
        }
        Ok(())
    })
    .await?;
    let after = agents.iter().map(|pid| held(*pid)).collect::<Result<Vec<_>>>()?;
    eprintln!("before {before:?}, after {after:?}");
    cluster.start(old)?;
    cluster.settle(SETTLE).await?;
    cluster.check_logs()
}

/// What clients of such a storm may be told: served, cut with their primary, or a proper error.
const KNOWN: [&str; 7] =
    ["served", "said nothing", "cut", "57P01", "57P03", "53300", "garbage was answered"];

/// One client of the storm; every seventh does not speak the protocol, and every eleventh says nothing.
async fn come(number: usize, config: &tokio_postgres::Config, raw: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    if number.is_multiple_of(7) || number.is_multiple_of(11) {
        let Ok(mut stream) = tokio::net::TcpStream::connect(raw).await else {
            return "no connection".to_owned();
        };
        if number.is_multiple_of(7) {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer);
            return match tokio::time::timeout(Duration::from_secs(60), read).await {
                Err(_) => "garbage was kept".to_owned(),
                Ok(_) => "garbage was answered".to_owned(),
            };
        }
        return "said nothing".to_owned();
    }
    let code = |error: tokio_postgres::Error| match error.code() {
        Some(code) => code.code().to_owned(),
        None => "cut".to_owned(),
    };
    match session(config).await {
        Err(error) => code(error),
        Ok(client) => match client.query_one("SELECT 1", &[]).await {
            Err(error) => code(error),
            Ok(_) => "served".to_owned(),
        },
    }
}
