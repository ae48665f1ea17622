//! What actions do to disks and servers in the simulation.

use howdah_core::sync::Demand;
use howdah_core::sync::choose::Mode;
use howdah_core::{Action, Epoch, Lsn, MemberName, Position, Timeline};

use super::member::Server;
use super::{STEP, Sim};

const SYSTEM: u64 = 7_512_000_001;

impl Sim {
    /// A promotion that failed: PostgreSQL fell right after it, or it comes late.
    pub(super) fn promotes_half(&mut self, name: &MemberName, action: &Action) {
        if let Action::SetDemand { demand, .. } = action {
            return self.reaches_some(name, demand);
        }
        let Action::Promote { timeline, .. } = action else { return };
        match self.dice.between(0, 2) {
            0 => {
                self.effect(name, action);
                self.down(name);
            }
            1 => {
                let late = self.now + STEP * u32::try_from(self.dice.between(1, 40)).unwrap_or(1);
                if let Some(server) = self.members.get_mut(name).and_then(|m| m.server.as_mut()) {
                    server.promotes_at = Some((late, *timeline));
                }
            }
            _ => {}
        }
    }

    /// A setting that the postmaster has read, and some of its walsenders.
    fn reaches_some(&mut self, name: &MemberName, demand: &Demand) {
        let bits = self.dice.next();
        let Some(server) = self.members.get_mut(name).and_then(|m| m.server.as_mut()) else {
            return;
        };
        (server.demand, server.in_force_at) = (demand.clone(), None);
        for (nth, sender) in server.senders.values_mut().enumerate() {
            if bits >> nth & 1 == 1 {
                sender.demand = demand.clone();
            }
        }
    }

    /// What a server asks of commits that was not told otherwise.
    fn at_rest_demand(&self) -> Demand {
        let off = self.state.settings.synchronous_mode == Mode::Off;
        if off { Demand::nobody() } else { Demand::blocked() }
    }

    /// Late promotions take effect.
    pub(super) fn promote_late(&mut self) {
        let now = self.now;
        let due: Vec<(MemberName, Timeline)> = self
            .members
            .iter()
            .filter_map(|(name, member)| {
                let server = member.server.as_ref().filter(|server| server.in_recovery)?;
                let (_, timeline) = server.promotes_at.filter(|(at, _)| *at <= now)?;
                Some((name.clone(), timeline))
            })
            .collect();
        for (name, timeline) in due {
            self.say(format!("{name}: its promotion took effect late"));
            // Nobody gave it an authority any more.
            self.promote(&name, Epoch(0), timeline);
        }
    }

    /// What the action does; false: it could not.
    pub(super) fn effect(&mut self, name: &MemberName, action: &Action) -> bool {
        let now = self.now;
        let armed = self.members[name].guard.armed;
        let allowed = |epoch: &Epoch| armed.is_some_and(|(e, end)| e == *epoch && now < end);
        match action {
            Action::Kill => self.down(name),
            Action::Stop | Action::StopToRestart => self.shut_down(name),
            Action::StartIsolated => return self.start(name, None),
            Action::StartInPlace { epoch } => {
                return allowed(epoch) && self.start(name, Some(*epoch));
            }
            Action::Promote { epoch, timeline } => {
                return allowed(epoch) && self.promote(name, *epoch, *timeline);
            }
            Action::Rewind { source, fork, .. } => return self.rewind(name, source, *fork),
            Action::Clone { source, .. } => return self.copy(name, source),
            Action::Initdb { .. } => {
                let Some(member) = self.members.get_mut(name) else { return false };
                member.disk.system = Some(SYSTEM);
                member.disk.half_done = false;
                member.disk.wal.end = Position { timeline: Timeline(1), lsn: Lsn(0x0300_0000) };
            }
            other => return self.small(name, other),
        }
        true
    }

    /// Actions that change a server or a promise only.
    fn small(&mut self, name: &MemberName, action: &Action) -> bool {
        let now = self.now;
        let Some(member) = self.members.get_mut(name) else { return false };
        let Some(agent) = &mut member.agent else { return false };
        match (action, member.server.as_mut()) {
            (Action::Promise { epoch }, server) => {
                if let Some(server) = server {
                    (server.upstream, server.streaming) = (None, false);
                }
                member.disk.promise = member.disk.promise.max(*epoch);
                agent.promise_proven = Some(*epoch);
            }
            (Action::Follow { leader, epoch }, Some(server)) => {
                member.disk.promise = member.disk.promise.max(*epoch);
                agent.promise_proven = None;
                server.upstream = Some((leader.clone(), *epoch));
                let decided_at = agent.job.as_ref().map(|running| running.end);
                server.outran = decided_at != Some(member.disk.wal.end);
                agent.pg_since = now;
            }
            (Action::Open { .. }, Some(server)) => {
                server.open = true;
                self.becomes_visible(name);
            }
            (Action::SetDemand { demand, .. }, Some(server)) => {
                for sender in server.senders.values_mut() {
                    sender.demand = demand.clone();
                }
                server.demand = demand.clone();
                server.in_force_at = Some(member.disk.wal.end.lsn);
            }
            (Action::PreparePrimary { .. }, Some(_)) => {
                agent.prepared = true;
                agent.checkpoint_at.get_or_insert(now + STEP * 10);
            }
            _ => return false,
        }
        true
    }

    fn start(&mut self, name: &MemberName, authority: Option<Epoch>) -> bool {
        let (now, demand) = (self.now, self.at_rest_demand());
        let Some(member) = self.members.get_mut(name) else { return false };
        if member.disk.half_done || member.disk.system.is_none() || member.server.is_some() {
            let what = format!("{name} starts a directory that it must not start");
            self.fail(what);
            return false;
        }
        member.disk.shut_down = false;
        let in_recovery = authority.is_none();
        let began = member.disk.wal.end;
        member.server = Some(Server { in_recovery, authority, demand, began, ..Server::default() });
        let Some(agent) = &mut member.agent else { return false };
        (agent.promise_proven, agent.pg_since, agent.prepared) = (None, now, false);
        agent.restart = false;
        agent.checkpoint_at = authority.map(|_| now);
        true
    }

    fn promote(&mut self, name: &MemberName, epoch: Epoch, timeline: Timeline) -> bool {
        if self.members[name].server.as_ref().is_none_or(|server| !server.in_recovery) {
            return false;
        }
        if self.begun.insert(timeline, epoch).is_some() {
            self.fail(format!("{name} begins timeline {timeline}, which was begun before"));
        }
        let now = self.now;
        let Some(member) = self.members.get_mut(name) else { return false };
        let Some(server) = &mut member.server else { return false };
        member.disk.wal.fork(timeline);
        (server.in_recovery, server.open, server.authority) = (false, false, Some(epoch));
        (server.upstream, server.promotes_at) = (None, None);
        server.began = member.disk.wal.end;
        let Some(agent) = &mut member.agent else { return false };
        agent.pg_since = now;
        agent.checkpoint_at = Some(now + STEP * 10);
        true
    }

    fn serves(&self, source: &MemberName, name: &MemberName) -> bool {
        let member = &self.members[source];
        let reach = self.now >= member.cut_until && self.now >= self.members[name].cut_until;
        member.is_primary() && reach
    }

    fn rewind(&mut self, name: &MemberName, source: &MemberName, fork: Position) -> bool {
        if !self.serves(source, name) {
            return false;
        }
        let there = self.members[source].disk.clone();
        let mut here = self.members[name].disk.clone();
        here.wal.rewind(fork);
        if !here.wal.begins(&there.wal) {
            self.fail(format!("{name} is rewound to {fork}, which {source} does not have"));
            return false;
        }
        (here.half_done, here.shut_down) = (false, false);
        if let Some(member) = self.members.get_mut(name) {
            member.disk = here;
        }
        true
    }

    fn copy(&mut self, name: &MemberName, source: &MemberName) -> bool {
        if !self.serves(source, name) {
            return false;
        }
        let there = self.members[source].disk.clone();
        let Some(member) = self.members.get_mut(name) else { return false };
        member.disk.system = there.system;
        member.disk.wal = there.wal;
        (member.disk.half_done, member.disk.shut_down) = (false, false);
        true
    }
}
