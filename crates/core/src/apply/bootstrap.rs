//! The cluster's first data: granted to one member at a time, finished once.

use super::{Entry, change_of, grant};
use crate::command::{Command, Rejection};
use crate::ids::{HistoryEntry, Timeline};
use crate::lineage::in_order;
use crate::record::{Bootstrap, ChangeKind, EventKind};
use crate::state::{ClusterState, SyncState};

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::GrantBootstrap { attempt, member, incarnation, at } => {
            let last = match &state.bootstrap {
                Bootstrap::Pending => 0,
                Bootstrap::Granted { attempt, .. } => *attempt,
                Bootstrap::Done { .. } => {
                    return Err(Rejection::Bootstrap("it is there already".into()));
                }
            };
            if Some(attempt) != last.checked_add(1) {
                return Err(Rejection::Bootstrap(format!("attempt {last} is under way")));
            }
            if !state.members.contains_key(&member) {
                return Err(Rejection::UnknownMember(member));
            }
            let text = format!("{member} makes or brings the first data (attempt {attempt})");
            state.bootstrap = Bootstrap::Granted { attempt, member: member.clone(), incarnation };
            state.note(entry.index, at, EventKind::Bootstrap, &member, text);
            Ok(())
        }
        Command::FinishBootstrap {
            attempt,
            member,
            incarnation,
            system_identifier,
            position,
            history,
            at,
        } => {
            let granted = Bootstrap::Granted { attempt, member: member.clone(), incarnation };
            if state.bootstrap != granted {
                return Err(Rejection::Bootstrap("that attempt is not the present one".into()));
            }
            begins(position.timeline, &history)?;
            state.bootstrap = Bootstrap::Done { system_identifier };
            let reason = format!("its data begins the cluster, at {position}");
            let mut change = change_of(state, ChangeKind::Bootstrap, &member, at, reason);
            let epoch = grant(state, member.clone(), incarnation);
            // The first start goes on with the timeline that the data has: no number is drawn.
            state.timelines.reserved.clear();
            state.timelines.found(epoch, position.timeline, &history);
            if let Some(record) = state.leader.as_mut() {
                record.reserved = position.timeline;
                record.wal_lsn = position.lsn;
            }
            state.sync = SyncState::Async { since: epoch, generation: 0 };
            change.timeline = Some((position.timeline, position.lsn));
            state.keep(change);
            let text = format!("{member} leads with epoch {epoch}: its data begins the cluster");
            state.note(entry.index, at, EventKind::Bootstrap, &member, text);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether data with this history can begin a cluster: others must be able to follow it.
fn begins(timeline: Timeline, history: &[HistoryEntry]) -> Result<(), Rejection> {
    if timeline == Timeline(0) || timeline == Timeline(u32::MAX) {
        let why = format!("nothing goes on from timeline {timeline}");
        return Err(Rejection::Bootstrap(why));
    }
    in_order(history, timeline).map_err(Rejection::History)
}
