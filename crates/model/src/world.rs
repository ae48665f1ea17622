//! The world that is explored: three members, the log between them, and what was promised to clients.
//!
//! Time does not exist here. A stopwatch has run out or has not, whichever is worse; a guard's deadline may
//! come at any moment or never; a member that is not scheduled is one that is frozen. So that whatever
//! holds here holds without trusting a clock. (Clocks with a bounded error are `lease`'s matter.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use howdah_core::sync::{Demand, Standby};
use howdah_core::view::Job;
use howdah_core::{
    Command, DataId, Epoch, Incarnation, Lsn, MemberName, Nonce, Position, Timeline,
};

use howdah_testkit::wal::{Sender, Wal};

use crate::invariant::Broken;
use crate::log::Logged;

/// Members, by number; 0 leads at the beginning.
pub const MEMBERS: usize = 3;

/// A member's number.
pub type Id = u8;

/// The name that the log knows a member by.
pub fn name(id: Id) -> MemberName {
    MemberName::from(["n1", "n2", "n3"][usize::from(id)])
}

/// The number of a name.
pub fn id(name: &MemberName) -> Id {
    match name.as_str() {
        "n1" => 0,
        "n2" => 1,
        _ => 2,
    }
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// There is a cluster.
    pub whole: bool,
    /// A job that replaces it was begun, and not ended.
    pub half_done: bool,
    pub wal: Wal,
    pub data_id: DataId,
    /// Data ids drawn so far.
    pub drawn: u8,
    pub promise: Epoch,
}

impl Disk {
    /// What it calls itself to its upstream.
    pub fn standby(&self, id: Id) -> Standby {
        Standby { member: name(id), data_id: self.data_id }
    }

    /// An id that no contents ever had.
    pub fn draw(&mut self, id: Id) {
        self.drawn += 1;
        self.data_id = DataId(u64::from(id) * 100 + u64::from(self.drawn));
    }
}

/// A server that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Server {
    /// Under which grant it writes; none: it is in recovery.
    pub authority: Option<Epoch>,
    pub upstream: Option<(Id, Epoch)>,
    pub streaming: bool,
    pub open: bool,
    pub demand: Demand,
    pub in_force_at: Option<Lsn>,
    pub senders: BTreeMap<Standby, Sender>,
    /// Commits that nobody was told of.
    pub waiting: Vec<Lsn>,
    /// Where it stood when it became writable.
    pub began: Position,
}

/// The guard; it outlives the agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Guard {
    pub incarnation: Incarnation,
    pub armed: Option<Epoch>,
}

/// What takes more than a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// A demand was set and is not proven.
    Demand(Demand),
    /// The data is replaced from there; up to a fork, or whole.
    Replace(Id, Option<Position>),
}

impl Doing {
    pub fn job(&self) -> Job {
        match self {
            Doing::Demand(_) => Job::Sync,
            Doing::Replace(_, None) => Job::Clone,
            Doing::Replace(_, Some(_)) => Job::Rewind,
        }
    }
}

/// What an agent knows; gone with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Agent {
    /// Which agent of this member, and how often it has made its renewals void.
    pub life: (u8, u8),
    pub armed: Option<Epoch>,
    pub own_renewal: bool,
    pub promise_proven: Option<Epoch>,
    pub settled: Option<u64>,
    pub doing: Option<Doing>,
    pub hand_over_failed: bool,
}

impl Agent {
    /// Every attempt to renew of this agent, since its renewals were last made void, has this number:
    /// without time one is as good as another.
    pub fn nonce(&self, id: Id) -> Nonce {
        Nonce(1 + u64::from(id) * 10_000 + u64::from(self.life.0) * 100 + u64::from(self.life.1))
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub disk: Disk,
    pub server: Option<Server>,
    pub guard: Guard,
    /// None: it died, and so perhaps did the machine.
    pub agent: Option<Agent>,
    /// Agents so far.
    pub lives: u8,
    /// The machine is up.
    pub up: bool,
    /// The log as it was applied here.
    pub applied: Arc<Logged>,
    /// What was committed since, by turns, while this member hears nothing.
    pub unheard: Vec<Arc<Logged>>,
    pub deaf: bool,
}

impl Member {
    pub fn primary(&self) -> Option<&Server> {
        self.server.as_ref().filter(|server| server.authority.is_some())
    }

    /// Whether the server streams, or would, from `from`.
    pub fn follows(&self, from: Id) -> bool {
        let upstream = self.server.as_ref().and_then(|server| server.upstream);
        upstream.is_some_and(|(upstream, _)| upstream == from)
    }
}

/// How many more of each may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub writes: u8,
    /// Elections and hand-overs.
    pub epochs: u8,
    /// Renewals that nobody needs.
    pub renewals: u8,
    /// A proposal whose proposer hears no answer: it is committed later, after others, or never.
    pub late: u8,
    /// A proposal that is committed again later.
    pub repeated: u8,
    /// A member that stops hearing what is committed, for as long as it likes.
    pub deaf: u8,
    /// A guard whose deadline comes, whoever is wrong about the time.
    pub deadline: u8,
    /// PostgreSQL dies.
    pub crash: u8,
    /// An agent dies alone.
    pub agent: u8,
    /// A machine dies and comes back.
    pub machine: u8,
    /// A machine dies and comes back empty.
    pub wipe: u8,
    /// An operator asks for a switchover.
    pub switchover: u8,
    /// An operator fences a member.
    pub fence: u8,
    /// Faults of all kinds together: the last ten.
    pub faults: u8,
}

/// A proposal that nobody waits for any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight(pub Command);

impl std::hash::Hash for Flight {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        serde_json::to_vec(&self.0).unwrap_or_default().hash(hasher);
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub log: Arc<Logged>,
    pub members: [Member; MEMBERS],
    pub flights: Vec<Flight>,
    /// Who was given each epoch.
    pub grants: BTreeMap<Epoch, Id>,
    /// In each epoch, on each timeline: the last commit that a client was told of.
    pub acked: BTreeMap<(Epoch, Timeline), Lsn>,
    /// The same: the last commit that clients could see when they were let in.
    pub seen: BTreeMap<(Epoch, Timeline), Lsn>,
    /// Timelines that somebody was promoted to.
    pub begun: BTreeSet<Timeline>,
    pub left: Budget,
    /// What a step broke.
    pub wrong: Option<Broken>,
}

impl World {
    pub fn member(&mut self, id: Id) -> &mut Member {
        &mut self.members[usize::from(id)]
    }

    pub fn at(&self, id: Id) -> &Member {
        &self.members[usize::from(id)]
    }
}
