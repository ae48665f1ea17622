//! The promotion, and what is recorded of it.
//!
//! Invariants: clients are out before the server becomes writable (rule S9); the timeline is the
//! reserved one; the guard sends the signal, and only inside the deadline of this epoch.

use std::time::Duration;

use howdah_core::{Command, Epoch, Incarnation, Position, Timeline};
use howdah_postgres::hba::HbaMode;
use howdah_postgres::history;

use super::vote::standing;
use crate::elephant::{JobError, JobOutput};
use crate::shell::{Context, put};

/// Limit of one step that needs no replay.
const STEP: Duration = Duration::from_secs(5);

/// Leaves recovery under `epoch`, onto `timeline`.
pub async fn promote(
    context: &Context,
    epoch: Epoch,
    timeline: Timeline,
) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    bar(context).await?;
    let (end, _) = standing(context).await?;
    check_against_ballot(context, epoch, end)?;
    elephant.reserve_timeline(end.timeline, timeline)?;
    let pid = elephant.postmaster().await?;
    elephant.leave_recovery(epoch).await?;
    let seen = until_promoted(context, pid).await?;
    elephant.put_standby_signal().await?;
    if seen.timeline != timeline {
        return Err(JobError(format!(
            "PostgreSQL began timeline {}, timeline {timeline} was granted",
            seen.timeline
        )));
    }
    Ok(JobOutput::Promoted { epoch, seen: Box::new(seen) })
}

/// Keeps clients out: the file, a reload that is proven, and an end to every session that is older.
pub(super) async fn bar(context: &Context) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let (now, _) = elephant.written();
    elephant.write_files(now, HbaMode::Barred)?;
    elephant.reload().await?;
    let deadline = tokio::time::Instant::now() + STEP;
    let mut quiet_looks = 0;
    while quiet_looks < 2 {
        let session = elephant.session(STEP).await?;
        // Sessions of a hot standby survive a promotion, and would write. Nothing on a standby
        // waits for an acknowledgement, so that ending them exposes nothing.
        let rows = session
            .query(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
                &[],
            )
            .await?;
        drop(session);
        let ended: i64 = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0);
        quiet_looks = if ended == 0 { quiet_looks + 1 } else { 0 };
        if tokio::time::Instant::now() >= deadline {
            return Err(JobError("sessions of clients could not be ended".into()));
        }
        elephant.reload().await?;
    }
    Ok(())
}

/// The winner's disk must still hold what its ballot said.
fn check_against_ballot(context: &Context, epoch: Epoch, end: Position) -> Result<(), JobError> {
    let state = context.elephant.state();
    let change = state.changes.iter().find(|change| change.epoch == epoch);
    let ballot = change
        .and_then(|change| change.verdicts.iter().find(|verdict| verdict.member == context.me));
    let Some(ballot) = ballot else { return Ok(()) };
    let stated = ballot.position;
    if end.timeline < stated.timeline || end.lsn < stated.lsn {
        context.elephant.fresh_identity()?;
        return Err(JobError(format!("the disk ends at {end}, the ballot said {stated}")));
    }
    Ok(())
}

/// Waits as long as the replay makes progress, three ttl without any at most.
async fn until_promoted(context: &Context, pid: i32) -> Result<crate::elephant::Seen, JobError> {
    let patience = context.timings.ttl * 3;
    let mut replayed = howdah_core::Lsn(0);
    loop {
        let mut last = replayed;
        let answered = context
            .elephant
            .until_it_answers(pid, patience, |seen| {
                last = last.max(seen.replayed);
                !seen.in_recovery
            })
            .await;
        match answered {
            Ok(seen) => return Ok(seen),
            Err(_) if last > replayed => replayed = last,
            Err(why) => return Err(why),
        }
    }
}

/// Puts into the log what PostgreSQL wrote into its history file.
///
/// # Errors
/// Why it was not taken.
pub async fn record(
    context: &Context,
    epoch: Epoch,
    incarnation: Incarnation,
    timeline: Timeline,
) -> Result<(), String> {
    let history = history::read_history(&context.elephant.data_dir(), timeline);
    let history = history.map_err(|error| error.to_string())?;
    let at = context.clock.wall();
    let command = Command::RecordTimeline { epoch, incarnation, timeline, history, at };
    put(context, command, context.timings.ttl / 2).await
}
