//! I6: nobody receives WAL, and so nobody acknowledges any, of an epoch below its promise.

use crate::world::World;

/// Whether nobody does.
pub fn holds(world: &World) -> bool {
    world.members.iter().all(|member| {
        let server = member.server.as_ref().filter(|server| server.streaming);
        let upstream = server.and_then(|server| server.upstream);
        upstream.is_none_or(|(_, epoch)| epoch >= member.disk.promise)
    })
}
