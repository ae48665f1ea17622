//! What must hold in every world that can be reached: I1 to I12, a file each.
//!
//! Some are seen in a state, some only in a step; those leave a mark in the world, and are found there.

pub mod acked_durable;
pub mod determinism;
pub mod epoch_unique;
pub mod idempotence;
pub mod mutual_lease;
pub mod no_amnesia_vote;
pub mod no_old_ack;
pub mod no_start_as_primary;
pub mod prefix_chain;
pub mod promise_monotone;
pub mod quorum_overlap;
pub mod visible_durable;

use std::collections::BTreeMap;

use howdah_core::{Epoch, Lsn, Timeline};

use crate::world::World;

/// What a step can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// I2.
    EpochUnique,
    /// I3.
    PromiseMonotone,
    /// I7.
    PrefixChain,
    /// I11.
    Idempotence,
    /// I12.
    Determinism,
}

/// The name of an invariant, and whether it holds.
pub type Invariant = (&'static str, fn(&World) -> bool);

/// All that is asked of a world without clocks. I1 is asked of a world with clocks: `mutual_lease`.
pub const ALL: [Invariant; 11] = [
    ("I2 one holder for each epoch", epoch_unique::holds),
    ("I3 a promise never falls", promise_monotone::holds),
    ("I4 acknowledged writes are in every later primary", acked_durable::holds),
    ("I5 every election meets every commit", quorum_overlap::holds),
    ("I6 nobody acknowledges below its promise", no_old_ack::holds),
    ("I7 timelines are one chain", prefix_chain::holds),
    ("I8 what clients saw is in every later primary", visible_durable::holds),
    ("I9 nobody is primary without a grant", no_start_as_primary::holds),
    ("I10 a vote is a promise on disk", no_amnesia_vote::holds),
    ("I11 a command applied twice is applied once", idempotence::holds),
    ("I12 the same log gives the same state", determinism::holds),
];

/// Whether whoever is primary by a grant not older than that of these commits holds them all.
fn every_later_primary_holds(world: &World, what: &BTreeMap<(Epoch, Timeline), Lsn>) -> bool {
    world.members.iter().all(|member| {
        let Some(authority) = member.primary().and_then(|server| server.authority) else {
            return true;
        };
        let mut due = what.iter().filter(|((epoch, _), _)| *epoch <= authority);
        due.all(|((_, timeline), lsn)| member.disk.wal.holds(*timeline, *lsn))
    })
}
