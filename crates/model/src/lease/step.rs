//! What an act changes where time goes on.

use std::sync::Arc;
use std::time::Duration;

use howdah_core::rails::rails;
use howdah_core::{Ballot, Command, Incarnation, Nonce, Position, WallTime};
use howdah_guard::clock::Reading;
use howdah_guard::wire::Armed;

use super::act::{Act, gone_by};
use super::{Flight, SHORT_TTL_MS, World, holder_limit};
use crate::log::Logged;
use crate::start::FIRST;
use crate::world::{Id, name};

pub(super) fn next(world: &World, act: Act) -> Option<World> {
    let mut after = world.clone();
    after.act(act)?;
    (after != *world).then_some(after)
}

impl World {
    fn member(&mut self, id: Id) -> &mut super::Member {
        &mut self.members[usize::from(id)]
    }

    fn act(&mut self, act: Act) -> Option<()> {
        match act {
            Act::Tick => {
                self.time += 1;
                self.left.ticks -= 1;
            }
            Act::Send(id) => self.send(id)?,
            Act::Commit(nth) => {
                let Flight { epoch, incarnation, nonce, ttl_ms, .. } = self.flights.remove(nth);
                self.commit(&Command::Renew {
                    epoch,
                    incarnation,
                    nonce,
                    ttl_ms,
                    wal_lsn: FIRST.lsn,
                    paused: false,
                    seen: 0,
                });
            }
            Act::Hear(id) => self.hear(id),
            Act::Look(id) => self.look(id)?,
            Act::Dies(id) => self.dies(id),
            Act::Promote(id) => {
                let epoch = self.member(id).guard.armed()?.epoch;
                let reading = self.reading(id);
                // Asked right before the effect, as the guard does.
                self.member(id).guard.authority(epoch, reading).ok()?;
                self.member(id).writes = Some(epoch);
            }
            Act::Open(id, reason) => {
                let record = self.member(id).applied.state.leader.clone()?;
                self.commit(&Command::OpenElection {
                    observed_epoch: record.epoch,
                    observed_renewals: record.renewals,
                    reason,
                    by: name(id),
                    at: WallTime(0),
                });
            }
            Act::Win(id) => self.win(id)?,
            Act::Freeze(id) => {
                self.left.freezes -= 1;
                self.member(id).frozen = true;
            }
            Act::Thaw(id) => {
                self.member(id).frozen = false;
                // The first thing that a guard does.
                let _ = self.look(id);
                self.dies(id);
            }
            Act::Agent(id) => {
                self.left.agents -= 1;
                let now = self.clock(id);
                let member = self.member(id);
                member.sent.clear();
                member.record_seen = now;
                member.guard.forget_spent();
            }
            Act::Shorten => {
                self.left.shorter -= 1;
                self.ttl_ms = SHORT_TTL_MS;
            }
        }
        Some(())
    }

    fn reading(&self, id: Id) -> Reading {
        Reading { boot: self.clock(id), suspended: Duration::ZERO }
    }

    fn send(&mut self, id: Id) -> Option<()> {
        let (now, ttl_ms, reading) = (self.clock(id), self.ttl_ms, self.reading(id));
        let member = self.member(id);
        let shorter = member.applied.state.leader.as_ref().is_some_and(|it| ttl_ms < it.ttl_ms);
        if let Some(armed) = member.guard.armed().filter(|_| shorter && rails().cut_first) {
            let deadline = armed.deadline.min(now + holder_limit(ttl_ms));
            member.guard.arm(Armed { deadline, ..armed }, true, reading).ok()?;
        }
        member.renewed += 1;
        let nonce = Nonce(u64::from(id) * 100 + u64::from(member.renewed));
        let epoch = member.applied.state.held()?.epoch;
        member.sent.push((nonce, now, ttl_ms));
        let incarnation = member.incarnation;
        self.flights.push(Flight { by: id, incarnation, epoch, nonce, ttl_ms });
        self.flights.sort_unstable();
        Some(())
    }

    fn commit(&mut self, command: &Command) {
        let done = self.log.commit(command);
        self.wrong = self.wrong.or(done.wrong);
        if done.after == self.log {
            return;
        }
        self.log = done.after;
        for member in &mut self.members {
            member.unheard.push(Arc::<Logged>::clone(&self.log));
        }
    }

    /// The stopwatch begins anew, and the guard is told a deadline if the renewal is this agent's.
    fn hear(&mut self, id: Id) {
        let (now, reading) = (self.clock(id), self.reading(id));
        let member = self.member(id);
        member.applied = member.unheard.remove(0);
        member.record_seen = now;
        let own =
            member.applied.state.held().filter(|record| {
                record.holder == name(id) && record.incarnation == member.incarnation
            });
        let Some(record) = own else { return };
        let mine = member.sent.iter().find(|(nonce, ..)| *nonce == record.nonce);
        let last = member.sent.last().filter(|_| !rails().nonce && record.renewals > 0);
        let Some((_, sent, _)) = last.or(mine).copied() else { return };
        // A shorter ttl that was sent later may be in force already, unseen.
        let sent_ttls = member.sent.iter().map(|(.., ttl_ms)| *ttl_ms);
        let ttl_ms = sent_ttls.chain([record.ttl_ms]).min().filter(|_| rails().cut_first);
        let armed = Armed {
            epoch: record.epoch,
            renewals: record.renewals,
            deadline: sent + holder_limit(ttl_ms.unwrap_or(record.ttl_ms)),
        };
        // What the guard refuses is refused: the agent has no other means.
        let _ = member.guard.arm(armed, false, reading);
    }

    fn look(&mut self, id: Id) -> Option<()> {
        let reading = self.reading(id);
        let member = self.member(id);
        let deadline = member.guard.armed()?.deadline;
        member.guard.expire(reading)?;
        member.dies_by = Some(gone_by(deadline));
        Some(())
    }

    /// Every process is gone: the guard begins another life.
    fn dies(&mut self, id: Id) {
        let member = self.member(id);
        if member.dies_by.take().is_some() {
            member.writes = None;
            member.guard.begin_anew();
            member.incarnation = Incarnation(member.incarnation.0 + 1);
            member.sent.clear();
        }
    }

    fn win(&mut self, id: Id) -> Option<()> {
        let epoch = self.log.state.election.as_ref()?.epoch;
        let timeline = self.log.state.timelines.newest()?;
        let at = WallTime(0);
        let ballot = Ballot {
            incarnation: self.member(id).incarnation,
            position: Position { timeline, ..FIRST },
            priority: 1,
            ..Ballot::default()
        };
        self.left.epochs = self.left.epochs.checked_sub(1)?;
        self.commit(&Command::CastBallot { epoch, member: name(id), ballot, at });
        self.commit(&Command::CloseElection { epoch, waited_ms: 0, not_heard: Vec::new(), at });
        Some(())
    }
}
