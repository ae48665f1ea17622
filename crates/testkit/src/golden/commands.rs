//! The script's commands that go into the log, and those that set what a member sees.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use howdah_core::record::{Ballot, Member};
use howdah_core::sync::choose::Mode;
use howdah_core::sync::{Demand, Pair, Standby};
use howdah_core::view::{ClusterData, DataView, PgView, RunningPg, SyncView};
use howdah_core::{
    ClusterId, Command, DataId, Epoch, HistoryEntry, Incarnation, Lsn, MemberName, NodeId, Nonce,
    OpenReason, Position, Profile, Settings, Timings, WallTime,
};

use super::parse::{Args, position};
use super::world::{MemberWorld, World};

type Output = Result<String, Box<dyn Error>>;
pub(super) const SYSTEM: u64 = 7_512_000_001;

impl World {
    pub(super) fn apply(&mut self, name: &str, args: &mut Args<'_>) -> Output {
        let command = match name {
            "found" => return self.found(args),
            "tag" => return self.tag(args),
            "bootstrap" => return self.bootstrap(args),
            "vote" => return self.vote(args),
            "member" => return self.join(args),
            "sync" | "barrier" => return self.change_sync(name, args),
            "renew" | "record" => {
                let epoch = args.epoch("epoch")?.unwrap_or(self.state.epoch());
                let renews = name == "renew";
                return if renews { self.renew(epoch, args) } else { self.record(epoch, args) };
            }
            "grant-bootstrap" => {
                let member = args.member()?;
                let incarnation = self.incarnation(&member)?;
                let attempt = args.number("attempt")?.unwrap_or(1);
                Command::GrantBootstrap { attempt, member, incarnation, at: WallTime(0) }
            }
            "finish-bootstrap" => self.finish(args)?,
            "retire" => Command::RetireNode { node_id: NodeId(args.number("node")?.unwrap_or(1)) },
            other => match Self::of_rights(other, args)? {
                Some(command) => command,
                None => self.of_lease(other, args)?,
            },
        };
        self.commit(command)
    }

    fn of_lease(&self, name: &str, args: &mut Args<'_>) -> Result<Command, Box<dyn Error>> {
        let at = WallTime(0);
        let epoch = args.epoch("epoch")?.unwrap_or(self.state.epoch());
        let renewals = match args.number("renewals")? {
            Some(renewals) => renewals,
            None => self.state.leader.as_ref().map_or(0, |record| record.renewals),
        };
        let why = || "the script says so".to_owned();
        Ok(match name {
            "release" => Command::Release {
                epoch,
                renewals,
                holder: args.member()?,
                wal_lsn: args.lsn("lsn")?,
                reason: why(),
                at,
            },
            "open" => Command::OpenElection {
                observed_epoch: epoch,
                observed_renewals: renewals,
                reason: OpenReason::LeaseRanOut,
                by: args.member()?,
                at,
            },
            "close" => {
                let next = self.state.epoch().next();
                let epoch = args.epoch("of")?.unwrap_or(next);
                Command::CloseElection { epoch, waited_ms: 40, not_heard: Vec::new(), at }
            }
            "failover" => Command::Failover {
                epoch,
                candidate: args.word().map(MemberName::from),
                allow_data_loss: args.text("loss").is_some(),
                holder_is_stopped: args.text("holder") == Some("stopped"),
                at,
            },
            "switchover" => {
                Command::RequestSwitchover { epoch, from: args.member()?, to: args.member()?, at }
            }
            "pause" | "resume" => Command::SetPause { paused: name == "pause", at },
            "fence" | "unfence" => {
                Command::SetFence { member: args.member()?, fenced: name == "fence", at }
            }
            "cancel" => Command::CancelSwitchover { epoch, reason: why(), at },
            "transfer" => {
                let (from, to) = (args.member()?, args.member()?);
                let shutdown_lsn = args.lsn("stopped")?.ok_or("stopped=LSN is missing")?;
                let (ballot, incarnation) = (self.ballot(&to, args)?, self.incarnation(&from)?);
                Command::TransferLease {
                    from,
                    incarnation,
                    epoch,
                    renewals,
                    to,
                    shutdown_lsn,
                    ballot,
                    at,
                }
            }
            "take-back" => {
                let by = args.member()?;
                Command::TakeBack { epoch, incarnation: self.incarnation(&by)?, by, at }
            }
            other => return Err(format!("no command `{other}`").into()),
        })
    }

    /// `member n4 node=7`: announces itself, or comes back as another Raft node.
    fn join(&mut self, args: &mut Args<'_>) -> Output {
        let name = args.member()?;
        let node_id = NodeId(args.number("node")?.ok_or("node=N is missing")?);
        let feature_level = args.number("level")?.unwrap_or_default();
        let member = Member { node_id, feature_level, ..Member::default() };
        self.members.entry(name.clone()).or_default();
        self.commit(Command::UpsertMember { name, member, at: WallTime(0) })
    }

    /// `sync n1 votes=2/n2,n3`, `sync n1 async`, `barrier n2 acks=1/n3 at=0/4000000`.
    fn change_sync(&mut self, name: &str, args: &mut Args<'_>) -> Output {
        let member = args.member()?;
        let incarnation = self.incarnation(&member)?;
        let epoch = args.epoch("epoch")?.unwrap_or(self.state.epoch());
        let generation = args.number("generation")?.unwrap_or(self.state.sync.generation());
        let data_id = self.member(&member)?.local.data_id;
        let at = WallTime(0);
        if name == "barrier" {
            let lsn = args.lsn("at")?.unwrap_or_default();
            let (acks, standbys) = self.some_of(args.text("acks").ok_or("acks=N/MEMBERS")?)?;
            let demand = Demand { acks, standbys };
            let command =
                Command::Barrier { epoch, incarnation, generation, data_id, lsn, demand, at };
            let output = self.commit(command);
            self.settle(&member);
            return output;
        }
        let pair = match args.text("votes") {
            Some(text) => {
                let (votes, voters) = self.some_of(text)?;
                Some(Pair { votes, voters })
            }
            None if args.word() == Some("async") => None,
            None => return Err("votes=N/MEMBERS, or async".into()),
        };
        let why = "the script says so".to_owned();
        let command =
            Command::ChangeSync { epoch, incarnation, generation, data_id, pair, why, at };
        let output = self.commit(command);
        self.settle(&member);
        output
    }

    /// Who has put the last change into the log knows it.
    fn settle(&mut self, member: &MemberName) {
        let generation = self.state.sync.generation();
        if let Some(world) = self.members.get_mut(member) {
            world.local.sync_settled = Some(generation);
        }
    }

    /// `1/n2,n3`: so many of these members, with their present contents.
    pub(super) fn some_of(&self, text: &str) -> Result<(usize, BTreeSet<Standby>), Box<dyn Error>> {
        let (count, names) = text.split_once('/').ok_or("write N/MEMBER,MEMBER")?;
        let standbys = names.split(',').filter(|name| !name.is_empty());
        let standby = |name: &str| {
            let world = self.members.get(&name.into()).ok_or_else(|| format!("no {name}"))?;
            Ok::<_, String>(Standby { member: name.into(), data_id: world.local.data_id })
        };
        Ok((count.parse()?, standbys.map(standby).collect::<Result<_, _>>()?))
    }

    /// `found n1 n2 n3 [ttl=5000]`: a group with these members, all with empty data directories.
    fn found(&mut self, args: &mut Args<'_>) -> Output {
        let mut settings = Settings::default();
        if let Some(ttl) = args.number("ttl")? {
            settings.ttl_ms = ttl;
        }
        settings.synchronous_mode = match args.text("mode") {
            None | Some("off") => Mode::Off,
            Some("on") => Mode::On,
            Some("quorum") => Mode::Quorum,
            Some(other) => return Err(format!("no mode {other}").into()),
        };
        if let Some(limit) = args.number("start-timeout")? {
            settings.primary_start_timeout_ms = limit;
        }
        settings.synchronous_mode_strict = args.text("strict").is_some();
        settings.synchronous_node_count = args.number("count")?.unwrap_or(1);
        let expected = args.number("expected")?;
        let (cluster_id, scope) = (ClusterId(1), "demo".to_owned());
        self.commit(Command::FoundGroup { cluster_id, scope, settings })?;
        let mut names = Vec::new();
        while let Some(name) = args.word() {
            names.push(MemberName::from(name));
        }
        for (index, name) in names.iter().enumerate() {
            let number = index as u64 + 1;
            let mut world = MemberWorld::default();
            world.node.incarnation = Incarnation(number * 100);
            world.node.members_expected = expected.unwrap_or(names.len());
            world.node.raft_quorum = true;
            world.local.data = DataView::Empty;
            world.local.pg = PgView::Stopped;
            world.local.data_id = DataId(number);
            self.members.insert(name.clone(), world);
            let member = Member { node_id: NodeId(number), ..Member::default() };
            self.commit(Command::UpsertMember { name: name.clone(), member, at: WallTime(0) })?;
        }
        Ok(String::new())
    }

    fn tag(&mut self, args: &mut Args<'_>) -> Output {
        let name = args.member()?;
        let known = self.state.members.get(&name).ok_or("no such member")?;
        let mut member = known.clone();
        if let Some(priority) = args.number("priority")? {
            member.tags.failover_priority = priority;
        }
        member.tags.nofailover = args.word() == Some("nofailover");
        self.commit(Command::UpsertMember { name, member, at: WallTime(0) })
    }

    fn finish(&mut self, args: &mut Args<'_>) -> Result<Command, Box<dyn Error>> {
        let member = args.member()?;
        Ok(Command::FinishBootstrap {
            attempt: args.number("attempt")?.unwrap_or(1),
            incarnation: self.incarnation(&member)?,
            member,
            system_identifier: SYSTEM,
            position: args.position("at")?.unwrap_or(position("1@0/3000000")?),
            history: fork(args)?,
            at: WallTime(0),
        })
    }

    /// `bootstrap n1`: all of it, until n1 serves and the others stream.
    fn bootstrap(&mut self, args: &mut Args<'_>) -> Output {
        let member = args.member()?;
        let incarnation = self.incarnation(&member)?;
        let at = WallTime(0);
        self.commit(Command::GrantBootstrap {
            attempt: 1,
            member: member.clone(),
            incarnation,
            at,
        })?;
        let end = position("1@0/3000000")?;
        let command = Command::FinishBootstrap {
            attempt: 1,
            member: member.clone(),
            incarnation,
            system_identifier: SYSTEM,
            position: end,
            history: Vec::new(),
            at,
        };
        self.commit(command)?;
        for (name, world) in &mut self.members {
            let leads = *name == member;
            world.local.promise = Epoch(1);
            world.local.data = DataView::Cluster(data_at(end));
            world.local.primary_prepared = leads;
            world.local.checkpointed = leads;
            world.local.pg = PgView::Running(RunningPg {
                in_recovery: !leads,
                following: (!leads).then(|| (member.clone(), Epoch(1))),
                has_upstream: !leads,
                streaming: !leads,
                timeline: end.timeline,
                received: end.lsn,
                replayed: end.lsn,
                open: true,
                authority: leads.then_some(Epoch(1)),
                standbys: BTreeMap::new(),
                sync: asks_nobody(),
            });
        }
        self.renewed(&member, Epoch(1), end.lsn, false, None)
    }

    fn renew(&mut self, epoch: Epoch, args: &mut Args<'_>) -> Output {
        let name = args.member()?;
        let lsn = args.lsn("lsn")?.unwrap_or_default();
        let paused = args.word() == Some("paused");
        let seen = args.number("seen")?;
        self.renewed(&name, epoch, lsn, paused, seen)
    }

    fn renewed(
        &mut self,
        name: &MemberName,
        epoch: Epoch,
        wal_lsn: Lsn,
        paused: bool,
        seen: Option<u64>,
    ) -> Output {
        let incarnation = self.incarnation(name)?;
        let ttl_ms = self.state.settings.ttl_ms;
        let nonce = Nonce(self.index);
        let now_seen = self.state.leader.as_ref().map_or(0, |record| record.renewals);
        let seen = seen.unwrap_or(now_seen);
        let output = self.commit(Command::Renew {
            epoch,
            incarnation,
            nonce,
            ttl_ms,
            wal_lsn,
            paused,
            seen,
        })?;
        if output.is_empty() {
            let timings = Timings::for_profile(Profile::Default, Duration::from_secs(5))?;
            let now = self.now;
            let lease = &mut self.member(name)?.lease;
            lease.deadline = (!paused).then(|| now + timings.holder);
            lease.armed = (!paused).then_some(epoch);
            lease.renewed = Some(now);
            lease.own_renewal = true;
            lease.renewal_sent = Some(now);
        }
        Ok(output)
    }

    fn ballot(&self, name: &MemberName, args: &mut Args<'_>) -> Result<Ballot, Box<dyn Error>> {
        let tags = self.state.members.get(name).map(|member| member.tags.clone());
        let priority = tags.unwrap_or_default().failover_priority;
        let position = args.position("at")?.unwrap_or(position("1@0/3000000")?);
        Ok(Ballot {
            incarnation: self.incarnation(name)?,
            data_id: self.members.get(name).map(|world| world.local.data_id).unwrap_or_default(),
            position,
            history: fork(args)?,
            barred: args.text("barred").map(str::to_owned),
            bar_only: args.text("bar").is_some(),
            priority,
        })
    }

    /// `vote n2 at=1@0/3000000 [fork=1@0/2000000] [barred=WHY] [bar=only]`
    fn vote(&mut self, args: &mut Args<'_>) -> Output {
        let member = args.member()?;
        let ballot = self.ballot(&member, args)?;
        let epoch = args.epoch("of")?.unwrap_or(self.state.epoch().next());
        self.commit(Command::CastBallot { epoch, member, ballot, at: WallTime(0) })
    }

    fn record(&mut self, epoch: Epoch, args: &mut Args<'_>) -> Output {
        let name = args.member()?;
        let incarnation = self.incarnation(&name)?;
        let end = args.position("timeline")?.ok_or("timeline=T@LSN is missing")?;
        let history = fork(args)?;
        let timeline = end.timeline;
        let at = WallTime(0);
        self.commit(Command::RecordTimeline { epoch, incarnation, timeline, history, at })
    }
}

/// A server whose commits wait for nobody.
pub(super) fn asks_nobody() -> SyncView {
    SyncView { demand: Some(Demand::nobody()), ..SyncView::default() }
}

pub(super) fn data_at(end: Position) -> ClusterData {
    ClusterData {
        system_identifier: SYSTEM,
        disk_end: Some(end),
        history: Vec::new(),
        can_rewind: true,
        shutdown_end: None,
    }
}

/// `fork=1@0/2000000`, repeatable by `fork2=`: the data's own history.
pub(super) fn fork(args: &mut Args<'_>) -> Result<Vec<HistoryEntry>, Box<dyn Error>> {
    let mut history = Vec::new();
    for key in ["fork", "fork2", "fork3"] {
        if let Some(end) = args.position(key)? {
            history.push(HistoryEntry { timeline: end.timeline, end: end.lsn });
        }
    }
    Ok(history)
}
