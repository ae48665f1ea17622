//! I8: what clients could see when they were let in is in the WAL of whoever becomes primary later,
//! though nobody may have been told of it.

use super::every_later_primary_holds;
use crate::world::World;

/// Whether it is now.
pub fn holds(world: &World) -> bool {
    every_later_primary_holds(world, &world.seen)
}
