//! I9: nobody is primary but by a grant to this very member.

use crate::world::{Id, World};

/// Whether nobody is.
pub fn holds(world: &World) -> bool {
    (0..).zip(&world.members).all(|(id, member): (Id, _)| {
        let authority = member.primary().and_then(|server| server.authority);
        authority.is_none_or(|epoch| world.grants.get(&epoch) == Some(&id))
    })
}
