//! What goes wrong in the simulation, and how it comes back.

use std::time::Duration;

use howdah_core::rails::rails;
use howdah_core::{Command, DataId, Incarnation, MemberName, WallTime};

use super::member::{Agent, Disk};
use super::{STEP, Sim};

impl Sim {
    fn any(&mut self) -> MemberName {
        let index = self.dice.between(0, self.members.len() as u64 - 1);
        let index = usize::try_from(index).unwrap_or(0);
        self.members.keys().nth(index).cloned().unwrap_or_default()
    }

    /// Once in 1.5 seconds on average, something happens.
    pub(super) fn fault(&mut self) {
        if !self.dice.once_in(30) {
            return;
        }
        let name = self.any();
        let away = self.now + Duration::from_millis(self.dice.between(200, 12_000));
        let short = self.now + STEP * 4;
        let kind = self.dice.between(0, 11);
        let (deaf, mute) = (self.dice.between(1, 4), self.dice.between(3, 8));
        let now = self.now;
        let Some(member) = self.members.get_mut(&name) else { return };
        let what = match kind {
            0 if member.agent.is_some() => {
                member.crash(away);
                "its machine is gone"
            }
            1 if member.agent.is_some() => {
                // Guard and server live on.
                (member.agent, member.back_at) = (None, short);
                if let Some(server) = &mut member.server {
                    // What it had proven, nobody knows any more.
                    server.in_force_at = None;
                }
                "its agent crashed"
            }
            2 | 3 if member.server.is_some() => {
                member.server_gone(now);
                "PostgreSQL crashed"
            }
            4 => {
                member.cut_until = away;
                "cut off"
            }
            5 if member.agent.is_some() && member.stopping.is_none() => {
                member.stopping = Some(now);
                "told to stop"
            }
            6 if member.server.is_some() => {
                if let Some(server) = &mut member.server {
                    server.hung_since.get_or_insert(now);
                }
                "PostgreSQL hangs"
            }
            9 => {
                member.frozen_until = away;
                "frozen"
            }
            10 => {
                // Each of these alone is harmless for the lease.
                member.deaf_until = now + Duration::from_secs(deaf);
                let from = now + Duration::from_millis(100 * mute);
                member.mute = (from, from + Duration::from_secs(mute));
                "hears nothing, then is not heard"
            }
            11 => return self.roll_back(&name),
            7 => return self.operator(&name),
            8 => return self.wipe(&name),
            _ => return,
        };
        self.say(format!("{name}: {what}"));
    }

    fn operator(&mut self, name: &MemberName) {
        let Some(record) = self.state.leader.clone() else { return };
        let (epoch, from, at) = (record.epoch, record.holder, WallTime(0));
        let member = name.clone();
        let command = match self.dice.between(0, 9) {
            0..=2 => Command::Failover {
                epoch,
                candidate: Some(member),
                allow_data_loss: false,
                holder_is_stopped: false,
                at,
            },
            3..=5 => Command::RequestSwitchover { epoch, from, to: member, at },
            6 => {
                if let Some(agent) = self.members.get_mut(name).and_then(|m| m.agent.as_mut()) {
                    agent.restart = true;
                    self.say(format!("{name}: an operator wants a restart"));
                }
                return;
            }
            7 => Command::SetPause { paused: !self.state.pause_wanted, at },
            _ => {
                let fenced = !self.state.fenced.contains(&member);
                Command::SetFence { member, fenced, at }
            }
        };
        self.propose(name, "operator", command);
    }

    /// After the storm the operator leaves nothing behind.
    pub(super) fn tidy(&mut self) {
        if !self.dice.once_in(20) {
            return;
        }
        let (name, at) = (self.any(), WallTime(0));
        if self.state.pause_wanted {
            self.propose(&name, "operator", Command::SetPause { paused: false, at });
        }
        if let Some(member) = self.state.fenced.first().cloned() {
            self.propose(&name, "operator", Command::SetFence { member, fenced: false, at });
        }
    }

    /// A member's machine is replaced by an empty one, while the others have data.
    fn wipe(&mut self, name: &MemberName) {
        let leads = self.state.leader.as_ref().is_some_and(|record| record.holder == *name);
        let others = self.members.iter().filter(|(other, _)| *other != name);
        let whole = others.clone().all(|(_, m)| m.disk.system.is_some() && !m.disk.half_done);
        if leads || !whole || self.state.election.is_some() || self.needs(name) {
            return;
        }
        let back = self.now + STEP * 10;
        if let Some(member) = self.members.get_mut(name) {
            member.crash(back);
            let data_id = if rails().data_id { DataId::default() } else { member.disk.data_id };
            member.disk = Disk { data_id, ..Disk::default() };
            self.say(format!("{name}: its machine was replaced by an empty one"));
        }
    }

    /// A member's volume goes back to what it was a while ago: a snapshot, or a disk that lied.
    fn roll_back(&mut self, name: &MemberName) {
        let leads = self.state.leader.as_ref().is_some_and(|record| record.holder == *name);
        let fresh = DataId(self.dice.next());
        let (back, needed) = (self.now + STEP * 10, self.needs(name));
        let Some(member) = self.members.get_mut(name) else { return };
        let whole = member.disk.system.is_some() && !member.disk.half_done;
        let old = member.snapshot.replace(member.disk.clone()).filter(|_| whole);
        let Some(mut old) = old.filter(|old| old.system.is_some() && !old.half_done) else {
            return;
        };
        if leads || needed || self.state.election.is_some() {
            return;
        }
        // The identity file has a floor, which the disk's end now lies below.
        old.promise = member.disk.promise;
        if rails().data_id {
            old.data_id = fresh;
        } else {
            old.data_id = member.disk.data_id;
        }
        member.crash(back);
        member.disk = old;
        self.say(format!("{name}: its volume went back in time"));
    }

    /// Whether no election could close any more without this member's contents: only an operator
    /// could go on then, and writes may be lost.
    fn needs(&self, name: &MemberName) -> bool {
        let Some(sync) = self.state.sync.record() else { return false };
        let intact = |one: &&howdah_core::sync::Standby| {
            one.member != *name
                && self.members.get(&one.member).is_some_and(|member| {
                    member.disk.data_id == one.data_id && !member.disk.half_done
                })
        };
        let votes = sync.pair.voters.iter().filter(intact).count();
        votes < sync.pair.votes && !sync.whole.iter().any(|one| intact(&one))
    }

    /// Whoever was away comes back.
    pub(super) fn revive(&mut self) {
        let now = self.now;
        let names: Vec<MemberName> = self.members.keys().cloned().collect();
        for name in names {
            let life = Incarnation(self.dice.next());
            let data_id = howdah_core::DataId(self.dice.next());
            let Some(member) = self.members.get_mut(&name) else { continue };
            if member.agent.is_some() || now < member.back_at {
                continue;
            }
            if member.guard.incarnation == Incarnation(0) {
                member.guard.incarnation = life;
            }
            if member.disk.data_id.0 == 0 {
                member.disk.data_id = data_id;
            }
            let mut agent = Agent { started: now, pg_since: now, ..Agent::default() };
            (agent.lease.record_seen, agent.lease.election_seen) = (now, now);
            agent.void_before = now;
            member.agent = Some(agent);
            self.say(format!("{name}: its agent is up"));
        }
    }
}
