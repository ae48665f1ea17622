//! The lease: renewed, given back; and the timeline that its holder began.

use super::{Entry, held_record};
use crate::command::{Command, Rejection};
use crate::ids::{Epoch, HistoryEntry, Incarnation, Lsn, Timeline, WallTime};
use crate::record::{EventKind, LeaseState};
use crate::state::ClusterState;

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::Renew { epoch, incarnation, nonce, ttl_ms, wal_lsn, paused, seen } => {
            let record = held_record(state, epoch)?;
            if record.incarnation != incarnation {
                return Err(Rejection::OtherIncarnation(record.incarnation));
            }
            if record.evicted {
                return Err(Rejection::Evicted(epoch));
            }
            if record.paused != paused && record.renewals != seen {
                return Err(Rejection::Stale { epoch, renewals: record.renewals });
            }
            record.renewals += 1;
            record.nonce = nonce;
            record.ttl_ms = ttl_ms;
            record.wal_lsn = record.wal_lsn.max(wal_lsn);
            record.paused = paused;
            // The receiver of a hand-over has begun: it can no longer be taken back.
            state.transfer = None;
            Ok(())
        }
        Command::Release { epoch, renewals, holder, wal_lsn, reason, at } => {
            let pause_wanted = state.pause_wanted;
            let record = held_record(state, epoch)?;
            if record.renewals != renewals {
                return Err(Rejection::Stale { epoch: record.epoch, renewals: record.renewals });
            }
            if record.holder != holder {
                return Err(Rejection::OtherHolder(record.holder.clone()));
            }
            record.state = LeaseState::Released;
            record.paused = pause_wanted;
            if let Some(lsn) = wal_lsn {
                record.wal_lsn = record.wal_lsn.max(lsn);
            }
            state.switchover = None;
            let text = format!("{holder} gave back the lease of epoch {epoch}: {reason}");
            state.note(entry.index, at, EventKind::Released, &holder, text);
            Ok(())
        }
        Command::RecordTimeline { epoch, incarnation, timeline, history, at } => {
            record_timeline(state, entry, epoch, incarnation, timeline, &history, at)
        }
        _ => Ok(()),
    }
}

fn record_timeline(
    state: &mut ClusterState,
    entry: Entry,
    epoch: Epoch,
    incarnation: Incarnation,
    timeline: Timeline,
    history: &[HistoryEntry],
    at: WallTime,
) -> Result<(), Rejection> {
    let record = held_record(state, epoch)?;
    if record.incarnation != incarnation {
        return Err(Rejection::OtherIncarnation(record.incarnation));
    }
    if record.reserved != timeline {
        return Err(Rejection::OtherTimeline { given: timeline, reserved: record.reserved });
    }
    let holder = record.holder.clone();
    if state.timelines.recorded.get(&timeline).is_some_and(|known| known.epoch == epoch) {
        return Ok(());
    }
    state.timelines.record(epoch, timeline, history).map_err(Rejection::History)?;
    let fork = history.last().map_or(Lsn(0), |parent| parent.end);
    // What the former leader wrote past the fork is given up from here on: measured against it, the
    // followers of this one would seem to lag, and nobody could stand in the next election.
    if let Some(record) = state.leader.as_mut() {
        record.wal_lsn = fork;
    }
    if let Some(change) = state.changes.iter_mut().find(|change| change.epoch == epoch) {
        change.timeline = Some((timeline, fork));
    }
    let text = format!("{holder} began timeline {timeline} at {fork}");
    state.note(entry.index, at, EventKind::Timeline, &holder, text);
    Ok(())
}
