//! A load balancer made for Patroni, which asks over REST who leads and who follows.

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::net;

/// HAProxy, until dropped.
pub struct Haproxy {
    child: Child,
    /// Port on 127.0.0.1 that leads to the leader.
    pub write: u16,
    /// Port on 127.0.0.1 that leads to a replica.
    pub read: u16,
}

impl Haproxy {
    /// Begins, in a network namespace where one is named. `None`, told on stderr, where it is not installed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(cluster: &Cluster, netns: Option<&str>) -> Result<Option<Self>> {
        let (write, read) = (cluster.ground.port + 30, cluster.ground.port + 31);
        let servers: Vec<String> = cluster
            .members
            .iter()
            .map(|member| {
                format!(
                    "    server {} {}:{} maxconn 100 check port {}",
                    member.name, member.host, member.pg_port, member.rest_port
                )
            })
            .collect();
        let text = include_str!("../fixtures/haproxy/haproxy.cfg")
            .replace("{write}", &write.to_string())
            .replace("{read}", &read.to_string())
            .replace("{primary_servers}", &servers.join("\n"))
            .replace("{replica_servers}", &servers.join("\n"));
        Self::run(cluster, netns, &text, write, read)
    }

    /// The same with the configuration that howdah prints. Members of a test share one address, so that
    /// each has a port of its own for HAProxy's agent check.
    ///
    /// # Errors
    /// If it cannot be printed or started.
    pub fn printed(cluster: &Cluster, checks: &[u16]) -> Result<Option<Self>> {
        let (write, read) = (cluster.ground.port + 30, cluster.ground.port + 31);
        let printed = cluster
            .command()
            .args(["haproxy", "config", "--endpoint", &cluster.members[0].control()])
            .args(["--write", &format!("127.0.0.1:{write}")])
            .args(["--read", &format!("127.0.0.1:{read}"), "--agent-port", "1"])
            .output()?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let mut text = String::from_utf8(printed.stdout)?;
        for (member, port) in cluster.members.iter().zip(checks) {
            let server = format!("check port {}", member.rest_port);
            text = text.replace(&server, &format!("{server} agent-port {port}"));
        }
        Self::run(cluster, None, &text, write, read)
    }

    fn run(
        cluster: &Cluster,
        netns: Option<&str>,
        text: &str,
        write: u16,
        read: u16,
    ) -> Result<Option<Self>> {
        let file = cluster.ground.dir.join("haproxy.cfg");
        std::fs::write(&file, text)?;
        let Some(program) = program() else {
            eprintln!("SKIPPED: haproxy is not installed; `tools/needs haproxy`");
            return Ok(None);
        };
        let child = net::command(netns, program)
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(cluster.ground.dir.join("haproxy.log"))?)
            .spawn()
            .context("start haproxy")?;
        Ok(Some(Self { child, write, read }))
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian has it where not every user's PATH leads.
fn program() -> Option<&'static str> {
    let there = |program: &&str| {
        let asked = Command::new(program).arg("-v").stdout(Stdio::null()).status();
        !matches!(asked, Err(why) if why.kind() == ErrorKind::NotFound)
    };
    ["haproxy", "/usr/sbin/haproxy"].into_iter().find(there)
}
