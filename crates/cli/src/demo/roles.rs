//! The demo's own role and database, made by `psql` over the leader's local socket, as the user
//! that PostgreSQL runs as. The password goes over stdin: no argument list shows it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use howdah_agent::config::Config;
use howdah_rpc::control::ClusterStatus;
use nix::unistd::Uid;

use super::layout::{Layout, MemberLayout};
use super::members::Members;
use crate::failure::Failure;

const LIMIT: Duration = Duration::from_secs(30);

/// Makes role and database `demo` where they are missing, once the leader takes connections.
pub(crate) async fn create(
    layout: &Layout,
    status: &ClusterStatus,
    members: &mut Members,
) -> Result<(), Failure> {
    let leader = layout.members.iter().find(|member| member.name == status.leader);
    let leader = leader.ok_or_else(|| {
        Failure::Error(format!("`{}` leads, and is no member of this demo", status.leader))
    })?;
    let (config, _) =
        Config::load(&leader.config).map_err(|error| Failure::Error(error.to_string()))?;
    let psql = config.postgresql.bin_dir.join("psql");
    let began = Instant::now();
    loop {
        let why = match attempt(layout, leader, &psql) {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > LIMIT {
            let text = format!("{}: role `demo` cannot be created: {why}", leader.name);
            return Err(Failure::Error(text));
        }
        members.tend()?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn attempt(layout: &Layout, leader: &MemberLayout, psql: &PathBuf) -> std::io::Result<Output> {
    let lock = std::fs::read_to_string(leader.data_dir.join("postmaster.pid"))?;
    let socket_dir = socket_dir(&lock)
        .ok_or_else(|| std::io::Error::other("postmaster.pid names no socket directory yet"))?;
    let mut command = Command::new(psql);
    command
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"])
        .args(["-h", socket_dir, "-p", &leader.postgres_port.to_string(), "-f", "-"])
        .env("PGCONNECT_TIMEOUT", "3")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if Uid::effective().is_root() {
        command.uid(layout.user.uid.as_raw()).gid(layout.user.gid.as_raw());
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A psql that gave up early says why on its stderr.
        let _ = stdin.write_all(script(&layout.password).as_bytes());
    }
    child.wait_with_output()
}

/// The fifth line of postmaster.pid is the first socket directory.
fn socket_dir(lock: &str) -> Option<&str> {
    lock.lines().nth(4).map(str::trim).filter(|dir| dir.starts_with('/'))
}

fn script(password: &str) -> String {
    format!(
        "SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SELECT 'CREATE ROLE demo LOGIN' WHERE NOT EXISTS \
         (SELECT FROM pg_roles WHERE rolname = 'demo') \\gexec
ALTER ROLE demo PASSWORD '{password}';
SELECT 'CREATE DATABASE demo OWNER demo' WHERE NOT EXISTS \
         (SELECT FROM pg_database WHERE datname = 'demo') \\gexec
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_directory_is_the_fifth_line() {
        assert_eq!(socket_dir("1\n/d\n17\n5501\n/run/x\n127.0.0.1\n1 2\nready\n"), Some("/run/x"));
        assert_eq!(socket_dir("1\n/d\n17\n5501\n\n"), None);
        assert_eq!(socket_dir("1\n"), None);
    }
}
