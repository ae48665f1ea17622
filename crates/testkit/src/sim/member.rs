//! One member of the simulation: what survives a crash, and what its agent knows.

use std::collections::BTreeMap;

use howdah_core::sync::{Demand, Standby};
use howdah_core::view::{
    ClusterData, DataView, Failure, Job, LeaseView, LocalView, NodeView, PeerData, PeerView,
    PgView, RunningPg, Stopping, SyncView,
};
use howdah_core::{
    Action, BootInstant, ClusterState, DataId, Epoch, Incarnation, Lsn, MemberName, Nonce,
    Position, Timeline, Timings,
};

use crate::wal::{Sender, Wal};

/// What is on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Nothing is there, or a whole cluster.
    pub system: Option<u64>,
    pub wal: Wal,
    /// A job that replaces it was killed.
    pub half_done: bool,
    /// A primary was stopped on it in good order, and nothing was started since.
    pub shut_down: bool,
    pub data_id: DataId,
    pub promise: Epoch,
}

/// A server that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub in_recovery: bool,
    pub upstream: Option<(MemberName, Epoch)>,
    pub streaming: bool,
    /// WAL of the former upstream came after it was decided to turn to this one: PostgreSQL itself refuses
    /// then to follow where the histories part, and the next look tells.
    pub outran: bool,
    pub authority: Option<Epoch>,
    pub open: bool,
    pub hung_since: Option<BootInstant>,
    /// A promotion whose job failed, and which takes effect all the same.
    pub promotes_at: Option<(BootInstant, Timeline)>,
    /// What commits wait for, as the postmaster has read it.
    pub demand: Demand,
    /// Since when that is proven to be in force.
    pub in_force_at: Option<Lsn>,
    /// Who streams from here: what its walsender goes by, and what it has flushed.
    pub senders: BTreeMap<Standby, Sender>,
    pub alone_since: Option<BootInstant>,
    /// Commits that are not acknowledged yet.
    pub waiting: Vec<Lsn>,
    /// Where it stood when it became writable: visible to clients once they are let in.
    pub began: Position,
}

/// The guard: outlives the agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    pub incarnation: Incarnation,
    pub armed: Option<(Epoch, BootInstant)>,
}

/// What an agent knows; gone when it crashes.
#[derive(Clone, Debug, Default)]
pub(super) struct Agent {
    pub started: BootInstant,
    pub lease: LeaseView,
    pub sent: BTreeMap<Nonce, BootInstant>,
    pub withheld: bool,
    pub void_before: BootInstant,
    pub promise_proven: Option<Epoch>,
    pub pg_since: BootInstant,
    pub job: Option<Running>,
    pub failed: Option<Failure>,
    pub bar_only: Option<Epoch>,
    pub restart: bool,
    pub prepared: bool,
    pub checkpoint_at: Option<BootInstant>,
    pub under_way: BTreeMap<&'static str, BootInstant>,
    pub sync_settled: Option<u64>,
    pub heard: BTreeMap<MemberName, (BootInstant, PeerView)>,
    pub key: String,
    pub last: String,
}

/// A job that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub action: Action,
    pub job: Job,
    pub due: BootInstant,
    /// The answer of a hand-over's proposal, once there.
    pub waits: bool,
    /// Where the disk's WAL ended when it began.
    pub end: Position,
}

/// One member.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub disk: Disk,
    pub server: Option<Server>,
    pub guard: Guard,
    /// None: the agent is down until then.
    pub agent: Option<Agent>,
    pub back_at: BootInstant,
    /// No network until then.
    pub cut_until: BootInstant,
    /// It hears nothing of the log until then, though it is heard.
    pub deaf_until: BootInstant,
    /// It is not heard between these, though it hears.
    pub mute: (BootInstant, BootInstant),
    /// What its disk was like a while ago.
    pub snapshot: Option<Disk>,
    /// Nothing of it runs until then: machine, guard, agent and server.
    pub frozen_until: BootInstant,
    pub stopping: Option<BootInstant>,
    pub state: ClusterState,
    pub applied: usize,
}

impl Member {
    pub fn connected(&self, now: BootInstant) -> bool {
        self.agent.is_some() && now >= self.cut_until && !self.is_frozen(now)
    }

    /// What it proposes arrives.
    pub fn is_heard(&self, now: BootInstant) -> bool {
        self.connected(now) && !(self.mute.0..self.mute.1).contains(&now)
    }

    /// Nothing of it runs.
    pub fn is_frozen(&self, now: BootInstant) -> bool {
        now < self.frozen_until
    }

    pub fn is_primary(&self) -> bool {
        self.server.as_ref().is_some_and(|server| !server.in_recovery)
    }

    /// The whole machine's life ends.
    pub fn crash(&mut self, back_at: BootInstant) {
        (self.agent, self.server, self.stopping) = (None, None, None);
        self.guard = Guard::default();
        self.back_at = back_at;
    }

    /// The server is gone.
    pub fn server_gone(&mut self, now: BootInstant) {
        self.server = None;
        if let Some(agent) = &mut self.agent {
            (agent.pg_since, agent.prepared, agent.checkpoint_at) = (now, false, None);
        }
    }

    pub fn node(&self, now: BootInstant, quorum: bool, expected: usize) -> NodeView {
        NodeView {
            incarnation: self.guard.incarnation,
            started: self.agent.as_ref().map_or(now, |agent| agent.started),
            stopping: if self.stopping.is_some() { Stopping::Orderly } else { Stopping::No },
            stopping_since: self.stopping.unwrap_or_default(),
            members_expected: expected,
            raft_quorum: quorum,
        }
    }

    fn data(&self) -> DataView {
        if self.disk.half_done {
            return DataView::HalfDone;
        }
        let Some(system_identifier) = self.disk.system else { return DataView::Empty };
        DataView::Cluster(ClusterData {
            system_identifier,
            disk_end: Some(self.disk.wal.end),
            history: self.disk.wal.history.clone(),
            can_rewind: true,
            shutdown_end: self.disk.shut_down.then_some(self.disk.wal.end.lsn),
        })
    }

    fn pg(&self, now: BootInstant, timings: &Timings) -> PgView {
        let Some(server) = &self.server else { return PgView::Stopped };
        if server.hung_since.is_some_and(|since| now.since(since) >= timings.probe_timeout) {
            return PgView::Hung;
        }
        PgView::Running(RunningPg {
            in_recovery: server.in_recovery,
            following: server.upstream.clone(),
            has_upstream: server.upstream.is_some(),
            streaming: server.streaming,
            timeline: self.disk.wal.end.timeline,
            received: self.disk.wal.end.lsn,
            replayed: self.disk.wal.end.lsn,
            open: server.open,
            authority: server.authority,
            standbys: server
                .senders
                .iter()
                .map(|(one, sender)| (one.clone(), sender.flushed))
                .collect(),
            sync: SyncView {
                demand: Some(server.demand.clone()),
                in_force_at: server.in_force_at,
                alone_since: server.alone_since,
            },
        })
    }

    pub fn local(&self, agent: &Agent, now: BootInstant, timings: &Timings) -> LocalView {
        LocalView {
            data: self.data(),
            data_id: self.disk.data_id,
            promise: self.disk.promise,
            promise_proven: agent.promise_proven,
            pg: self.pg(now, timings),
            pg_since: agent.pg_since,
            job: agent.job.as_ref().map(|running| running.job),
            failed: agent.failed.clone(),
            bar_only: agent.bar_only,
            reinit: false,
            restart: agent.restart,
            primary_prepared: agent.prepared,
            checkpointed: agent.checkpoint_at.is_some_and(|at| now >= at),
            sync_settled: agent.sync_settled,
        }
    }

    /// What it says to its peers.
    pub fn words(&self, now: BootInstant) -> PeerView {
        let server = self.server.as_ref();
        let streams = server.filter(|server| server.streaming).and_then(|s| s.upstream.as_ref());
        PeerView {
            age: std::time::Duration::ZERO,
            incarnation: self.guard.incarnation,
            data: Some(match self.disk.system {
                Some(system) if !self.disk.half_done => PeerData::Cluster(system),
                _ => PeerData::Empty,
            }),
            running: server.is_some(),
            in_recovery: server.is_none_or(|server| server.in_recovery),
            streaming_epoch: streams.map(|(_, epoch)| *epoch).unwrap_or_default(),
            position: self.disk.wal.end,
            data_id: self.disk.data_id,
            eligible: server.is_some() && self.stopping.is_none(),
            open: server.is_some_and(|server| server.open),
            checkpointed: self
                .agent
                .as_ref()
                .is_some_and(|agent| agent.checkpoint_at.is_some_and(|at| now >= at)),
            stopping: self.stopping.is_some(),
            bootstrapping: false,
            oldest_wal: None,
        }
    }
}

impl Disk {
    /// What it calls itself to its upstream.
    pub fn standby(&self, member: &MemberName) -> Standby {
        Standby { member: member.clone(), data_id: self.data_id }
    }
}
