//! Commits in the simulation: who waits, who acknowledges, and what was promised never to be lost.
//!
//! Faithful to PostgreSQL where it matters: each walsender goes by the setting that it read last, and
//! releases commits by that alone; a new setting reaches walsenders one by one.

use std::collections::BTreeMap;

use howdah_core::{ClusterState, Epoch, Lsn, MemberName, Timeline};

use super::Sim;
use crate::wal::{Sender, acknowledged};

/// What must never be lost: on each timeline the last commit that was acknowledged, or seen by a
/// client, while the log was in a synchronous state.
#[derive(Debug, Default)]
pub(super) struct Promised {
    last: BTreeMap<Timeline, Lsn>,
    /// Epochs that are over: whether the log promised anything to their clients when they ended.
    ended: BTreeMap<Epoch, bool>,
}

impl Sim {
    /// A change of the log: without synchronous replication nothing is promised any more.
    pub(super) fn follow_promise(&mut self, before: &ClusterState) {
        if self.state.sync.generation() != before.sync.generation() {
            self.report.sync_changes += 1;
        }
        if self.state.sync.record().is_none() {
            self.promised.last.clear();
        }
        if self.state.epoch() != before.epoch() {
            self.promised.ended.insert(before.epoch(), before.sync.record().is_some());
        }
    }

    /// Whether the log promises that what this server acknowledges is never lost. One whose epoch ended
    /// without synchronous replication goes on by what that epoch asked, however late it wakes up.
    fn is_promised(&self, name: &MemberName) -> bool {
        let server = self.members.get(name).and_then(|member| member.server.as_ref());
        let ended = server.and_then(|server| self.promised.ended.get(&server.authority?));
        ended.copied().unwrap_or_else(|| self.state.sync.record().is_some())
    }

    /// Walsenders come and go, and release what waits for them.
    pub(super) fn acknowledge(&mut self) {
        let names: Vec<MemberName> = self.members.keys().cloned().collect();
        for name in &names {
            self.attach(name);
            self.release(name);
        }
        self.keep_promise();
    }

    fn attach(&mut self, name: &MemberName) {
        let now = self.now;
        let follows = |member: &super::Member| {
            let server = member.server.as_ref().filter(|server| server.streaming)?;
            server
                .upstream
                .as_ref()
                .filter(|(leader, _)| leader == name)
                .map(|_| member.disk.wal.end.lsn)
        };
        let here: BTreeMap<_, Lsn> = self
            .members
            .iter()
            .filter_map(|(other, member)| Some((member.disk.standby(other), follows(member)?)))
            .collect();
        let Some(member) = self.members.get_mut(name) else { return };
        if member.is_frozen(now) {
            return;
        }
        let Some(server) = &mut member.server else { return };
        server.senders.retain(|standby, _| here.contains_key(standby));
        for (standby, flushed) in here {
            let fresh = || Sender { demand: server.demand.clone(), flushed };
            server.senders.entry(standby).or_insert_with(fresh).flushed = flushed;
        }
        let alone = server.senders.is_empty();
        server.alone_since = alone.then(|| server.alone_since.unwrap_or(now));
    }

    fn release(&mut self, name: &MemberName) {
        let now = self.now;
        let promised = self.is_promised(name);
        let Some(member) = self.members.get_mut(name) else { return };
        if member.is_frozen(now) {
            return;
        }
        let timeline = member.disk.wal.end.timeline;
        let Some(server) = member.server.as_mut().filter(|server| !server.in_recovery) else {
            return;
        };
        let told = |lsn: &Lsn| acknowledged(&server.demand, &server.senders, *lsn);
        let (done, left): (Vec<Lsn>, Vec<Lsn>) = server.waiting.iter().copied().partition(told);
        server.waiting = left;
        if promised && let Some(last) = done.iter().max() {
            self.report.promised += done.len();
            let known = self.promised.last.entry(timeline).or_default();
            *known = (*last).max(*known);
        }
    }

    /// Clients are let in: everything that is there is visible to them.
    pub(super) fn becomes_visible(&mut self, name: &MemberName) {
        let member = &self.members[name];
        let Some(server) = member.server.as_ref().filter(|server| !server.in_recovery) else {
            return;
        };
        let (timeline, lsn) = (member.disk.wal.written_on(server.began), server.began.lsn);
        if self.is_promised(name) {
            let known = self.promised.last.entry(timeline).or_default();
            *known = lsn.max(*known);
        }
    }

    /// Whoever is primary by the newest grant holds everything that was promised.
    fn keep_promise(&mut self) {
        let epoch = self.state.epoch();
        let newest = self.members.iter().find(|(_, member)| {
            let authority = member.server.as_ref().and_then(|server| server.authority);
            member.is_primary() && authority == Some(epoch)
        });
        let Some((name, member)) = newest else { return };
        let lost = self
            .promised
            .last
            .iter()
            .find(|(timeline, lsn)| !member.disk.wal.holds(**timeline, **lsn));
        if let Some((timeline, lsn)) = lost {
            let what = format!(
                "{name} leads with epoch {epoch}, at {}, without {lsn} of timeline {timeline}, \
                 which was acknowledged",
                member.disk.wal.end
            );
            self.fail(what);
        }
    }
}
