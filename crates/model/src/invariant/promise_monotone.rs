//! I3: a member's promise never falls and survives every crash; only an empty disk has none.

use super::Broken;
use crate::world::World;

/// Whether no step has broken it.
pub fn holds(world: &World) -> bool {
    world.wrong != Some(Broken::PromiseMonotone)
}
