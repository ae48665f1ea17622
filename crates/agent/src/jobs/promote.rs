//! The promotion, and what is recorded of it.
//!
//! Invariants: clients are out before the server becomes writable (rule S9); the timeline is the
//! reserved one; the guard sends the signal, and only inside the deadline of this epoch.

use std::time::Duration;

use howdah_core::{Command, Epoch, Incarnation, Position, Timeline};
use howdah_postgres::control::ControlData;
use howdah_postgres::hba::HbaMode;
use howdah_postgres::history;
use howdah_postgres::procs::Kind;
use howdah_postgres::session::{Session, SessionError};

use crate::elephant::{JobError, JobOutput, Seen};
use crate::shell::{Context, put};

/// Limit of one step that needs no replay.
const STEP: Duration = Duration::from_secs(5);
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
    let (barred, end) = tokio::join!(bar(context), disk_end);
    barred?;
    let (end, _) = end?;
    check_against_ballot(context, epoch, end)?;
    elephant.reserve_timeline(end.timeline, timeline)?;
    let pid = elephant.postmaster().await?;
    elephant.leave_recovery(epoch).await?;
    let seen = until_promoted(context, pid).await?;
    if seen.timeline != timeline {
        return Err(JobError(format!(
            "PostgreSQL began timeline {}, timeline {timeline} was granted",
            seen.timeline
        )));
    }
    Ok(JobOutput::Promoted { epoch, seen: Box::new(seen) })
}

/// Keeps clients out: the HBA file, a reload that is proven, and an end to every session that is
/// older than it. Sessions of a hot standby survive a promotion, and would write; one that was still
/// authenticating would have got in by the old file. Nothing on a standby waits for an
/// acknowledgement, so that ending sessions exposes nothing.
async fn bar(context: &Context) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let (now, _) = elephant.written();
    elephant.write_files(now, HbaMode::Barred)?;
    let deadline = tokio::time::Instant::now() + STEP;
    for _ in 0..2 {
        let old = sessions_older_than_a_reload(context, deadline).await?;
        until_ended(context, old, deadline).await?;
    }
    Ok(())
}

/// Reloads, and lists the sessions that began before that was in force.
async fn sessions_older_than_a_reload(
    context: &Context,
    deadline: tokio::time::Instant,
) -> Result<Vec<i32>, JobError> {
    let elephant = &context.elephant;
    let before = loaded_at(&elephant.session(STEP).await?).await?;
    elephant.reload().await?;
    loop {
        // A session that knows of the reload was forked after the postmaster had read the file.
        let session = elephant.session(STEP).await?;
        if loaded_at(&session).await? != before {
            let processes = elephant.processes().await?;
            let (children, own) = (processes.children(), own_pid(&session).await?);
            if children.pids(Kind::Unnamed).is_empty() {
                return Ok(children.clients().into_iter().filter(|pid| *pid != own).collect());
            }
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(JobError("PostgreSQL did not take the reload".into()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn loaded_at(session: &Session) -> Result<String, JobError> {
    Ok(one(session, "SELECT pg_conf_load_time()::text").await?)
}

async fn own_pid(session: &Session) -> Result<i32, JobError> {
    let text: String = one(session, "SELECT pg_backend_pid()::text").await?;
    text.parse().map_err(|_| JobError(format!("{text} is no process id")))
}

async fn one(session: &Session, sql: &str) -> Result<String, SessionError> {
    let rows = session.query(sql, &[]).await?;
    let text = rows.first().and_then(|row| row.try_get::<_, String>(0).ok());
    text.ok_or_else(|| SessionError::Answer { what: "a look", detail: "no row".into() })
}

async fn until_ended(
    context: &Context,
    mut old: Vec<i32>,
    deadline: tokio::time::Instant,
) -> Result<(), JobError> {
    let elephant = &context.elephant;
    while !old.is_empty() {
        for pid in &old {
            // It may have ended a moment ago; the next listing tells.
            let _ = elephant.signal(*pid, nix::libc::SIGTERM, None).await;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let processes = elephant.processes().await?;
        let clients = processes.children().clients();
        old.retain(|pid| clients.contains(pid));
        if tokio::time::Instant::now() >= deadline {
            return Err(JobError(format!("sessions {old:?} of clients do not end")));
        }
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
async fn until_promoted(context: &Context, pid: i32) -> Result<Seen, JobError> {
    let elephant = &context.elephant;
    let session = elephant.session(STEP).await?;
    let patience = context.timings.ttl * 3;
    let (mut replayed, mut since) = (String::new(), tokio::time::Instant::now());
    loop {
        let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text \
                   ELSE 'promoted' END";
        let now = one(&session, sql).await?;
        if now == "promoted" {
            return elephant.until_it_answers(pid, STEP, |seen| !seen.in_recovery).await;
        }
        if now != replayed {
            (replayed, since) = (now, tokio::time::Instant::now());
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
