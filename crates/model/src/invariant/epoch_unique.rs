//! I2: one holder for each epoch; epoch, renewals and timelines never go back. Looked at in each commit,
//! by the check that golden scripts and properties use too.

use super::Broken;
use crate::world::World;

/// Whether no step has broken it.
pub fn holds(world: &World) -> bool {
    world.wrong != Some(Broken::EpochUnique)
}
