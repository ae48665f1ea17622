//! The promise: no primary of an older epoch gets an acknowledgement out of this member any more.
//!
//! Invariant: the promise is on disk before the first step; what proves it is the process table, two
//! looks with a reload between them, never a time-out. If the proof does not come, PostgreSQL is
//! stopped, which is a promise too.

use std::time::Duration;

use howdah_core::Epoch;
use howdah_postgres::hba::HbaMode;

use super::bar;
use crate::death;
use crate::elephant::{JobError, JobOutput};
use crate::shell::Context;

/// Limit of the proof before PostgreSQL is stopped instead.
const PROOF_LIMIT: Duration = Duration::from_secs(2);

/// Promises to `epoch` and proves it.
pub async fn promise(context: &Context, epoch: Epoch) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    elephant.promise(epoch)?;
    death::point("Promise", "on disk");
    if elephant.postmaster().await.is_err() {
        return Ok(JobOutput::Promised(epoch));
    }
    match tokio::time::timeout(PROOF_LIMIT, prove(context, epoch)).await {
        Ok(Ok(())) => Ok(JobOutput::Promised(epoch)),
        failed => {
            let why = match failed {
                Ok(Err(why)) => why.to_string(),
                _ => "the proof did not come in time".into(),
            };
            tracing::warn!(
                why,
                "PostgreSQL is stopped, since its walreceiver cannot be proven gone"
            );
            elephant.kill().await?;
            Ok(JobOutput::Stopped)
        }
    }
}

async fn prove(context: &Context, epoch: Epoch) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let (now, mode) = elephant.written();
    // A member that stands in an election keeps its readers until it wins; one that was handed the
    // lease has won, and the reloads that this needs anyway prove its bar too.
    let wins = elephant.state().leader.as_ref().is_some_and(|record| {
        record.epoch == epoch && record.holder == context.me && record.renewals == 0
    });
    let mode = if mode == HbaMode::Open && !wins { HbaMode::Open } else { HbaMode::Barred };
    elephant.write_files(now.promised(), mode)?;
    let pid = elephant.postmaster().await?;
    let mut before = if wins { Some(elephant.session(PROOF_LIMIT).await?) } else { None };
    for look in 1.. {
        let (session, processes) = if let Some(before) = before.take() {
            bar::pass(context, pid, before).await?
        } else {
            elephant.reload().await?;
            let session = elephant.session(PROOF_LIMIT).await?;
            (session, elephant.processes().await?)
        };
        let children = processes.children();
        // A child without a title yet might turn out to be one; and one may have been asked for
        // before the first reload was read.
        let proven = children.proves_no_walreceiver() && session.is_cut_off().await?;
        if proven && look >= bar::LOOKS {
            if wins {
                elephant.barred(pid);
            }
            return Ok(());
        }
        for pid in children.walreceivers() {
            elephant.signal(pid, nix::libc::SIGTERM, None).await?;
        }
        before = wins.then_some(session);
        if !proven {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}
