//! Processes and what they use, from /proc. Reads only.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What one or more processes used, on average over the time of watching.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Proportional set size: shared pages are divided among those who share them. The greatest
    /// of all looks.
    pub pss_mib: f64,
    /// Share of one core.
    pub cpu_percent: f64,
    /// How often a thread went to sleep and was woken up: what idle processes spend their time on.
    pub wakeups_per_second: f64,
}

/// A process in one look at /proc.
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its command line.
    pub command: Vec<String>,
}

/// All processes.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some(Process {
            pid,
            parent: fields(pid)?.get(1)?.parse().ok()?,
            command: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        })
    })
    .collect()
}

/// A process and all below it.
pub fn tree(table: &[Process], root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(table.iter().filter(|p| p.parent == parent).map(|p| p.pid));
        next += 1;
    }
    found
}

/// Groups of processes to watch, each under a name.
pub type Groups<K> = BTreeMap<K, Vec<i32>>;

/// Watches groups of processes for so long; processes that come or go meanwhile below a group's
/// first one (its root) are counted by their time until the last look.
pub fn watch<K: Ord + Clone>(groups: &Groups<K>, time: Duration) -> Result<BTreeMap<K, Usage>> {
    let began = Instant::now();
    let spent = |pids: &[i32]| (cpu_seconds(pids), wakeups(pids));
    let before: BTreeMap<&K, (f64, f64)> =
        groups.iter().map(|(key, pids)| (key, spent(pids))).collect();
    let mut pss: BTreeMap<&K, f64> = BTreeMap::new();
    let look = (time / 60).max(Duration::from_secs(1));
    loop {
        for (key, pids) in groups {
            let now: f64 = pids.iter().filter_map(|pid| pss_mib(*pid)).sum();
            let most = pss.entry(key).or_default();
            *most = most.max(now);
        }
        let left = time.saturating_sub(began.elapsed());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(look));
    }
    let elapsed = began.elapsed().as_secs_f64();
    groups
        .iter()
        .map(|(key, pids)| {
            let (now, then) = (spent(pids), before.get(key).copied().unwrap_or_default());
            let first = pids.first().context("a group without processes")?;
            fields(*first)
                .with_context(|| format!("process {first} ended while it was watched"))?;
            let pss_mib = pss.get(key).copied().unwrap_or_default();
            let usage = Usage {
                pss_mib,
                cpu_percent: (now.0 - then.0) / elapsed * 100.0,
                wakeups_per_second: (now.1 - then.1) / elapsed,
            };
            Ok((key.clone(), usage))
        })
        .collect()
}

/// Own time and that of children that were waited for: what a postmaster's short-lived backends used is
/// in there.
fn cpu_seconds(pids: &[i32]) -> f64 {
    let ticks: u64 = pids
        .iter()
        .filter_map(|pid| {
            let fields = fields(*pid)?;
            let number = |nth: usize| fields.get(nth)?.parse::<u64>().ok();
            Some(number(11)? + number(12)? + number(13)? + number(14)?)
        })
        .sum();
    ticks as f64 / ticks_per_second()
}

/// Voluntary context switches of all threads so far.
fn wakeups(pids: &[i32]) -> f64 {
    let threads = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<f64>().ok()
    };
    threads.flatten().flatten().filter_map(of_thread).sum()
}

fn ticks_per_second() -> f64 {
    let asked = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    asked.ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

/// The fields of /proc/PID/stat behind the name, which may hold blanks: the state is the first.
fn fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Processor time that a process used so far, all its threads'; `None`: it has ended.
pub fn cpu(pid: i32) -> Option<Duration> {
    // utime and stime, fields 14 and 15 of all.
    let fields = fields(pid)?;
    let used: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(Duration::from_secs_f64(used / ticks_per_second()))
}

fn pss_mib(pid: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
