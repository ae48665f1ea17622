//! Keeping clients out of a standby that is to become the primary (rule S9).
//!
//! Called by the promise of a member that was handed the lease, which reloads anyway, and by the
//! promotion of one that won an election. What was proven is remembered for this postmaster until
//! clients are let in again; it is proven anew after a restart of the agent.

use std::time::Duration;

use howdah_postgres::hba::HbaMode;
use howdah_postgres::procs::Kind;
use howdah_postgres::session::{Session, SessionError};

use crate::elephant::JobError;
use crate::shell::Context;

/// Limit of one pass.
const STEP: Duration = Duration::from_secs(5);
/// Pause between looks at the process table.
const LOOK_AGAIN: Duration = Duration::from_millis(3);
/// A session that was being admitted during the first pass is found by the second.
pub(super) const PASSES: u32 = 2;

/// Keeps clients out: the HBA file, a reload that is proven, and an end to every session that is
/// older than it. Sessions of a hot standby survive a promotion, and would write; one that was still
/// authenticating would have got in by the old file. Nothing on a standby waits for an
/// acknowledgement, so that ending sessions exposes nothing.
pub(super) async fn keep(context: &Context) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let pid = elephant.postmaster().await?;
    if elephant.is_barred(pid) {
        return Ok(());
    }
    let (now, _) = elephant.written();
    elephant.write_files(now, HbaMode::Barred)?;
    let mut session = elephant.session(STEP).await?;
    for _ in 0..PASSES {
        session = pass(context, session).await?;
    }
    elephant.barred(pid);
    Ok(())
}

/// One reload that is proven, after files with the bar in them were written, and an end to every
/// session that is older. `before` began before that reload; the session that is given back, after.
pub(super) async fn pass(context: &Context, before: Session) -> Result<Session, JobError> {
    let deadline = tokio::time::Instant::now() + STEP;
    let (session, old) = sessions_older_than_a_reload(context, before, deadline).await?;
    until_ended(context, old, deadline).await?;
    Ok(session)
}

/// Reloads, and lists the sessions that began before that was in force.
async fn sessions_older_than_a_reload(
    context: &Context,
    before: Session,
    deadline: tokio::time::Instant,
) -> Result<(Session, Vec<i32>), JobError> {
    let elephant = &context.elephant;
    let loaded_before = loaded_at(&before).await?;
    drop(before);
    elephant.reload().await?;
    loop {
        // A session that knows of the reload was forked after the postmaster had read the file.
        let session = elephant.session(STEP).await?;
        if loaded_at(&session).await? != loaded_before {
            let processes = elephant.processes().await?;
            let (children, own) = (processes.children(), own_pid(&session).await?);
            if children.pids(Kind::Unnamed).is_empty() {
                let old = children.clients().into_iter().filter(|pid| *pid != own).collect();
                return Ok((session, old));
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

pub(super) async fn one(session: &Session, sql: &str) -> Result<String, SessionError> {
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
