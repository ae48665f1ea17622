//! The planned hand-over: asked for, carried out, given up, taken back.

use super::{Entry, change_of, grant, held_record, is_whole};
use crate::command::{Command, Rejection};
use crate::election;
use crate::ids::{Epoch, Incarnation, Lsn, MemberName, WallTime};
use crate::record::{Ballot, ChangeKind, EventKind, Switchover, Transfer};
use crate::state::ClusterState;
use crate::sync::Standby;

pub(super) fn apply(
    state: &mut ClusterState,
    entry: Entry,
    command: Command,
) -> Result<(), Rejection> {
    match command {
        Command::RequestSwitchover { epoch, from, to, at } => {
            request(state, entry, epoch, from, to, at)
        }
        Command::CancelSwitchover { epoch, reason, at } => {
            let pending = state.switchover.take_if(|pending| pending.epoch == epoch);
            let pending = pending.ok_or(Rejection::NoSwitchover)?;
            let text = format!("switchover from {} given up: {reason}", pending.from);
            state.note(entry.index, at, EventKind::Switchover, &pending.from, text);
            Ok(())
        }
        Command::TransferLease {
            from,
            incarnation,
            epoch,
            renewals,
            to,
            shutdown_lsn,
            ballot,
            at,
        } => {
            let giver = Giver { from, incarnation, epoch, renewals, shutdown_lsn };
            transfer(state, entry, giver, to, ballot, at)
        }
        Command::TakeBack { epoch, by, incarnation, at } => {
            take_back(state, entry, epoch, by, incarnation, at)
        }
        _ => Ok(()),
    }
}

fn request(
    state: &mut ClusterState,
    entry: Entry,
    epoch: Epoch,
    from: MemberName,
    to: MemberName,
    at: WallTime,
) -> Result<(), Rejection> {
    let record = held_record(state, epoch)?;
    if record.holder != from {
        return Err(Rejection::OtherHolder(record.holder.clone()));
    }
    if let Some(pending) = &state.switchover {
        let (from, to) = (pending.from.clone(), pending.to.clone());
        return Err(Rejection::SwitchoverPending { from, to });
    }
    let member = state.members.get(&to).ok_or_else(|| Rejection::UnknownMember(to.clone()))?;
    let why = if to == from {
        Some("it leads already".to_owned())
    } else if member.tags.nofailover {
        Some("its tag nofailover is set".to_owned())
    } else {
        None
    };
    if let Some(why) = why {
        return Err(Rejection::NotEligible { member: to, why });
    }
    let text = format!("{from} is to hand over to {to}");
    state.switchover = Some(Switchover { from: from.clone(), epoch, to });
    state.note(entry.index, at, EventKind::Switchover, &from, text);
    Ok(())
}

struct Giver {
    from: MemberName,
    incarnation: Incarnation,
    epoch: Epoch,
    renewals: u64,
    shutdown_lsn: Lsn,
}

fn transfer(
    state: &mut ClusterState,
    entry: Entry,
    giver: Giver,
    to: MemberName,
    ballot: Ballot,
    at: WallTime,
) -> Result<(), Rejection> {
    let record = held_record(state, giver.epoch)?;
    if record.renewals != giver.renewals {
        return Err(Rejection::Stale { epoch: record.epoch, renewals: record.renewals });
    }
    if record.incarnation != giver.incarnation || record.holder != giver.from {
        return Err(Rejection::OtherIncarnation(record.incarnation));
    }
    let wanted = Switchover { from: giver.from.clone(), epoch: giver.epoch, to: to.clone() };
    if state.switchover.as_ref() != Some(&wanted) {
        return Err(Rejection::NoSwitchover);
    }
    if state.barrier_pending() {
        return Err(Rejection::BarrierPending(giver.epoch));
    }
    let synchronous = state.sync.record().is_none_or(|sync| {
        sync.pair.voters.contains(&Standby { member: to.clone(), data_id: ballot.data_id })
    });
    if !synchronous {
        let why = "commits do not wait for it".to_owned();
        return Err(Rejection::NotEligible { member: to, why });
    }
    let mut verdict = election::judge(state, &to, &ballot, None);
    if let Some(why) = verdict.ineligible {
        return Err(Rejection::NotEligible { member: to, why });
    }
    // On the giver's own timeline: a larger LSN on another one proves nothing.
    let reach = verdict.reach.filter(|reach| reach.epoch == giver.epoch).unwrap_or_default();
    if reach.lsn < giver.shutdown_lsn {
        let (reached, wanted) = (reach.lsn, giver.shutdown_lsn);
        return Err(Rejection::Behind { to, reached, wanted });
    }
    verdict.chosen = true;
    let reason =
        format!("{} stopped at {} and handed over to {to}", giver.from, giver.shutdown_lsn);
    let mut change = change_of(state, ChangeKind::Switchover, &to, at, reason.clone());
    change.former_wal_lsn = giver.shutdown_lsn;
    change.verdicts.push(verdict);
    let epoch = grant(state, to.clone(), ballot.incarnation);
    is_whole(state, &to, ballot.data_id);
    if let Some(record) = state.leader.as_mut() {
        record.wal_lsn = record.wal_lsn.max(giver.shutdown_lsn);
    }
    state.transfer = Some(Transfer { from: giver.from, incarnation: giver.incarnation, epoch });
    state.keep(change);
    state.note(entry.index, at, EventKind::Elected, &to, format!("epoch {epoch}: {reason}"));
    Ok(())
}

fn take_back(
    state: &mut ClusterState,
    entry: Entry,
    epoch: Epoch,
    by: MemberName,
    incarnation: Incarnation,
    at: WallTime,
) -> Result<(), Rejection> {
    let record = held_record(state, epoch)?;
    if record.renewals != 0 {
        return Err(Rejection::Stale { epoch: record.epoch, renewals: record.renewals });
    }
    if state.transfer != Some(Transfer { from: by.clone(), incarnation, epoch }) {
        return Err(Rejection::NoSwitchover);
    }
    let reason = format!("the receiver of epoch {epoch} did not begin, so {by} took it back");
    let change = change_of(state, ChangeKind::TakeBack, &by, at, reason.clone());
    grant(state, by.clone(), incarnation);
    state.keep(change);
    state.note(entry.index, at, EventKind::Elected, &by, reason);
    Ok(())
}
