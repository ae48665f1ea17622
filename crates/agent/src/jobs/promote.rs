//! The promotion, and what is recorded of it.
//!
//! Invariants: clients are out before the server becomes writable (rule S9); the timeline is the
//! reserved one; the guard sends the signal, and only inside the deadline of this epoch.

use std::time::Duration;

use howdah_core::{Command, Epoch, Incarnation, Position, Timeline};
use howdah_postgres::control::ControlData;
use howdah_postgres::history;
use howdah_postgres::session::Session;

use super::{bar, doors};
use crate::death;
use crate::elephant::{JobError, JobOutput, Seen};
use crate::shell::{Context, put};
use crate::troubles::Kind;

/// Pause between looks at the process table.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Leaves recovery under `epoch`, onto `timeline`.
pub async fn promote(
    context: &Context,
    epoch: Epoch,
    timeline: Timeline,
) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    // Promised and cut off: what is on the disk does not change while sessions are ended. The look at
    // the disk uses none, for that would be ended too.
    let disk_end = async {
        let control = ControlData::read(&elephant.install, &elephant.data_dir()).await?;
        elephant.disk_end(&control).await
    };
    let (session, end) = tokio::join!(bar::keep(context), disk_end);
    let (session, (end, _)) = (session?, end?);
    death::point("Promote", "barred");
    check_against_ballot(context, epoch, end)?;
    elephant.reserve_timeline(end.timeline, timeline)?;
    death::point("Promote", "reserved");
    elephant.leave_recovery(epoch).await?;
    death::point("Promote", "asked");
    let seen = until_promoted(context, &session).await?;
    death::point("Promote", "left");
    if seen.timeline != timeline {
        return Err(JobError(format!(
            "PostgreSQL began timeline {}, timeline {timeline} was granted",
            seen.timeline
        )));
    }
    // The followers turn here as soon as the timeline is recorded; one that finds no slot tries again
    // only after a pause.
    if let Err(why) = doors::ensure_slots(context, &session).await {
        tracing::warn!(%why, "slots for the other members are made when clients are let in");
    }
    Ok(JobOutput::Promoted { epoch, seen: Box::new(seen) })
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
async fn until_promoted(context: &Context, session: &Session) -> Result<Seen, JobError> {
    let elephant = &context.elephant;
    let patience = context.timings.ttl * 3;
    let (mut replayed, mut since) = (String::new(), tokio::time::Instant::now());
    loop {
        let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text \
                   ELSE 'promoted' END";
        let now = session.row(sql).await?.text(0, "a look")?.to_owned();
        if now == "promoted" {
            return Ok(elephant.see(&session.probe().await?));
        }
        if now != replayed {
            (replayed, since) = (now, tokio::time::Instant::now());
        }
        if since.elapsed() >= context.timings.ttl {
            let text = format!(
                "the promotion waits for the replay, which stands at {replayed}; after {} s without \
                 progress the lease is given back",
                patience.as_secs()
            );
            elephant.troubles.set(Kind::Promotion, Some(text));
        }
        if since.elapsed() >= patience {
            let text = format!("the replay stands still at {replayed} for {patience:?}");
            return Err(JobError(text));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
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
