//! The executor of the simulation: takes in the log, decides, and lets actions take effect.

use std::time::Duration;

use howdah_core::rails::rails;
use howdah_core::view::{Failure, Job, View};
use howdah_core::{
    Action, Ballot, Command, DataId, Epoch, LeaseState, Lsn, MemberName, Nonce, Reason, WallTime,
    decide,
};

use super::member::{Agent, Member, Running};
use super::{Flight, STEP, Sim};

/// A job's name in the report.
fn short(job: Job) -> &'static str {
    match job {
        Job::Start => "start",
        Job::StartInPlace => "start in place",
        Job::Promote => "promote",
        Job::Follow => "follow",
        Job::Rewind => "rewind",
        Job::Clone => "clone",
        Job::HandOver => "hand over",
        Job::Kill => "kill",
        Job::Stop => "stop",
        Job::Restart => "restart",
        Job::Reload => "reload",
        Job::Initdb => "initdb",
        Job::Promise => "promise",
        Job::Doors => "doors",
        Job::Prepare => "prepare",
        Job::Sync => "sync",
    }
}

/// No authority any more.
pub(super) fn lose(agent: &mut Agent) {
    (agent.lease.deadline, agent.lease.armed, agent.lease.own_renewal) = (None, None, false);
    (agent.lease.renewal_sent, agent.lease.renewed) = (None, None);
    agent.sent.clear();
}

impl Sim {
    /// Applies what was committed, and moves the lease's clock.
    pub(super) fn take_in(&mut self, name: &MemberName) {
        let (now, limit) = (self.now, self.timings.holder);
        let late = self.stormy && self.dice.once_in(3);
        let Some(member) = self.members.get_mut(name) else { return };
        let connected = member.connected(now) && now >= member.deaf_until && !late;
        let Some(agent) = &mut member.agent else { return };
        while connected && member.applied < self.log.len() {
            let command = self.log[member.applied].clone();
            member.applied += 1;
            member.state.apply(member.applied as u64, command);
        }
        let state = &member.state;
        let record = state.leader.as_ref();
        let key = format!(
            "{} {} {:?} {:?}",
            state.epoch(),
            record.map_or(0, |record| record.renewals),
            record.map(|record| record.state),
            state.election.as_ref().map(|open| open.epoch)
        );
        if key == agent.key {
            return;
        }
        if state.election.is_some() && !agent.key.contains("Some(Epoch") {
            agent.lease.election_seen = now;
        }
        agent.key = key;
        agent.lease.record_seen = now;
        let own = record.filter(|record| {
            record.state == LeaseState::Held
                && record.holder == *name
                && record.incarnation == member.guard.incarnation
        });
        let Some(record) = own else {
            lose(agent);
            if member.server.as_ref().is_none_or(|server| server.in_recovery) {
                member.guard.armed = None;
            }
            return;
        };
        if agent.lease.armed.is_some_and(|epoch| epoch != record.epoch) {
            lose(agent);
        }
        let drawn = agent.sent.get(&record.nonce).copied();
        // Without that rail: whichever attempt is the last one.
        let last = || agent.sent.values().max().copied().filter(|_| !rails().nonce);
        let Some(sent) = last().or(drawn) else { return };
        agent.lease.renewed = Some(sent);
        if record.paused {
            member.guard.armed = None;
            (agent.lease.armed, agent.lease.deadline) = (None, None);
            agent.lease.own_renewal |= sent >= agent.void_before;
            return;
        }
        let deadline = sent + limit;
        if deadline <= now {
            return;
        }
        member.guard.armed = Some((record.epoch, deadline));
        (agent.lease.armed, agent.lease.deadline) = (Some(record.epoch), Some(deadline));
        if sent >= agent.void_before {
            agent.lease.own_renewal = true;
        }
    }

    /// What this member decides is begun.
    pub(super) fn act(&mut self, name: &MemberName) {
        let (now, quorum) = (self.now, self.quorum(name));
        let expected = self.members.len();
        let member = &self.members[name];
        let Some(agent) = &member.agent else { return };
        let mut lease = agent.lease.clone();
        lease.renewing = agent.under_way.contains_key("renew") || agent.withheld;
        let heard = agent.heard.iter().map(|(peer, (at, said))| {
            let mut said = said.clone();
            said.age = now.since(*at);
            (peer.clone(), said)
        });
        let decision = decide(&View {
            state: &member.state,
            me: name.clone(),
            now,
            timings: self.timings,
            node: member.node(now, quorum, expected),
            lease,
            local: member.local(agent, now, &self.timings),
            peers: heard.collect(),
        });
        let sentence = decision.reason.to_string();
        if sentence != agent.last {
            self.say(format!("{name}: {sentence}"));
            if let Some(agent) = self.agent(name) {
                agent.last = sentence;
            }
        }
        for action in decision.actions {
            self.begin(name, action, &decision.reason);
        }
    }

    fn agent(&mut self, name: &MemberName) -> Option<&mut Agent> {
        self.members.get_mut(name)?.agent.as_mut()
    }

    fn begin(&mut self, name: &MemberName, action: Action, reason: &Reason) {
        match action {
            Action::Renew { epoch, paused } => self.renew(name, epoch, paused),
            Action::Propose(command) => self.put(name, *command, reason),
            Action::Vote { epoch, barred, bar_only } => {
                if let Some(member) = self.members.get_mut(name) {
                    member.disk.promise = member.disk.promise.max(epoch);
                }
                let mut ballot = self.ballot(name);
                (ballot.barred, ballot.bar_only) = (barred, bar_only);
                let member = name.clone();
                let vote = Command::CastBallot { epoch, member, ballot, at: WallTime(0) };
                self.once(name, "ballot", vote);
            }
            Action::RecordTimeline { epoch, timeline } => {
                let member = &self.members[name];
                let record = Command::RecordTimeline {
                    epoch,
                    incarnation: member.guard.incarnation,
                    timeline,
                    history: member.disk.wal.history.clone(),
                    at: WallTime(0),
                };
                self.once(name, "timeline", record);
            }
            Action::End => {
                let back = self.now + Duration::from_millis(self.dice.between(100, 5000));
                if let Some(member) = self.members.get_mut(name) {
                    member.crash(back);
                }
            }
            other => self.begin_job(name, other),
        }
    }

    fn renew(&mut self, name: &MemberName, epoch: Epoch, paused: bool) {
        let (now, nonce) = (self.now, Nonce(self.dice.next()));
        let (ttl_ms, deadline) = (self.state.settings.ttl_ms, now + self.timings.holder);
        if let Some(member) = self.members.get_mut(name)
            && member.state.paused()
            && !paused
        {
            // Out of the pause: the guard's deadline first.
            member.guard.armed.get_or_insert((epoch, deadline));
        }
        let member = &self.members[name];
        let written = if member.is_primary() { member.disk.wal.end.lsn } else { Lsn(0) };
        let incarnation = member.guard.incarnation;
        let seen = member.state.held().map_or(0, |record| record.renewals);
        if let Some(agent) = self.agent(name) {
            agent.sent.insert(nonce, now);
            agent.lease.renewal_sent = Some(now);
        }
        let wal_lsn = written;
        let command = Command::Renew { epoch, incarnation, nonce, ttl_ms, wal_lsn, paused, seen };
        self.once(name, "renew", command);
    }

    fn put(&mut self, name: &MemberName, command: Command, reason: &Reason) {
        let now = self.now;
        let kind = match &command {
            Command::Release { .. } => "release",
            Command::TakeBack { .. } => "take-back",
            Command::OpenElection { .. } => "open",
            Command::CloseElection { .. } => "close",
            Command::ChangeSync { .. } | Command::Barrier { .. } => "sync",
            _ => "other",
        };
        let release = match &command {
            Command::Release { epoch, .. } => Some(*epoch),
            _ => None,
        };
        let Some(agent) = self.agent(name) else { return };
        if agent.under_way.contains_key(kind) {
            return;
        }
        if kind == "sync" {
            agent.sync_settled = None;
        }
        if kind == "release" || kind == "take-back" {
            (agent.void_before, agent.lease.own_renewal, agent.withheld) = (now, false, true);
        }
        if let (Some(epoch), Reason::GivesUp { .. }) = (release, reason) {
            agent.bar_only = Some(epoch);
        }
        self.once(name, kind, command);
    }

    /// Proposes, unless one of the kind is under way.
    fn once(&mut self, name: &MemberName, kind: &'static str, command: Command) {
        let until = self.now + self.timings.renew_every;
        let Some(agent) = self.agent(name) else { return };
        if agent.under_way.contains_key(kind) {
            return;
        }
        agent.under_way.insert(kind, until);
        self.propose(name, kind, command);
    }

    pub(super) fn answer(&mut self, flight: &Flight, done: bool) {
        let Some(agent) = self.agent(&flight.from) else { return };
        agent.under_way.remove(flight.kind);
        match flight.kind {
            "release" | "take-back" => agent.withheld = false,
            "sync" if done => agent.sync_settled = flight.command.brings_generation(),
            "transfer" => self.end_job(&flight.from, done),
            _ => {}
        }
    }

    fn ballot(&self, name: &MemberName) -> Ballot {
        let member = &self.members[name];
        member.disk.wal.ballot(member.guard.incarnation, member.disk.data_id)
    }

    fn begin_job(&mut self, name: &MemberName, action: Action) {
        let (job, least, most) = match &action {
            Action::Kill => (Job::Kill, 1, 2),
            Action::Stop => (Job::Stop, 1, 10),
            Action::StopToRestart => (Job::Restart, 1, 10),
            Action::StartIsolated => (Job::Start, 4, 20),
            Action::StartInPlace { .. } => (Job::StartInPlace, 4, 20),
            Action::Initdb { .. } => (Job::Initdb, 10, 40),
            Action::Promise { .. } => (Job::Promise, 1, 4),
            Action::Promote { .. } => (Job::Promote, 1, 10),
            Action::Follow { .. } => (Job::Follow, 1, 4),
            Action::Rewind { .. } => (Job::Rewind, 10, 60),
            Action::Clone { .. } => (Job::Clone, 20, 100),
            Action::Open { .. } => (Job::Doors, 1, 2),
            Action::PreparePrimary { .. } => (Job::Prepare, 1, 4),
            Action::SetDemand { .. } => (Job::Sync, 1, 4),
            _ => (Job::HandOver, 2, 20),
        };
        let steps = u32::try_from(self.dice.between(least, most)).unwrap_or(1);
        let due = self.now + STEP * steps;
        let data_id = DataId(self.dice.next());
        let now = self.now;
        let Some(member) = self.members.get_mut(name) else { return };
        let Some(agent) = &mut member.agent else { return };
        let busy = agent.job.as_ref().map(|running| running.job);
        if busy.is_some() && (job != Job::Kill || busy == Some(Job::Kill)) {
            return;
        }
        let end = member.disk.wal.end;
        agent.job = Some(Running { action, job, due, waits: false, end });
        if matches!(job, Job::Rewind | Job::Clone) {
            // From here on the directory is neither the old one nor the new one.
            member.disk.half_done = true;
            if rails().data_id {
                member.disk.data_id = data_id;
            }
            if member.server.is_some() {
                member.server_gone(now);
            }
        }
    }

    /// The job that is due takes effect, or fails.
    pub(super) fn finish_job(&mut self, name: &MemberName) {
        let now = self.now;
        let Some(agent) = self.agent(name) else { return };
        // Answers that did not come are not waited for.
        agent.under_way.retain(|_, until| *until > now);
        let waits = ["release", "take-back", "transfer"];
        if !waits.iter().any(|kind| agent.under_way.contains_key(kind)) {
            agent.withheld = false;
        }
        let Some(running) = agent.job.clone() else { return };
        if running.waits {
            if !agent.under_way.contains_key("transfer") {
                self.end_job(name, false);
            }
            return;
        }
        if now < running.due {
            return;
        }
        let unlucky = self.stormy && self.dice.once_in(10);
        let ends = !matches!(running.job, Job::Kill | Job::Stop | Job::Restart);
        if unlucky && ends {
            self.promotes_half(name, &running.action);
            return self.end_job(name, false);
        }
        if running.job == Job::HandOver {
            return self.hand_over(name, &running.action);
        }
        let done = self.effect(name, &running.action);
        self.end_job(name, done);
    }

    pub(super) fn down(&mut self, name: &MemberName) {
        let now = self.now;
        if let Some(member) = self.members.get_mut(name) {
            member.server_gone(now);
        }
    }

    /// An orderly stop, which only a primary writes down as such.
    pub(super) fn shut_down(&mut self, name: &MemberName) {
        let server = |member: &Member| member.server.as_ref().map(|server| server.in_recovery);
        let primary = self.members.get(name).and_then(server) == Some(false);
        self.down(name);
        if let Some(member) = self.members.get_mut(name) {
            member.disk.shut_down |= primary;
        }
    }

    fn end_job(&mut self, name: &MemberName, done: bool) {
        let now = self.now;
        let Some(agent) = self.agent(name) else { return };
        let Some(running) = agent.job.take() else { return };
        let job = running.job;
        if done {
            *self.report.jobs.entry(short(job)).or_default() += 1;
        }
        let Some(agent) = self.agent(name) else { return };
        let keeps = matches!(
            job,
            Job::Start | Job::Kill | Job::Stop | Job::Restart | Job::Promise | Job::Follow
        );
        if done && !keeps {
            agent.failed = None;
        }
        if !done {
            agent.withheld = false;
            let last = agent.failed.as_ref().filter(|failed| failed.job == job);
            let count = last.map_or(0, |failed| failed.count) + 1;
            agent.failed = Some(Failure { job, at: now, count, why: "the dice say so".into() });
            self.say(format!("{name}: {job} failed"));
        }
    }

    /// Stops, lets the receiver catch up, and proposes the transfer.
    fn hand_over(&mut self, name: &MemberName, action: &Action) {
        let Action::HandOver { epoch, to } = action else { return };
        let lucky = !self.stormy || !self.dice.once_in(4);
        let end = self.members[name].disk.wal.clone();
        let follows = self.members[to].server.as_ref().is_some_and(|server| server.streaming);
        if let Some(receiver) = self.members.get_mut(to)
            && lucky
            && follows
            && receiver.connected(self.now)
        {
            receiver.disk.wal = end.clone();
        }
        self.shut_down(name);
        let reached = self.members[to].disk.wal.end == end.end && self.members[to].server.is_some();
        let state = &self.members[name].state;
        let record = state.leader.clone().filter(|record| record.epoch == *epoch);
        let Some(record) = record.filter(|_| reached) else { return self.end_job(name, false) };
        let command = Command::TransferLease {
            from: name.clone(),
            incarnation: self.members[name].guard.incarnation,
            epoch: *epoch,
            renewals: record.renewals,
            to: to.clone(),
            shutdown_lsn: end.end.lsn,
            ballot: self.ballot(to),
            at: WallTime(0),
        };
        let now = self.now;
        if let Some(agent) = self.agent(name) {
            (agent.void_before, agent.lease.own_renewal, agent.withheld) = (now, false, true);
            if let Some(running) = &mut agent.job {
                running.waits = true;
            }
        }
        self.once(name, "transfer", command);
    }
}
