//! Starting, stopping and killing the server.

use std::time::Duration;

use howdah_core::{Epoch, Lsn, MemberName};
use howdah_postgres::control::ControlData;
use howdah_postgres::datadir::Marker;
use howdah_postgres::kept_wal::{self, Needed};
use howdah_postgres::settings::{Dynamic, TargetTimeline};
use howdah_postgres::{history, signals};

use super::follow::upstream;
use crate::elephant::{JobError, JobOutput};
use crate::shell::Context;

/// Pause between looks at what a server that starts still lacks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Ends every process of the server, at once.
pub async fn kill(context: &Context) -> Result<JobOutput, JobError> {
    context.elephant.kill().await?;
    Ok(JobOutput::Stopped)
}

/// A fast shutdown; what is not down within `stop_timeout` is killed.
pub async fn stop(context: &Context) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let Ok(pid) = elephant.postmaster().await else { return Ok(JobOutput::Stopped) };
    elephant.signal(pid, nix::libc::SIGINT, None).await?;
    if !until_gone(context, pid, context.config.stop_timeout).await {
        tracing::warn!("PostgreSQL did not stop in time and is killed");
        elephant.kill().await?;
    }
    Ok(JobOutput::Stopped)
}

/// A stop that a start follows: what the shutdown's own checkpoint has to do is done before.
pub async fn stop_to_restart(context: &Context) -> Result<JobOutput, JobError> {
    match context.elephant.session(context.timings.ttl).await {
        Ok(session) => session.checkpoint(Duration::from_secs(600)).await?,
        Err(why) => tracing::info!(%why, "no checkpoint before the restart"),
    }
    stop(context).await
}

/// Whether the postmaster ended within `limit`.
pub(super) async fn until_gone(context: &Context, pid: i32, limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if context.elephant.postmaster().await.ok() != Some(pid) {
            return true;
        }
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// No upstream and no archive; along the newest timeline that lies on the disk, see
/// docs/decisions/0001.
pub(super) fn isolation() -> Dynamic {
    Dynamic { target: TargetTimeline::Latest, ..Dynamic::isolated() }
}

/// Starts as a standby without any upstream, and waits until it answers. Data that was rewound may
/// need WAL that only the leader has before it is consistent; it is started following.
pub async fn isolated(context: &Context) -> Result<JobOutput, JobError> {
    if let Some(missing) = missing_wal(context).await? {
        return following(context, missing).await;
    }
    let pid = context.elephant.start(None, isolation()).await?;
    wait(context, pid, true).await?;
    Ok(JobOutput::Started { pid, authority: None, open: false, following: None })
}

/// What recovery reads before it lets anybody in; none: it begins at the latest checkpoint.
pub(super) async fn needed(context: &Context) -> Result<Option<Needed>, JobError> {
    let elephant = &context.elephant;
    let data_dir = elephant.data_dir();
    let Some(from) = signals::backup_start(&data_dir)? else { return Ok(None) };
    let control = ControlData::read(&elephant.install, &data_dir).await?;
    let (to, segment_size) = (control.min_recovery_end, control.wal_segment_size);
    let history = history::read_history(&data_dir, to.timeline).unwrap_or_default();
    let fork = history.last().map_or(Lsn(0), |parent| parent.end);
    Ok(Some(Needed { from, to, fork, segment_size }))
}

/// Why a start is in vain: a server that lacks what nobody has asks for it for ever, and lets nobody in
/// meanwhile who could see that. What the leader has it says every few seconds.
pub(super) fn hopeless(
    context: &Context,
    needed: &Needed,
    leader: &MemberName,
) -> Option<JobError> {
    let missing = kept_wal::first_missing(&context.elephant.data_dir(), needed).ok()??;
    let oldest = Lsn(context.board.heard().get(leader)?.status.oldest_wal_lsn);
    (oldest > missing)
        .then(|| JobError(format!("it needs WAL from {missing} on, which {leader} no longer has")))
}

async fn until_hopeless(context: &Context, needed: &Needed, leader: &MemberName) -> JobError {
    loop {
        if let Some(why) = hopeless(context, needed, leader) {
            return why;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Up to where WAL is needed that is not on the disk, at its end or in its midst: a rewind brings the
/// source's newest segments, whatever lies before them.
async fn missing_wal(context: &Context) -> Result<Option<Lsn>, JobError> {
    let elephant = &context.elephant;
    if let Some(needed) = needed(context).await?
        && kept_wal::first_missing(&elephant.data_dir(), &needed)?.is_some()
    {
        return Ok(Some(needed.to.lsn));
    }
    let control = ControlData::read(&elephant.install, &elephant.data_dir()).await?;
    if control.state.is_clean() {
        return Ok(None);
    }
    let (end, _) = elephant.disk_end(&control).await?;
    let needed = control.min_recovery_end.lsn;
    Ok((needed > end.lsn).then_some(needed))
}

async fn following(context: &Context, missing: Lsn) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let state = elephant.state();
    let leader = state.followable().filter(|record| record.holder != context.me);
    let Some(record) = leader else {
        let text = format!("it needs WAL up to {missing}, which only a leader can send");
        return Err(JobError(text));
    };
    let (leader, epoch) = (record.holder.clone(), record.epoch);
    elephant.promise(epoch)?;
    let needed = needed(context).await?;
    let pid = elephant.start(None, upstream(context, &leader)?).await?;
    let hopeless = async {
        match &needed {
            Some(needed) => until_hopeless(context, needed, &leader).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        answered = wait(context, pid, true) => answered?,
        why = hopeless => {
            elephant.kill().await?;
            // Neither can it be replayed for another rewind: a copy follows.
            Marker::Rewinding.set(&elephant.data_dir())?;
            return Err(why);
        }
    }
    let following = Some((leader, epoch));
    Ok(JobOutput::Started { pid, authority: None, open: false, following })
}

/// Starts read-write under a lease that is held; the guard checks that once more, and removes
/// standby.signal. It is put back when the postmaster has read it.
pub async fn in_place(context: &Context, epoch: Epoch) -> Result<JobOutput, JobError> {
    let pid = context.elephant.start(Some(epoch), isolation()).await?;
    wait(context, pid, false).await?;
    context.elephant.put_standby_signal().await?;
    Ok(JobOutput::Started { pid, authority: Some(epoch), open: false, following: None })
}

async fn wait(context: &Context, pid: i32, in_recovery: bool) -> Result<(), JobError> {
    let limit = Duration::from_millis(context.elephant.state().settings.primary_start_timeout_ms);
    let answered =
        context.elephant.until_it_answers(pid, limit, |seen| seen.in_recovery == in_recovery).await;
    if answered.is_err() {
        // What did not come up must not come up later, unseen.
        context.elephant.kill().await?;
    }
    answered.map(|_| ())
}
