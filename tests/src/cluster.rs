//! A cluster of members, and what a test asks of it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use howdah_rpc::access::Access;
use howdah_rpc::control::control_client::ControlClient;
use howdah_rpc::control::{
    ClusterStatus, ExplainRequest, ExplainResponse, FailoverRequest, FenceRequest, PauseRequest,
    Progress, ReinitRequest, RestartRequest, ResumeRequest, StatusRequest, SwitchoverRequest,
    UnfenceRequest,
};
use tonic::transport::Channel;

use crate::ground::{Ground, wait_for};
use crate::keys;
use crate::member::Member;
use crate::net::Net;

/// Password of role `tester`.
pub const PASSWORD: &str = "for-tests-only";

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many members.
    pub members: u16,
    /// Time to live of the lease, seconds.
    pub ttl: u64,
    /// Flags of `howdah run`.
    pub flags: Vec<&'static str>,
    /// Environment of `howdah run`.
    pub env: BTreeMap<String, String>,
    /// Further configuration, YAML.
    pub extra: String,
    /// Further entries of `bootstrap.dcs`, as `, key: value`.
    pub dcs: String,
    /// Further entries of `proxy`, as `, key: value`.
    pub doors: String,
    /// Further entries of `restapi`, as `, key: value`.
    pub rest: String,
}

impl Options {
    /// Commits wait for standbys, in the words of `bootstrap.dcs`.
    pub fn synchronous(mode: &str, strict: bool) -> Self {
        let dcs = format!(", synchronous_mode: {mode}, synchronous_mode_strict: {strict}");
        Self { dcs, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            members: 3,
            ttl: 5,
            flags: Vec::new(),
            env: BTreeMap::new(),
            extra: String::new(),
            dcs: String::new(),
            doors: String::new(),
            rest: String::new(),
        }
    }
}

/// What a program printed.
///
/// # Errors
/// What it said, if it failed.
pub fn printed(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {err}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A cluster of members.
pub struct Cluster {
    /// Its ground.
    pub ground: Ground,
    /// Its members, n1 first.
    pub members: Vec<Member>,
    /// How it was made.
    pub options: Options,
    /// What this test shows to the members.
    access: Access,
    /// The test came to its end; else its directory is kept for a look.
    passed: AtomicBool,
}

impl Cluster {
    /// Configures a cluster; starts nothing.
    ///
    /// # Errors
    /// If something that tests stand on is missing.
    pub fn new(test: &str, options: Options) -> Result<Self> {
        let ground = Ground::new(test)?;
        let members: Vec<Member> = (0..options.members)
            .map(|index| Member::new(&ground, &format!("n{}", index + 1), "127.0.0.1", index))
            .collect();
        let access = keys::access(&ground.dir)?;
        let cluster = Self { ground, members, options, access, passed: AtomicBool::new(false) };
        cluster.configure()?;
        Ok(cluster)
    }

    /// Configures a cluster with each member in a network namespace of its own; the calling thread
    /// becomes a client in the clients' one. Starts nothing.
    ///
    /// # Errors
    /// If the network cannot be made.
    pub fn in_network(test: &str, options: Options, net: &Net) -> Result<Self> {
        let mut cluster = Self::new(test, options)?;
        for (member, node) in cluster.members.iter_mut().zip(1..) {
            member.host = net.address(node);
            member.netns = Some(net.name(node));
        }
        cluster.configure()?;
        net.enter(Net::CLIENTS)?;
        Ok(cluster)
    }

    /// Writes every member's configuration.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn configure(&self) -> Result<()> {
        for member in &self.members {
            let partners: Vec<String> = self
                .members
                .iter()
                .filter(|other| other.name != member.name)
                .map(Member::control)
                .collect();
            member.configure(&partners, &self.options)?;
        }
        Ok(())
    }

    /// A healthy cluster with role `tester` and table `t(id)`.
    ///
    /// # Errors
    /// If it does not become healthy in time.
    pub async fn healthy(test: &str, options: Options) -> Result<Self> {
        let mut cluster = Self::new(test, options)?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// Starts everybody and waits until the cluster is healthy and has role and table.
    ///
    /// # Errors
    /// If it does not become healthy in time.
    pub async fn start_all(&mut self) -> Result<()> {
        for index in 0..self.members.len() {
            self.start(index)?;
        }
        self.settle(Duration::from_secs(60)).await?;
        self.make_table().await
    }

    /// Starts one member.
    ///
    /// # Errors
    /// If it cannot be spawned.
    pub fn start(&mut self, index: usize) -> Result<()> {
        let (flags, env) = (self.options.flags.clone(), self.options.env.clone());
        self.members[index].start(&flags, &env)
    }

    /// Makes role `tester` and table `t`, and waits until all standbys have them.
    ///
    /// # Errors
    /// If the leader refuses.
    pub async fn make_table(&self) -> Result<()> {
        let leader = self.leader().await?;
        self.members[leader].psql(&format!(
            "CREATE ROLE tester LOGIN PASSWORD '{PASSWORD}'; \
             CREATE TABLE t (id bigint PRIMARY KEY); GRANT ALL ON t TO tester"
        ))?;
        for member in &self.members {
            wait_for("the table is everywhere", Duration::from_secs(10), || async {
                let there = member.psql("SELECT to_regclass('t') IS NOT NULL")?;
                ensure!(there == "t", "{} has no table yet", member.name);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Index of a member by name.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn index(&self, name: &str) -> Result<usize> {
        let found = self.members.iter().position(|member| member.name == name);
        found.with_context(|| format!("no member `{name}`"))
    }

    /// The picture that one member gives.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn status_of(&self, index: usize) -> Result<ClusterStatus> {
        let mut client = self.client(index)?;
        let asked = async {
            let mut stream = client.status(StatusRequest { watch: false }).await?.into_inner();
            stream.message().await?.context("an empty answer")
        };
        tokio::time::timeout(Duration::from_secs(2), asked).await?
    }

    /// The program, as an administrator calls it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.ground.howdah);
        command.env("HOWDAH_KEYS", keys::admin(&self.ground.dir));
        command
    }

    /// What the program printed for an administrator who asks all members.
    ///
    /// # Errors
    /// What it said, if it was not done.
    pub fn howdah(&self, args: &[&str]) -> Result<String> {
        let addresses: Vec<String> = self.members.iter().map(Member::control).collect();
        printed(self.command().args(["--endpoint", &addresses.join(",")]).args(args))
    }

    /// A client of one member.
    ///
    /// # Errors
    /// If its address is malformed.
    pub fn client(&self, index: usize) -> Result<ControlClient<Channel>> {
        self.channel(index).map(ControlClient::new)
    }

    /// An administrator's channel to one member.
    ///
    /// # Errors
    /// If its address is malformed.
    pub fn channel(&self, index: usize) -> Result<Channel> {
        let address = self.members[index].control();
        let channel =
            howdah_rpc::channel::lazy(&address, Duration::from_millis(500), &self.access)?;
        Ok(channel)
    }

    /// A picture from any member that sees a quorum.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn status(&self) -> Result<ClusterStatus> {
        let mut last = anyhow::anyhow!("no member runs");
        for index in 0..self.members.len() {
            match self.status_of(index).await {
                Ok(status) if status.quorum => return Ok(status),
                Ok(_) => last = anyhow::anyhow!("{} sees no quorum", self.members[index].name),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Index of the member that leads and can be written to, now, as any member with a quorum says: one
    /// that was frozen until just now has not heard of the leader yet.
    ///
    /// # Errors
    /// If nobody says so; what the last one said.
    pub async fn leader(&self) -> Result<usize> {
        let mut last = anyhow::anyhow!("no member runs");
        for (index, member) in self.members.iter().enumerate() {
            let name = &member.name;
            match self.status_of(index).await {
                Ok(status) if !status.quorum => last = anyhow::anyhow!("{name} sees no quorum"),
                Ok(status) if status.not_writable_because.is_empty() => {
                    return self.index(&status.leader);
                }
                Ok(status) => last = anyhow::anyhow!("{name}: {}", status.not_writable_because),
                Err(why) => last = why.context(format!("{name} does not answer")),
            }
        }
        Err(last)
    }

    /// Waits until there is a leader that is not `other`; its index.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn other_leader(&self, other: usize, limit: Duration) -> Result<usize> {
        wait_for("another leader", limit, || async {
            let leader = self.leader().await?;
            ensure!(leader != other, "{} still leads", self.members[leader].name);
            Ok(leader)
        })
        .await
    }

    /// Waits until one member leads and can be written to, and all others stream from it; says how long it took.
    ///
    /// # Errors
    /// What is missing when `limit` has passed.
    pub async fn settle(&self, limit: Duration) -> Result<usize> {
        let began = Instant::now();
        let leader = self.whole(limit).await?;
        eprintln!("healthy after {:.1} s", began.elapsed().as_secs_f64());
        Ok(leader)
    }

    /// As [`Self::settle`], without a word.
    ///
    /// # Errors
    /// What is missing when `limit` has passed.
    pub async fn whole(&self, limit: Duration) -> Result<usize> {
        wait_for("a healthy cluster", limit, || async {
            let leader = self.leader().await?;
            let status = self.status_of(leader).await?;
            for member in &status.members {
                let streams = member.name == status.leader || member.state == "streaming";
                ensure!(streams, "{} is {}: {}", member.name, member.state, member.reason);
                ensure!(member.timeline == status.timeline, "{} is behind", member.name);
            }
            ensure!(status.members.len() == self.members.len(), "members are missing");
            // What the leader says of a member it said of an agent that may have died just now.
            for (index, member) in self.members.iter().enumerate() {
                let answered = self.status_of(index).await;
                let status =
                    answered.with_context(|| format!("{} does not answer", member.name))?;
                let own = status.members.iter().find(|one| one.name == member.name);
                let state = own.map_or("unknown", |own| own.state.as_str());
                let streams = index == leader || state == "streaming";
                ensure!(streams, "{} says of itself that it is {state}", member.name);
            }
            // A standby knows only a moment later that its primary was restarted.
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            let seen: usize = self.members[leader].psql(sql)?.parse()?;
            ensure!(seen >= self.members.len() - 1, "the leader sees {seen} streams");
            Ok(leader)
        })
        .await
    }

    /// Members that commits wait for, as the leader says.
    ///
    /// # Errors
    /// If there is no leader.
    pub async fn waited_for(&self) -> Result<Vec<usize>> {
        let status = self.status_of(self.leader().await?).await?;
        let waited_for = |index: &usize| status.members[*index].role.ends_with("Standby");
        Ok((0..status.members.len()).filter(waited_for).collect())
    }

    /// Waits until commits wait for these standbys; who leads.
    ///
    /// # Errors
    /// What commits wait for when `limit` has passed.
    pub async fn synchronous(&self, standbys: &[usize], limit: Duration) -> Result<usize> {
        wait_for("commits wait for these standbys", limit, || async {
            let waited_for = self.waited_for().await?;
            ensure!(waited_for == standbys, "they wait for {waited_for:?}");
            self.leader().await
        })
        .await
    }

    /// Waits until one member shows another as not heard.
    ///
    /// # Errors
    /// How it shows it when `limit` has passed.
    pub async fn unreachable(&self, index: usize, to: usize, limit: Duration) -> Result<()> {
        let name = &self.members[index].name;
        wait_for("it is not heard", limit, || async {
            let status = self.status_of(to).await?;
            let state = status.members.iter().find(|one| one.name == *name).map(|one| &one.state);
            ensure!(state.is_some_and(|state| state == "unreachable"), "{name} is {state:?}");
            Ok(())
        })
        .await
    }

    /// A planned switchover, to the end.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn switchover(&self, to: &str) -> Result<()> {
        let request = SwitchoverRequest { candidate: to.to_owned(), ..Default::default() };
        let via = self.leader().await?;
        let stream = self.client(via)?.switchover(request).await?.into_inner();
        finished(stream).await
    }

    /// A failover that an operator asks for, to the end, asked of one member.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn failover(&self, via: usize, request: FailoverRequest) -> Result<()> {
        finished(self.client(via)?.failover(request).await?.into_inner()).await
    }

    /// A reinit, to the end.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn reinit(&self, member: &str) -> Result<()> {
        let via = self.leader().await?;
        let request = ReinitRequest { member: member.to_owned() };
        finished(self.client(via)?.reinit(request).await?.into_inner()).await
    }

    /// An operator's restart, to the end.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn restart(&self, request: RestartRequest) -> Result<()> {
        let via = self.leader().await?;
        finished(self.client(via)?.restart(request).await?.into_inner()).await
    }

    /// Why the present leader leads, by one member.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn explain(&self, index: usize) -> Result<ExplainResponse> {
        Ok(self.client(index)?.explain(ExplainRequest { epoch: 0 }).await?.into_inner())
    }

    /// Fences a member, or lets it run again, to the end.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn fence(&self, member: &str, fenced: bool) -> Result<()> {
        self.fence_via(self.leader().await?, member, fenced).await
    }

    /// The same, asked of one member.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn fence_via(&self, via: usize, member: &str, fenced: bool) -> Result<()> {
        let mut client = self.client(via)?;
        let member = member.to_owned();
        finished(if fenced {
            client.fence(FenceRequest { member }).await?.into_inner()
        } else {
            client.unfence(UnfenceRequest { member }).await?.into_inner()
        })
        .await
    }

    /// Begins or ends maintenance mode, and waits until the leader has taken it up.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn pause(&self, paused: bool) -> Result<()> {
        let mut client = self.client(self.leader().await?)?;
        finished(if paused {
            client.pause(PauseRequest {}).await?.into_inner()
        } else {
            client.resume(ResumeRequest {}).await?.into_inner()
        })
        .await
    }

    /// Waits until a member's troubles say this; the whole sentence.
    ///
    /// # Errors
    /// If they do not in time.
    pub async fn trouble(&self, member: usize, says: &str, limit: Duration) -> Result<String> {
        wait_for(&format!("trouble: {says}"), limit, || async {
            let status = self.status().await?;
            let shown = &status.members[member];
            let found = shown.troubles.iter().find(|text| text.contains(says));
            found.cloned().with_context(|| format!("{:?}: {}", shown.troubles, shown.reason))
        })
        .await
    }

    /// Waits until a member has no troubles.
    ///
    /// # Errors
    /// If they do not end in time.
    pub async fn no_trouble(&self, member: usize, limit: Duration) -> Result<()> {
        wait_for("no trouble", limit, || async {
            let status = self.status().await?;
            ensure!(status.members[member].troubles.is_empty(), "{:?}", status.members[member]);
            Ok(())
        })
        .await
    }

    /// Fails if any log holds what no log may hold.
    ///
    /// # Errors
    /// The lines.
    pub fn check_logs(&self) -> Result<()> {
        self.check_logs_for(&["panicked at", "PANIC:"])
    }

    /// The same where PostgreSQL was made to panic.
    ///
    /// # Errors
    /// The lines.
    pub fn check_own_logs(&self) -> Result<()> {
        self.check_logs_for(&["panicked at"])
    }

    /// The run came to its end: its directory is not kept.
    pub fn passed(&self) {
        self.passed.store(true, Ordering::SeqCst);
    }

    fn check_logs_for(&self, forbidden: &[&str]) -> Result<()> {
        for member in &self.members {
            let log = member.log();
            let bad: Vec<&str> = log
                .lines()
                .filter(|line| forbidden.iter().any(|word| line.contains(word)))
                .collect();
            if !bad.is_empty() {
                bail!("{}: {}", member.name, bad.join("\n"));
            }
        }
        self.passed();
        Ok(())
    }
}

async fn finished(mut stream: tonic::Streaming<Progress>) -> Result<()> {
    let mut said = Vec::new();
    while let Some(progress) = stream.message().await? {
        if progress.finished {
            ensure!(progress.done, "{}; {}", said.join("; "), progress.text);
            return Ok(());
        }
        said.push(progress.text);
    }
    bail!("the stream ended early: {}", said.join("; "))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = !self.passed.load(Ordering::SeqCst);
        for member in &mut self.members {
            member.kill_node();
        }
        if failed {
            eprintln!("left for a look: {}", self.ground.dir.display());
            for member in &self.members {
                // Few: what the test says of its failure comes after them, and must not be cut off.
                let log = member.log();
                let lines: Vec<&str> =
                    log.lines().filter(|line| !line.contains(" DEBUG ")).collect();
                let tail = lines.len().saturating_sub(15);
                eprintln!("---- {} ----\n{}", member.name, lines[tail..].join("\n"));
            }
        } else if std::env::var_os("HOWDAH_TEST_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.ground.dir);
        }
    }
}
