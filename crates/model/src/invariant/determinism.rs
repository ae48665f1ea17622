//! I12: whoever applies the same entry to the same state, be it from a snapshot, gets the same state.
//! Looked at in each commit.

use super::Broken;
use crate::world::World;

/// Whether no step has broken it.
pub fn holds(world: &World) -> bool {
    world.wrong != Some(Broken::Determinism)
}
