//! Machines with a systemd of their own, each of which runs one member by the unit file as it is shipped.
//!
//! As far as namespaces make a machine: processes, mounts, cgroups, names, and the network that the member was given.
//! `tests/fixtures/systemd/boot` makes it. Files lie where README and the unit say (`/usr/bin/howdah`, `/etc/howdah`,
//! `/var/lib/howdah`, `/var/lib/postgresql`), and outside below the member's directory.
//! Invariants: nothing is added to the unit but where its output goes and, where PostgreSQL's programs lie below the
//! tests' directory, that they are seen; the host's files, clock, modules and kernel variables are not touched.
//! Killed half way: the first process of the machine dies with its parent, and all others with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::Cluster;
use crate::ground::{Ground, wait_for};
use crate::member::{Member, Process, all_processes};
use crate::net;

/// What is shipped.
pub const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/howdah.service");
const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/systemd/boot");
/// How long a machine may take to come up.
const UP: Duration = Duration::from_secs(20);
/// Exit code of that where a machine cannot be made.
const CANNOT: i32 = 125;
/// Units that the shipped one names. Empty: whatever else a machine starts is not there.
const TARGETS: [&str; 5] = [
    "basic.target",
    "multi-user.target",
    "network-online.target",
    "shutdown.target",
    "sysinit.target",
];

/// One machine.
pub struct Booted {
    child: Child,
    /// Its first process, as seen from outside.
    init: i32,
    dir: PathBuf,
}

/// Whether there is a systemd to boot; told on stderr if not.
pub fn possible() -> bool {
    let there = Path::new("/lib/systemd/systemd").exists();
    if !there {
        eprintln!("SKIPPED: systemd is not installed");
    }
    there
}

/// Configures every member for a machine of its own.
///
/// # Errors
/// If files cannot be written.
pub fn prepare(cluster: &mut Cluster) -> Result<()> {
    for member in &mut cluster.members {
        let lib = place(member).join("lib");
        member.data = lib.join("postgresql/main");
        member.raft = lib.join("howdah/raft");
    }
    cluster.configure()?;
    cluster.members.iter().try_for_each(|member| lay_out(member, &cluster.ground))
}

fn place(member: &Member) -> PathBuf {
    member.dir.join("machine")
}

/// The files of one machine.
fn lay_out(member: &Member, ground: &Ground) -> Result<()> {
    let dir = place(member);
    let (units, etc, lib) = (dir.join("units"), dir.join("etc"), dir.join("lib"));
    for made in [&units.join("howdah.service.d"), &etc, &lib.join("postgresql"), &lib.join("other")]
    {
        fs::create_dir_all(made)?;
    }
    fs::copy(&ground.howdah, dir.join("howdah"))?;
    let tls = member.dir.join("tls");
    copy(&tls, &etc.join("tls"))?;
    let text = fs::read_to_string(member.dir.join("howdah.yml"))?;
    let text = text.replace(&*lib.to_string_lossy(), "/var/lib");
    let yaml = etc.join("howdah.yml");
    fs::write(&yaml, text.replace(&*tls.to_string_lossy(), "/etc/howdah/tls"))?;
    if let Some((uid, gid)) = ground.user {
        for owned in [lib.join("postgresql"), lib.join("other"), etc, yaml] {
            chown(owned, Some(uid), Some(gid))?;
        }
    }
    fs::copy(UNIT, units.join("howdah.service"))?;
    let mut beside = format!("[Service]\nStandardOutput=append:{}\n", dir.join("log").display());
    let root = ground.dir.parent().context("a directory of all tests")?;
    if ground.bin_dir.starts_with(root) {
        beside += &format!("BindReadOnlyPaths={}\n", root.display());
    }
    fs::write(units.join("howdah.service.d/test.conf"), beside)?;
    for target in TARGETS {
        let text = format!("[Unit]\nDescription={target} of a test\nDefaultDependencies=no\n");
        fs::write(units.join(target), text)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(done.success(), "cp -a {} {}: {done}", from.display(), to.display());
    Ok(())
}

impl Booted {
    /// Boots a member's machine; nothing of howdah is started yet. None, told on stderr, where that cannot be done.
    ///
    /// # Errors
    /// If it can, and systemd does not come up.
    pub async fn up(member: &Member, ground: &Ground) -> Result<Option<Self>> {
        let (dir, root) = (place(member), ground.dir.parent().context("a root")?);
        let said = dir.join("boot.log");
        let mut command = net::command(member.netns.as_deref(), BOOT);
        command.arg(&dir).arg(root).stdin(Stdio::null());
        command.stdout(File::create(&said)?).stderr(File::options().append(true).open(&said)?);
        let mut booted = Self { child: command.spawn().context("boot")?, init: 0, dir };
        let deadline = Instant::now() + UP;
        while Instant::now() < deadline {
            if let Some(status) = booted.child.try_wait()? {
                let said = fs::read_to_string(&said)?;
                ensure!(status.code() == Some(CANNOT), "no machine: {status}: {said}");
                eprintln!("SKIPPED: no machine can be made here: {}", said.trim());
                return Ok(None);
            }
            booted.init = booted.first_process();
            if booted.init != 0 && booted.systemctl(&["is-active", "multi-user.target"]).is_ok() {
                return Ok(Some(booted));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("systemd did not come up within {UP:?}: {}", fs::read_to_string(&said)?)
    }

    fn first_process(&self) -> i32 {
        let parent = self.child.id().cast_signed();
        let all = all_processes();
        all.iter().find(|one| one.parent == parent).map_or(0, |one| one.pid)
    }

    /// systemctl on this machine; what it prints.
    ///
    /// # Errors
    /// What it says.
    pub fn systemctl(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--target", &self.init.to_string(), "--", "systemctl"]);
        let output = command.args(words).output().context("nsenter")?;
        let (told, failed) = (
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        );
        ensure!(output.status.success(), "systemctl {}: {told} {failed}", words.join(" "));
        Ok(told)
    }

    /// What systemd says of the unit.
    ///
    /// # Errors
    /// What systemctl says.
    pub fn property(&self, name: &str) -> Result<String> {
        self.systemctl(&["show", "--value", "--property", name, "howdah"])
    }

    /// Waits until the unit's property is this.
    ///
    /// # Errors
    /// What it is when `limit` has passed.
    pub async fn until(&self, name: &str, wanted: &str, limit: Duration) -> Result<()> {
        wait_for(&format!("{name} is {wanted}"), limit, || async {
            let is = self.property(name)?;
            ensure!(is == wanted, "it is {is}; the log ends: {}", self.last_lines());
            Ok(())
        })
        .await
    }

    /// Processes of the unit.
    pub fn processes(&self) -> Vec<Process> {
        let all = all_processes();
        let mut below = vec![self.init];
        let mut found = Vec::new();
        while let Some(parent) = below.pop() {
            for process in all.iter().filter(|one| one.parent == parent) {
                below.push(process.pid);
                found.push(process.clone());
            }
        }
        found
    }

    /// What the unit wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The end of that, for whoever looks into a failure.
    pub fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Its first process dies with it, and everything with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let Ok(cgroup) = fs::read_to_string(self.dir.join("cgroup")) else { return };
        for _ in 0..50 {
            if remove_cgroup(Path::new(cgroup.trim())) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// With all below it; false while a process is in one.
fn remove_cgroup(dir: &Path) -> bool {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}

/// The shipped unit's settings, the last value of each.
///
/// # Errors
/// If it cannot be read.
pub fn settings() -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(UNIT)?;
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// A process's line in /proc/PID/status.
///
/// # Errors
/// If it is gone, or has no such line.
pub fn status_line(pid: i32, name: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.with_context(|| format!("{pid} has no {name}"))?.trim().to_owned())
}
