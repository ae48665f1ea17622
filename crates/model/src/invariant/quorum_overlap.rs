//! I5: every set of ballots that closes an election meets every set of standbys that releases a commit,
//! also by a walsender that has not read the newest setting.

use crate::world::World;

/// Whether it does, for the primary whose pair is in the log and whose clients are in.
pub fn holds(world: &World) -> bool {
    let Some(sync) = world.log.state.sync.record() else { return true };
    world.members.iter().all(|member| {
        let Some(server) = member.primary().filter(|it| it.authority == Some(sync.epoch)) else {
            return true;
        };
        let mut demands = server.senders.values().map(|sender| &sender.demand);
        // A demand that nobody meets releases nothing.
        let met =
            |demand: &howdah_core::sync::Demand| demand.is_blocked() || sync.pair.covers(demand);
        !server.open || met(&server.demand) && demands.all(met)
    })
}
