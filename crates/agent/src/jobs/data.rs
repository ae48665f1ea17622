//! Jobs that replace data: the first data, a rewind, a copy.
//!
//! Invariants: a new contents id is on disk before the first byte changes; a directory that is half
//! done carries a marker and is never started; what only this member had is saved before a rewind.

use std::path::Path;
use std::time::Duration;

use howdah_core::{Epoch, MemberName, Position};
use howdah_postgres::clone;
use howdah_postgres::control::ControlData;
use howdah_postgres::datadir::Marker;
use howdah_postgres::hba::HbaMode;
use howdah_postgres::initdb::{self, InitdbOptions};
use howdah_postgres::kept_wal::{self, KeptWal};
use howdah_postgres::rewind;
use howdah_postgres::saved_wal::{Save, save_divergent_wal};
use howdah_postgres::slots::slot_name;
use howdah_postgres::{datadir, files};

use super::start::{self, isolation};
use crate::elephant::{JobError, JobOutput};
use crate::shell::Context;

/// How much divergent WAL is kept of one rewind.
const LOST_WAL_BYTES_MAX: u64 = 1 << 30;
/// How long a replay to the end of the WAL may take before a rewind.
const REPLAY_LIMIT: Duration = Duration::from_secs(300);

/// Makes the cluster's first data.
pub async fn initdb(context: &Context) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let data_dir = elephant.data_dir();
    let data_id = elephant.fresh_identity()?;
    let options = initdb_options(&context.config.bootstrap.initdb);
    let superuser = &context.config.postgresql.authentication.superuser.username;
    initdb::initdb(&elephant.install, &data_dir, &options, superuser).await?;
    Ok(JobOutput::FreshData(data_id))
}

/// `--encoding=UTF8`, `--data-checksums`, ... as Patroni's users write them.
fn initdb_options(given: &[String]) -> InitdbOptions {
    let mut options = InitdbOptions { data_checksums: true, ..InitdbOptions::default() };
    for option in given {
        let option = option.trim_start_matches('-');
        match option.split_once('=') {
            Some(("encoding", encoding)) => options.encoding = encoding.to_owned(),
            Some(("locale", locale)) => options.locale = Some(locale.to_owned()),
            None if option == "data-checksums" => options.data_checksums = true,
            None if option == "no-data-checksums" => options.data_checksums = false,
            _ => options.extra.push(option.to_owned()),
        }
    }
    options
}

/// Undoes what the leader does not have: replay to the end, a clean stop, the divergent WAL saved,
/// then pg_rewind.
pub async fn rewind(
    context: &Context,
    source: &MemberName,
    epoch: Epoch,
    fork: Position,
) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let data_dir = elephant.data_dir();
    elephant.set_progress(0, 0);
    stop_cleanly(context).await?;
    let control = ControlData::read(&elephant.install, &data_dir).await?;
    rewind::rewind_possible(&control)?;
    let (end, _) = elephant.disk_end(&control).await?;
    let user = context.config.postgresql.authentication.rewind.username.clone();
    let from = elephant.source(source, &user)?;
    check_source(context, &from).await?;
    keep_lost(context, &control, epoch, fork, end).await?;
    let data_id = elephant.fresh_identity()?;
    let kept = keep_common(&data_dir, fork, &control).await?;
    rewind::run_rewind(&elephant.install, &data_dir, &from, |line| {
        if let Some(percent) = percent_of(line) {
            elephant.set_progress(percent, 0);
        }
        tracing::debug!(line, "pg_rewind");
    })
    .await?;
    if let Some(kept) = kept {
        let count = tokio::task::spawn_blocking(move || kept.put_back()).await??;
        tracing::debug!(count, "put back WAL that recovery may begin with");
    }
    rewind::finish_rewind(&elephant.settings(), &isolation(), HbaMode::Barred)?;
    // The marker stands then, and a copy follows.
    if let Some(needed) = start::needed(context).await?
        && let Some(why) = start::hopeless(context, &needed, source)
    {
        return Err(why);
    }
    Marker::Rewinding.clear(&data_dir)?;
    Ok(JobOutput::FreshData(data_id))
}

/// What recovery after the rewind may begin with, and the source may no longer have. Where it cannot be
/// kept, the rewind may end in a copy.
async fn keep_common(
    data_dir: &Path,
    fork: Position,
    control: &ControlData,
) -> Result<Option<KeptWal>, JobError> {
    let (data_dir, size) = (data_dir.to_owned(), control.wal_segment_size);
    let kept = tokio::task::spawn_blocking(move || kept_wal::keep(&data_dir, fork.lsn, size));
    Ok(match kept.await? {
        Ok(kept) => Some(kept),
        Err(why) => {
            tracing::warn!(%why, "WAL from before the fork is not kept over the rewind");
            None
        }
    })
}

/// Keeps the WAL that the cluster went on without, and lists its transactions (rule S10).
async fn keep_lost(
    context: &Context,
    control: &ControlData,
    epoch: Epoch,
    fork: Position,
    end: Position,
) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let data_dir = elephant.data_dir();
    let save = Save {
        segment_size: control.wal_segment_size,
        fork,
        end,
        dest_dir: rewind::lost_dir(&data_dir, &format!("epoch-{epoch}")),
        max_bytes: LOST_WAL_BYTES_MAX,
        data_dir,
    };
    let saved = save_divergent_wal(&elephant.install, &save).await?;
    tracing::info!(
        %fork, %end, commits = saved.commits,
        "saved what only this member had; `howdah history --lost` lists it"
    );
    Ok(())
}

/// The same before a copy. What cannot be read cannot be kept, and does not hold the copy up.
async fn keep_lost_before_a_copy(context: &Context, epoch: Epoch) -> Result<(), JobError> {
    let elephant = &context.elephant;
    if !matches!(datadir::inspect(&elephant.data_dir())?, datadir::DataDir::Cluster(_)) {
        return Ok(());
    }
    let control = ControlData::read(&elephant.install, &elephant.data_dir()).await?;
    let (end, history) = elephant.disk_end(&control).await?;
    match elephant.state().timelines.diverges_at(end, &history) {
        Some(fork) => keep_lost(context, &control, epoch, fork, end).await,
        None => Ok(()),
    }
}

/// pg_rewind wants a target that was stopped cleanly; its own recovery fails on standby.signal.
async fn stop_cleanly(context: &Context) -> Result<(), JobError> {
    let elephant = &context.elephant;
    let control = ControlData::read(&elephant.install, &elephant.data_dir()).await?;
    let running = elephant.postmaster().await.is_ok();
    if control.state.is_clean() && !running {
        return Ok(());
    }
    if !running {
        let (end, _) = elephant.disk_end(&control).await?;
        let pid = elephant.start(None, isolation()).await?;
        let replayed = elephant
            .until_it_answers(pid, REPLAY_LIMIT, |seen| {
                seen.in_recovery && seen.replayed.max(seen.received) >= end.lsn
            })
            .await;
        if let Err(why) = replayed {
            elephant.kill().await?;
            return Err(why);
        }
    }
    start::stop(context).await?;
    Ok(())
}

async fn check_source(context: &Context, source: &clone::Source) -> Result<(), JobError> {
    let (_, password) = context.elephant.passwords()?;
    let check = rewind::check_source(source, &password, Duration::from_secs(5)).await?;
    if check.in_recovery {
        return Err(JobError("the source of the rewind is in recovery".into()));
    }
    if !check.standby_signal {
        // pg_rewind would delete ours, and the directory would start read-write.
        return Err(JobError("the source of the rewind has no standby.signal".into()));
    }
    let newest = context.elephant.state().timelines.newest();
    if Some(check.checkpoint_timeline) != newest {
        return Err(JobError("the source of the rewind has not checkpointed yet".into()));
    }
    Ok(())
}

/// `  123/456 kB (27%) copied`
fn percent_of(line: &str) -> Option<u32> {
    let (before, _) = line.split_once("%)")?;
    before.rsplit_once('(')?.1.trim().parse().ok()
}

/// Copies the leader's data into a new directory, which replaces the old one when it is whole; the
/// old one is kept until the new one streams.
pub async fn clone(
    context: &Context,
    source: &MemberName,
    epoch: Epoch,
) -> Result<JobOutput, JobError> {
    let elephant = &context.elephant;
    let data_dir = elephant.data_dir();
    elephant.set_progress(0, 0);
    start::stop(context).await?;
    if let Err(why) = keep_lost_before_a_copy(context, epoch).await {
        tracing::warn!(%why, "what only this member may have had is not kept");
    }
    let user = context.config.postgresql.authentication.replication.username.clone();
    let from = elephant.source(source, &user)?;
    let slot = elephant.state().settings.use_slots.then(|| slot_name(&context.me));
    tracing::info!(%source, %epoch, "copies");
    clone::base_backup(&elephant.install, &data_dir, &from, slot.as_deref(), |progress| {
        let share = progress.bytes.saturating_mul(100).checked_div(progress.total.max(1));
        let percent = share.unwrap_or(0).min(100);
        elephant.set_progress(u32::try_from(percent).unwrap_or(100), progress.bytes);
    })
    .await?;
    let data_id = elephant.fresh_identity()?;
    if matches!(datadir::inspect(&data_dir)?, datadir::DataDir::Empty) {
        files::remove_tree(&data_dir)?;
    }
    clone::swap_in(&data_dir, None)?;
    Ok(JobOutput::FreshData(data_id))
}

/// Removes what a copy replaced, once the new data streams.
pub async fn forget_old(context: &Context) -> Result<(), JobError> {
    let data_dir = context.elephant.data_dir();
    tokio::task::spawn_blocking(move || {
        kept_wal::forget(&data_dir)?;
        files::remove_tree(&clone::old_dir(&data_dir))
    })
    .await??;
    Ok(())
}
