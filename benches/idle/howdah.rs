//! Three idle members of howdah: its own demo, release build.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Deserializer, Value};

use crate::process::{self, Groups};
use crate::{Node, SETTLE};

/// Ends the demo, which stops its members, however the measurement ends.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // It may have ended already: then there is nothing to stop.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.0.wait();
    }
}

/// The release build beside this benchmark, or what `HOWDAH_BENCH_BINARY` names.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOWDAH_BENCH_BINARY") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    let folder = this.parent().and_then(|deps| deps.parent()).context("where this program lies")?;
    let path = folder.join("howdah");
    ensure!(path.exists(), "{} is missing: cargo build --release -p howdah-cli", path.display());
    Ok(path)
}

pub(crate) fn measure(time: Duration) -> Result<Vec<Node>> {
    let binary = binary()?;
    let mut child = Command::new(&binary)
        .args(["demo", "-o", "json"])
        // Members refuse words of theirs that they do not know.
        .env_remove("HOWDAH_BENCH_BINARY")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", binary.display()))?;
    let out = child.stdout.take().context("the demo's output")?;
    let demo = Demo(child);
    // It prints one document when the cluster is whole, and ends only when it is asked to.
    let access: Value = first_document(out)?;
    let endpoint = access["endpoint"].as_str().context("no endpoint")?.to_owned();
    std::thread::sleep(SETTLE);

    let table = process::all();
    let root = i32::try_from(demo.0.id())?;
    let mut groups: Groups<(String, &'static str)> = Groups::new();
    let mut logs = Vec::new();
    for member in access["members"].as_array().context("no members")? {
        let name = member["name"].as_str().context("no name")?.to_owned();
        let config = member["config"].as_str().context("no config")?;
        let log = PathBuf::from(member["log"].as_str().context("no log")?);
        let of_member =
            |p: &&process::Process| p.parent == root && p.command.iter().any(|word| word == config);
        let guard =
            table.iter().find(of_member).with_context(|| format!("no guard of {name}"))?.pid;
        let child = |word: &str| {
            table.iter().find(|p| p.parent == guard && p.command.iter().any(|w| w == word))
        };
        let agent = child("agent").with_context(|| format!("no agent of {name}"))?.pid;
        let server = table.iter().find(|p| p.parent == guard && p.pid != agent);
        let server = server.with_context(|| format!("no server of {name}"))?.pid;
        groups.insert((name.clone(), "agent"), vec![agent]);
        groups.insert((name.clone(), "guard"), vec![guard]);
        groups.insert((name.clone(), "postgres"), process::tree(&table, server));
        logs.push((name, log));
    }
    let before = logs.iter().map(|(_, log)| lines(log)).collect::<Result<Vec<_>>>()?;
    let usage = process::watch(&groups, time)?;
    let roles = roles(&binary, &endpoint)?;
    let mut nodes = Vec::new();
    for ((name, log), before) in logs.iter().zip(before) {
        let of = |part: &'static str| usage.get(&(name.clone(), part)).copied().unwrap_or_default();
        let written = lines(log)?.saturating_sub(before);
        nodes.push(Node {
            role: roles.get(name).cloned().unwrap_or_default(),
            name: name.clone(),
            parts: vec![("agent", of("agent")), ("guard", of("guard"))],
            postgres: of("postgres"),
            log_lines_per_minute: Some(written as f64 / time.as_secs_f64() * 60.0),
        });
    }
    drop(demo);
    Ok(nodes)
}

fn first_document(out: impl Read) -> Result<Value> {
    let mut documents = Deserializer::from_reader(out).into_iter::<Value>();
    match documents.next() {
        Some(document) => document.context("what the demo printed is not JSON"),
        None => bail!("the demo ended without a word; run it by hand: howdah demo"),
    }
}

/// Lines of a member's log, which is at INFO. PostgreSQL's own lies in its data directory.
fn lines(log: &PathBuf) -> Result<usize> {
    let text = std::fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    Ok(text.lines().count())
}

/// Who is what by now.
fn roles(binary: &PathBuf, endpoint: &str) -> Result<BTreeMap<String, String>> {
    let output = Command::new(binary)
        .args(["list", "-o", "json", "--endpoint", endpoint])
        .output()
        .context("run howdah list")?;
    let status: Value = serde_json::from_slice(&output.stdout).context("howdah list")?;
    let members = status["members"].as_array().context("howdah list printed no members")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(members.iter().map(|member| (text(&member["name"]), text(&member["role"]))).collect())
}
