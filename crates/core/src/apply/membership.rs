//! The group's founding, and members that come, change and go.

use super::Entry;
use crate::command::{Command, Rejection};
use crate::ids::ClusterId;
use crate::record::EventKind;
use crate::state::ClusterState;

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::FoundGroup { cluster_id, scope, settings } => {
            if state.cluster_id != ClusterId(0) {
                return Err(Rejection::AlreadyFounded);
            }
            state.cluster_id = cluster_id;
            state.scope = scope;
            state.settings = settings;
            Ok(())
        }
        Command::RetireNode { node_id } => {
            state.tombstones.insert(node_id);
            Ok(())
        }
        Command::UpsertMember { name, member, at } => {
            if state.tombstones.contains(&member.node_id) {
                return Err(Rejection::Retired(member.node_id));
            }
            let text = match state.members.get(&name) {
                Some(known) if *known == member => return Ok(()),
                Some(known) if known.node_id != member.node_id => {
                    format!("{name} came back as a new Raft node {}", member.node_id)
                }
                Some(_) => format!("{name} changed its addresses, tags or version"),
                None => format!("{name} joined with PostgreSQL at {}", member.postgres_address),
            };
            state.members.insert(name.clone(), member);
            raise_feature_level(state);
            state.note(entry.index, at, EventKind::Member, &name, text);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The level is the lowest that all members understand, and never falls: what was written by a
/// higher one must stay readable.
fn raise_feature_level(state: &mut ClusterState) {
    let lowest = state.members.values().map(|member| member.feature_level).min().unwrap_or(0);
    state.feature_level = state.feature_level.max(lowest);
}
