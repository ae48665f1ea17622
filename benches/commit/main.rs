//! What howdah adds to a commit that waits for a standby: `make commit-latency`, seven minutes on a
//! quiet machine.
//!
//! Three members of the demo (release build) in quorum mode. The same clients write to the same servers
//! in turns: with howdah beside them as always, and with every process of howdah's stopped
//! (in maintenance mode, in which no guard has a deadline), so that PostgreSQL is bare, with the same
//! settings, the same disks and the same `synchronous_standby_names`. The ratio of the medians is told
//! with its 95 % bootstrap interval; ends with 1 if that does not lie below 1.05.
//!
//! `COMMIT_RUNS` (7) and `COMMIT_SECONDS` (30) set how often, and for how long each.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_benches::demo::{self, Demo};
use howdah_benches::newest_bin;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MOST: f64 = 1.05;
const RESAMPLES: usize = 10_000;
const SETTLE: Duration = Duration::from_secs(60);

fn main() -> Result<ExitCode> {
    // `cargo test --benches` would start it with --test: there is nothing to test here.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(ExitCode::SUCCESS);
    }
    let runs = number("COMMIT_RUNS", 7)?;
    let seconds = number("COMMIT_SECONDS", 30)?;
    let dir = tempfile::Builder::new().prefix("commit-").tempdir_in("/var/tmp")?;
    let demo = Demo::start(&["--synchronous-mode", "quorum"])?;
    let client = Client::new(&demo, dir.path())?;
    client.prepare()?;
    let (mut with, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        // Which comes first changes, so that neither gains by it.
        for howdah in if run % 2 == 0 { [false, true] } else { [true, false] } {
            let median =
                if howdah { client.median(seconds)? } else { alone(&demo, &client, seconds)? };
            println!("run {run}, {}: median {median} us", name(howdah));
            if howdah { &mut with } else { &mut bare }.push(median);
        }
    }
    let ratio = median_of(&with) / median_of(&bare);
    let (low, high) = interval(&with, &bare);
    println!(
        "commit in quorum mode: {:.0} us with howdah, {:.0} us bare; ratio {ratio:.3}, 95 % interval \
         {low:.3} to {high:.3}, wanted below {MOST}",
        median_of(&with),
        median_of(&bare)
    );
    let held = high < MOST;
    println!("{}", if held { "held" } else { "NOT held" });
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn name(howdah: bool) -> &'static str {
    if howdah { "with howdah" } else { "bare" }
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is no number")),
        Err(_) => Ok(default),
    }
}

/// The same with all of howdah stopped.
fn alone(demo: &Demo, client: &Client, seconds: u64) -> Result<u64> {
    demo.ask(&["pause"])?;
    let members = demo.members(&demo::table())?;
    let pids: Vec<i32> = members.iter().flat_map(|member| [member.agent, member.guard]).collect();
    for pid in &pids {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP)?;
    }
    let median = client.median(seconds);
    for pid in pids.iter().rev() {
        kill(Pid::from_raw(*pid), Signal::SIGCONT)?;
    }
    let began = Instant::now();
    // Raft may have to find its leader again.
    while let Err(why) = demo.ask(&["resume"]) {
        ensure!(began.elapsed() < SETTLE, "it does not resume: {why:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
    while !whole(demo)? {
        ensure!(began.elapsed() < SETTLE, "the cluster is not whole again");
        std::thread::sleep(Duration::from_millis(200));
    }
    median
}

/// Not paused, and both standbys waited for.
fn whole(demo: &Demo) -> Result<bool> {
    let status = demo.ask(&["list"])?;
    let members = status["members"].as_array().context("no members")?;
    let waited_for = members.iter().filter(|member| member["role"] == "Quorum Standby").count();
    Ok(status["paused"] != true && waited_for == 2)
}

/// pgbench as user `demo`.
struct Client {
    pgbench: PathBuf,
    psql: String,
    dir: PathBuf,
    passfile: String,
    port: String,
}

impl Client {
    fn new(demo: &Demo, dir: &Path) -> Result<Self> {
        let status = demo.ask(&["list"])?;
        let leader = status["leader"].as_str().context("no leader")?;
        let members = status["members"].as_array().context("no members")?;
        let member = members.iter().find(|member| member["name"] == leader).context("no leader")?;
        let host = member["host"].as_str().context("no address")?;
        let port = host.rsplit_once(':').context("no port")?.1.to_owned();
        let dsn = demo.access["dsn"].as_str().context("no way in")?.to_owned();
        let passfile = dsn.split("passfile=").nth(1).context("no password file")?.to_owned();
        let bin = newest_bin()?;
        let psql_program = bin.join("psql").display().to_string();
        Ok(Self {
            pgbench: bin.join("pgbench"),
            psql: psql_program,
            dir: dir.to_owned(),
            passfile,
            port,
        })
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port, "-U", "demo"]);
        command.env("PGPASSFILE", &self.passfile).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    fn prepare(&self) -> Result<()> {
        let sql = "CREATE TABLE commits (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())";
        let output =
            self.command(&self.psql).args(["-X", "-q", "-d", "demo", "-c", sql]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(self.dir.join("commit.sql"), "INSERT INTO commits DEFAULT VALUES;\n")?;
        Ok(())
    }

    /// Median latency of a commit over so many seconds, in microseconds.
    fn median(&self, seconds: u64) -> Result<u64> {
        for old in logs(&self.dir)? {
            std::fs::remove_file(old)?;
        }
        let time = seconds.to_string();
        let output = self
            .command(&self.pgbench)
            .args([
                "-n",
                "-c",
                "1",
                "-M",
                "prepared",
                "-T",
                &time,
                "-f",
                "commit.sql",
                "-l",
                "demo",
            ])
            .output()
            .context("run pgbench")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut latencies = Vec::new();
        for log in logs(&self.dir)? {
            for line in std::fs::read_to_string(log)?.lines() {
                latencies.extend(line.split(' ').nth(2).and_then(|us| us.parse::<u64>().ok()));
            }
        }
        ensure!(latencies.len() > 100, "only {} commits", latencies.len());
        latencies.sort_unstable();
        Ok(latencies[latencies.len() / 2])
    }
}

fn logs(dir: &Path) -> Result<Vec<PathBuf>> {
    let names = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path());
    Ok(names.filter(|path| path.to_string_lossy().contains("pgbench_log")).collect())
}

fn median_of(values: &[u64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle] as f64,
        _ => (sorted[middle - 1] + sorted[middle]) as f64 / 2.0,
    }
}

/// 95 % bootstrap interval of the ratio of medians.
fn interval(with: &[u64], bare: &[u64]) -> (f64, f64) {
    let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = |values: &[u64]| -> Vec<u64> {
        values
            .iter()
            .map(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                values[usize::try_from(dice >> 33).unwrap_or(0) % values.len()]
            })
            .collect()
    };
    let mut ratios: Vec<f64> =
        (0..RESAMPLES).map(|_| median_of(&draw(with)) / median_of(&draw(bare))).collect();
    ratios.sort_by(f64::total_cmp);
    (ratios[RESAMPLES * 25 / 1000], ratios[RESAMPLES * 975 / 1000])
}
