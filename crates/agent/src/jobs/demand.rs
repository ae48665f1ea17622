//! Whom commits wait for: set, and proven to be in force.
//!
//! Called by the holder alone. Invariant (rule S8): what this reports as in force since a position,
//! every acknowledgement after that position obeyed. Three things must be known for it:
//! - the postmaster has read the setting: a session that was opened after the reload shows it;
//! - a walsender that is older may release waiting commits by the setting from before: it is ended
//!   (the standby is back in milliseconds), unless that setting let it release nobody;
//! - a commit asks at all whether somebody is to be waited for. It looks at a flag that the
//!   checkpointer sets when *it* reads the setting, at leisure. So a server is started with a
//!   setting that names somebody, where commits are ever to wait; and where it has named nobody, a
//!   checkpoint is awaited, which the checkpointer begins only after it has read its files.
//!
//! Killed half way: the setting may be in force or not; the next agent proves it anew. What was proven
//! is remembered for it, see elephant/in_force.rs.

use std::time::Duration;

use howdah_core::sync::Demand;
use howdah_core::{Epoch, Lsn};
use howdah_postgres::session::Session;
use howdah_postgres::settings::{parse_application_name, parse_sync_names, sync_names};
use nix::libc;

use super::bar;
use crate::elephant::{JobError, JobOutput, Seen};
use crate::shell::Context;

/// Limit of the reload, and of the end of old walsenders.
const STEP: Duration = Duration::from_secs(5);
/// Limit of a checkpoint that proves that commits ask.
const CHECKPOINT: Duration = Duration::from_secs(600);
/// How long the job waits for what was acknowledged before to be flushed by the new demand; what takes
/// longer is awaited by looks.
const FLUSH: Duration = Duration::from_millis(500);
/// Pause between looks.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Sets what commits wait for, under `epoch`, and proves it.
pub async fn set(context: &Context, epoch: Epoch, demand: Demand) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let postmaster = elephant.postmaster().await?;
    let before = elephant.session(STEP).await?;
    let shown = names(&before).await?;
    let (mut now, mode) = elephant.written();
    let wanted = sync_names(&demand)?;
    now.synchronous_standby_names.clone_from(&wanted);
    elephant.forget_in_force()?;
    elephant.write_files(now, mode)?;
    let deadline = tokio::time::Instant::now() + STEP;
    let (session, _) =
        bar::session_after_a_reload(context, postmaster, before, Some(epoch), deadline).await?;
    if names(&session).await? != wanted {
        let text = "PostgreSQL did not take synchronous_standby_names; see its log";
        return Err(JobError(text.into()));
    }
    if demand.acks > 0 {
        if !elephant.asks(postmaster) {
            session.checkpoint(CHECKPOINT).await?;
            elephant.set_asks(postmaster);
        }
        // Also if it is the same: who set it may not have come to this.
        let released_nobody =
            parse_sync_names(&shown).is_some_and(|shown| shown.acks == 0 || shown.is_blocked());
        if !released_nobody {
            end_walsenders(context, epoch, &session, deadline).await?;
        }
    }
    let row = session.row("SELECT pg_current_wal_flush_lsn()").await?;
    let since: Lsn = row.value(0, "the flushed position")?;
    elephant.remember_in_force(postmaster, &demand, since)?;
    let seen = until_flushed(context, &session, &demand, since).await?;
    Ok(JobOutput::DemandInForce { demand, since, seen: Box::new(seen) })
}

async fn names(session: &Session) -> Result<String, JobError> {
    let row = session.row("SELECT current_setting('synchronous_standby_names')").await?;
    Ok(row.text(0, "a look")?.to_owned())
}

/// Ends every walsender that streams to a member now. One that is still starting reads the new
/// setting before it hears the first acknowledgement; a base backup hears none.
async fn end_walsenders(
    context: &Context,
    epoch: Epoch,
    session: &Session,
    deadline: tokio::time::Instant,
) -> Result<(), JobError> {
    let mut old = walsenders(session).await?;
    for pid in &old {
        // It may have ended a moment ago; the next look tells.
        let _ = context.elephant.signal(*pid, libc::SIGTERM, Some(epoch)).await;
    }
    while !old.is_empty() {
        if tokio::time::Instant::now() >= deadline {
            return Err(JobError(format!("walsenders {old:?} do not end")));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let left = walsenders(session).await?;
        old.retain(|pid| left.contains(pid));
    }
    Ok(())
}

async fn walsenders(session: &Session) -> Result<Vec<i32>, JobError> {
    let probe = session.probe().await?;
    let ours = probe.replication.iter().filter(|one| {
        one.state != "backup" && parse_application_name(&one.application_name).is_some()
    });
    Ok(ours.map(|one| one.pid).collect())
}

/// Waits a moment until what was acknowledged before is flushed as `demand` asks; how the server is
/// then.
async fn until_flushed(
    context: &Context,
    session: &Session,
    demand: &Demand,
    since: Lsn,
) -> Result<Seen, JobError> {
    let deadline = tokio::time::Instant::now() + FLUSH;
    loop {
        let seen = context.elephant.see(&session.probe().await?);
        let flushed = seen.standbys.iter().map(|(standby, lsn)| (standby, *lsn));
        if demand.is_blocked()
            || demand.is_flushed(since, flushed)
            || tokio::time::Instant::now() >= deadline
        {
            return Ok(seen);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
