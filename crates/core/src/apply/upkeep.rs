//! Maintenance: pause and fence.
//!
//! Invariant: `paused` of a held record is the holder's to change, by a renewal: only it knows
//! whether its guard has a deadline (rule: docs/protocol.md, "Pause").

use super::Entry;
use crate::command::{Command, Rejection};
use crate::ids::MemberName;
use crate::record::{EventKind, LeaseState};
use crate::state::ClusterState;

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::SetPause { paused, at } => {
            if let Some(election) = state.election.as_ref().filter(|_| paused) {
                return Err(Rejection::ElectionOpen(election.epoch));
            }
            if state.pause_wanted == paused {
                return Ok(());
            }
            state.pause_wanted = paused;
            if let Some(record) =
                state.leader.as_mut().filter(|record| record.state != LeaseState::Held)
            {
                record.paused = paused;
            }
            let text = if paused {
                "maintenance mode: an operator switched automatic actions off"
            } else {
                "an operator switched automatic actions on again"
            };
            state.note(entry.index, at, EventKind::Pause, &MemberName::default(), text.into());
            Ok(())
        }
        Command::SetFence { member, fenced, at } => {
            if !state.members.contains_key(&member) {
                return Err(Rejection::UnknownMember(member));
            }
            let changed = if fenced {
                state.fenced.insert(member.clone())
            } else {
                state.fenced.remove(&member)
            };
            if changed {
                let text = if fenced {
                    format!("an operator fenced {member}: its PostgreSQL stays stopped")
                } else {
                    format!("an operator unfenced {member}")
                };
                state.note(entry.index, at, EventKind::Fence, &member, text);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
