//! What a member of the model knows when it decides: the world, seen through the production `View`.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_core::view::{
    ClusterData, DataView, Failure, Job, LeaseView, LocalView, NodeView, PeerData, PeerView,
    PgView, RunningPg, SyncView, View,
};
use howdah_core::{BootInstant, Timings};

use crate::world::{Agent, Disk, Id, MEMBERS, Member, World, name};

/// PostgreSQL's system identifier.
pub const SYSTEM: u64 = 7_512_000_001;

/// Whether the stopwatches that a member started when the record changed have run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Not yet.
    Runs,
    /// Long ago.
    RanOut,
}

/// Every reading of every clock; only distances matter.
const NOW: BootInstant = BootInstant(1_000_000_000_000_000);
const LONG: Duration = Duration::from_secs(3600);

/// What `id`, whose agent lives, sees.
pub fn view<'a>(world: &'a World, id: Id, timings: Timings, watch: Watch) -> Option<View<'a>> {
    let member = world.at(id);
    let agent = member.agent.as_ref()?;
    let peers: BTreeMap<_, _> = (0..MEMBERS as Id)
        .filter(|other| *other != id)
        .filter_map(|other| Some((name(other), words(world.at(other))?)))
        .collect();
    Some(View {
        state: &member.applied.state,
        me: name(id),
        now: NOW,
        timings,
        node: NodeView {
            incarnation: member.guard.incarnation,
            members_expected: MEMBERS,
            raft_quorum: true,
            ..NodeView::default()
        },
        lease: lease(agent, watch),
        local: local(member, agent, timings),
        peers,
    })
}

fn lease(agent: &Agent, watch: Watch) -> LeaseView {
    let since = match watch {
        Watch::Runs => NOW,
        Watch::RanOut => BootInstant::default(),
    };
    LeaseView {
        record_seen: since,
        election_seen: since,
        // It may be far off by a clock that stands still.
        deadline: agent.armed.map(|_| NOW + LONG),
        armed: agent.armed,
        own_renewal: agent.own_renewal,
        renewal_sent: agent.own_renewal.then_some(since),
        renewed: agent.own_renewal.then_some(since),
        renewing: false,
    }
}

fn local(member: &Member, agent: &Agent, timings: Timings) -> LocalView {
    LocalView {
        data: data(&member.disk),
        data_id: member.disk.data_id,
        promise: member.disk.promise,
        promise_proven: agent.promise_proven,
        pg: pg(member, timings),
        pg_since: some_time_ago(timings),
        job: agent.doing.as_ref().map(|doing| doing.job()),
        failed: agent.hand_over_failed.then(|| Failure {
            job: Job::HandOver,
            at: NOW,
            count: 1,
            why: String::new(),
        }),
        // Roles and slots are no matter of what is lost.
        primary_prepared: true,
        checkpointed: true,
        sync_settled: agent.settled,
        ..LocalView::default()
    }
}

/// Beyond the windows in which somebody is waited for, and not so long that the data would be
/// copied anew for lack of WAL: that is no matter of safety.
fn some_time_ago(timings: Timings) -> BootInstant {
    BootInstant(NOW.0 - u64::try_from((timings.ttl * 3 / 5).as_nanos()).unwrap_or(0))
}

fn data(disk: &Disk) -> DataView {
    if disk.half_done {
        return DataView::HalfDone;
    }
    if !disk.whole {
        return DataView::Empty;
    }
    DataView::Cluster(ClusterData {
        system_identifier: SYSTEM,
        disk_end: Some(disk.wal.end),
        history: disk.wal.history.clone(),
        can_rewind: true,
        shutdown_end: None,
    })
}

fn pg(member: &Member, timings: Timings) -> PgView {
    let Some(server) = &member.server else { return PgView::Stopped };
    let alone = server.senders.is_empty();
    PgView::Running(RunningPg {
        in_recovery: server.authority.is_none(),
        following: server.upstream.map(|(from, epoch)| (name(from), epoch)),
        has_upstream: server.upstream.is_some(),
        streaming: server.streaming,
        timeline: member.disk.wal.end.timeline,
        received: member.disk.wal.end.lsn,
        replayed: member.disk.wal.end.lsn,
        // Whom a standby lets in is no matter of what is lost.
        open: server.open || server.authority.is_none(),
        authority: server.authority,
        standbys: server.senders.iter().map(|(who, it)| (who.clone(), it.flushed)).collect(),
        sync: SyncView {
            demand: Some(server.demand.clone()),
            in_force_at: server.in_force_at,
            alone_since: alone.then(|| some_time_ago(timings)),
        },
    })
}

/// What a member says to its peers; none: it says nothing.
fn words(member: &Member) -> Option<PeerView> {
    member.agent.as_ref()?;
    let server = member.server.as_ref();
    let streams = server.filter(|server| server.streaming).and_then(|server| server.upstream);
    let whole = member.disk.whole && !member.disk.half_done;
    Some(PeerView {
        age: Duration::ZERO,
        incarnation: member.guard.incarnation,
        data: Some(if whole { PeerData::Cluster(SYSTEM) } else { PeerData::Empty }),
        running: server.is_some(),
        in_recovery: server.is_none_or(|server| server.authority.is_none()),
        streaming_epoch: streams.map(|(_, epoch)| epoch).unwrap_or_default(),
        position: member.disk.wal.end,
        data_id: member.disk.data_id,
        eligible: server.is_some(),
        open: server.is_some_and(|server| server.open),
        checkpointed: true,
        ..PeerView::default()
    })
}
