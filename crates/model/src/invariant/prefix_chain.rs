//! I7: the log's timelines are one chain, and whoever serves clients by the newest grant writes at its end.

use super::Broken;
use crate::world::World;

/// Whether it does.
pub fn holds(world: &World) -> bool {
    let timelines = &world.log.state.timelines;
    let epoch = world.log.state.epoch();
    world.wrong != Some(Broken::PrefixChain)
        && world.members.iter().all(|member| {
            let serves = member.primary().is_some_and(|it| it.open && it.authority == Some(epoch));
            !serves
                || timelines.diverges_at(member.disk.wal.end, &member.disk.wal.history).is_none()
        })
}
