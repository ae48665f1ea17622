//! The world of a script: one replicated state, and what each member knows.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use howdah_core::sync::names;
use howdah_core::view::{
    DataView, LeaseView, LocalView, NodeView, PeerData, PeerView, PgView, Stopping, View,
};
use howdah_core::{
    BootInstant, ClusterState, Command, Epoch, Incarnation, LeaseState, MemberName, Outcome,
    Position, Profile, Timings, decide,
};

use super::parse::{Args, span};
use crate::invariant;

type Output = Result<String, Box<dyn Error>>;

/// What one member knows beside the state.
#[derive(Clone, Debug, Default)]
pub(super) struct MemberWorld {
    pub node: NodeView,
    pub lease: LeaseView,
    pub local: LocalView,
    /// Its peers do not hear it.
    pub silent: bool,
    /// Where its oldest WAL begins, if it says so.
    pub oldest_wal: Option<howdah_core::Lsn>,
}

/// One replicated state, and what each member knows.
#[derive(Default)]
pub struct World {
    pub(super) state: ClusterState,
    pub(super) index: u64,
    pub(super) now: BootInstant,
    pub(super) members: BTreeMap<MemberName, MemberWorld>,
}

/// What challengers' stopwatches depend on.
type RecordKey = (Epoch, u64, Option<LeaseState>, bool);

impl World {
    fn key(&self) -> RecordKey {
        let leader = self.state.leader.as_ref();
        (
            self.state.epoch(),
            leader.map_or(0, |record| record.renewals),
            leader.map(|record| record.state),
            self.state.election.is_some(),
        )
    }

    pub(super) fn member(&mut self, name: &MemberName) -> Result<&mut MemberWorld, String> {
        self.members.get_mut(name).ok_or_else(|| format!("no member {name}; use `found` first"))
    }

    /// Sets the clock, which only goes forward.
    pub(super) fn at(&mut self, args: &mut Args<'_>) -> Output {
        let now = BootInstant(0) + span(args.word().ok_or("a time is missing")?)?;
        if now < self.now {
            return Err("time goes forward only".into());
        }
        self.now = now;
        Ok(String::new())
    }

    pub(super) fn silent(&mut self, args: &mut Args<'_>, silent: bool) -> Output {
        while let Some(name) = args.word() {
            self.member(&name.into())?.silent = silent;
        }
        Ok(String::new())
    }

    /// Puts a command into the log, and tells what became of it.
    pub(super) fn commit(&mut self, command: Command) -> Output {
        let (before, key) = (self.state.clone(), self.key());
        self.index += 1;
        let outcome = self.state.apply(self.index, command.clone());
        self.check(&before, &command, &outcome)?;
        if key != self.key() {
            let (now, opened) = (self.now, self.state.election.is_some());
            for member in self.members.values_mut() {
                member.lease.record_seen = now;
                if opened && !key.3 {
                    member.lease.election_seen = now;
                }
            }
        }
        let mut output = String::new();
        match outcome {
            Outcome::Applied => {
                let fresh = self.state.events.iter().filter(|event| event.index == self.index);
                for event in fresh {
                    writeln!(output, "{}: {}", event.kind.to_string().trim(), event.text)?;
                }
            }
            Outcome::Rejected(why) => writeln!(output, "rejected: {why}")?,
        }
        Ok(output)
    }

    fn check(
        &self,
        before: &ClusterState,
        command: &Command,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let violations = invariant::violations(before, &self.state);
        if !violations.is_empty() {
            return Err(format!("{command:?}: {}", violations.join("; ")));
        }
        if matches!(outcome, Outcome::Rejected(_)) && *before != self.state {
            return Err(format!("{command:?} was rejected and yet changed the state"));
        }
        let text = serde_json::to_string(&self.state).map_err(|err| err.to_string())?;
        let back: ClusterState = serde_json::from_str(&text).map_err(|err| err.to_string())?;
        if back != self.state {
            return Err("the state does not survive serialisation".into());
        }
        // A repeated copy of a command gives and takes nothing. A renewal moves the count, which
        // the nonce makes harmless.
        if !matches!(command, Command::Renew { .. }) {
            let mut again = self.state.clone();
            again.apply(self.index + 1, command.clone());
            if again.leader != self.state.leader || again.election != self.state.election {
                return Err(format!("{command:?} changed who leads when it was applied twice"));
            }
        }
        Ok(())
    }

    fn view(&self, name: &MemberName) -> Result<View<'_>, String> {
        let world = self.members.get(name).ok_or_else(|| format!("no member {name}"))?;
        let ttl = self.state.settings.ttl();
        let profile = if ttl < Profile::Default.ttl() { Profile::Fast } else { Profile::Default };
        let timings = Timings::for_profile(profile, ttl).map_err(|err| err.to_string())?;
        let peers = self.members.iter().filter(|(peer, _)| *peer != name);
        Ok(View {
            state: &self.state,
            me: name.clone(),
            now: self.now,
            timings,
            node: world.node.clone(),
            lease: world.lease.clone(),
            local: world.local.clone(),
            peers: peers.map(|(peer, world)| (peer.clone(), self.peer(peer, world))).collect(),
        })
    }

    fn peer(&self, name: &MemberName, world: &MemberWorld) -> PeerView {
        let age = if world.silent { Duration::from_secs(3600) } else { Duration::from_millis(50) };
        let local = &world.local;
        let (data, end) = match &local.data {
            DataView::Cluster(data) => {
                (Some(PeerData::Cluster(data.system_identifier)), data.disk_end)
            }
            DataView::Empty | DataView::HalfDone => (Some(PeerData::Empty), None),
            DataView::Unusable(_) => (Some(PeerData::Unusable), None),
            DataView::Unknown => (None, None),
        };
        let mut peer = PeerView {
            age,
            incarnation: world.node.incarnation,
            data,
            position: end.unwrap_or_default(),
            data_id: local.data_id,
            eligible: !self.state.members.get(name).is_some_and(|m| m.tags.nofailover),
            checkpointed: local.checkpointed,
            oldest_wal: world.oldest_wal,
            stopping: world.node.stopping != Stopping::No,
            ..PeerView::default()
        };
        if let PgView::Running(pg) = &local.pg {
            peer.running = true;
            peer.in_recovery = pg.in_recovery;
            peer.open = pg.open;
            peer.position = Position { timeline: pg.timeline, lsn: pg.received };
            let follows = pg.following.as_ref().filter(|_| pg.streaming);
            peer.streaming_epoch = follows.map(|(_, epoch)| *epoch).unwrap_or_default();
        }
        peer
    }

    /// What the named members decide, with the names of the actions and reasons that occurred.
    pub(super) fn decide(
        &mut self,
        args: &mut Args<'_>,
    ) -> Result<(String, BTreeSet<String>), Box<dyn Error>> {
        let (mut output, mut seen) = (String::new(), BTreeSet::new());
        while let Some(name) = args.word() {
            let name = MemberName::from(name);
            let view = self.view(&name)?;
            let decision = decide(&view);
            if decision != decide(&view) {
                return Err(format!("{name} decides differently the second time").into());
            }
            let variant =
                |debug: String| debug.split(['(', '{', ' ']).next().unwrap_or_default().to_owned();
            seen.insert(format!("Reason::{}", variant(format!("{:?}", decision.reason))));
            let mut words = Vec::new();
            for action in &decision.actions {
                seen.insert(format!("Action::{}", variant(format!("{action:?}"))));
                words.push(action.to_string());
            }
            let what = if words.is_empty() { "no action".into() } else { words.join(", then ") };
            write!(output, "{name}: {what}  | {}", decision.reason)?;
            match decision.wake_at {
                Some(wake) => {
                    writeln!(output, "  [again in {} ms]", wake.since(self.now).as_millis())?;
                }
                None => writeln!(output)?,
            }
        }
        Ok((output, seen))
    }

    /// The state in a few lines.
    pub(super) fn state(&self) -> String {
        let mut out = String::new();
        if let Some(record) = &self.state.leader {
            let _ = writeln!(
                out,
                "leader {} epoch={} renewals={} {:?} timeline={} wal={}",
                record.holder,
                record.epoch,
                record.renewals,
                record.state,
                record.reserved,
                record.wal_lsn
            );
        }
        if let Some(sync) = self.state.sync.record() {
            let _ = writeln!(
                out,
                "sync generation={} epoch={} votes={} or {} alone",
                sync.generation,
                sync.epoch,
                sync.pair,
                names(&sync.whole)
            );
        }
        if let Some(open) = &self.state.election {
            let voted: Vec<&str> = open.ballots.keys().map(MemberName::as_str).collect();
            let _ = writeln!(out, "election epoch={} ballots={voted:?}", open.epoch);
        }
        for (number, record) in &self.state.timelines.recorded {
            let fork = record.parent.map_or_else(
                || "the first".to_owned(),
                |parent| format!("from {} at {}", parent.timeline, parent.end),
            );
            let _ = writeln!(out, "timeline {number} epoch={} {fork}", record.epoch);
        }
        if let Some(change) = self.state.changes.back() {
            for verdict in &change.verdicts {
                let why = match (&verdict.ineligible, verdict.chosen) {
                    (Some(why), _) => why.clone(),
                    (None, true) => "chosen".into(),
                    (None, false) => "eligible".into(),
                };
                let _ = writeln!(out, "ballot {} {}: {why}", verdict.member, verdict.position);
            }
        }
        out
    }

    pub(super) fn incarnation(&self, name: &MemberName) -> Result<Incarnation, String> {
        let world = self.members.get(name).ok_or_else(|| format!("no member {name}"))?;
        Ok(world.node.incarnation)
    }
}
