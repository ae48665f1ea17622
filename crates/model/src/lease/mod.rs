//! Clocks: who believes that it may write, and whether two ever do (I1).
//!
//! Each member has a clock that runs too slow or too fast, by as much as the lease tolerates; time goes on
//! tick by tick. When a challenger may open an election, `core::decide` says; when an epoch ends, `apply`;
//! how long a holder may act, [`howdah_core::holder_share`]; which deadline is in force,
//! `howdah_guard::lease`. The model plays the rest: renewals that are committed late, out of order and
//! seen later still, guards that take as long to kill as they may, agents that stop, a ttl that is made
//! shorter, members that are frozen and thawed.
//!
//! The bounds are a tenth of real ones, and the error of the clocks twenty times: the fewer ticks fit into
//! a ttl, the farther one sees. Left out is everything that is not about time: whoever opens an election
//! wins it when it likes, and is promoted at once.

mod act;
mod step;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use howdah_core::rails::{Rails, rails};
use howdah_core::{
    BootInstant, ClusterId, ClusterState, Command, Epoch, Incarnation, Lsn, NodeId, Nonce,
    Position, Profile, Settings, Timeline, Timings, WallTime, holder_share,
};
use howdah_guard::lease::Lease;
use stateright::{Model, Property};

use crate::invariant::{Broken, mutual_lease};
use crate::log::Logged;
use crate::view::SYSTEM;
use crate::world::{Id, name};
pub use act::{Act, KINDS};

/// By how much a clock may be wrong, in percent.
pub const RATE_ERROR_PERCENT: u32 = 20;
/// One tick of real time.
const TICK: Duration = Duration::from_millis(20);
/// What a guard may take from its deadline until the last process is gone: a tick of the slowest clock.
const KILL: Duration = Duration::from_millis(16);
/// Five ticks of the fastest clock.
const TTL_MS: u64 = 120;
const SHORT_TTL_MS: u64 = 60;

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub members: Id,
    /// Ticks of real time.
    pub ticks: u8,
    pub epochs: u8,
    /// Renewals of each member.
    pub renewals: u8,
    pub freezes: u8,
    /// The ttl is made shorter.
    pub shorter: u8,
    /// Agents that stop, and are started again.
    pub agents: u8,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its clock goes on by so many thousandths of a tick in each.
    pub rate: u16,
    pub incarnation: Incarnation,
    pub guard: Lease,
    /// The epoch that its PostgreSQL writes under.
    pub writes: Option<Epoch>,
    /// Since when the guard knows that it must not.
    pub dies_by: Option<BootInstant>,
    /// When each renewal was sent, and with which ttl; gone with the agent.
    pub sent: Vec<(Nonce, BootInstant, u64)>,
    pub renewed: u8,
    pub record_seen: BootInstant,
    pub applied: Arc<Logged>,
    pub unheard: Vec<Arc<Logged>>,
    pub frozen: bool,
}

/// A renewal on its way, with the ttl that it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flight {
    pub by: Id,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    pub nonce: Nonce,
    pub ttl_ms: u64,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Ticks so far.
    pub time: u8,
    pub log: Arc<Logged>,
    pub members: Vec<Member>,
    pub flights: Vec<Flight>,
    pub ttl_ms: u64,
    pub left: Budget,
    pub wrong: Option<Broken>,
}

impl World {
    /// A member's clock.
    pub fn clock(&self, id: Id) -> BootInstant {
        let ticks = u64::from(self.time) + 1;
        let rate = u64::from(self.members[usize::from(id)].rate);
        BootInstant(ticks * rate * u64::try_from(TICK.as_nanos()).unwrap_or(0) / 1000)
    }
}

/// How long a holder may act after the moment before it sent a renewal: as production has it, with the
/// model's numbers.
fn holder_limit(ttl_ms: u64) -> Duration {
    let ttl = Duration::from_millis(ttl_ms);
    let share = if rails().drift_margin { holder_share(ttl, RATE_ERROR_PERCENT) } else { ttl };
    share.saturating_sub(KILL)
}

/// The limits that `decide` goes by; but for the ttl none of them matters here.
fn timings(ttl_ms: u64) -> Timings {
    let ttl = Duration::from_millis(ttl_ms);
    let known = Timings::for_profile(Profile::Default, Profile::Default.ttl())
        .expect("the default profile is valid");
    Timings { ttl, holder: holder_limit(ttl_ms), renew_every: ttl / 5, window: ttl / 5, ..known }
}

/// Members with clocks.
#[derive(Clone)]
pub struct Clocks {
    pub budget: Budget,
    pub rails: Rails,
    counts: Arc<[AtomicU64; KINDS.len()]>,
}

impl Clocks {
    /// With all rails on.
    pub fn new(budget: Budget) -> Self {
        let counts = Arc::new([const { AtomicU64::new(0) }; KINDS.len()]);
        Self { budget, rails: howdah_core::rails::ALL, counts }
    }

    /// How often each kind of step was taken.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counted = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        KINDS.iter().copied().zip(counted).collect()
    }

    fn start(&self, rates: &[u16]) -> World {
        let log = Logged::new(log(self.budget.members));
        let member = |(id, rate): (Id, &u16)| Member {
            rate: *rate,
            incarnation: incarnation(id),
            guard: Lease::new(),
            writes: None,
            dies_by: None,
            sent: Vec::new(),
            renewed: 0,
            record_seen: BootInstant::default(),
            applied: log.clone(),
            unheard: Vec::new(),
            frozen: false,
        };
        let mut world = World {
            time: 0,
            members: (0..).zip(rates).map(member).collect(),
            log,
            flights: Vec::new(),
            ttl_ms: TTL_MS,
            left: self.budget,
            wrong: None,
        };
        for id in 0..self.budget.members {
            world.members[usize::from(id)].record_seen = world.clock(id);
        }
        world
    }
}

impl Model for Clocks {
    type State = World;
    type Action = Act;

    /// Every combination of clocks.
    fn init_states(&self) -> Vec<World> {
        let error = u16::try_from(RATE_ERROR_PERCENT * 10).unwrap_or(0);
        // One that runs right is between the two in everything.
        let rates = [1000 - error, 1000 + error];
        let all = rates.len().pow(u32::from(self.budget.members));
        (0..all)
            .map(|nth| {
                let rate = |id: Id| rates[nth / rates.len().pow(u32::from(id)) % rates.len()];
                let rates: Vec<u16> = (0..self.budget.members).map(rate).collect();
                crate::on_rails(self.rails, || self.start(&rates))
            })
            .collect()
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        if world.wrong.is_none() {
            crate::on_rails(self.rails, || act::possible(world, acts));
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let kind = act.kind();
        let after = crate::on_rails(self.rails, || step::next(world, act))?;
        self.counts[kind].fetch_add(1, Ordering::Relaxed);
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(mutual_lease::NAME, |_, world: &World| mutual_lease::holds(world)),
            Property::always("what a commit may break", |_, world: &World| world.wrong.is_none()),
        ]
    }
}

fn incarnation(id: Id) -> Incarnation {
    Incarnation(1000 * (u64::from(id) + 1))
}

/// n1 was given the first epoch, and has not renewed yet.
fn log(members: Id) -> ClusterState {
    let at = WallTime(0);
    let settings = Settings { ttl_ms: TTL_MS, ..Settings::default() };
    let mut commands =
        vec![Command::FoundGroup { cluster_id: ClusterId(1), scope: "model".into(), settings }];
    for id in 0..members {
        let member =
            howdah_core::Member { node_id: NodeId(u64::from(id) + 1), ..Default::default() };
        commands.push(Command::UpsertMember { name: name(id), member, at });
    }
    let (member, incarnation) = (name(0), incarnation(0));
    let grant = Command::GrantBootstrap { attempt: 1, member: member.clone(), incarnation, at };
    commands.push(grant);
    commands.push(Command::FinishBootstrap {
        attempt: 1,
        member,
        incarnation,
        system_identifier: SYSTEM,
        position: Position { timeline: Timeline(1), lsn: Lsn(100) },
        history: Vec::new(),
        at,
    });
    let mut state = ClusterState::default();
    for (index, command) in (1..).zip(commands) {
        state.apply(index, command);
    }
    state
}
