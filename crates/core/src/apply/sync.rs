//! Whom elections must hear so that no acknowledged commit is lost: changed by the holder alone.
//!
//! Invariants: each change is a compare-and-set on epoch, life of the guard, `Held` and generation, so
//! that it is frozen while an election is open (rule S8); in a new epoch the old pair stays until the
//! holder has passed its barrier (rule S9).

use super::{Entry, held_record};
use crate::command::{Command, Rejection};
use crate::ids::{DataId, Epoch, Incarnation, MemberName};
use crate::record::EventKind;
use crate::state::{ClusterState, SyncRecord, SyncState};
use crate::sync::choose::Mode;
use crate::sync::{Pair, Standby};

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::ChangeSync { epoch, incarnation, generation, data_id, pair, why, at } => {
            let holder = proposer(state, epoch, incarnation, generation)?;
            let text = match pair {
                Some(pair) => {
                    if state.barrier_pending() {
                        return Err(Rejection::BarrierPending(epoch));
                    }
                    change(state, epoch, &holder, data_id, pair)?
                }
                None => {
                    let news = state.sync.record().is_some();
                    give_up(state, epoch)?;
                    if !news {
                        return Ok(());
                    }
                    format!("commits wait for nobody: {why}")
                }
            };
            if !text.is_empty() {
                state.note(entry.index, at, EventKind::Sync, &holder, text);
            }
            Ok(())
        }
        Command::Barrier { epoch, incarnation, generation, data_id, lsn, demand, at } => {
            let holder = proposer(state, epoch, incarnation, generation)?;
            let recorded = state.timelines.recorded_by(epoch).is_some();
            if !recorded || !state.barrier_pending() {
                return Err(Rejection::NoBarrier);
            }
            if !demand.is_meaningful() {
                return Err(Rejection::BadSync(format!("{demand} cannot be met")));
            }
            let text = change(state, epoch, &holder, data_id, demand.pair())?;
            let text = format!("what was there before, up to {lsn}, is on {demand} too; {text}");
            state.note(entry.index, at, EventKind::Sync, &holder, text);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The holder, if it is it that proposes, having seen the last change.
fn proposer(
    state: &mut ClusterState,
    epoch: Epoch,
    incarnation: Incarnation,
    generation: u64,
) -> Result<MemberName, Rejection> {
    let record = held_record(state, epoch)?;
    if record.incarnation != incarnation {
        return Err(Rejection::OtherIncarnation(record.incarnation));
    }
    let holder = record.holder.clone();
    if state.sync.generation() != generation {
        return Err(Rejection::OtherGeneration(state.sync.generation()));
    }
    Ok(holder)
}

fn change(
    state: &mut ClusterState,
    epoch: Epoch,
    holder: &MemberName,
    data_id: DataId,
    pair: Pair,
) -> Result<String, Rejection> {
    let bad = |why: String| Err(Rejection::BadSync(why));
    if pair.votes == 0 || !pair.can_be_met() {
        return bad(format!("no election could close with {pair}"));
    }
    for voter in &pair.voters {
        if voter.member == *holder {
            return bad(format!("{holder} leads"));
        }
        if !state.members.contains_key(&voter.member) {
            return Err(Rejection::UnknownMember(voter.member.clone()));
        }
    }
    let same = state.sync.record().is_some_and(|sync| sync.pair == pair && sync.epoch == epoch);
    let text = if same { String::new() } else { format!("an election needs {pair}") };
    state.sync = SyncState::Sync(SyncRecord {
        epoch,
        whole: [Standby { member: holder.clone(), data_id }].into(),
        generation: state.sync.generation() + 1,
        pair,
    });
    Ok(text)
}

fn give_up(state: &mut ClusterState, epoch: Epoch) -> Result<(), Rejection> {
    let settings = &state.settings;
    let strict = settings.synchronous_mode_strict && settings.synchronous_mode != Mode::Off;
    // Where nobody is waited for already it only makes void what is on its way.
    if strict && state.sync.record().is_some() {
        return Err(Rejection::BadSync("synchronous_mode_strict is set".into()));
    }
    state.sync = SyncState::Async { since: epoch, generation: state.sync.generation() + 1 };
    Ok(())
}
