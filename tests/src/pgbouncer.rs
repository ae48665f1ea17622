//! The pooler PgBouncer before a member's door, with the configuration that howdah prints.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, PASSWORD};
use crate::ground::wait_for;

/// PgBouncer, until dropped.
pub struct Pgbouncer {
    child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

/// What a member's configuration needs to look after the pooler of this test.
pub fn looked_after(cluster: &Cluster) -> String {
    let (dir, port) = (cluster.ground.dir.display(), port(cluster));
    format!("pgbouncer: {{ addresses: ['{dir}:{port}'] }}\n")
}

fn port(cluster: &Cluster) -> u16 {
    cluster.ground.port + 35
}

impl Pgbouncer {
    /// Begins, before the door of this member. `None`, told on stderr, where it is not installed.
    ///
    /// # Errors
    /// If it cannot be started, or does not answer.
    pub async fn start(cluster: &Cluster, index: usize) -> Result<Option<Self>> {
        const PROGRAM: &str = "/usr/sbin/pgbouncer";
        if !std::path::Path::new(PROGRAM).exists() {
            eprintln!("SKIPPED: pgbouncer is not installed; `tools/needs pgbouncer`");
            return Ok(None);
        }
        let (dir, member) = (&cluster.ground.dir, &cluster.members[index]);
        let port = port(cluster);
        let users = dir.join("userlist.txt");
        fs::write(&users, format!("\"tester\" \"{PASSWORD}\"\n"))?;
        let printed = Command::new(&cluster.ground.howdah)
            .args(["pgbouncer", "config", "--door"])
            .arg(format!("{}:{}", member.host, member.write_port))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--socket-dir"])
            .arg(dir)
            .arg("--auth-file")
            .arg(&users)
            .output()?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let file = dir.join("pgbouncer.ini");
        fs::write(&file, &printed.stdout)?;
        let mut command = Command::new(PROGRAM);
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(dir.join("pgbouncer.log"))?);
        if let Some((uid, gid)) = cluster.ground.user {
            command.gid(gid).uid(uid);
        }
        let child = command.spawn().context("start pgbouncer")?;
        let bouncer = Self { child, port };
        wait_for("pgbouncer answers", Duration::from_secs(20), || async {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).map(drop)?)
        })
        .await?;
        Ok(Some(bouncer))
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
