//! One step of the world: what an act changes.

use howdah_core::rails::rails;
use howdah_core::{Action, Ballot, Command, Epoch, LeaseState, Lsn, Position, Timeline, WallTime};

use howdah_testkit::wal::{Sender, acknowledged};

use crate::act::{Act, Way};
use crate::invariant::Broken;
use crate::world::{Doing, Flight, Id, MEMBERS, Server, World, id as number, name};

/// The world after `act`; none: it could not happen.
pub fn next(world: &World, act: &Act) -> Option<World> {
    let mut after = world.clone();
    after.act(act)?;
    after.release();
    for (before, now) in world.members.iter().zip(&after.members) {
        if now.disk.promise < before.disk.promise && !matches!(act, Act::Wipe(_)) {
            after.wrong = Some(Broken::PromiseMonotone);
            break;
        }
    }
    (after != *world).then_some(after)
}

impl World {
    fn act(&mut self, act: &Act) -> Option<()> {
        match act {
            Act::Do(id, actions, way) => self.carry_out(*id, actions, *way),
            Act::Finish(id) => self.finish(*id)?,
            Act::Commit(nth) => {
                let Flight(command) = self.flights.remove(*nth);
                self.commit(&command);
            }
            Act::Hear(id) => self.hear(*id),
            Act::Attach(id) => self.attach(*id)?,
            Act::Stream(id) => self.stream(*id)?,
            Act::Reload(id, standby) => {
                let server = self.member(*id).server.as_mut()?;
                let demand = server.demand.clone();
                server.senders.get_mut(standby)?.demand = demand;
            }
            Act::Write(id) => {
                self.left.writes -= 1;
                let member = self.member(*id);
                member.disk.wal.end.lsn.0 += 1;
                member.server.as_mut()?.waiting.push(member.disk.wal.end.lsn);
            }
            Act::Restart(id) => self.restart(*id),
            other => {
                self.left.faults -= 1;
                self.fault(other)?;
            }
        }
        Some(())
    }

    /// The server is gone, and whoever streamed from it, or to it, knows.
    pub(crate) fn down(&mut self, id: Id) {
        self.leave_upstream(id);
        let member = self.member(id);
        member.server = None;
        if let Some(agent) = &mut member.agent
            && matches!(agent.doing, Some(Doing::Demand(_)))
        {
            agent.doing = None;
        }
        for other in 0..MEMBERS as Id {
            if self.at(other).follows(id)
                && let Some(server) = &mut self.member(other).server
            {
                server.streaming = false;
            }
        }
    }

    /// No walsender serves this standby any more.
    fn leave_upstream(&mut self, id: Id) {
        let standby = self.at(id).disk.standby(id);
        let Some(server) = &mut self.member(id).server else { return };
        server.streaming = false;
        let Some((from, _)) = server.upstream else { return };
        if let Some(upstream) = &mut self.member(from).server {
            upstream.senders.remove(&standby);
        }
    }

    fn attach(&mut self, id: Id) -> Option<()> {
        let (from, _) = self.at(id).server.as_ref()?.upstream?;
        let member = self.member(id);
        member.server.as_mut()?.streaming = true;
        let (standby, flushed) = (member.disk.standby(id), member.disk.wal.end.lsn);
        let server = self.member(from).server.as_mut()?;
        let demand = server.demand.clone();
        server.senders.entry(standby).or_insert(Sender { demand, flushed }).flushed = flushed;
        Some(())
    }

    fn stream(&mut self, id: Id) -> Option<()> {
        let (from, _) = self.at(id).server.as_ref()?.upstream?;
        self.member(id).disk.wal = self.at(from).disk.wal.clone();
        self.attach(id)
    }

    fn hear(&mut self, id: Id) {
        let member = self.member(id);
        member.applied = member.unheard.remove(0);
        member.deaf = !member.unheard.is_empty();
        self.take_in(id);
    }

    /// The state that was applied moves what the agent and its guard know of the lease.
    pub(crate) fn take_in(&mut self, id: Id) {
        let member = self.member(id);
        let Some(agent) = &mut member.agent else { return };
        let own = member.applied.state.leader.as_ref().filter(|record| {
            record.state == LeaseState::Held
                && record.holder == name(id)
                && record.incarnation == member.guard.incarnation
        });
        let Some(record) = own else {
            (agent.armed, agent.own_renewal) = (None, false);
            if member.server.as_ref().is_none_or(|server| server.authority.is_none()) {
                member.guard.armed = None;
            }
            return;
        };
        if agent.armed.is_some_and(|epoch| epoch != record.epoch) {
            (agent.armed, agent.own_renewal) = (None, false);
        }
        if record.nonce == agent.nonce(id) {
            (agent.armed, agent.own_renewal) = (Some(record.epoch), true);
            member.guard.armed = Some(record.epoch);
        }
    }

    /// Commits a command: whoever hears takes it in. Whether it changed anything.
    pub(crate) fn commit(&mut self, command: &Command) -> bool {
        let before = self.log.state.epoch();
        let done = self.log.commit(command);
        self.wrong = self.wrong.or(done.wrong);
        if done.after == self.log {
            return done.applied;
        }
        self.log = done.after;
        if let Some(record) = self.log.state.leader.as_ref().filter(|now| now.epoch > before) {
            let holder = number(&record.holder);
            self.grants.insert(record.epoch, holder);
            self.left.epochs = self.left.epochs.saturating_sub(1);
        }
        for id in 0..MEMBERS as Id {
            let newest = self.log.clone();
            let member = self.member(id);
            if member.deaf {
                member.unheard.push(newest);
            } else if member.agent.is_some() {
                member.applied = newest;
                self.take_in(id);
            }
        }
        done.applied
    }

    /// A member does what it decided, in that order.
    fn carry_out(&mut self, id: Id, actions: &[Action], way: Way) {
        match way {
            Way::Prompt => {}
            Way::Late => self.left.late -= 1,
            Way::Repeated => self.left.repeated -= 1,
        }
        if way != Way::Prompt {
            self.left.faults -= 1;
        }
        let had = self.at(id).agent.as_ref().is_some_and(|agent| agent.own_renewal);
        for action in actions {
            if matches!(action, Action::Renew { .. }) && had {
                self.left.renewals = self.left.renewals.saturating_sub(1);
            }
            if let Some(command) = self.command(id, action) {
                self.propose(id, command, way);
            } else {
                self.effect(id, action);
            }
        }
    }

    fn propose(&mut self, id: Id, command: Command, way: Way) {
        let sync = command.brings_generation();
        let hands_over = matches!(command, Command::TransferLease { .. });
        let gives = matches!(command, Command::Release { .. } | Command::TakeBack { .. });
        if let Some(agent) = &mut self.member(id).agent {
            if sync.is_some() {
                agent.settled = None;
            }
            if hands_over || gives {
                (agent.own_renewal, agent.life.1) = (false, agent.life.1 + 1);
            }
        }
        if way != Way::Prompt {
            self.flights.push(Flight(command.clone()));
        }
        let applied = way != Way::Late && self.commit(&command);
        let Some(agent) = &mut self.member(id).agent else { return };
        if applied && sync.is_some() {
            agent.settled = sync;
        }
        if hands_over && !applied {
            agent.hand_over_failed = true;
        }
    }

    fn ballot(&self, id: Id) -> Ballot {
        let member = self.at(id);
        member.disk.wal.ballot(member.guard.incarnation, member.disk.data_id)
    }

    /// The command that an action comes to, where it is one.
    fn command(&mut self, id: Id, action: &Action) -> Option<Command> {
        let at = WallTime(0);
        let incarnation = self.at(id).guard.incarnation;
        Some(match action {
            Action::Renew { epoch, paused } => {
                let member = self.at(id);
                let written = member.primary().map_or(Lsn(0), |_| member.disk.wal.end.lsn);
                Command::Renew {
                    epoch: *epoch,
                    incarnation,
                    nonce: member.agent.as_ref()?.nonce(id),
                    ttl_ms: self.log.state.settings.ttl_ms,
                    wal_lsn: written,
                    paused: *paused,
                    seen: member.applied.state.held().map_or(0, |record| record.renewals),
                }
            }
            Action::Propose(command) => (**command).clone(),
            Action::Vote { epoch, barred, bar_only } => {
                let disk = &mut self.member(id).disk;
                disk.promise = disk.promise.max(*epoch);
                let mut ballot = self.ballot(id);
                (ballot.barred, ballot.bar_only) = (barred.clone(), *bar_only);
                Command::CastBallot { epoch: *epoch, member: name(id), ballot, at }
            }
            Action::RecordTimeline { epoch, timeline } => {
                let history = self.at(id).disk.wal.history.clone();
                Command::RecordTimeline {
                    epoch: *epoch,
                    incarnation,
                    timeline: *timeline,
                    history,
                    at,
                }
            }
            Action::HandOver { epoch, to } => return self.hand_over(id, *epoch, number(to)),
            _ => return None,
        })
    }

    /// Stops; the walsenders send the rest, as a fast shutdown has it. Then the transfer.
    fn hand_over(&mut self, id: Id, epoch: Epoch, to: Id) -> Option<Command> {
        let there = &self.at(to).disk.wal;
        let can = self.at(to).follows(id) && there.begins(&self.at(id).disk.wal);
        if can {
            self.stream(to)?;
        }
        let (end, renewals) =
            (self.at(id).disk.wal.end, self.at(id).applied.state.held()?.renewals);
        self.down(id);
        if !can {
            self.member(id).agent.as_mut()?.hand_over_failed = true;
            return None;
        }
        Some(Command::TransferLease {
            from: name(id),
            incarnation: self.at(id).guard.incarnation,
            epoch,
            renewals,
            to: name(to),
            shutdown_lsn: end.lsn,
            ballot: self.ballot(to),
            at: WallTime(0),
        })
    }

    /// What an action does to disk and server.
    fn effect(&mut self, id: Id, action: &Action) {
        match action {
            Action::Kill | Action::Stop | Action::StopToRestart => self.down(id),
            Action::StartIsolated => self.start(id, None),
            Action::StartInPlace { epoch } => self.start(id, Some(*epoch)),
            Action::Promote { epoch, timeline } => self.promote(id, *epoch, *timeline),
            Action::Promise { epoch } => {
                self.leave_upstream(id);
                let member = self.member(id);
                member.disk.promise = member.disk.promise.max(*epoch);
                if let Some(server) = &mut member.server {
                    server.upstream = None;
                }
                if let Some(agent) = &mut member.agent {
                    agent.promise_proven = Some(*epoch);
                }
            }
            Action::Follow { leader, epoch } => {
                self.leave_upstream(id);
                let member = self.member(id);
                member.disk.promise = member.disk.promise.max(*epoch);
                if let Some(server) = &mut member.server {
                    server.upstream = Some((number(leader), *epoch));
                }
                if let Some(agent) = &mut member.agent {
                    agent.promise_proven = None;
                }
            }
            Action::Rewind { source, fork, .. } => self.replace(id, number(source), Some(*fork)),
            Action::Clone { source, .. } => self.replace(id, number(source), None),
            Action::SetDemand { demand, .. } => {
                let member = self.member(id);
                if let (Some(server), Some(agent)) = (&mut member.server, &mut member.agent) {
                    (server.demand, server.in_force_at) = (demand.clone(), None);
                    agent.doing = Some(Doing::Demand(demand.clone()));
                }
            }
            Action::Open { .. } => self.open(id),
            _ => {}
        }
    }

    fn start(&mut self, id: Id, authority: Option<Epoch>) {
        let member = self.member(id);
        let allowed = authority.is_none_or(|epoch| member.guard.armed == Some(epoch));
        if !allowed || member.server.is_some() || !member.disk.whole || member.disk.half_done {
            return;
        }
        member.server = Some(Server {
            authority,
            demand: howdah_core::sync::Demand::blocked(),
            began: member.disk.wal.end,
            ..Server::default()
        });
        if let Some(agent) = &mut member.agent {
            (agent.promise_proven, agent.hand_over_failed) = (None, false);
        }
    }

    fn promote(&mut self, id: Id, epoch: Epoch, timeline: Timeline) {
        let member = self.member(id);
        let Some(server) = member.server.as_mut().filter(|server| server.authority.is_none())
        else {
            return;
        };
        if member.guard.armed != Some(epoch) {
            return;
        }
        member.disk.wal.fork(timeline);
        (server.authority, server.open, server.upstream) = (Some(epoch), false, None);
        server.began = member.disk.wal.end;
        if !self.begun.insert(timeline) {
            self.wrong = Some(Broken::PrefixChain);
        }
    }

    fn replace(&mut self, id: Id, from: Id, fork: Option<Position>) {
        self.down(id);
        let member = self.member(id);
        member.disk.half_done = true;
        if rails().data_id {
            member.disk.draw(id);
        }
        if let Some(agent) = &mut member.agent {
            agent.doing = Some(Doing::Replace(from, fork));
        }
    }

    fn finish(&mut self, id: Id) -> Option<()> {
        let doing = self.member(id).agent.as_mut()?.doing.take()?;
        let (from, fork) = match doing {
            Doing::Demand(demand) => {
                self.prove(id, &demand);
                return Some(());
            }
            Doing::Replace(from, fork) => (from, fork),
        };
        if self.at(from).primary().is_none() {
            return Some(());
        }
        let there = self.at(from).disk.wal.clone();
        let disk = &mut self.member(id).disk;
        match fork {
            Some(fork) => {
                disk.wal.rewind(fork);
                if !disk.wal.begins(&there) {
                    self.wrong = Some(Broken::PrefixChain);
                    return Some(());
                }
            }
            None => disk.wal = there,
        }
        (disk.whole, disk.half_done) = (true, false);
        Some(())
    }

    /// Walsenders that may go by an older setting are ended.
    fn prove(&mut self, id: Id, demand: &howdah_core::sync::Demand) {
        let member = self.member(id);
        let Some(server) = member.server.as_mut().filter(|server| server.demand == *demand) else {
            return;
        };
        let old: Vec<_> = server
            .senders
            .iter()
            .filter(|(_, sender)| sender.demand != *demand)
            .map(|(standby, _)| standby.clone())
            .collect();
        server.senders.retain(|standby, _| !old.contains(standby));
        server.in_force_at = Some(member.disk.wal.end.lsn);
        for standby in old {
            if let Some(server) = &mut self.member(number(&standby.member)).server {
                server.streaming = false;
            }
        }
    }

    /// Clients are let in: all that is there is visible to them.
    fn open(&mut self, id: Id) {
        let member = self.member(id);
        let Some(server) = &mut member.server else { return };
        server.open = true;
        let Some(epoch) = server.authority else { return };
        let (timeline, lsn) = (member.disk.wal.written_on(server.began), server.began.lsn);
        let known = self.seen.entry((epoch, timeline)).or_default();
        *known = lsn.max(*known);
    }

    /// Commits that enough standbys have are acknowledged, at once: later would be kinder.
    fn release(&mut self) {
        for id in 0..MEMBERS as Id {
            let member = self.member(id);
            let timeline = member.disk.wal.end.timeline;
            let Some(server) = &mut member.server else { continue };
            let Some(epoch) = server.authority else { continue };
            let told = |lsn: &Lsn| acknowledged(&server.demand, &server.senders, *lsn);
            let (done, left): (Vec<Lsn>, Vec<Lsn>) = server.waiting.iter().copied().partition(told);
            server.waiting = left;
            if let Some(last) = done.into_iter().max() {
                let known = self.acked.entry((epoch, timeline)).or_default();
                *known = last.max(*known);
            }
        }
    }
}
