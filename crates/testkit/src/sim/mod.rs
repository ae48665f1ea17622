//! A small world in which `decide` and `apply` run against each other: three members, virtual time,
//! a log that loses, delays and repeats proposals, and faults.
//!
//! Place: used by core's tests; a seed gives the same run each time. The executor is faithful and
//! trivial: an action takes effect at its end, or not at all. What is on disk, the guard and the
//! applied log survive an agent's crash; nothing else does.
//! Checked at every step: one primary at most; no timeline number begun twice; nobody streams past
//! a fork, or is rewound to a place that its source does not share. At the end: one primary that
//! is open, and all others stream from it.

mod effect;
mod exec;
mod faults;
mod member;
mod promise;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use howdah_core::{
    BootInstant, ClusterId, ClusterState, Command, Epoch, MemberName, NodeId, Outcome, Profile,
    Settings, Timeline, Timings, WallTime,
};

use crate::invariant;
use member::Member;

const STEP: Duration = Duration::from_millis(50);
/// How long faults go on.
const STORM: Duration = Duration::from_secs(90);
/// How long the members then have to come to rest.
pub const REST: Duration = Duration::from_secs(120);
/// How long they must stay there.
const STEADY: Duration = Duration::from_secs(10);
const LINES_KEPT: usize = 400;

/// Numbers that follow from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `low..=high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True once in `n`.
    fn once_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// A proposal on its way.
#[derive(Clone, Debug)]
struct Flight {
    command: Command,
    from: MemberName,
    kind: &'static str,
    commit_at: BootInstant,
    /// A copy: nobody waits for its answer.
    copy: bool,
}

/// What happened in a run, so that a test can tell that something did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Changes of leader, by kind.
    pub changes: BTreeMap<String, usize>,
    /// Jobs that ended well, by name.
    pub jobs: BTreeMap<&'static str, usize>,
    /// Commits that were acknowledged while the log promised that they would not be lost.
    pub promised: usize,
    /// Changes of whom commits wait for.
    pub sync_changes: usize,
    /// From the last fault until all was well.
    pub rest_after: Duration,
}

/// The world.
pub struct Sim {
    dice: Dice,
    now: BootInstant,
    timings: Timings,
    members: BTreeMap<MemberName, Member>,
    state: ClusterState,
    log: Vec<Command>,
    flights: Vec<Flight>,
    begun: BTreeMap<Timeline, Epoch>,
    promised: promise::Promised,
    stormy: bool,
    story: VecDeque<String>,
    wrong: Option<String>,
    report: Report,
}

impl Sim {
    /// A world of three members with empty data directories, replicating asynchronously.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Settings::default())
    }

    /// The same with these settings.
    pub fn with(seed: u64, settings: Settings) -> Self {
        let timings = Timings::for_profile(Profile::Default, Profile::Default.ttl())
            .expect("the default profile is valid");
        let mut sim = Self {
            dice: Dice(seed),
            now: BootInstant(0) + Duration::from_secs(1),
            timings,
            members: BTreeMap::new(),
            state: ClusterState::default(),
            log: Vec::new(),
            flights: Vec::new(),
            begun: BTreeMap::new(),
            promised: promise::Promised::default(),
            stormy: false,
            story: VecDeque::new(),
            wrong: None,
            report: Report::default(),
        };
        sim.commit(Command::FoundGroup { cluster_id: ClusterId(1), scope: "sim".into(), settings });
        for (index, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
            let node_id = NodeId(index as u64 + 1);
            let member = howdah_core::Member { node_id, ..Default::default() };
            sim.commit(Command::UpsertMember { name: name.into(), member, at: WallTime(0) });
            sim.members.insert(name.into(), Member::default());
        }
        sim
    }

    /// Faults for a while, then rest.
    ///
    /// # Errors
    /// What went wrong, with the last part of the story.
    pub fn run(mut self) -> Result<Report, String> {
        let begin = self.now;
        let storm = (begin + Duration::from_secs(20), begin + Duration::from_secs(20) + STORM);
        let mut rested: Option<BootInstant> = None;
        while self.now < storm.1 + REST + STEADY {
            self.stormy = self.now >= storm.0 && self.now < storm.1;
            if self.now >= storm.1 {
                self.tidy();
            }
            self.step();
            if let Some(wrong) = &self.wrong {
                return Err(self.tell(wrong));
            }
            let rests = self.now >= storm.1 && self.at_rest();
            rested = if rests { Some(rested.unwrap_or(self.now)) } else { None };
            if let Some(since) = rested.filter(|since| self.now.since(*since) >= STEADY) {
                self.report.rest_after = since.since(storm.1);
                return Ok(self.report);
            }
        }
        Err(self.tell("no rest: nobody serves, or somebody does not stream"))
    }

    fn tell(&self, wrong: &str) -> String {
        let story: Vec<&str> = self.story.iter().map(String::as_str).collect();
        format!("{wrong}\n{}\n{:#?}", story.join("\n"), self.state.leader)
    }

    fn say(&mut self, line: String) {
        self.story.push_back(format!("{:>7} {line}", self.now.since(BootInstant(0)).as_millis()));
        while self.story.len() > LINES_KEPT {
            self.story.pop_front();
        }
    }

    fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        if self.stormy {
            self.fault();
        }
        self.revive();
        self.deliver();
        self.promote_late();
        // Before the guards: what was thawed may write a moment longer than its deadline.
        self.write_and_stream();
        self.acknowledge();
        self.guards();
        let now = self.now;
        let awake = self.members.iter().filter(|(_, member)| !member.is_frozen(now));
        let names: Vec<MemberName> = awake.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.take_in(name);
            self.finish_job(name);
            self.act(name);
        }
        self.gossip();
        self.check();
    }

    /// Whether a majority of Raft is in reach of `name`.
    fn quorum(&self, name: &MemberName) -> bool {
        let up = self.members.values().filter(|member| member.connected(self.now)).count();
        self.members[name].is_heard(self.now) && up * 2 > self.members.len()
    }

    fn propose(&mut self, from: &MemberName, kind: &'static str, command: Command) {
        let delay = STEP * u32::try_from(self.dice.between(1, 3)).unwrap_or(1);
        let flight =
            Flight { command, from: from.clone(), kind, commit_at: self.now + delay, copy: false };
        if self.stormy && self.dice.once_in(10) {
            let late = Duration::from_millis(self.dice.between(100, 4000));
            let copy = Flight { commit_at: self.now + late, copy: true, ..flight.clone() };
            self.flights.push(copy);
        }
        if self.stormy && self.dice.once_in(12) {
            return;
        }
        self.flights.push(flight);
    }

    /// Commits what arrived, and answers.
    fn deliver(&mut self) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|f| f.commit_at <= self.now);
        self.flights = rest;
        for flight in due {
            // A copy is already with the others; its proposer need not be there any more.
            let up = self.members.values().filter(|m| m.connected(self.now)).count();
            let heard = flight.copy || self.quorum(&flight.from);
            if !heard || up < 2 {
                continue;
            }
            let outcome = self.commit(flight.command.clone());
            let done = matches!(outcome, Outcome::Applied);
            if !flight.copy {
                self.answer(&flight, done);
            }
        }
    }

    fn commit(&mut self, command: Command) -> Outcome {
        let before = self.state.clone();
        self.log.push(command.clone());
        let outcome = self.state.apply(self.log.len() as u64, command.clone());
        let found = invariant::violations(&before, &self.state);
        if !found.is_empty() {
            self.fail(format!("{command:?}: {}", found.join("; ")));
        }
        match (&command, &outcome) {
            (Command::Renew { .. }, Outcome::Applied) => {}
            (_, Outcome::Applied) => {
                self.follow_promise(&before);
                if let Some(change) = self.state.changes.back().filter(|c| c.epoch > before.epoch())
                {
                    *self.report.changes.entry(change.kind.to_string()).or_default() += 1;
                }
                let last = self.state.events.back().map(|event| event.text.clone());
                self.say(format!("log: {}", last.unwrap_or_default()));
            }
            (_, Outcome::Rejected(why)) => {
                let text = format!("{command:?}");
                let name = text.split([' ', '{']).next().unwrap_or_default();
                self.say(format!("log: {name} refused: {why}"));
            }
        }
        outcome
    }

    /// The guard kills at the deadline, whatever became of the agent.
    fn guards(&mut self) {
        let now = self.now;
        let names: Vec<MemberName> = self.members.keys().cloned().collect();
        for name in names {
            let fresh = howdah_core::Incarnation(self.dice.next());
            let Some(member) = self.members.get_mut(&name) else { continue };
            if member.is_frozen(now) {
                continue;
            }
            if member.guard.armed.is_some_and(|(_, deadline)| now >= deadline) {
                member.server_gone(now);
                member.guard = member::Guard { incarnation: fresh, armed: None };
                if let Some(agent) = &mut member.agent {
                    exec::lose(agent);
                    agent.job = None;
                }
                self.say(format!("{name}: the guard killed at the deadline"));
            }
        }
    }

    fn write_and_stream(&mut self) {
        let now = self.now;
        let names: Vec<MemberName> = self.members.keys().cloned().collect();
        let more = self.dice.between(0, 1000);
        for member in self.members.values_mut() {
            if member.is_frozen(now) {
                continue;
            }
            if let Some(server) = member.server.as_mut().filter(|s| !s.in_recovery && s.open) {
                member.disk.wal.end.lsn.0 += more;
                server.waiting.push(member.disk.wal.end.lsn);
            }
        }
        for name in &names {
            let upstream = self.members[name].server.as_ref().and_then(|s| s.upstream.clone());
            let Some((leader, epoch)) = upstream else { continue };
            let source = &self.members[&leader];
            if self.members[name].is_frozen(now) || source.is_frozen(now) {
                continue;
            }
            let reach = now >= source.cut_until && now >= self.members[name].cut_until;
            let serves = source.is_primary() && reach;
            if !serves {
                self.stream(name, None);
                continue;
            }
            let (there, authority) =
                (source.disk.clone(), source.server.as_ref().and_then(|server| server.authority));
            if !self.members[name].disk.wal.begins(&there.wal) {
                let outran = self.members[name].server.as_ref().is_some_and(|server| server.outran);
                if authority == Some(epoch) && !outran {
                    let here = self.members[name].disk.wal.end;
                    self.fail(format!("{name} at {here} follows {leader}, whose history parts"));
                }
                self.stream(name, None);
                continue;
            }
            self.stream(name, Some(there));
        }
    }

    fn stream(&mut self, name: &MemberName, from: Option<member::Disk>) {
        let lag = self.stormy && self.dice.once_in(4);
        let now = self.now;
        let Some(member) = self.members.get_mut(name) else { return };
        let Some(server) = member.server.as_mut() else { return };
        let was = std::mem::replace(&mut server.streaming, from.is_some());
        if let Some(from) = from.filter(|_| !lag) {
            member.disk.wal = from.wal;
        }
        if let Some(agent) = &mut member.agent
            && (was != server.streaming || server.streaming)
        {
            agent.pg_since = now;
            if server.streaming {
                agent.failed = None;
            }
        }
    }

    fn gossip(&mut self) {
        let now = self.now;
        if self.dice.once_in(3) {
            return;
        }
        let words: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.connected(now))
            .map(|(name, member)| (name.clone(), member.words(now)))
            .collect();
        for (name, member) in &mut self.members {
            if !member.connected(now) {
                continue;
            }
            let Some(agent) = &mut member.agent else { continue };
            for (peer, said) in words.iter().filter(|(peer, _)| peer != name) {
                agent.heard.insert(peer.clone(), (now, said.clone()));
            }
        }
    }

    fn check(&mut self) {
        let primaries: Vec<String> = self
            .members
            .iter()
            // One that was frozen past its deadline, until its guard has run again: no clock can help
            // against that, and synchronous replication need not ask for one.
            .filter(|(_, member)| member.is_primary() && self.now > member.frozen_until)
            .map(|(name, member)| format!("{name} {:?}", member.guard.armed))
            .collect();
        if primaries.len() > 1 {
            self.fail(format!("more than one primary: {}", primaries.join(" and ")));
        }
    }

    fn at_rest(&self) -> bool {
        let Some(record) = self.state.held() else { return false };
        if record.paused || self.state.pause_wanted || !self.state.fenced.is_empty() {
            return false;
        }
        self.members.iter().all(|(name, member)| {
            member.server.as_ref().is_some_and(|server| {
                let leads = *name == record.holder && !server.in_recovery;
                let follows = (record.holder.clone(), record.epoch);
                server.open && (leads || server.streaming && server.upstream == Some(follows))
            })
        })
    }
}
