//! Three idle nodes of etcd and Patroni, from their packages, with the packages' default timings.
//!
//! As root everything runs as user `postgres`: Patroni refuses to run as root, as PostgreSQL does.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use howdah_benches::newest_bin;
use howdah_benches::process::{self, Groups};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

use crate::{Node, SETTLE};

const NAMES: [&str; 3] = ["p1", "p2", "p3"];
/// initdb, two base backups, and the settling of elections.
const START_LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(500);

/// Stops what it holds, last started first, however the measurement ends.
struct Started(Vec<Child>);

impl Drop for Started {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            if let Ok(pid) = i32::try_from(child.id()) {
                // It may have ended already: then there is nothing to stop.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let _ = child.wait();
        }
    }
}

struct Ports {
    client: u16,
    peer: u16,
    rest: u16,
    postgres: u16,
}

/// `None` where the packages are not installed.
pub(crate) fn measure(time: Duration) -> Result<Option<Vec<Node>>> {
    let (Some(etcd), Some(patroni)) = (in_path("etcd"), in_path("patroni")) else {
        return Ok(None);
    };
    let dir = tempfile::Builder::new().prefix("idle-patroni-").tempdir_in("/var/tmp")?;
    let user = if Uid::effective().is_root() { User::from_name("postgres")? } else { None };
    give(dir.path(), user.as_ref(), 0o755)?;
    let ports = ports()?;
    let mut started = Started(Vec::new());
    let cluster: Vec<String> = NAMES
        .iter()
        .zip(&ports)
        .map(|(name, ports)| format!("{name}=http://127.0.0.1:{}", ports.peer))
        .collect();
    for (name, ports) in NAMES.iter().zip(&ports) {
        let home = dir.path().join(name);
        fs::create_dir(&home)?;
        give(&home, user.as_ref(), 0o700)?;
        let (peer, client) = (
            format!("http://127.0.0.1:{}", ports.peer),
            format!("http://127.0.0.1:{}", ports.client),
        );
        let mut command = as_user(user.as_ref(), &etcd);
        command.args(["--name", name, "--data-dir"]).arg(home.join("etcd"));
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"]);
        started.0.push(spawn(command, &home.join("etcd.log"))?);
    }
    for (name, own) in NAMES.iter().zip(&ports) {
        let home = dir.path().join(name);
        let config = home.join("patroni.yml");
        fs::write(&config, configuration(name, &home, own, &ports)?)?;
        give(&config, user.as_ref(), 0o600)?;
        let mut command = as_user(user.as_ref(), &patroni);
        command.arg(&config);
        started.0.push(spawn(command, &home.join("patroni.log"))?);
    }
    if let Err(error) = wait_until_whole(&ports) {
        let kept = dir.keep();
        return Err(error.context(format!("its logs: {}/p*/", kept.display())));
    }
    std::thread::sleep(SETTLE);
    let nodes = watch(&started, &ports, time)?;
    drop(started);
    Ok(Some(nodes))
}

fn watch(started: &Started, ports: &[Ports], time: Duration) -> Result<Vec<Node>> {
    let table = process::all();
    let pid = |nth: usize| -> Result<i32> { Ok(i32::try_from(started.0[nth].id())?) };
    let mut groups: Groups<(usize, &'static str)> = Groups::new();
    for nth in 0..NAMES.len() {
        let patroni = pid(NAMES.len() + nth)?;
        // Patroni's postmaster is a daemon, found by its port; its helpers are not.
        let port = format!("--port={}", ports[nth].postgres);
        let server = table.iter().find(|p| p.command.contains(&port));
        let server = server.with_context(|| format!("no server of {}", NAMES[nth]))?.pid;
        let server_tree = process::tree(&table, server);
        let mut own = process::tree(&table, patroni);
        own.retain(|pid| !server_tree.contains(pid));
        groups.insert((nth, "etcd"), vec![pid(nth)?]);
        groups.insert((nth, "patroni"), own);
        groups.insert((nth, "postgres"), server_tree);
    }
    let usage = process::watch(&groups, time)?;
    let of = |nth: usize, part: &'static str| usage.get(&(nth, part)).copied().unwrap_or_default();
    Ok((0..NAMES.len())
        .map(|nth| Node {
            name: NAMES[nth].to_owned(),
            role: if leads(ports[nth].rest) { "Leader" } else { "Replica" }.to_owned(),
            parts: vec![("etcd", of(nth, "etcd")), ("patroni", of(nth, "patroni"))],
            postgres: of(nth, "postgres"),
            log_lines_per_minute: None,
        })
        .collect())
}

fn configuration(name: &str, home: &Path, own: &Ports, all: &[Ports]) -> Result<String> {
    let hosts: Vec<String> = all.iter().map(|p| format!("127.0.0.1:{}", p.client)).collect();
    let bin = newest_bin()?;
    let (hosts, home, bin) = (hosts.join(","), home.display(), bin.display());
    let Ports { rest, postgres, .. } = own;
    // A cluster for the time of a measurement, reachable by loopback only.
    Ok(format!(
        "scope: idle
name: {name}
restapi: {{ listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}' }}
etcd3: {{ hosts: '{hosts}' }}
bootstrap:
  dcs: {{ postgresql: {{ use_pg_rewind: true }} }}
  initdb: [ encoding: UTF8, data-checksums ]
  pg_hba: [ 'local all all trust', 'host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust' ]
postgresql:
  listen: '127.0.0.1:{postgres}'
  connect_address: '127.0.0.1:{postgres}'
  data_dir: {home}/data
  bin_dir: {bin}
  pgpass: {home}/pgpass
  authentication:
    superuser: {{ username: postgres }}
    replication: {{ username: postgres }}
  parameters: {{ unix_socket_directories: {home} }}
"
    ))
}

fn wait_until_whole(ports: &[Ports]) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        let leaders = ports.iter().filter(|p| leads(p.rest)).count();
        let replicas = ports.iter().filter(|p| answers_200(p.rest, "/replica")).count();
        if leaders == 1 && replicas == NAMES.len() - 1 {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("Patroni's cluster is not whole after {} s", START_LIMIT.as_secs())
}

fn leads(rest: u16) -> bool {
    answers_200(rest, "/primary")
}

fn answers_200(port: u16, path: &str) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut first = [0; 12];
        stream.read_exact(&mut first)?;
        Ok(String::from_utf8_lossy(&first).into_owned())
    };
    ask().is_ok_and(|status| status.ends_with(" 200"))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.filter(|path| path.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 != 0))
}

/// Free ports, all held until the last is known.
fn ports() -> Result<Vec<Ports>> {
    let mut held = Vec::new();
    let mut free = || -> Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    NAMES
        .iter()
        .map(|_| Ok(Ports { client: free()?, peer: free()?, rest: free()?, postgres: free()? }))
        .collect()
}

fn give(path: &Path, user: Option<&User>, mode: u32) -> Result<()> {
    if let Some(user) = user {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn as_user(user: Option<&User>, program: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = File::create(log)?;
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {program}"))
}
