//! Clocks: who believes that it may write, and whether two ever do (I1).
//!
//! Each member has a clock that runs too slow or too fast, by as much as the lease tolerates; time goes on
//! tick by tick. When a challenger may open an election, `core::decide` says; when an epoch ends, `apply`;
//! how long a holder may act, [`howdah_core::holder_share`]; which deadline is in force,
//! `howdah_guard::lease`. The model plays the rest: renewals that are committed late, out of order and
//! seen later still, guards that take as long to kill as they may, agents that stop, a ttl that is made
//! shorter, members that are frozen and thawed.
//!
//! A ttl is five ticks of the fastest clock, and clocks are wrong by twenty times what is tolerated of real
//! ones: the fewer ticks fit into a ttl, the farther one sees. Left out is everything that is not about time: whoever opens an election
//! wins it when it likes, and is promoted at once.

mod act;
mod step;

use std::sync::Arc;
use std::time::Duration;

use howdah_core::rails::{Rails, rails};
use howdah_core::{
    BootInstant, Epoch, Incarnation, Nonce, Profile, Settings, Timings, holder_share,
};
use howdah_guard::lease::Lease;
use stateright::{Model, Property};

use crate::explore::Counts;
use crate::invariant::{Broken, mutual_lease};
use crate::log::Logged;
use crate::start::{founded, incarnation};
use crate::world::Id;
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
    /// How often each kind of step was taken.
    pub counts: Counts,
}

impl Clocks {
    /// With all rails on.
    pub fn new(budget: Budget) -> Self {
        Self { budget, rails: howdah_core::rails::ALL, counts: Counts::of(&KINDS) }
    }

    fn start(&self, rates: &[u16]) -> World {
        let settings = Settings { ttl_ms: TTL_MS, ..Settings::default() };
        let log = Logged::new(founded(settings, self.budget.members));
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
        self.counts.add(kind);
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(mutual_lease::NAME, |_, world: &World| mutual_lease::holds(world)),
            Property::always("what a commit may break", |_, world: &World| world.wrong.is_none()),
        ]
    }
}
