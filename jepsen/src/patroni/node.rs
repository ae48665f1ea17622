//! One node: an etcd, a Patroni, a PostgreSQL, in a network namespace.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use howdah_tests::member::{Process, all_processes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ports, the same on every node.
pub(super) const ETCD: u16 = 7001;
pub(super) const ETCD_PEER: u16 = 7002;
pub(super) const REST: u16 = 7003;
pub(super) const POSTGRES: u16 = 7432;

const SUPERUSER: &str = "storm-super";
const REPLICATION: &str = "storm-replication";

/// What all nodes are made of.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub etcd: PathBuf,
    pub patroni: PathBuf,
    pub bin_dir: PathBuf,
    /// The user that everything runs as.
    pub user: (u32, u32),
    /// Names and addresses of all nodes.
    pub nodes: Vec<(String, String)>,
    /// `synchronous_mode`: off, on or quorum.
    pub mode: String,
}

/// One node.
pub(super) struct Node {
    pub name: String,
    pub host: String,
    pub netns: String,
    dir: PathBuf,
    parts: Parts,
    etcd: Option<Child>,
    patroni: Option<Child>,
}

impl Node {
    /// Makes its directory and its configuration; starts nothing.
    pub fn new(parts: &Parts, number: usize, netns: String, dir: &Path) -> Result<Self> {
        let (name, host) = parts.nodes[number].clone();
        let dir = dir.join(&name);
        let node = Self { name, host, netns, dir, parts: parts.clone(), etcd: None, patroni: None };
        fs::create_dir_all(&node.dir)?;
        node.give(&node.dir, 0o700)?;
        let config = node.dir.join("patroni.yml");
        fs::write(&config, node.configuration())?;
        node.give(&config, 0o600)?;
        Ok(node)
    }

    fn give(&self, path: &Path, mode: u32) -> Result<()> {
        let (uid, gid) = self.parts.user;
        chown(path, Some(uid), Some(gid))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
    }

    /// The manual's example, its timings the documented defaults.
    fn configuration(&self) -> String {
        let hosts = self.parts.nodes.iter().map(|(_, host)| format!("{host}:{ETCD}"));
        let (hosts, dir) = (hosts.collect::<Vec<_>>().join(","), self.dir.display());
        let (mode, strict) = match self.parts.mode.as_str() {
            "off" => ("false", false),
            "on" => ("true", true),
            other => (other, true),
        };
        format!(
            "scope: storm
name: {name}
restapi: {{ listen: '0.0.0.0:{REST}', connect_address: '{host}:{REST}' }}
etcd3: {{ hosts: '{hosts}' }}
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1048576
    synchronous_mode: {mode}
    synchronous_mode_strict: {strict}
    postgresql: {{ use_pg_rewind: true, use_slots: true }}
  initdb: [ encoding: UTF8, data-checksums ]
postgresql:
  listen: '0.0.0.0:{POSTGRES}'
  connect_address: '{host}:{POSTGRES}'
  data_dir: {dir}/data
  bin_dir: {bin}
  pgpass: {dir}/pgpass
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 10.77.0.0/16 scram-sha-256
    - host all all 10.77.0.0/16 scram-sha-256
  authentication:
    superuser: {{ username: postgres, password: {SUPERUSER} }}
    replication: {{ username: replicator, password: {REPLICATION} }}
  parameters: {{ unix_socket_directories: '{dir}' }}
watchdog: {{ mode: automatic }}
",
            name = self.name,
            host = self.host,
            bin = self.parts.bin_dir.display(),
        )
    }

    fn command(&self, program: &Path, log: &str) -> Result<Command> {
        let file = File::options().create(true).append(true).open(self.dir.join(log))?;
        let mut command = Command::new("ip");
        let (uid, gid) = self.parts.user;
        command.args(["netns", "exec", &self.netns, "setpriv"]);
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        command.arg(program).current_dir("/").stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file).process_group(0);
        Ok(command)
    }

    pub fn start_etcd(&mut self) -> Result<()> {
        let all = self.parts.nodes.iter();
        let all: Vec<String> =
            all.map(|(name, host)| format!("{name}=http://{host}:{ETCD_PEER}")).collect();
        let (peer, client) =
            (format!("http://{}:{ETCD_PEER}", self.host), format!("http://{}:{ETCD}", self.host));
        let mut command = self.command(&self.parts.etcd, "etcd.log")?;
        command.args(["--name", &self.name, "--data-dir"]).arg(self.dir.join("etcd"));
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        self.etcd = Some(command.spawn().context("start etcd")?);
        Ok(())
    }

    pub fn start_patroni(&mut self) -> Result<()> {
        let mut command = self.command(&self.parts.patroni, "patroni.log")?;
        command.arg(self.dir.join("patroni.yml"));
        self.patroni = Some(command.spawn().context("start patroni")?);
        Ok(())
    }

    /// Process id of its Patroni: what was spawned has become it by now.
    pub fn patroni(&self) -> Result<i32> {
        let child = self.patroni.as_ref().with_context(|| format!("{} is down", self.name))?;
        Ok(i32::try_from(child.id())?)
    }

    /// Process id of its postmaster, which is nobody's child: found by its data directory.
    pub fn postmaster(&self) -> Result<i32> {
        let data = self.dir.join("data").display().to_string();
        let found = all_processes().into_iter().find(|process| {
            let mut words = process.title.split('\0');
            words.next().is_some_and(|word| word.ends_with("/postgres"))
                && words.any(|word| word == data)
        });
        Ok(found.with_context(|| format!("{} has no postmaster", self.name))?.pid)
    }

    /// The postmaster's children.
    pub fn backends(&self) -> Result<Vec<Process>> {
        let postmaster = self.postmaster()?;
        Ok(all_processes().into_iter().filter(|process| process.parent == postmaster).collect())
    }

    /// Everything that belongs to it.
    pub fn everything(&self) -> Vec<i32> {
        let children = [&self.etcd, &self.patroni];
        let own = children.into_iter().flatten().filter_map(|child| i32::try_from(child.id()).ok());
        let mut pids: Vec<i32> = own.chain(self.postmaster()).collect();
        let (all, mut next) = (all_processes(), 0);
        while next < pids.len() {
            let below = all.iter().filter(|process| process.parent == pids[next]);
            let below: Vec<i32> = below.map(|process| process.pid).collect();
            pids.extend(below.into_iter().filter(|pid| !pids.contains(pid)).collect::<Vec<_>>());
            next += 1;
        }
        pids
    }

    /// kill -9 of Patroni alone, and reaps it.
    pub fn kill_patroni(&mut self) {
        if let Some(mut child) = self.patroni.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// kill -9 of everything. A process that is being made while the list is read is found by another look.
    pub fn kill(&mut self) {
        for _ in 0..5 {
            for pid in self.everything() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for mut child in [self.etcd.take(), self.patroni.take()].into_iter().flatten() {
            let _ = child.wait();
        }
    }

    /// psql as the superuser, over the local socket.
    pub fn psql_command(&self, sql: &str) -> Command {
        let mut command = Command::new(self.parts.bin_dir.join("psql"));
        let (uid, gid) = self.parts.user;
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]);
        command.args(["-d", "postgres", "-p", &POSTGRES.to_string(), "-c", sql, "-h"]);
        command.arg(&self.dir).env("PGCONNECT_TIMEOUT", "3").current_dir("/").uid(uid).gid(gid);
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
