//! The healthy cluster that every exploration begins with.

use std::collections::BTreeMap;

use howdah_core::sync::Demand;
use howdah_core::sync::choose::Mode;
use howdah_core::{
    ClusterId, ClusterState, Command, DataId, Epoch, Incarnation, Lsn, NodeId, Position, Settings,
    Timeline, WallTime,
};

use howdah_testkit::wal::{Sender, Wal};

use crate::log::Logged;
use crate::view::SYSTEM;
use crate::world::{Agent, Budget, Disk, Guard, Id, MEMBERS, Member, Server, World, name};

/// Where the data begins.
pub const FIRST: Position = Position { timeline: Timeline(1), lsn: Lsn(100) };
const EPOCH: Epoch = Epoch(1);

/// n1 leads and has renewed, n2 and n3 stream, and commits wait as the mode says.
pub fn healthy(budget: Budget, mode: Mode) -> World {
    let mut demand = Demand::default();
    for id in 1..MEMBERS as Id {
        if mode == Mode::Quorum || id == 1 {
            demand.standbys.insert(disk(id).standby(id));
        }
    }
    demand.acks = 1;
    let log = Logged::new(log(mode, &demand));
    let member = |id: Id| Member {
        disk: disk(id),
        server: Some(server(id, &demand)),
        guard: Guard { incarnation: incarnation(id), armed: (id == 0).then_some(EPOCH) },
        agent: Some(agent(id)),
        lives: 0,
        up: true,
        applied: log.clone(),
        unheard: Vec::new(),
        deaf: false,
    };
    World {
        members: [member(0), member(1), member(2)],
        log,
        flights: Vec::new(),
        grants: [(EPOCH, 0)].into(),
        acked: BTreeMap::new(),
        seen: BTreeMap::new(),
        begun: [FIRST.timeline].into(),
        left: budget,
        wrong: None,
    }
}

fn disk(id: Id) -> Disk {
    Disk {
        whole: true,
        half_done: false,
        wal: Wal { end: FIRST, history: Vec::new() },
        data_id: DataId(u64::from(id) * 100 + 1),
        drawn: 1,
        promise: EPOCH,
    }
}

fn server(id: Id, demand: &Demand) -> Server {
    if id > 0 {
        return Server {
            upstream: Some((0, EPOCH)),
            streaming: true,
            demand: Demand::blocked(),
            began: FIRST,
            ..Server::default()
        };
    }
    let sender = Sender { demand: demand.clone(), flushed: FIRST.lsn };
    Server {
        authority: Some(EPOCH),
        open: true,
        demand: demand.clone(),
        in_force_at: Some(FIRST.lsn),
        senders: (1..MEMBERS as Id).map(|id| (disk(id).standby(id), sender.clone())).collect(),
        began: FIRST,
        ..Server::default()
    }
}

fn agent(id: Id) -> Agent {
    let leads = id == 0;
    Agent {
        armed: leads.then_some(EPOCH),
        own_renewal: leads,
        settled: leads.then_some(1),
        ..Agent::default()
    }
}

/// The log up to there, by the commands that lead there.
fn log(mode: Mode, demand: &Demand) -> ClusterState {
    let settings =
        Settings { synchronous_mode: mode, synchronous_mode_strict: true, ..Settings::default() };
    let ttl_ms = settings.ttl_ms;
    let (mut state, incarnation) = (founded(settings, MEMBERS as Id), incarnation(0));
    let renew = Command::Renew {
        epoch: EPOCH,
        incarnation,
        nonce: Agent::default().nonce(0),
        ttl_ms,
        wal_lsn: FIRST.lsn,
        paused: false,
        seen: 0,
    };
    let change = Command::ChangeSync {
        epoch: EPOCH,
        incarnation,
        generation: 0,
        data_id: disk(0).data_id,
        pair: Some(demand.pair()),
        why: String::new(),
        at: WallTime(0),
    };
    apply_all(&mut state, [renew, change]);
    state
}

/// A group whose first member was given the first epoch for its data, and has not renewed yet.
pub fn founded(settings: Settings, members: Id) -> ClusterState {
    let (at, scope, cluster_id) = (WallTime(0), "model".to_owned(), ClusterId(1));
    let mut state = ClusterState::default();
    apply_all(&mut state, [Command::FoundGroup { cluster_id, scope, settings }]);
    let announced = (0..members).map(|id| {
        let node_id = NodeId(u64::from(id) + 1);
        let member = howdah_core::Member { node_id, ..Default::default() };
        Command::UpsertMember { name: name(id), member, at }
    });
    apply_all(&mut state, announced);
    let (member, incarnation) = (name(0), incarnation(0));
    let grant = Command::GrantBootstrap { attempt: 1, member: member.clone(), incarnation, at };
    let finish = Command::FinishBootstrap {
        attempt: 1,
        member,
        incarnation,
        system_identifier: SYSTEM,
        position: FIRST,
        history: Vec::new(),
        at,
    };
    apply_all(&mut state, [grant, finish]);
    state
}

fn apply_all(state: &mut ClusterState, commands: impl IntoIterator<Item = Command>) {
    for command in commands {
        let outcome = state.apply(1, command.clone());
        assert_eq!(outcome, howdah_core::Outcome::Applied, "{command:?}");
    }
}

/// The first life of a member's guard.
pub fn incarnation(id: Id) -> Incarnation {
    Incarnation(1000 * (u64::from(id) + 1))
}
