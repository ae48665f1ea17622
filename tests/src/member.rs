//! One member: its configuration file, its processes, its PostgreSQL.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use howdah_locks::files::CA_KEY;
use howdah_locks::{Role, files};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Options;
use crate::ground::Ground;
use crate::keys;
use crate::net;
use crate::rest;

/// One member of a test's cluster.
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its directory: `howdah.yml`, logs, and `data` and `raft` unless those are elsewhere.
    pub dir: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Where its replicated log lies.
    pub raft: PathBuf,
    /// Further PostgreSQL parameters, YAML lines.
    pub parameters: String,
    /// Its address.
    pub host: String,
    /// PostgreSQL's port.
    pub pg_port: u16,
    /// gRPC's port.
    pub control_port: u16,
    /// REST's port.
    pub rest_port: u16,
    /// Its door for writes.
    pub write_port: u16,
    /// Its door for reads.
    pub read_port: u16,
    /// Network namespace that it runs in.
    pub netns: Option<String>,
    /// Environment of its own, beside that of all members.
    pub env: BTreeMap<String, String>,
    ground: Ground,
    child: Option<Child>,
    starts: u32,
}

/// A process, as /proc shows it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its command line or title.
    pub title: String,
}

impl Member {
    /// A member that was never started.
    pub fn new(ground: &Ground, name: &str, host: &str, index: u16) -> Self {
        Self {
            name: name.to_owned(),
            dir: ground.dir.join(name),
            data: ground.dir.join(name).join("data"),
            raft: ground.dir.join(name).join("raft"),
            parameters: String::new(),
            host: host.to_owned(),
            pg_port: ground.port + index,
            control_port: ground.port + 10 + index,
            rest_port: ground.port + 20 + index,
            write_port: ground.port + 40 + index,
            read_port: ground.port + 50 + index,
            netns: None,
            env: BTreeMap::new(),
            ground: ground.clone(),
            child: None,
            starts: 0,
        }
    }

    /// HOST:PORT of its gRPC services.
    pub fn control(&self) -> String {
        format!("{}:{}", self.host, self.control_port)
    }

    /// Whether nobody listens where it would: what an earlier life of it left has ended.
    ///
    /// # Errors
    /// Where somebody does.
    pub fn is_gone(&self) -> Result<()> {
        for port in [self.control_port, self.pg_port] {
            let address = format!("{}:{port}", self.host);
            let parsed = address.parse().context("an address")?;
            let connected = TcpStream::connect_timeout(&parsed, Duration::from_millis(300));
            ensure!(connected.is_err(), "somebody listens on {address}");
        }
        Ok(())
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data.clone()
    }

    /// Writes its configuration.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&self, partners: &[String], options: &Options) -> Result<()> {
        let tls = self.dir.join("tls");
        // It may have moved into a network since.
        if !keys::covers(&tls, &self.host) {
            let ca = keys::authority(&self.ground.dir)?;
            keys::issue(&ca, Role::Member, &self.name, &[&self.host], &tls, self.ground.user)?;
            let password = tls.join("rest.password");
            files::write(&password, rest::PASSWORD, 0o600)?;
            if let Some((uid, gid)) = self.ground.user {
                std::os::unix::fs::chown(&password, Some(uid), Some(gid))?;
            }
        }
        let Options { ttl, extra, dcs, doors, rest: more, .. } = options;
        fs::create_dir_all(&self.dir)?;
        let ca_key = tls.join(CA_KEY);
        let renews = match ca_key.exists() {
            true => format!(", ca_key: {}", ca_key.display()),
            false => String::new(),
        };
        let profile = if *ttl < 5 { "fast" } else { "default" };
        let partners = partners.join(", ");
        let text = format!(
            "scope: test\nname: {name}\nprofile: {profile}\nstop_timeout: 20\n\
             tls: {{ ca: {tls}/ca.crt, cert: {tls}/tls.crt, key: {tls}/tls.key{renews} }}\n\
             raft:\n  data_dir: {raft}\n  self_addr: {host}:{control}\n  \
             bind_addr: {host}:{control}\n  partner_addrs: [{partners}]\n\
             restapi:\n  {{ listen: '{host}:{rest}', connect_address: '{host}:{rest}', authentication:\n    {{ username: {user}, password_file: {tls}/rest.password }}{more} }}\n\
             proxy: {{ read_write: '{host}:{write}', read_only: '{host}:{read}', threads: 1{doors} }}\n\
             postgresql:\n  listen: {host}:{pg}\n  connect_address: {host}:{pg}\n  \
             data_dir: {data}\n  bin_dir: {bin}\n  parameters:\n    shared_buffers: 16MB\n    \
             max_connections: 40\n{parameters}\
             bootstrap:\n  dcs: {{ ttl: {ttl}{dcs} }}\n  pg_hba:\n    - host all tester {net} scram-sha-256\n\
             {extra}",
            name = self.name,
            tls = tls.display(),
            data = self.data.display(),
            raft = self.raft.display(),
            parameters = self.parameters,
            host = self.host,
            control = self.control_port,
            rest = self.rest_port,
            user = rest::USER,
            write = self.write_port,
            read = self.read_port,
            pg = self.pg_port,
            bin = self.ground.bin_dir.display(),
            net = if self.netns.is_some() { "10.77.0.0/16" } else { "127.0.0.1/32" },
        );
        fs::write(self.dir.join("howdah.yml"), text)?;
        if let Some((uid, gid)) = self.ground.user {
            std::os::unix::fs::chown(&self.dir, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Starts `howdah run`; its log is kept per start.
    ///
    /// # Errors
    /// If it cannot be spawned.
    pub fn start(&mut self, flags: &[&str], env: &BTreeMap<String, String>) -> Result<()> {
        self.starts += 1;
        let log = File::create(self.dir.join(format!("howdah.{}.log", self.starts)))?;
        let mut command = net::command(self.netns.as_deref(), &self.ground.howdah);
        command.arg("run").arg("-c").arg(self.dir.join("howdah.yml")).args(flags);
        command.envs(env).envs(&self.env).env(
            "HOWDAH_LOG",
            "info,howdah_agent=debug,howdah_consensus=debug,howdah_postgres=debug,openraft=error",
        );
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("spawn {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Process id of its guard.
    ///
    /// # Errors
    /// If it does not run.
    pub fn guard(&self) -> Result<i32> {
        let child = self.child.as_ref().with_context(|| format!("{} is not started", self.name))?;
        Ok(i32::try_from(child.id())?)
    }

    /// Whether its guard still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Copies its raft directory as it is, owners and all. Only while it does not run.
    ///
    /// # Errors
    /// What cp says.
    pub fn copy_raft(&self, to: &Path) -> Result<()> {
        copy(&self.raft, to)
    }

    /// Puts such a copy in the place of what it has.
    ///
    /// # Errors
    /// What cannot be removed or copied.
    pub fn put_raft_back(&self, from: &Path) -> Result<()> {
        fs::remove_dir_all(&self.raft)?;
        copy(from, &self.raft)
    }

    /// Waits until its guard ends; its exit code.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<Option<i32>> {
        let name = self.name.clone();
        let child = self.child.as_mut().context("not started")?;
        let deadline = std::time::Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.code());
            }
            if std::time::Instant::now() >= deadline {
                bail!("{name} did not end within {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All processes below its guard, the guard first.
    pub fn processes(&self) -> Vec<Process> {
        let Ok(guard) = self.guard() else { return Vec::new() };
        let all = all_processes();
        let mut below: Vec<Process> = all.iter().filter(|p| p.pid == guard).cloned().collect();
        let mut next = 0;
        while next < below.len() {
            let parent = below[next].pid;
            below.extend(all.iter().filter(|p| p.parent == parent).cloned());
            next += 1;
        }
        below
    }

    /// Whether this process works in its directories: a backend, or a tool that copies into them.
    fn is_at_home(&self, process: &Process) -> bool {
        let homes = [&self.dir, &self.data];
        let at = fs::read_link(format!("/proc/{}/cwd", process.pid)).unwrap_or_default();
        let tool = self.ground.bin_dir.join("pg_");
        let copies = process.title.starts_with(&*tool.to_string_lossy())
            && homes.iter().any(|home| process.title.contains(&*home.to_string_lossy()));
        copies || homes.iter().any(|home| at.starts_with(home))
    }

    /// Process id of its agent.
    ///
    /// # Errors
    /// If it does not run.
    pub fn agent(&self) -> Result<i32> {
        let guard = self.guard()?;
        let found = self
            .processes()
            .into_iter()
            .find(|p| p.parent == guard && p.title.split('\0').any(|word| word == "agent"));
        Ok(found.with_context(|| format!("{} has no agent", self.name))?.pid)
    }

    /// Process id of its postmaster.
    ///
    /// # Errors
    /// If it does not run.
    pub fn postmaster(&self) -> Result<i32> {
        let guard = self.guard()?;
        let found = self.processes().into_iter().find(|p| {
            let program = p.title.split('\0').next().unwrap_or_default();
            p.parent == guard && program.ends_with("postgres")
        });
        Ok(found.with_context(|| format!("{} has no postmaster", self.name))?.pid)
    }

    /// Process id of its PostgreSQL's walreceiver.
    ///
    /// # Errors
    /// If there is none.
    pub fn walreceiver(&self) -> Result<i32> {
        let found = self.processes().into_iter().find(|p| p.title.contains("walreceiver"));
        Ok(found.with_context(|| format!("{} has no walreceiver", self.name))?.pid)
    }

    /// kill -9 of everything of this member, and reaps it.
    pub fn kill_node(&mut self) {
        for _ in 0..50 {
            // Whose parent died first is nobody's child, and works on in its directory.
            let mut processes = self.processes();
            processes.extend(all_processes().into_iter().filter(|p| self.is_at_home(p)));
            for process in &processes {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            if let Some(child) = &mut self.child {
                let _ = child.wait();
            }
            let left = processes.iter().filter(|p| alive(p.pid)).count();
            if left == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = None;
    }

    /// Sends a signal to one of its processes.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn signal(&self, pid: i32, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
    }

    /// All of its logs.
    pub fn log(&self) -> String {
        (1..=self.starts)
            .filter_map(|n| fs::read_to_string(self.dir.join(format!("howdah.{n}.log"))).ok())
            .collect()
    }

    /// Runs psql as the superuser over the local socket; its output.
    ///
    /// # Errors
    /// What psql says.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let output = self.psql_command(sql).output()?;
        if !output.status.success() {
            bail!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Starts and ends PostgreSQL in single-user mode, as a person might who mends something by
    /// hand: without howdah, and with these settings.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub fn start_by_hand(&self, settings: &[&str]) -> Result<()> {
        // PostgreSQL refuses that mode for a standby; whoever does this removes the file.
        let _ = fs::remove_file(self.data.join("standby.signal"));
        let mut command = Command::new(self.ground.bin_dir.join("postgres"));
        command.args(["--single", "-D"]).arg(&self.data);
        for setting in settings {
            command.args(["-c", setting]);
        }
        command.arg("postgres").stdin(Stdio::null()).current_dir("/");
        if let Some((uid, gid)) = self.ground.user {
            command.gid(gid).uid(uid);
        }
        let output = command.output()?;
        if !output.status.success() {
            bail!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// psql as above, not started yet.
    pub fn psql_command(&self, sql: &str) -> Command {
        let mut command = Command::new(self.ground.bin_dir.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        let mut sockets = self.data.clone().into_os_string();
        sockets.push(".sock");
        command.arg("-h").arg(sockets);
        command.args(["-p", &self.pg_port.to_string(), "-U", "postgres", "-d", "postgres"]);
        command.args(["-c", sql]).env("PGCONNECT_TIMEOUT", "3").current_dir("/");
        if let Some((uid, gid)) = self.ground.user {
            command.gid(gid).uid(uid);
        }
        command
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill_node();
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(done.success(), "cp -a {} {}: {done}", from.display(), to.display());
    Ok(())
}

fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// All processes of this machine that can be seen.
pub fn all_processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title).into_owned();
        Some(Process { pid, parent, title })
    })
    .collect()
}
