//! Keeping clients out of a standby that is to become the primary (rule S9).
//!
//! Called by the promise of a member that was handed the lease, which reloads anyway, and by the
//! promotion of one that won an election. What was proven is remembered for this postmaster until
//! clients are let in again; it is proven anew after a restart of the agent.

use std::time::Duration;

use howdah_core::Epoch;
use howdah_postgres::hba::HbaMode;
use howdah_postgres::procs::{Children, Kind};
use howdah_postgres::session::Session;
use nix::libc;

use crate::elephant::{JobError, Processes};
use crate::shell::Context;

/// Limit of one pass.
const STEP: Duration = Duration::from_secs(5);
/// Pause between looks at the process table.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Rule S9, as the promise, asks for two looks at the process table, a reload apart: a listing is not
/// made in one moment.
pub(super) const LOOKS: u32 = 2;

/// Keeps clients out: the HBA file, a reload that is proven, and an end to every session that is
/// older than it. Sessions of a hot standby survive a promotion, and would write; one that was still
/// authenticating would have got in by the old file. Nothing on a standby waits for an
/// acknowledgement, so that ending sessions exposes nothing. A session that the bar left alone.
pub(super) async fn keep(context: &Context) -> Result<Session, JobError> {
    let elephant = &context.elephant;
    let pid = elephant.postmaster().await?;
    if elephant.is_barred(pid) {
        return Ok(elephant.session(STEP).await?);
    }
    let (now, _) = elephant.written();
    elephant.write_files(now, HbaMode::Barred)?;
    let mut session = elephant.session(STEP).await?;
    for _ in 0..LOOKS {
        (session, _) = pass(context, pid, session).await?;
    }
    elephant.barred(pid);
    Ok(session)
}

/// One reload that is proven, after files with the bar in them were written, and an end to every
/// session that is older. `before` began before that reload; the session that is given back, after,
/// and the listing was made after that.
pub(super) async fn pass(
    context: &Context,
    postmaster: i32,
    before: Session,
) -> Result<(Session, Processes), JobError> {
    let deadline = tokio::time::Instant::now() + STEP;
    let (session, own) =
        session_after_a_reload(context, postmaster, before, None, deadline).await?;
    // What is not in this listing is forked later, and finds the new file.
    let mut listing = context.elephant.processes().await?;
    let mut old = clients_perhaps(&listing.children());
    old.retain(|pid| *pid != own);
    while !old.is_empty() {
        end_clients(context, &listing.children(), &old).await;
        if tokio::time::Instant::now() >= deadline {
            return Err(JobError(format!("sessions {old:?} of clients do not end")));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        listing = context.elephant.processes().await?;
        let left = clients_perhaps(&listing.children());
        old.retain(|pid| left.contains(pid));
    }
    Ok((session, listing))
}

/// Reloads, and opens a session that knows of it, with its process id: it was forked after the
/// postmaster had read the files. With an epoch the guard reloads only inside its deadline.
pub(super) async fn session_after_a_reload(
    context: &Context,
    postmaster: i32,
    before: Session,
    authority: Option<Epoch>,
    deadline: tokio::time::Instant,
) -> Result<(Session, i32), JobError> {
    let elephant = &context.elephant;
    let (loaded_before, _) = loaded_at(&before).await?;
    drop(before);
    elephant.signal(postmaster, libc::SIGHUP, authority).await?;
    loop {
        let session = elephant.session(STEP).await?;
        let (loaded, pid) = loaded_at(&session).await?;
        if loaded != loaded_before {
            return Ok((session, pid));
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(JobError("PostgreSQL did not take the reload".into()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// When the session's postmaster had read its files, and the session's process id.
async fn loaded_at(session: &Session) -> Result<(String, i32), JobError> {
    let row = session.row("SELECT pg_conf_load_time(), pg_backend_pid()").await?;
    Ok((row.text(0, "a look")?.to_owned(), row.value(1, "a look")?))
}

/// Sessions of clients, and children without a title yet, which may turn out to be some.
fn clients_perhaps(children: &Children<'_>) -> Vec<i32> {
    [Kind::Client, Kind::Unnamed].map(|kind| children.pids(kind)).concat()
}

async fn end_clients(context: &Context, children: &Children<'_>, old: &[i32]) {
    for pid in children.clients().into_iter().filter(|pid| old.contains(pid)) {
        // It may have ended a moment ago; the next listing tells.
        let _ = context.elephant.signal(pid, libc::SIGTERM, None).await;
    }
}
