//! I11: a command that is committed twice changes nothing the second time, but for the count of
//! renewals. Looked at in each commit.

use super::Broken;
use crate::world::World;

/// Whether no step has broken it.
pub fn holds(world: &World) -> bool {
    world.wrong != Some(Broken::Idempotence)
}
