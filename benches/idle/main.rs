//! What a cluster costs that nobody uses: `make idle`, ten minutes on a quiet machine.
//!
//! Three members of howdah's demo (release build) stand idle; per node, the memory (PSS) and the
//! processor time of agent and guard are taken, the lines that they log at INFO or above counted, and the
//! memory and time of the server's own processes printed beside them. Where `etcd` and
//! `patroni` are installed, three nodes of those are measured in the same way afterwards, with
//! their packages' default timings. Ends with 1 if howdah is above a limit.
//!
//! `IDLE_SECONDS` (600) sets how long each of the two is watched.

mod howdah;
mod patroni;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use howdah_benches::process;

/// A young cluster has its first base backups and checkpoints behind it after this long.
const SETTLE: Duration = Duration::from_secs(20);

/// Limits per node: memory of agent and guard, share of one core, lines at INFO per minute.
const PSS_MOST_MIB: f64 = 50.0;
const CPU_MOST_PERCENT: f64 = 1.0;
const LINES_MOST_PER_MINUTE: f64 = 1.0;

/// One node after the time of watching.
struct Node {
    name: String,
    role: String,
    /// What rides beside PostgreSQL, by part: ("agent", usage), ("guard", usage), or etcd, patroni.
    parts: Vec<(&'static str, process::Usage)>,
    postgres: process::Usage,
    log_lines_per_minute: Option<f64>,
}

impl Node {
    fn pss_mib(&self) -> f64 {
        self.parts.iter().map(|(_, usage)| usage.pss_mib).sum()
    }

    fn cpu_percent(&self) -> f64 {
        self.parts.iter().map(|(_, usage)| usage.cpu_percent).sum()
    }

    fn wakeups_per_second(&self) -> f64 {
        self.parts.iter().map(|(_, usage)| usage.wakeups_per_second).sum()
    }

    fn print(&self) {
        let lines = self.log_lines_per_minute.map_or("-".to_owned(), |n| format!("{n:.2}"));
        println!(
            "  {:<4} {:<8} {:>8.1} {:>8.2} {:>12} {:>14.1} {:>12.2}",
            self.name,
            self.role,
            self.pss_mib(),
            self.cpu_percent(),
            lines,
            self.postgres.pss_mib,
            self.postgres.cpu_percent
        );
        for (part, usage) in &self.parts {
            let (pss, cpu, woken) = (usage.pss_mib, usage.cpu_percent, usage.wakeups_per_second);
            let each = if woken > 0.0 { cpu * 10_000.0 / woken } else { 0.0 };
            println!(
                "       {part:<8} {pss:>8.1} {cpu:>8.2}   woken {woken:.0} times a second, {each:.0} us each"
            );
        }
    }

    fn holds(&self) -> bool {
        self.pss_mib() <= PSS_MOST_MIB
            && self.cpu_percent() <= CPU_MOST_PERCENT
            && self.log_lines_per_minute.is_none_or(|lines| lines <= LINES_MOST_PER_MINUTE)
    }
}

fn print(title: &str, nodes: &[Node]) {
    println!("{title}");
    println!(
        "  {:<13} {:>8} {:>8} {:>12} {:>14} {:>12}",
        "node", "MiB", "CPU %", "lines/min", "PostgreSQL MiB", "its CPU %"
    );
    for node in nodes {
        node.print();
    }
}

fn mean(nodes: &[Node], value: impl Fn(&Node) -> f64) -> f64 {
    nodes.iter().map(value).sum::<f64>() / nodes.len().max(1) as f64
}

fn main() -> Result<ExitCode> {
    // `cargo test --benches` would start it with --test: there is nothing to test here.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(ExitCode::SUCCESS);
    }
    let seconds = match std::env::var("IDLE_SECONDS") {
        Ok(text) => text.parse().context("IDLE_SECONDS is not a number of seconds")?,
        Err(_) => 600,
    };
    let time = Duration::from_secs(seconds);
    let ours = howdah::measure(time)?;
    print(&format!("howdah, idle for {seconds} s, per node:"), &ours);
    match patroni::measure(time)? {
        Some(theirs) => {
            print("etcd and Patroni, the same, per node:", &theirs);
            println!(
                "memory: {:.2} of theirs; processor time: {:.2} of theirs",
                mean(&ours, Node::pss_mib) / mean(&theirs, Node::pss_mib),
                mean(&ours, Node::cpu_percent) / mean(&theirs, Node::cpu_percent)
            );
        }
        None => println!("etcd and patroni are not both installed: nothing to compare with"),
    }
    println!(
        "limits per node: {PSS_MOST_MIB} MiB, {CPU_MOST_PERCENT} % of a core, \
         {LINES_MOST_PER_MINUTE} line a minute"
    );
    let (cpu, woken) = (mean(&ours, Node::cpu_percent), mean(&ours, Node::wakeups_per_second));
    println!(
        "woken {woken:.0} times a second at a cost of {cpu:.2} %: at that price the limit allows {:.0}, \
         and half of what is used now {:.0}; docs/decisions/0006 says where they come from",
        woken * CPU_MOST_PERCENT / cpu,
        woken / 2.0
    );
    let held = ours.iter().all(Node::holds);
    println!("{}", if held { "held" } else { "NOT held" });
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
