//! I10, for elections of the leader: where a ballot counts for the contents of a disk, the promise that
//! came with it is on that disk. (For votes of Raft it is `consensus` that keeps it: a store that lost its
//! tail is refused, and an empty one comes back as another node.)

use crate::world::{World, id};

/// Whether it is.
pub fn holds(world: &World) -> bool {
    let Some(open) = &world.log.state.election else { return true };
    open.ballots.iter().all(|(member, ballot)| {
        let disk = &world.at(id(member)).disk;
        disk.data_id != ballot.data_id || disk.promise >= open.epoch
    })
}
