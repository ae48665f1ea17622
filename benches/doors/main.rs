//! What a door costs beside what people put there today: `make doors`, ten minutes on a quiet
//! machine.
//!
//! One cluster (release build), its leader's PostgreSQL reached in turns directly, through howdah's door,
//! through HAProxy in TCP mode and through PgBouncer (transactions), by the same pgbench: reads and
//! TPC-B-like, with 1, 8 and 64 clients. Told are the medians of transactions a second, of all runs of a cell, and
//! what the process in between used of a processor for each transaction. Ends with 1 if the door has less
//! than 0.95 of HAProxy's transactions in a cell, or not more than it in most, or uses more than 1.05 of its
//! processor.
//!
//! `DOOR_RUNS` (5) and `DOOR_SECONDS` (5) set how often, and for how long each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use howdah_benches::demo::{self, Demo};
use howdah_benches::{newest_bin, process};

const CLIENTS: [u32; 3] = [1, 8, 64];
const LEAST_TPS: f64 = 0.95;
const MOST_CPU: f64 = 1.05;

/// The ways to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Direct,
    Door,
    Haproxy,
    Pgbouncer,
}

const WAYS: [Way; 4] = [Way::Direct, Way::Door, Way::Haproxy, Way::Pgbouncer];

/// What pgbench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Reads,
    TpcB,
}

/// One run.
#[derive(Clone, Copy, Debug)]
struct Run {
    tps: f64,
    cpu_us: f64,
}

type Cell = (Work, u32, Way);

fn main() -> Result<ExitCode> {
    // `cargo test --benches` would start it with --test: there is nothing to test here.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(ExitCode::SUCCESS);
    }
    let (runs, seconds) = (number("DOOR_RUNS", 5)?, number("DOOR_SECONDS", 5)?);
    let dir = tempfile::Builder::new().prefix("doors-").tempdir_in("/var/tmp")?;
    let demo = Demo::start(&[])?;
    let stage = Stage::new(&demo, dir.path())?;
    stage.pgbench(Way::Direct, &["-i", "-q", "-s", "10", "demo"])?;
    let mut cells: BTreeMap<Cell, Vec<Run>> = BTreeMap::new();
    for run in 0..runs {
        for work in [Work::Reads, Work::TpcB] {
            for clients in CLIENTS {
                for turn in 0..WAYS.len() {
                    // Who comes first changes, so that nobody gains by it.
                    let way = WAYS[(turn + run as usize) % WAYS.len()];
                    let done = stage.run(work, clients, way, seconds)?;
                    cells.entry((work, clients, way)).or_default().push(done);
                }
            }
        }
    }
    let held = report(&cells);
    println!("{}", if held { "held" } else { "NOT held" });
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is no number")),
        Err(_) => Ok(default),
    }
}

/// The table, and whether the limits hold.
fn report(cells: &BTreeMap<Cell, Vec<Run>>) -> bool {
    let (mut held, mut ahead, mut all) = (true, 0, 0);
    println!(
        "{:8} {:>7} {:>9} {:>9} {:>9} {:>9} {:>7}   us of processor a transaction",
        "work", "clients", "direct", "door", "HAProxy", "PgBouncer", "ratio"
    );
    for work in [Work::Reads, Work::TpcB] {
        for clients in CLIENTS {
            let median = |way: Way, of: fn(&Run) -> f64| {
                let mut values: Vec<f64> = cells
                    .get(&(work, clients, way))
                    .map(|runs| runs.iter().map(of).collect())
                    .unwrap_or_default();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or_default()
            };
            let tps = WAYS.map(|way| median(way, |run| run.tps));
            let cpu = WAYS.map(|way| median(way, |run| run.cpu_us));
            let (tps_ratio, cpu_ratio) = (tps[1] / tps[2], cpu[1] / cpu[2]);
            println!(
                "{:8} {clients:>7} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {tps_ratio:>7.3}   door {:.1}, \
                 HAProxy {:.1}, PgBouncer {:.1}; ratio {cpu_ratio:.3}",
                format!("{work:?}"),
                tps[0],
                tps[1],
                tps[2],
                tps[3],
                cpu[1],
                cpu[2],
                cpu[3]
            );
            held &= tps_ratio >= LEAST_TPS && cpu_ratio <= MOST_CPU;
            ahead += usize::from(tps_ratio > 1.0);
            all += 1;
        }
    }
    println!("the door is ahead of HAProxy in {ahead} of {all} cells");
    held && ahead * 2 > all
}

/// Everything that stands between clients and the primary.
struct Stage {
    pgbench: PathBuf,
    passfile: PathBuf,
    ports: BTreeMap<Way, u16>,
    /// The processes in between.
    pids: BTreeMap<Way, i32>,
    children: Vec<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stage {
    fn new(demo: &Demo, dir: &Path) -> Result<Self> {
        let status = demo.ask(&["list"])?;
        let leader = status["leader"].as_str().context("no leader")?.to_owned();
        let members = status["members"].as_array().context("no members")?;
        let number = members.iter().position(|member| member["name"] == leader.as_str());
        let number = number.context("no leader")?;
        let host = members[number]["host"].as_str().context("no address")?;
        let postgres: u16 = host.rsplit_once(':').context("no port")?.1.parse()?;
        let dsn = demo.access["write_dsn"].as_str().context("no doors")?;
        let ports = dsn.split("port=").nth(1).context("no ports")?;
        let ports = ports.split(' ').next().context("no ports")?.split(',');
        let door: u16 = ports.collect::<Vec<_>>()[number].parse()?;
        let (haproxy, pgbouncer) = (door + 300, door + 310);
        // Passwords by port; these two ports are none of the demo's.
        let known = dsn.split("passfile=").nth(1).context("no password file")?;
        let known = std::fs::read_to_string(known)?;
        let password = known.lines().next().and_then(|line| line.rsplit(':').next());
        let password = password.context("no password")?;
        let passfile = dir.join("pgpass");
        write_private(&passfile, &format!("*:*:*:demo:{password}\n"))?;
        let agent = demo.members(&demo::table())?.into_iter().find(|m| m.name == leader);
        let agent = agent.context("the leader's agent is not found")?.agent;
        let mut children = vec![
            start_haproxy(dir, haproxy, postgres)?,
            start_pgbouncer(dir, pgbouncer, postgres, password)?,
        ];
        let pid = |child: &Child| i32::try_from(child.id());
        let pids = BTreeMap::from([
            (Way::Door, agent),
            (Way::Haproxy, pid(&children[0])?),
            (Way::Pgbouncer, pid(&children[1])?),
        ]);
        for port in [door, haproxy, pgbouncer] {
            if let Err(why) = until_open(port) {
                for child in &mut children {
                    let _ = child.kill();
                }
                return Err(why);
            }
        }
        Ok(Self {
            pgbench: newest_bin()?.join("pgbench"),
            passfile,
            ports: BTreeMap::from([
                (Way::Direct, postgres),
                (Way::Door, door),
                (Way::Haproxy, haproxy),
                (Way::Pgbouncer, pgbouncer),
            ]),
            pids,
            children,
        })
    }

    fn pgbench(&self, way: Way, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.pgbench)
            .args(["-h", "127.0.0.1", "-p", &self.ports[&way].to_string(), "-U", "demo"])
            .args(words)
            .env("PGPASSFILE", &self.passfile)
            .stdin(Stdio::null())
            .output()
            .context("run pgbench")?;
        ensure!(output.status.success(), "{way:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn run(&self, work: Work, clients: u32, way: Way, seconds: u64) -> Result<Run> {
        let (clients, time) = (clients.to_string(), seconds.to_string());
        let script = match work {
            Work::Reads => "select-only",
            Work::TpcB => "tpcb-like",
        };
        let used = || self.pids.get(&way).map_or(Some(Duration::ZERO), |pid| process::cpu(*pid));
        let before = used().context("what is in between has ended")?;
        let told = self.pgbench(
            way,
            &["-n", "-M", "simple", "-b", script, "-c", &clients, "-j", "2", "-T", &time, "demo"],
        )?;
        let after = used().context("what is in between has ended")?;
        let line = |of: &str| -> Result<f64> {
            let found = told.lines().find_map(|line| line.strip_prefix(of));
            let word = found.and_then(|rest| rest.split_whitespace().next());
            Ok(word.with_context(|| format!("no `{of}` in {told}"))?.parse()?)
        };
        let transactions = line("number of transactions actually processed: ")?;
        let cpu = (after - before).as_secs_f64();
        Ok(Run { tps: line("tps = ")?, cpu_us: cpu * 1e6 / transactions.max(1.0) })
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(file?.write_all(text.as_bytes())?)
}

fn start_haproxy(dir: &Path, port: u16, postgres: u16) -> Result<Child> {
    let threads = std::thread::available_parallelism()?.get().min(4);
    let file = dir.join("haproxy.cfg");
    std::fs::write(
        &file,
        format!(
            "global\n    maxconn 4096\n    nbthread {threads}\ndefaults\n    mode tcp\n    \
             timeout connect 4s\n    timeout client 30m\n    timeout server 30m\n\
             listen primary\n    bind 127.0.0.1:{port}\n    server primary 127.0.0.1:{postgres}\n"
        ),
    )?;
    let mut command = Command::new("/usr/sbin/haproxy");
    command.args(["-db", "-f"]).arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("start haproxy; `tools/needs haproxy`")
}

fn start_pgbouncer(dir: &Path, port: u16, postgres: u16, password: &str) -> Result<Child> {
    let (file, users) = (dir.join("pgbouncer.ini"), dir.join("users.txt"));
    write_private(&users, &format!("\"demo\" \"{password}\"\n"))?;
    std::fs::write(
        &file,
        format!(
            "[databases]\n* = host=127.0.0.1 port={postgres}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 64\nmax_client_conn = 1000\n",
            users.display()
        ),
    )?;
    let mut command = Command::new("/usr/sbin/pgbouncer");
    // It refuses to run as root.
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        let user = nix::unistd::User::from_name("postgres")?.context("no user postgres")?;
        let (uid, gid) = (user.uid, user.gid);
        for path in [dir, &users, &file] {
            nix::unistd::chown(path, Some(uid), Some(gid))?;
        }
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("start pgbouncer; `tools/needs pgbouncer`")
}

fn until_open(port: u16) -> Result<()> {
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("nobody listens on port {port}")
}
