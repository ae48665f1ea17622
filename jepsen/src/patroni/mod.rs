//! The same storm against Patroni and etcd, set up as their manuals say, to compare like with like: the
//! same clients, checkers, network and kinds of faults, as far as there is something to be struck.
//!
//! A Patroni that dies is started again after a second, as a service manager would. There is no watchdog
//! device on most machines; Patroni then goes without, which its manual allows.

mod node;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use howdah_tests::dice::Dice;
use howdah_tests::net::Net;
use howdah_tests::{Fault, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::node::{ETCD, Node, POSTGRES, Parts, REST};
use crate::crew::{Crew, Seat, Seats, tables};
use crate::nemesis::{Company, Nemesis, Ports, bother, cut};
use crate::run::{Outcome, Plan, System, prepare, weather};

/// With a ttl of 30 s a failover alone may take 40.
const WHOLE: Duration = Duration::from_secs(180);
/// From the death of a Patroni to its next start.
const RESTART: Duration = Duration::from_secs(1);
const ASK: Duration = Duration::from_secs(5);
/// What clients and operators do goes on for at most this long.
const SHORT: Duration = Duration::from_secs(5);

/// What there is to be struck.
const KINDS: [Nemesis; 23] = [
    Nemesis::Member(Fault::Agent),
    Nemesis::Member(Fault::Postmaster),
    Nemesis::Member(Fault::Backend),
    Nemesis::Member(Fault::Node),
    Nemesis::Member(Fault::Frozen),
    Nemesis::Member(Fault::AgentStopped),
    Nemesis::Member(Fault::PostmasterStopped),
    Nemesis::Member(Fault::ReceiverStopped),
    Nemesis::Member(Fault::Cut),
    Nemesis::Member(Fault::Switchover),
    Nemesis::Deaf,
    Nemesis::Mute,
    Nemesis::Apart,
    Nemesis::PeersCut,
    Nemesis::PostgresCut,
    Nemesis::Flapping,
    Nemesis::Reinit,
    Nemesis::Restart,
    Nemesis::Pause,
    Nemesis::Cancel,
    Nemesis::Checkpoints,
    Nemesis::Flood,
    Nemesis::LongReads,
];

/// A cluster of Patroni's.
struct Rival<'a> {
    net: &'a Net,
    nodes: Vec<Node>,
    synchronous: bool,
}

/// Runs the storm on three or more nodes of etcd and Patroni.
///
/// # Errors
/// If they are not installed, the machine has no network namespaces, or the cluster does not come up.
pub async fn run(plan: Plan, dir: &Path) -> Result<Outcome> {
    ensure!(Net::possible(), "a storm against Patroni needs network namespaces, which need root");
    prepare(&plan, dir)?;
    let net = Net::new(plan.members)?;
    let user = User::from_name("postgres")?.context("there is no user postgres")?;
    let parts = Parts {
        etcd: program("etcd", "STORM_ETCD")?,
        patroni: program("patroni", "STORM_PATRONI")?,
        bin_dir: howdah_tests::ground::postgres_bin()?,
        user: (user.uid.as_raw(), user.gid.as_raw()),
        nodes: (1..=plan.members).map(|node| (format!("n{node}"), net.address(node))).collect(),
        mode: plan.mode.clone(),
    };
    let home = tempfile::Builder::new().prefix("storm-patroni-").tempdir_in("/var/tmp")?;
    std::os::unix::fs::chown(home.path(), Some(parts.user.0), Some(parts.user.1))?;
    let node =
        |number: u16| Node::new(&parts, usize::from(number) - 1, net.name(number), home.path());
    let nodes = (1..=plan.members).map(node).collect::<Result<Vec<_>>>()?;
    net.enter(Net::CLIENTS)?;
    let mut rival = Rival { net: &net, nodes, synchronous: plan.mode != "off" };
    if let Err(why) = rival.start().await {
        return Err(why.context(format!("its logs: {}", home.keep().display())));
    }
    let crew = Crew::start(&rival.seats(), dir, plan.seed)?;
    let weathered = weather(&plan, &KINDS, &mut rival, crew, dir).await?;
    let versions = rival.versions(&parts);
    if !weathered.whole {
        println!("its logs: {}", home.keep().display());
    }
    Ok(weathered.outcome(plan, versions))
}

/// Where a program is: by its variable, or by PATH.
fn program(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is not installed; `tools/needs patroni`, or set {variable}")
    })
}

impl Rival<'_> {
    async fn start(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.start_etcd()?;
        }
        for node in &mut self.nodes {
            node.start_patroni()?;
        }
        let leader = self.settle().await?;
        let sql = format!(
            "CREATE ROLE tester LOGIN PASSWORD '{}'; {}",
            howdah_tests::cluster::PASSWORD,
            tables()
        );
        let output = self.nodes[leader].psql_command(&sql).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn seats(&self) -> Seats {
        let seat = |node: &Node| Seat {
            name: node.name.clone(),
            host: node.host.clone(),
            port: POSTGRES,
            door: None,
            netns: Some(node.netns.clone()),
        };
        let members = self.nodes.iter().map(seat).collect();
        Seats {
            members,
            clients: Some(self.net.name(Net::CLIENTS)),
            balancer: None,
            through_doors: false,
        }
    }

    fn versions(&self, parts: &Parts) -> String {
        let first = |program: &Path| {
            let output = std::process::Command::new(program).arg("--version").output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
        };
        let all = [&parts.patroni, &parts.etcd, &parts.bin_dir.join("postgres")];
        all.into_iter().filter_map(|program| first(program)).collect::<Vec<_>>().join(", ")
    }

    fn ports(&self) -> Ports {
        let members = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        Ports { peers: (ETCD, REST), postgres: (POSTGRES, POSTGRES), members }
    }

    /// What Patroni says of all members: each with its role and state.
    async fn members(&self) -> Result<Vec<(usize, String, String)>> {
        let mut last = anyhow::anyhow!("nobody answers");
        for node in &self.nodes {
            match ask(&node.host, "GET", "/cluster", None).await {
                Ok(text) => {
                    let cluster: Value = serde_json::from_str(&text)?;
                    let members = cluster["members"].as_array().cloned().unwrap_or_default();
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let known = members.iter().filter_map(|one| {
                        let index = self.nodes.iter().position(|node| one["name"] == *node.name)?;
                        Some((index, text(&one["role"]), text(&one["state"])))
                    });
                    return Ok(known.collect());
                }
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// One leads, and it is writable; the others stream, and commits wait for somebody if they should.
    async fn whole(&self) -> Result<usize> {
        let members = self.members().await?;
        let leaders: Vec<usize> =
            members.iter().filter(|(_, role, _)| role == "leader").map(|one| one.0).collect();
        let streaming = members.iter().filter(|(_, _, state)| state == "streaming").count();
        let [leader] = leaders[..] else { bail!("{} lead: {members:?}", leaders.len()) };
        ensure!(streaming + 1 == self.nodes.len(), "not all stream: {members:?}");
        ask(&self.nodes[leader].host, "GET", "/primary", None).await?;
        if self.synchronous {
            let waited = members.iter().any(|(_, role, _)| role.ends_with("_standby"));
            ensure!(waited, "commits wait for nobody: {members:?}");
        }
        Ok(leader)
    }

    async fn strike(
        &mut self,
        fault: Fault,
        index: usize,
        length: Duration,
        dice: &mut Dice,
    ) -> Result<()> {
        let node = &mut self.nodes[index];
        match fault {
            Fault::Agent => {
                node.kill_patroni();
                tokio::time::sleep(RESTART).await;
                node.start_patroni()
            }
            Fault::Node => {
                node.kill();
                tokio::time::sleep(length).await;
                node.start_etcd()?;
                node.start_patroni()
            }
            Fault::Frozen => stand_still(&node.everything(), length).await,
            Fault::AgentStopped => stand_still(&[node.patroni()?], length).await,
            Fault::PostmasterStopped => stand_still(&[node.postmaster()?], length).await,
            Fault::ReceiverStopped => {
                // A replica that is whole may be between two receivers.
                let pid = wait_for("a walreceiver", WHOLE, || async {
                    let all = node.backends()?;
                    let found = all.iter().find(|one| one.title.contains("walreceiver"));
                    Ok(found.context("no walreceiver")?.pid)
                })
                .await?;
                stand_still(&[pid], length).await
            }
            Fault::Postmaster => Ok(kill(Pid::from_raw(node.postmaster()?), Signal::SIGKILL)?),
            _ => {
                let all = node.backends()?;
                let victim = all.get(dice.throw(all.len().max(1))).context("no backend")?;
                // It may have ended by itself meanwhile.
                let _ = kill(Pid::from_raw(victim.pid), Signal::SIGKILL);
                Ok(())
            }
        }
    }

    /// What operators ask of Patroni's REST API; refused, it is asked again for a while.
    async fn operate(&self, fault: Nemesis, index: usize, length: Duration) -> Result<()> {
        let node = &self.nodes[index];
        match fault {
            Nemesis::Pause => {
                self.order(index, "PATCH", "/config", &json!({"pause": true})).await?;
                tokio::time::sleep(length).await;
                self.order(index, "PATCH", "/config", &json!({"pause": null})).await
            }
            Nemesis::Reinit => {
                self.order(index, "POST", "/reinitialize", &json!({"force": true})).await
            }
            Nemesis::Restart => self.order(index, "POST", "/restart", &json!({})).await,
            Nemesis::Member(Fault::Switchover) => {
                let leader = self.settle().await?;
                let body = json!({"leader": self.nodes[leader].name, "candidate": node.name});
                self.order(leader, "POST", "/switchover", &body).await
            }
            _ => bother(fault, |sql| node.psql_command(sql), length.min(SHORT)).await,
        }
    }

    async fn order(&self, index: usize, method: &str, path: &str, body: &Value) -> Result<()> {
        wait_for(path, Duration::from_secs(60), || async {
            ask(&self.nodes[index].host, method, path, Some(body)).await.map(|_| ())
        })
        .await
    }
}

async fn stand_still(pids: &[i32], length: Duration) -> Result<()> {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
    }
    tokio::time::sleep(length).await;
    for pid in pids.iter().rev() {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
    }
    Ok(())
}

/// One request; the body of a good answer.
async fn ask(host: &str, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
    // An order is answered when it is done.
    let limit = if body.is_some() { WHOLE } else { ASK };
    let asked = async {
        let connected = tokio::time::timeout(ASK, tokio::net::TcpStream::connect((host, REST)));
        let mut stream = connected.await.context("no connection in time")??;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, text) = answer.split_once("\r\n\r\n").context("no answer")?;
        let good = head.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
        ensure!(good, "{method} {path}: {} {text}", head.lines().next().unwrap_or_default());
        Ok(text.to_owned())
    };
    tokio::time::timeout(limit, asked).await.context("no answer in time")?
}

impl System for Rival<'_> {
    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    fn patience(&self) -> Duration {
        WHOLE
    }

    async fn settle(&self) -> Result<usize> {
        wait_for("Patroni's cluster is whole", WHOLE, || self.whole()).await
    }

    async fn candidate(&self, wanted: usize) -> Result<usize> {
        let members = self.members().await?;
        let fits = |(index, role, _): &&(usize, String, String)| {
            if self.synchronous { role.ends_with("_standby") } else { *index == wanted }
        };
        let found = members.iter().filter(fits).max_by_key(|one| one.0 == wanted);
        Ok(found.context("nobody can take over")?.0)
    }

    async fn befall(
        &mut self,
        fault: Nemesis,
        index: usize,
        length: Duration,
        dice: &mut Dice,
    ) -> Result<Option<String>> {
        let (ports, names, net) = (self.ports(), self.names(), self.net);
        let company = if fault.may_have_company() {
            Company::perhaps(&ports, &names, net, length, dice)?
        } else {
            None
        };
        let befalls = async {
            match fault {
                Nemesis::Member(Fault::Switchover) => self.operate(fault, index, length).await,
                _ if fault.is_of_the_network() => cut(fault, net, &ports, index, length).await,
                Nemesis::Member(fault) => self.strike(fault, index, length, dice).await,
                _ => self.operate(fault, index, length).await,
            }
        };
        let Some(company) = company else { return befalls.await.map(|()| None) };
        let (one, other) = tokio::join!(befalls, company.come(net));
        one.and(other)?;
        Ok(Some(company.name))
    }
}
