//! I4: what a client was told is committed is in the WAL of whoever becomes primary later.

use super::every_later_primary_holds;
use crate::world::World;

/// Whether it is now.
pub fn holds(world: &World) -> bool {
    every_later_primary_holds(world, &world.acked)
}
