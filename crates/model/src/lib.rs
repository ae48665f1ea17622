//! The rules of `core`, explored exhaustively in small worlds.
//!
//! Production code decides and applies (`core::decide`, `core::ClusterState::apply`); this crate plays
//! the rest: disks, servers, walsenders, the network, and whatever goes wrong. Two worlds:
//!
//! - [`Cluster`]: three members, elections, promises, synchronous replication, faults; without clocks, so
//!   that what holds there holds whatever clocks say (I2 to I12).
//! - [`lease`]: clocks with a bounded error of their rate, and who believes that it may write (I1).
//!
//! Called by its tests (a bound that CI can afford, and each guard rail switched off), and by `make model`
//! with larger bounds. Nothing of it is in the product.

#![allow(
    missing_docs,
    reason = "the fields of the model are the model; the modules say what it means"
)]

pub mod act;
pub mod explore;
mod fault;
pub mod invariant;
pub mod lease;
pub mod log;
mod step;
pub mod view;
pub mod world;

mod start;

use howdah_core::rails::Rails;
use howdah_core::sync::choose::Mode;
use howdah_core::{Profile, Timings};
use stateright::{Model, Property};

use act::{Act, KINDS};
use explore::Counts;
use invariant::ALL;
use world::{Budget, World};

/// Three members with synchronous replication, and what may happen to them.
#[derive(Clone)]
pub struct Cluster {
    /// How much of everything.
    pub budget: Budget,
    /// `on` or `quorum`; strict, so that commits always wait for somebody.
    pub mode: Mode,
    /// The rails that are on.
    pub rails: Rails,
    timings: Timings,
    /// How often each kind of step was taken.
    pub counts: Counts,
}

impl Cluster {
    /// With all rails on.
    pub fn new(budget: Budget, mode: Mode) -> Self {
        let timings = Timings::for_profile(Profile::Default, Profile::Default.ttl())
            .expect("the default profile is valid");
        let (rails, counts) = (howdah_core::rails::ALL, Counts::of(&KINDS));
        Self { budget, mode, rails, timings, counts }
    }
}

/// Checkers have threads of their own, and rails are a thread's matter.
#[cfg(feature = "sabotage")]
fn on_rails<T>(rails: Rails, work: impl FnOnce() -> T) -> T {
    howdah_core::rails::without(rails, work)
}

#[cfg(not(feature = "sabotage"))]
fn on_rails<T>(_: Rails, work: impl FnOnce() -> T) -> T {
    work()
}

macro_rules! always {
    ($($nth:literal),*) => {
        vec![$(Property::always(ALL[$nth].0, |_, world: &World| (ALL[$nth].1)(world))),*]
    };
}

impl Model for Cluster {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![on_rails(self.rails, || start::healthy(self.budget, self.mode))]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        // What is broken is reported; what follows from it tells nothing.
        if world.wrong.is_none() {
            on_rails(self.rails, || act::possible(world, self.timings, acts));
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let after = on_rails(self.rails, || step::next(world, &act))?;
        for kind in act.kinds() {
            self.counts.add(kind);
        }
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        always![0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    }
}
