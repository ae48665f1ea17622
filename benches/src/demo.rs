//! Howdah's own demo as the ground of a measurement.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Deserializer, Value};

use crate::process::{self, Process};

/// A demo that runs. Dropped, it ends and stops its members, however the measurement ends.
pub struct Demo {
    child: Child,
    /// What it said of itself: `endpoint`, `dsn`, `members`.
    pub access: Value,
    /// The program.
    pub binary: PathBuf,
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended already: then there is nothing to stop.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.child.wait();
    }
}

/// One member's processes.
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its log.
    pub log: PathBuf,
    /// Its guard.
    pub guard: i32,
    /// Its agent.
    pub agent: i32,
    /// Its postmaster.
    pub postmaster: i32,
}

impl Demo {
    /// Starts one, with these words behind `demo`, and waits until the cluster is whole.
    ///
    /// # Errors
    /// If it does not become whole.
    pub fn start(words: &[&str]) -> Result<Self> {
        let binary = binary()?;
        let mut child = Command::new(&binary)
            .args(["demo", "-o", "json"])
            .args(words)
            // Members refuse words of theirs that they do not know.
            .env_remove("HOWDAH_BENCH_BINARY")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let out = child.stdout.take().context("the demo's output")?;
        let mut demo = Self { child, access: Value::Null, binary };
        // It prints one document when the cluster is whole, and ends only when it is asked to.
        demo.access = first_document(out)?;
        Ok(demo)
    }

    /// Addresses of the members, as `--endpoint` takes them.
    ///
    /// # Errors
    /// If it did not say.
    pub fn endpoint(&self) -> Result<&str> {
        self.access["endpoint"].as_str().context("no endpoint")
    }

    /// Processes of all members, as they are now.
    ///
    /// # Errors
    /// If one is missing.
    pub fn members(&self, table: &[Process]) -> Result<Vec<Member>> {
        let root = i32::try_from(self.child.id())?;
        let members = self.access["members"].as_array().context("no members")?;
        members.iter().map(|member| one(table, root, member)).collect()
    }

    /// What one of its commands prints as JSON.
    ///
    /// # Errors
    /// If it fails.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = Command::new(&self.binary)
            .args(words)
            .args(["-o", "json", "--endpoint", self.endpoint()?])
            .args(["--keys", self.access["keys"].as_str().context("no keys")?])
            .env_remove("HOWDAH_BENCH_BINARY")
            .output()
            .context("run howdah")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "howdah {}: {said}", words.join(" "));
        serde_json::from_slice(&output.stdout).with_context(|| format!("howdah {words:?}"))
    }
}

fn one(table: &[Process], root: i32, member: &Value) -> Result<Member> {
    let name = member["name"].as_str().context("no name")?.to_owned();
    let config = member["config"].as_str().context("no config")?;
    let log = PathBuf::from(member["log"].as_str().context("no log")?);
    let of_member = |p: &&Process| p.parent == root && p.command.iter().any(|word| word == config);
    let guard = table.iter().find(of_member).with_context(|| format!("no guard of {name}"))?.pid;
    let is_agent = |p: &&Process| p.parent == guard && p.command.iter().any(|w| w == "agent");
    let agent = table.iter().find(is_agent).with_context(|| format!("no agent of {name}"))?.pid;
    let server = table.iter().find(|p| p.parent == guard && p.pid != agent);
    let postmaster = server.with_context(|| format!("no server of {name}"))?.pid;
    Ok(Member { name, log, guard, agent, postmaster })
}

/// All processes now.
pub fn table() -> Vec<Process> {
    process::all()
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

fn first_document(out: impl Read) -> Result<Value> {
    let mut documents = Deserializer::from_reader(out).into_iter::<Value>();
    match documents.next() {
        Some(document) => document.context("what the demo printed is not JSON"),
        None => bail!("the demo ended without a word; run it by hand: howdah demo"),
    }
}
