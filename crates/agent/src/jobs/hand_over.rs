//! The planned hand-over: hold clients out, checkpoint, stop, prove, transfer.
//!
//! Invariants: the lease is renewed until the transfer is proposed; the transfer is proposed only
//! when the control file says that the stop was clean and the receiver's disk has all of it. If it
//! fails before, this member starts in place again under the same epoch; after, the receiver leads,
//! or the lease is taken back.

use std::time::Duration;

use howdah_core::{Ballot, Command, Epoch, Lsn, MemberName, Position, Timeline};
use howdah_postgres::control::{ClusterControlState, ControlData};
use howdah_rpc::peer::Status;
use nix::libc;
use tokio::sync::mpsc::UnboundedSender;

use super::start::until_gone;
use crate::death;
use crate::elephant::{JobError, JobOutput};
use crate::shell::{Context, News, put};

/// Hands over to `to`.
pub async fn run(
    context: &Context,
    outbox: &UnboundedSender<News>,
    epoch: Epoch,
    to: MemberName,
) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let pid = elephant.postmaster().await?;
    // While clients still write: what the shutdown's own checkpoint has to do becomes little.
    let session = elephant.session(context.timings.ttl).await?;
    session.checkpoint(context.timings.handover * 4).await?;
    let others: Vec<i32> = session
        .probe()
        .await?
        .replication
        .iter()
        .filter(|standby| !standby.application_name.starts_with(&format!("{to}-")))
        .map(|standby| standby.pid)
        .collect();
    drop(session);
    let _closing = Closing::begin(context);
    until_doors_hold(context, epoch).await;
    elephant.signal(pid, libc::SIGINT, None).await?;
    let stopped = tokio::select! {
        gone = until_gone(context, pid, context.timings.ttl * 2) => gone,
        () = let_go_of(context, others) => false,
    };
    if !stopped {
        elephant.kill().await?;
        return Err(JobError("PostgreSQL did not stop in time for the hand-over".into()));
    }
    death::point("HandOver", "stopped");
    let end = shutdown_end(context).await?;
    let ballot = receivers_ballot(context, &to, end).await?;
    let record = elephant.state().leader.clone().unwrap_or_default();
    if record.epoch != epoch {
        return Err(JobError("the lease was lost before the hand-over".into()));
    }
    transfer(context, outbox, epoch, to, end.lsn, ballot).await
}

/// New clients wait at every member's doors until the hand-over is over, however it ends.
struct Closing<'a>(&'a Context);

impl<'a> Closing<'a> {
    fn begin(context: &'a Context) -> Self {
        context.board.tell_of_doors(|words| words.closing = true);
        Self(context)
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.board.tell_of_doors(|words| words.closing = false);
    }
}

/// Until every member that is heard, and has doors, holds new clients; not for long, since the others
/// need not wait for a client's transaction that does not end.
async fn until_doors_hold(context: &Context, epoch: Epoch) {
    let ttl = context.timings.ttl;
    let held = async {
        let (mut own, mut heard) = (context.board.own(), context.board.changes());
        loop {
            let holds =
                |words: &Status| words.doors_epoch == 0 || words.doors_hold_epoch == epoch.0;
            let (now, others) = (context.clock.boot(), context.board.heard());
            let mut fresh = others.values().filter(|heard| now.since(heard.at) < ttl);
            let own_holds = holds(&own.borrow_and_update());
            if own_holds && fresh.all(|heard| holds(&heard.status)) {
                return;
            }
            tokio::select! {
                _ = own.changed() => {}
                _ = heard.changed() => {}
            }
        }
    };
    if tokio::time::timeout(ttl * 2 / 5, held).await.is_err() {
        tracing::info!("hands over though not every member's doors hold new clients yet");
    }
}

/// A fast shutdown waits for every standby to take the last WAL, also for one that is frozen. Only
/// the receiver's counts: after a moment the walsenders of the others are ended. Never returns.
async fn let_go_of(context: &Context, walsenders: Vec<i32>) {
    tokio::time::sleep(context.timings.ttl / 10).await;
    for pid in walsenders {
        if let Err(why) = context.elephant.signal(pid, libc::SIGTERM, None).await {
            tracing::debug!(pid, %why, "a walsender had ended already");
        }
    }
    std::future::pending().await
}

/// Where the shutdown's checkpoint ends; only after a clean stop of a primary.
async fn shutdown_end(context: &Context) -> Result<Position, JobError> {
    let elephant = &context.elephant;
    let control = ControlData::read(&elephant.install, &elephant.data_dir()).await?;
    if control.state != ClusterControlState::ShutDown {
        return Err(JobError(format!("the stop was not clean: {:?}", control.state)));
    }
    Ok(elephant.disk_end(&control).await?.0)
}

/// The receiver's standing, once it has everything.
async fn receivers_ballot(
    context: &Context,
    to: &MemberName,
    end: Position,
) -> Result<Ballot, JobError> {
    let deadline = tokio::time::Instant::now() + context.timings.ttl;
    loop {
        let heard = context.board.heard();
        if let Some(words) = heard.get(to).map(|heard| &heard.status)
            && words.receive_lsn >= end.lsn.0
            && words.timeline == end.timeline.0
        {
            let state = context.elephant.state();
            let tags = state.members.get(to).map(|member| member.tags.clone());
            return Ok(Ballot {
                incarnation: howdah_core::Incarnation(words.incarnation),
                data_id: howdah_core::DataId(words.data_id),
                position: Position {
                    timeline: Timeline(words.timeline),
                    lsn: Lsn(words.receive_lsn),
                },
                history: Vec::new(),
                barred: None,
                bar_only: false,
                priority: tags.unwrap_or_default().failover_priority,
            });
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(JobError(format!("{to} did not take the last WAL, up to {end}")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn transfer(
    context: &Context,
    outbox: &UnboundedSender<News>,
    epoch: Epoch,
    to: MemberName,
    shutdown_lsn: Lsn,
    ballot: Ballot,
) -> Result<JobOutput, JobError> {
    // Nothing is renewed from here on; a renewal that is under way may still move the count, so
    // that the compare-and-set is tried again with the new one.
    let _ = outbox.send(News::Withhold);
    let limit = context.timings.ttl / 2;
    let mut last = String::new();
    for _ in 0..5 {
        let record = context.elephant.state().leader.clone().unwrap_or_default();
        let command = Command::TransferLease {
            from: context.me.clone(),
            incarnation: record.incarnation,
            epoch,
            renewals: record.renewals,
            to: to.clone(),
            shutdown_lsn,
            ballot: ballot.clone(),
            at: context.clock.wall(),
        };
        match put(context, command, limit).await {
            Ok(()) => {
                death::point("HandOver", "taken");
                return Ok(JobOutput::Stopped);
            }
            Err(why) => last = why,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(JobError(format!("the hand-over was not taken: {last}")))
}
