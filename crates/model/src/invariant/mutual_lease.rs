//! I1: no two members that are not frozen write at the same instant, nor does one of them believe that it
//! may while another writes. Asked of the world with clocks.

use crate::lease::World;

/// Its name.
pub const NAME: &str = "I1 two members never write at once";

/// Whether it holds now. A guard that was frozen has not looked at its clock yet; it kills before
/// anything else when it is thawed.
pub fn holds(world: &World) -> bool {
    let writing = world.members.iter().filter(|member| !member.frozen && member.writes.is_some());
    writing.count() <= 1
}
