//! What can happen next where time goes on.

use howdah_core::view::{
    ClusterData, DataView, LeaseView, LocalView, NodeView, PgView, RunningPg, View,
};
use howdah_core::{Action, BootInstant, Command, LeaseState, OpenReason, Position, decide};

use super::{KILL, World, timings};
use crate::start::FIRST;
use crate::view::SYSTEM;
use crate::world::{Id, name};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Real time goes on.
    Tick,
    /// The holder reads its clock and sends a renewal.
    Send(Id),
    /// A renewal is committed.
    Commit(usize),
    /// A member hears of one more change of the log.
    Hear(Id),
    /// The guard looks at its clock.
    Look(Id),
    /// What a guard kills is gone.
    Dies(Id),
    /// PostgreSQL becomes writable.
    Promote(Id),
    /// A challenger opens an election.
    Open(Id, OpenReason),
    /// It wins.
    Win(Id),
    Freeze(Id),
    Thaw(Id),
    /// The agent stops, and another one is started.
    Agent(Id),
    /// From now on renewals bring a shorter ttl.
    Shorten,
}

/// Names for counting.
pub const KINDS: [&str; 13] = [
    "tick",
    "send",
    "commit",
    "hear",
    "look",
    "die",
    "promote",
    "open",
    "win",
    "freeze",
    "thaw",
    "another agent",
    "shorten the ttl",
];

impl Act {
    /// Its number in [`KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Act::Tick => 0,
            Act::Send(_) => 1,
            Act::Commit(_) => 2,
            Act::Hear(_) => 3,
            Act::Look(_) => 4,
            Act::Dies(_) => 5,
            Act::Promote(_) => 6,
            Act::Open(..) => 7,
            Act::Win(_) => 8,
            Act::Freeze(_) => 9,
            Act::Thaw(_) => 10,
            Act::Agent(_) => 11,
            Act::Shorten => 12,
        }
    }
}

pub(super) fn possible(world: &World, acts: &mut Vec<Act>) {
    for id in 0..world.left.members {
        let member = &world.members[usize::from(id)];
        if member.frozen {
            acts.push(Act::Thaw(id));
        } else {
            awake(world, id, acts);
        }
    }
    acts.extend((0..world.flights.len()).map(Act::Commit));
    if world.left.shorter > 0 {
        acts.push(Act::Shorten);
    }
    if world.left.ticks > 0 && in_time(world) {
        acts.push(Act::Tick);
    }
}

/// Whether real time may go on: a guard that runs looks at its clock in time, and kills in time.
fn in_time(world: &World) -> bool {
    let mut later = world.clone();
    later.time += 1;
    (0..).zip(&world.members).all(|(id, member): (Id, _)| {
        if member.frozen || member.writes.is_none() {
            return true;
        }
        let (now, next) = (world.clock(id), later.clock(id));
        let looked = member.guard.armed().is_none_or(|armed| armed.deadline > now);
        looked && member.dies_by.is_none_or(|by| by > next)
    })
}

fn awake(world: &World, id: Id, acts: &mut Vec<Act>) {
    let (member, now) = (&world.members[usize::from(id)], world.clock(id));
    let armed = member.guard.armed();
    if !member.unheard.is_empty() {
        acts.push(Act::Hear(id));
    }
    if armed.is_some_and(|armed| armed.deadline <= now) {
        acts.push(Act::Look(id));
    }
    if member.dies_by.is_some() {
        acts.push(Act::Dies(id));
    }
    let record = member
        .applied
        .state
        .held()
        .filter(|record| record.holder == name(id) && record.incarnation == member.incarnation);
    if record.is_some() && member.renewed < world.left.renewals && member.dies_by.is_none() {
        acts.push(Act::Send(id));
    }
    let armed = armed.map(|armed| armed.epoch);
    if member.writes.is_none() && armed.is_some() && record.map(|record| record.epoch) == armed {
        acts.push(Act::Promote(id));
    }
    if let Some(why) = opens(world, id).filter(|_| world.left.epochs > 0) {
        acts.push(Act::Open(id, why));
    }
    // The one that was opened is the one that is won: who votes is no matter of time.
    let open = world.log.state.election.is_some() && member.applied == world.log;
    if open && member.writes.is_none() && member.dies_by.is_none() {
        acts.push(Act::Win(id));
    }
    if world.left.freezes > 0 {
        acts.push(Act::Freeze(id));
    }
    if world.left.agents > 0 {
        acts.push(Act::Agent(id));
    }
}

/// Whether this member, as it decides by its own clock, opens an election now.
fn opens(world: &World, id: Id) -> Option<OpenReason> {
    let (member, now) = (&world.members[usize::from(id)], world.clock(id));
    let state = &member.applied.state;
    let record = state.leader.as_ref().filter(|record| record.state == LeaseState::Held)?;
    if member.writes.is_some() || member.dies_by.is_some() {
        return None;
    }
    let position = Position { timeline: record.reserved, ..FIRST };
    let view = View {
        state,
        me: name(id),
        now,
        timings: timings(record.ttl_ms),
        node: NodeView {
            // A guard that lost its lease has begun another life.
            incarnation: member.incarnation,
            members_expected: usize::from(world.left.members),
            raft_quorum: true,
            ..NodeView::default()
        },
        lease: LeaseView { record_seen: member.record_seen, ..LeaseView::default() },
        local: LocalView {
            data: DataView::Cluster(ClusterData {
                system_identifier: SYSTEM,
                disk_end: Some(position),
                ..ClusterData::default()
            }),
            pg: PgView::Running(RunningPg {
                in_recovery: true,
                open: true,
                ..RunningPg::default()
            }),
            ..LocalView::default()
        },
        peers: std::collections::BTreeMap::new(),
    };
    decide(&view).actions.into_iter().find_map(|action| match action {
        Action::Propose(command) => match *command {
            Command::OpenElection { reason, .. } => Some(reason),
            _ => None,
        },
        _ => None,
    })
}

/// When what a guard kills now must be gone.
pub(super) fn gone_by(deadline: BootInstant) -> BootInstant {
    deadline + KILL
}
