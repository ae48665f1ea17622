//! The healthy cluster that every exploration begins with.

use std::collections::BTreeMap;

use howdah_core::sync::Demand;
use howdah_core::sync::choose::Mode;
use howdah_core::{
    ClusterId, ClusterState, Command, DataId, Epoch, Lsn, NodeId, Position, Settings, Timeline,
    WallTime,
};

use crate::log::Logged;
use crate::step::incarnation;
use crate::view::SYSTEM;
use crate::world::{Agent, Budget, Disk, Guard, Id, MEMBERS, Member, Sender, Server, World, name};

const FIRST: Position = Position { timeline: Timeline(1), lsn: Lsn(100) };
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
        end: FIRST,
        history: Vec::new(),
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
    let at = WallTime(0);
    let settings =
        Settings { synchronous_mode: mode, synchronous_mode_strict: true, ..Settings::default() };
    let (scope, ttl_ms) = ("model".to_owned(), settings.ttl_ms);
    let mut commands = vec![Command::FoundGroup { cluster_id: ClusterId(1), scope, settings }];
    for id in 0..MEMBERS as Id {
        let node_id = NodeId(u64::from(id) + 1);
        let member = howdah_core::Member { node_id, ..Default::default() };
        commands.push(Command::UpsertMember { name: name(id), member, at });
    }
    let (member, incarnation) = (name(0), incarnation(0));
    commands.extend([
        Command::GrantBootstrap { attempt: 1, member: member.clone(), incarnation, at },
        Command::FinishBootstrap {
            attempt: 1,
            member,
            incarnation,
            system_identifier: SYSTEM,
            position: FIRST,
            history: Vec::new(),
            at,
        },
        Command::Renew {
            epoch: EPOCH,
            incarnation,
            nonce: Agent::default().nonce(0),
            ttl_ms,
            wal_lsn: FIRST.lsn,
            paused: false,
            seen: 0,
        },
        Command::ChangeSync {
            epoch: EPOCH,
            incarnation,
            generation: 0,
            data_id: disk(0).data_id,
            pair: Some(demand.pair()),
            why: String::new(),
            at,
        },
    ]);
    let mut state = ClusterState::default();
    for (index, command) in (1..).zip(commands) {
        let outcome = state.apply(index, command.clone());
        assert_eq!(outcome, howdah_core::Outcome::Applied, "{command:?}");
    }
    state
}
