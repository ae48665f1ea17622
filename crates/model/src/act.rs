//! What can happen next in a world.

use howdah_core::sync::Standby;
use howdah_core::{Action, Command, Timings, decide};

use crate::view::{Watch, view};
use crate::world::{Id, MEMBERS, World};

/// What becomes of the proposals of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Committed at once, and answered.
    Prompt,
    /// Not answered; committed later, or never.
    Late,
    /// Committed at once, and once more later.
    Repeated,
}

/// One step of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A member does what it decided.
    Do(Id, Vec<Action>, Way),
    /// What takes more than a moment comes to its end.
    Finish(Id),
    /// A proposal arrives after all.
    Commit(usize),
    /// A member that heard nothing hears of one more change of the log.
    Hear(Id),
    /// A standby connects to its upstream and says what it has.
    Attach(Id),
    /// It gets all that its upstream has, and says so.
    Stream(Id),
    /// A walsender reads the setting.
    Reload(Id, Standby),
    /// A client writes.
    Write(Id),
    /// An agent, or a machine, comes back.
    Restart(Id),
    /// From now on a member hears nothing.
    Deafen(Id),
    /// A guard's deadline comes.
    Deadline(Id),
    /// PostgreSQL dies.
    Crash(Id),
    /// The agent dies alone.
    KillAgent(Id),
    /// The machine dies.
    KillMachine(Id),
    /// The machine dies and its disks are empty.
    Wipe(Id),
    /// An operator wants that member to take over.
    Switchover(Id),
    /// An operator fences it.
    Fence(Id),
}

/// Names for counting, in the order of [`kind_of_action`].
pub const KINDS: [&str; 27] = [
    "renew",
    "open an election",
    "vote",
    "close an election",
    "record a timeline",
    "change the pair",
    "pass the barrier",
    "release",
    "transfer",
    "take back",
    "other proposal",
    "promise",
    "promote",
    "start",
    "start in place",
    "follow",
    "stop",
    "replace data",
    "set a demand",
    "let clients in",
    "commit late",
    "hear late",
    "stream",
    "reload a walsender",
    "write",
    "come back",
    "a fault",
];

fn kind_of_command(command: &Command) -> usize {
    match command {
        Command::Renew { .. } => 0,
        Command::OpenElection { .. } => 1,
        Command::CastBallot { .. } => 2,
        Command::CloseElection { .. } => 3,
        Command::RecordTimeline { .. } => 4,
        Command::ChangeSync { .. } => 5,
        Command::Barrier { .. } => 6,
        Command::Release { .. } => 7,
        Command::TransferLease { .. } => 8,
        Command::TakeBack { .. } => 9,
        _ => 10,
    }
}

/// Number of an action in [`KINDS`].
pub fn kind_of_action(action: &Action) -> usize {
    match action {
        Action::Renew { .. } => 0,
        Action::Propose(command) => kind_of_command(command),
        Action::Vote { .. } => 2,
        Action::RecordTimeline { .. } => 4,
        Action::HandOver { .. } => 8,
        Action::Promise { .. } => 11,
        Action::Promote { .. } => 12,
        Action::StartIsolated | Action::Initdb { .. } => 13,
        Action::StartInPlace { .. } => 14,
        Action::Follow { .. } => 15,
        Action::Kill | Action::Stop | Action::StopToRestart | Action::End => 16,
        Action::Rewind { .. } | Action::Clone { .. } => 17,
        Action::SetDemand { .. } => 18,
        Action::Open { .. } | Action::PreparePrimary { .. } => 19,
    }
}

impl Act {
    /// Numbers of what happens in it, in [`KINDS`].
    pub fn kinds(&self) -> Vec<usize> {
        match self {
            Act::Do(_, actions, _) => actions.iter().map(kind_of_action).collect(),
            Act::Finish(_) => vec![],
            Act::Commit(_) => vec![20],
            Act::Hear(_) => vec![21],
            Act::Attach(_) | Act::Stream(_) => vec![22],
            Act::Reload(..) => vec![23],
            Act::Write(_) => vec![24],
            Act::Restart(_) => vec![25],
            _ => vec![26],
        }
    }
}

/// What a member can decide, by what its stopwatches say.
fn decisions(world: &World, id: Id, timings: Timings) -> Vec<Vec<Action>> {
    let mut found: Vec<Vec<Action>> = Vec::new();
    for watch in [Watch::Runs, Watch::RanOut] {
        let Some(view) = view(world, id, timings, watch) else { continue };
        let mut actions = decide(&view).actions;
        let agent = world.at(id).agent.as_ref();
        let nonce = world.log.state.leader.as_ref().map(|record| record.nonce);
        // One that hears nothing would renew for ever.
        let renewed = view.lease.own_renewal || agent.map(|agent| agent.nonce(id)) == nonce;
        let needed = !renewed || world.left.renewals > 0;
        actions.retain(|action| match action {
            Action::Renew { .. } => needed,
            Action::Propose(command) => world.left.epochs > 0 || !begins_epoch(command),
            Action::HandOver { .. } => world.left.epochs > 0,
            _ => true,
        });
        if !actions.is_empty() && !found.contains(&actions) {
            found.push(actions);
        }
    }
    found
}

fn begins_epoch(command: &Command) -> bool {
    matches!(command, Command::OpenElection { .. } | Command::TakeBack { .. })
}

fn proposes(action: &Action) -> bool {
    matches!(
        action,
        Action::Renew { .. }
            | Action::Propose(_)
            | Action::Vote { .. }
            | Action::RecordTimeline { .. }
            | Action::HandOver { .. }
    )
}

/// Everything that can happen next.
pub fn possible(world: &World, timings: Timings, acts: &mut Vec<Act>) {
    for id in 0..MEMBERS as Id {
        decided(world, id, timings, acts);
        of_itself(world, id, acts);
        if world.left.faults > 0 {
            faults(world, id, acts);
        }
    }
    acts.extend((0..world.flights.len()).map(Act::Commit));
}

fn decided(world: &World, id: Id, timings: Timings, acts: &mut Vec<Act>) {
    let left = world.left;
    for actions in decisions(world, id, timings) {
        if left.faults > 0 && actions.iter().any(proposes) {
            if left.late > 0 {
                acts.push(Act::Do(id, actions.clone(), Way::Late));
            }
            if left.repeated > 0 {
                acts.push(Act::Do(id, actions.clone(), Way::Repeated));
            }
        }
        acts.push(Act::Do(id, actions, Way::Prompt));
    }
}

/// What PostgreSQL, its clients and the network do.
fn of_itself(world: &World, id: Id, acts: &mut Vec<Act>) {
    let member = world.at(id);
    if !member.unheard.is_empty() && member.agent.is_some() {
        acts.push(Act::Hear(id));
    }
    if member.agent.is_none() {
        acts.push(Act::Restart(id));
    }
    if member.agent.as_ref().is_some_and(|agent| agent.doing.is_some()) {
        acts.push(Act::Finish(id));
    }
    let Some(server) = &member.server else { return };
    if world.left.writes > 0 && server.authority.is_some() && server.open {
        acts.push(Act::Write(id));
    }
    for (standby, sender) in &server.senders {
        if sender.demand != server.demand {
            acts.push(Act::Reload(id, standby.clone()));
        }
    }
    if let Some((from, _)) = server.upstream.filter(|_| server.authority.is_none()) {
        streams(world, id, from, acts);
    }
}

/// What a standby may get from `from`.
fn streams(world: &World, id: Id, from: Id, acts: &mut Vec<Act>) {
    let (here, source) = (&world.at(id).disk, world.at(from));
    let Some(server) = source.primary().filter(|_| here.wal.begins(&source.disk.wal)) else {
        return;
    };
    let known = server.senders.get(&here.standby(id)).map(|sender| sender.flushed);
    let behind = here.wal.end != source.disk.wal.end;
    if behind && known.is_none() {
        acts.push(Act::Attach(id));
    }
    if behind || known != Some(here.wal.end.lsn) {
        acts.push(Act::Stream(id));
    }
}

fn faults(world: &World, id: Id, acts: &mut Vec<Act>) {
    let (left, member) = (world.left, world.at(id));
    if left.deaf > 0 && !member.deaf && member.agent.is_some() {
        acts.push(Act::Deafen(id));
    }
    if left.deadline > 0 && member.guard.armed.is_some() {
        acts.push(Act::Deadline(id));
    }
    if left.crash > 0 && member.server.is_some() {
        acts.push(Act::Crash(id));
    }
    if left.agent > 0 && member.agent.is_some() {
        acts.push(Act::KillAgent(id));
    }
    if left.machine > 0 && member.up {
        acts.push(Act::KillMachine(id));
    }
    if left.wipe > 0 && member.up {
        acts.push(Act::Wipe(id));
    }
    if left.fence > 0 {
        acts.push(Act::Fence(id));
    }
    let state = &world.log.state;
    let settled = state.switchover.is_none() && state.held().is_some() && world.left.epochs > 0;
    if left.switchover > 0 && settled && world.grants.get(&state.epoch()) != Some(&id) {
        acts.push(Act::Switchover(id));
    }
}
