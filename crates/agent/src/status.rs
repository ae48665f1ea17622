//! The cluster as this member sees it: the log's state and everybody's last words in one picture.
//!
//! Place: asked by the control service, REST and the CLI through it. Pure: time comes in.
//! Invariant: what is old is shown with its age; nobody is shown as running on words older than a
//! ttl.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_consensus::RaftStatus;
use howdah_core::sync::Standby;
use howdah_core::sync::choose::Mode;
use howdah_core::{
    BootInstant, ClusterState, DataId, LeaseState, Lsn, Member, MemberName, SyncState,
};
use howdah_rpc::control;
use howdah_rpc::peer::Status;

use crate::board::Heard;
use crate::counters::Counters;

/// What the picture is made of.
pub struct Sources<'a> {
    /// The log's state.
    pub state: &'a ClusterState,
    /// Who answers.
    pub me: &'a MemberName,
    /// Its own status.
    pub own: &'a Status,
    /// What it heard.
    pub heard: &'a BTreeMap<MemberName, Heard>,
    /// The Raft group as it sees it.
    pub raft: &'a RaftStatus,
    /// What was counted.
    pub counters: &'a Counters,
    /// How long ago the loop turned.
    pub turned: Duration,
    /// Now.
    pub now: BootInstant,
}

impl Sources<'_> {
    /// The last words of a member, and their age.
    pub fn words(&self, name: &MemberName) -> Option<(&Status, Duration)> {
        if name == self.me {
            return Some((self.own, Duration::ZERO));
        }
        self.heard.get(name).map(|heard| (&heard.status, self.now.since(heard.at)))
    }

    /// Whether words of this age are of now.
    pub fn fresh(&self, age: Duration) -> bool {
        age <= self.state.settings.ttl()
    }

    /// The leader's name, while its lease is held.
    pub fn leader(&self) -> Option<&MemberName> {
        self.state.held().map(|record| &record.holder)
    }

    /// Why no write can succeed now, as far as is known here; none: one can.
    pub fn why_not_writable(&self) -> Option<String> {
        if self.state.system_identifier().is_none() {
            return Some("the cluster has no data yet".into());
        }
        if let Some(open) = &self.state.election {
            return Some(format!("an election is open for epoch {}", open.epoch));
        }
        let Some(leader) = self.leader() else { return Some("there is no leader".into()) };
        match self.words(leader) {
            Some((words, age)) if self.fresh(age) => {
                let serves = words.running && !words.in_recovery && words.open_for_clients;
                if serves && !words.writes_wait.is_empty() {
                    let seconds = words.writes_wait_ms / 1000;
                    return Some(format!("{} (for {seconds} s now)", words.writes_wait));
                }
                (!serves).then(|| format!("{leader}, the leader: {}", words.reason))
            }
            _ => Some(format!("{leader}, the leader, is not heard")),
        }
    }

    /// The whole picture.
    pub fn cluster(&self) -> control::ClusterStatus {
        let record = self.state.leader.as_ref();
        let lease = match record.map(|record| record.state) {
            Some(LeaseState::Held) => "held",
            Some(LeaseState::Released) => "released",
            Some(LeaseState::Revoked) => "revoked",
            None => "none",
        };
        control::ClusterStatus {
            scope: self.state.scope.clone(),
            system_identifier: self.state.system_identifier().unwrap_or(0),
            epoch: self.state.epoch().0,
            timeline: self.state.timelines.newest().map_or(0, |timeline| timeline.0),
            raft_leader: self.raft.leader_name.clone().unwrap_or_default(),
            quorum_reached: self.quorum_reached(),
            quorum_size: u32::try_from(self.raft.voters.len()).unwrap_or(u32::MAX),
            quorum: self.raft.quorum,
            leader: self.leader().map(|name| name.0.clone()).unwrap_or_default(),
            lease: lease.into(),
            ttl_ms: record.map_or(self.state.settings.ttl_ms, |record| record.ttl_ms),
            answered_by: self.me.0.clone(),
            members: self.state.members.keys().map(|name| self.member(name)).collect(),
            open_election: self.state.election.as_ref().map_or(0, |open| open.epoch.0),
            switchover: self.state.switchover.as_ref().map(|pending| control::PendingSwitchover {
                from: pending.from.0.clone(),
                to: pending.to.0.clone(),
            }),
            reason: self.own.reason.clone(),
            synchronous_mode: self.synchronous_mode(),
            paused: record.is_some_and(|record| record.paused),
            not_writable_because: self.why_not_writable().unwrap_or_default(),
            pause_wanted: self.state.pause_wanted,
        }
    }

    /// How commits wait now, which may be less than what is wanted.
    fn synchronous_mode(&self) -> String {
        let mode = self.state.settings.synchronous_mode;
        match (&self.state.sync, mode) {
            (SyncState::Async { .. }, Mode::Off) => "off".to_owned(),
            (SyncState::Async { .. }, _) => format!("{mode}, but nobody is waited for"),
            (SyncState::Sync(sync), _) => format!("{mode}: {}", sync.pair.demand()),
        }
    }

    /// Whether an election may need this member's ballot for what was acknowledged.
    pub fn is_sync_standby(&self, name: &MemberName) -> bool {
        let Some(sync) = self.state.sync.record() else { return false };
        let words = self.words(name).map(|(words, _)| DataId(words.data_id));
        let this = |one: &Standby| one.member == *name && Some(one.data_id) == words;
        sync.pair.voters.iter().any(this)
    }

    /// Leader, replica, or in Patroni's words what kind of synchronous standby.
    fn role(&self, name: &MemberName) -> &'static str {
        if self.leader() == Some(name) {
            "Leader"
        } else if !self.is_sync_standby(name) {
            "Replica"
        } else if self.state.settings.synchronous_mode == Mode::Quorum {
            "Quorum Standby"
        } else {
            "Sync Standby"
        }
    }

    /// Voters that are heard, this member included.
    fn quorum_reached(&self) -> u32 {
        let heard = self.raft.voters.iter().filter(|node| {
            let name = MemberName::from(node.member.as_str());
            self.words(&name).is_some_and(|(_, age)| self.fresh(age))
        });
        u32::try_from(heard.count()).unwrap_or(u32::MAX)
    }

    /// The leader's write position: by its own words, else by its last renewal.
    pub fn leader_lsn(&self) -> Option<Lsn> {
        let leader = self.leader()?;
        let spoken = self.words(leader).filter(|(_, age)| self.fresh(*age));
        let spoken = spoken.map(|(words, _)| words).filter(|w| w.running && !w.in_recovery);
        let spoken = spoken.map(|words| Lsn(words.receive_lsn));
        spoken.or_else(|| self.state.leader.as_ref().map(|record| record.wal_lsn))
    }

    fn member(&self, name: &MemberName) -> control::Member {
        let known = self.state.members.get(name).cloned().unwrap_or_default();
        let leads = self.leader() == Some(name);
        let mut shown = control::Member {
            name: name.0.clone(),
            host: known.postgres_address.clone(),
            control_address: known.control_address.clone(),
            api_url: known.api_url.clone(),
            role: self.role(name).into(),
            state: "unreachable".into(),
            tags: tags(&known),
            node_id: known.node_id.to_string(),
            raft_role: self.raft_role(&known).into(),
            fenced: self.state.fenced.contains(name),
            ..control::Member::default()
        };
        let Some((words, age)) = self.words(name) else { return shown };
        shown.age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        shown.timeline = words.timeline;
        shown.receive_lsn = words.receive_lsn;
        shown.replay_lsn = words.replay_lsn;
        shown.server_version = words.server_version;
        shown.postmaster_start_ms = words.postmaster_start_ms;
        shown.promise = words.promise;
        if self.fresh(age) {
            shown.state = words.state.clone();
            shown.reason = words.reason.clone();
            shown.progress_percent = words.progress_percent;
            shown.progress_bytes = words.progress_bytes;
            shown.in_progress = words.in_progress;
            shown.open_for_clients = words.open_for_clients;
            shown.pending_restart.clone_from(&words.pending_restart);
            shown.troubles.clone_from(&words.troubles);
            shown.replication_state.clone_from(&words.replication_state);
        } else {
            shown.reason = format!("not heard for {:.1} s", age.as_secs_f64());
        }
        // A server that starts, or is down, says nothing of its replay.
        let known = words.receive_lsn > 0 && words.replay_lsn > 0;
        if let Some(end) = self.leader_lsn().filter(|_| !leads && known) {
            shown.receive_lag_bytes = end.bytes_since(Lsn(words.receive_lsn));
            shown.replay_lag_bytes = end.bytes_since(Lsn(words.replay_lsn));
            shown.lag_known = true;
        }
        shown
    }

    fn raft_role(&self, member: &Member) -> &'static str {
        if self.raft.voters.iter().any(|node| node.node_id == member.node_id) {
            "voter"
        } else if self.raft.learners.iter().any(|node| node.node_id == member.node_id) {
            "learner"
        } else {
            "none"
        }
    }
}

/// Tags that differ from their defaults, and all free ones.
fn tags(member: &Member) -> std::collections::HashMap<String, String> {
    let tags = &member.tags;
    let mut shown: std::collections::HashMap<String, String> =
        tags.other.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, set) in [
        ("nofailover", tags.nofailover),
        ("noloadbalance", tags.noloadbalance),
        ("clonefrom", tags.clonefrom),
        ("nosync", tags.nosync),
    ] {
        if set {
            shown.insert(key.into(), "true".into());
        }
    }
    if tags.sync_priority != 1 {
        shown.insert("sync_priority".into(), tags.sync_priority.to_string());
    }
    if tags.failover_priority != 1 {
        shown.insert("failover_priority".into(), tags.failover_priority.to_string());
    }
    shown
}
