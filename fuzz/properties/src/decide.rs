//! Decisions on what a member knows, much of which others said.

use std::collections::BTreeMap;

use howdah_agent::fuzzing::peer;
use howdah_core::sync::{Demand, Standby};
use howdah_core::view::{
    ClusterData, DataView, Failure, Job, LeaseView, LocalView, NodeView, PgView, RunningPg,
    Stopping, SyncView, View,
};
use howdah_core::{
    Action, BootInstant, DataId, Decision, Epoch, HistoryEntry, Incarnation, Lsn, MemberName,
    Position, Profile, Timeline, Timings, WallTime, decide as decided,
};

use crate::draw::Draw;
use crate::parts;
use crate::scene::{NOW, Scene};

/// Every view gives an answer with a reason, and the same one again; nothing makes PostgreSQL writable without
/// this member's own lease; what is proposed can be applied. The input: bytes that the local view is drawn from,
/// then a scene.
pub fn decide(bytes: &[u8]) -> bool {
    let parts = parts(bytes, 5);
    let Some(scene) = Scene::of(&parts[1..]) else { return false };
    let mut draw = Draw(parts[0]);
    let view = view(&mut draw, &scene);
    let decision = decided(&view);
    assert_eq!(decided(&view), decision);
    assert!(!decision.reason.to_string().is_empty());
    for action in &decision.actions {
        assert!(!action.to_string().is_empty());
        lawful(&view, action);
    }
    at_most_one_job(&decision);
    let mut state = scene.state.clone();
    for action in decision.actions {
        if let Action::Propose(command) = action {
            state.apply(1, command.stamped(WallTime(1)));
        }
    }
    true
}

/// Nothing that makes PostgreSQL writable, or lets clients in to it, without the lease.
fn lawful(view: &View<'_>, action: &Action) {
    let epoch = match action {
        Action::StartInPlace { epoch } | Action::Promote { epoch, .. } => *epoch,
        Action::Renew { epoch, .. } => {
            assert_eq!(own_lease(view), Some(*epoch));
            return;
        }
        _ => return,
    };
    assert_eq!(own_lease(view), Some(epoch), "{action} without a lease");
    let inside = view.lease.deadline.is_some_and(|deadline| view.now < deadline);
    let armed = inside && view.lease.armed == Some(epoch) && view.lease.own_renewal;
    assert!(armed || view.state.paused(), "{action} outside of the deadline");
}

fn own_lease(view: &View<'_>) -> Option<Epoch> {
    let record = view.state.held()?;
    let own = record.holder == view.me && record.incarnation == view.node.incarnation;
    own.then_some(record.epoch)
}

fn at_most_one_job(decision: &Decision) {
    let beside = |action: &&Action| {
        !matches!(
            action,
            Action::Renew { .. } | Action::Propose(_) | Action::Vote { .. } | Action::Kill
        )
    };
    assert!(decision.actions.iter().filter(beside).count() <= 1, "{:?}", decision.actions);
}

fn view<'a>(draw: &mut Draw<'_>, scene: &'a Scene) -> View<'a> {
    let profile = draw.of(&[Profile::Default, Profile::Fast]);
    let timings =
        Timings::for_profile(profile, profile.ttl()).expect("a profile's own ttl is safe");
    let peers: BTreeMap<MemberName, _> = scene
        .heard
        .iter()
        .map(|(name, heard)| (name.clone(), peer(&heard.status, NOW.since(heard.at))))
        .collect();
    View {
        state: &scene.state,
        me: scene.me.clone(),
        now: NOW,
        timings,
        node: NodeView {
            incarnation: incarnation(draw, scene),
            started: instant(draw),
            stopping: draw.of(&[Stopping::No, Stopping::No, Stopping::Orderly, Stopping::Fast]),
            stopping_since: instant(draw),
            members_expected: usize::from(draw.byte() % 8),
            raft_quorum: draw.flag(),
        },
        lease: LeaseView {
            record_seen: instant(draw),
            election_seen: instant(draw),
            deadline: draw.flag().then(|| instant(draw)),
            armed: draw.flag().then(|| epoch(draw, scene)),
            own_renewal: draw.flag(),
            renewal_sent: draw.flag().then(|| instant(draw)),
            renewed: draw.flag().then(|| instant(draw)),
            renewing: draw.flag(),
        },
        local: local(draw, scene),
        peers,
    }
}

/// A moment within twenty seconds of now, or any.
fn instant(draw: &mut Draw<'_>) -> BootInstant {
    match draw.byte() {
        255 => BootInstant(draw.number()),
        near => BootInstant(NOW.0 - 10_000_000_000 + u64::from(near) * 80_000_000),
    }
}

fn epoch(draw: &mut Draw<'_>, scene: &Scene) -> Epoch {
    let present = scene.state.epoch().0;
    match draw.byte() % 8 {
        0 => Epoch(draw.number()),
        1 => Epoch(present.saturating_sub(1)),
        2 => Epoch(present.saturating_add(1)),
        _ => Epoch(present),
    }
}

fn incarnation(draw: &mut Draw<'_>, scene: &Scene) -> Incarnation {
    let known = scene.state.leader.as_ref().map(|record| record.incarnation);
    if draw.byte().is_multiple_of(4) {
        Incarnation(draw.number())
    } else {
        known.unwrap_or_default()
    }
}

fn position(draw: &mut Draw<'_>) -> Position {
    let timeline = Timeline(u32::from(draw.byte() % 8));
    Position { timeline, lsn: Lsn(draw.number().wrapping_mul(0x10_0000)) }
}

fn history(draw: &mut Draw<'_>) -> Vec<HistoryEntry> {
    let count = draw.byte() % 4;
    let entry = |draw: &mut Draw<'_>| {
        let Position { timeline, lsn: end } = position(draw);
        HistoryEntry { timeline, end }
    };
    (0..count).map(|_| entry(draw)).collect()
}

fn local(draw: &mut Draw<'_>, scene: &Scene) -> LocalView {
    LocalView {
        data: data(draw, scene),
        data_id: DataId(u64::from(draw.byte())),
        promise: epoch(draw, scene),
        promise_proven: draw.flag().then(|| epoch(draw, scene)),
        pg: server(draw, scene),
        pg_since: instant(draw),
        job: draw.byte().is_multiple_of(5).then(|| job(draw)),
        failed: draw.byte().is_multiple_of(3).then(|| Failure {
            job: job(draw),
            at: instant(draw),
            count: u32::from(draw.byte() % 40),
            why: "it failed".into(),
        }),
        bar_only: draw.byte().is_multiple_of(4).then(|| epoch(draw, scene)),
        reinit: draw.byte().is_multiple_of(8),
        restart: draw.byte().is_multiple_of(8),
        primary_prepared: draw.flag(),
        checkpointed: draw.flag(),
        sync_settled: draw.flag().then(|| scene.state.sync.generation()),
    }
}

fn data(draw: &mut Draw<'_>, scene: &Scene) -> DataView {
    match draw.byte() % 10 {
        0 => DataView::Unknown,
        1 => DataView::Empty,
        2 => DataView::HalfDone,
        3 => DataView::Unusable("of another version".into()),
        other => DataView::Cluster(ClusterData {
            system_identifier: match (other, scene.state.system_identifier()) {
                (4, _) | (_, None) => draw.number(),
                (_, Some(known)) => known,
            },
            disk_end: draw.flag().then(|| position(draw)),
            history: history(draw),
            can_rewind: draw.flag(),
            shutdown_end: draw.flag().then(|| position(draw).lsn),
        }),
    }
}

fn server(draw: &mut Draw<'_>, scene: &Scene) -> PgView {
    match draw.byte() % 10 {
        0 => PgView::Unknown,
        1 | 2 => PgView::Stopped,
        3 => PgView::Starting,
        4 => PgView::Hung,
        _ => PgView::Running(RunningPg {
            in_recovery: draw.flag(),
            following: draw.flag().then(|| (named(draw, scene), epoch(draw, scene))),
            has_upstream: draw.flag(),
            streaming: draw.flag(),
            timeline: position(draw).timeline,
            received: position(draw).lsn,
            replayed: position(draw).lsn,
            open: draw.flag(),
            authority: draw.flag().then(|| epoch(draw, scene)),
            standbys: standbys(draw, scene),
            sync: SyncView {
                demand: draw.flag().then(|| demand(draw, scene)),
                in_force_at: draw.flag().then(|| position(draw).lsn),
                alone_since: draw.flag().then(|| instant(draw)),
            },
        }),
    }
}

fn named(draw: &mut Draw<'_>, scene: &Scene) -> MemberName {
    let names: Vec<&MemberName> = scene.state.members.keys().collect();
    if names.is_empty() { scene.me.clone() } else { draw.of(&names).clone() }
}

fn standbys(draw: &mut Draw<'_>, scene: &Scene) -> BTreeMap<Standby, Lsn> {
    let count = draw.byte() % 4;
    let standby = |draw: &mut Draw<'_>| {
        let standby =
            Standby { member: named(draw, scene), data_id: DataId(u64::from(draw.byte() % 8)) };
        (standby, position(draw).lsn)
    };
    (0..count).map(|_| standby(draw)).collect()
}

fn demand(draw: &mut Draw<'_>, scene: &Scene) -> Demand {
    let standbys = standbys(draw, scene).into_keys().collect();
    match draw.byte() % 8 {
        0 => Demand::blocked(),
        acks => Demand { acks: usize::from(acks - 1), standbys },
    }
}

fn job(draw: &mut Draw<'_>) -> Job {
    draw.of(&[
        Job::Start,
        Job::StartInPlace,
        Job::Stop,
        Job::Restart,
        Job::Kill,
        Job::Initdb,
        Job::Promise,
        Job::Promote,
        Job::Follow,
        Job::Rewind,
        Job::Clone,
        Job::Doors,
        Job::Prepare,
        Job::HandOver,
        Job::Sync,
    ])
}
