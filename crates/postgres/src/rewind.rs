//! Takes a data directory back to where the log's lineage left it, with pg_rewind.
//!
//! Order, kept by the agent's saved plan: server started isolated, replayed to its disk end and
//! stopped cleanly; divergent WAL saved ([`crate::saved_wal`]); new data id saved; source checked
//! ([`check_source`]); [`run_rewind`], which sets the marker; [`finish_rewind`]; marker cleared.
//! Killed half way: the marker stands beside the directory, which is then never started and can
//! only be replaced by a clone.
//! Invariant: whether a rewind is needed is decided by the log's lineage, never by pg_rewind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_core::{Lsn, Timeline};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::clone::Source;
use crate::control::ControlData;
use crate::datadir::Marker;
use crate::files::{self, FileError};
use crate::hba::HbaMode;
use crate::install::Install;
use crate::passfile::Secret;
use crate::prepare::{PrepareError, Prepared, prepare};
use crate::session::{self, SessionError, get};
use crate::settings::{Dynamic, PgSettings, SettingsError};
use crate::signals;
use crate::tool::{Tool, ToolError};

/// Why pg_rewind cannot be used on a directory, so that it is cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRewind {
    /// Changed hint bits would go unnoticed.
    #[error("it has neither data checksums nor wal_log_hints")]
    NoHints,
    /// It needs recovery first, which only a server can do.
    #[error("it was not shut down cleanly; start it isolated and stop it first")]
    NotClean,
}

/// A rewind failed.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// I/O.
    #[error(transparent)]
    File(#[from] FileError),
    /// It could not be asked for.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// pg_rewind failed; the directory is to be replaced by a clone.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Configuration could not be written back.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

/// What a source says before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCheck {
    /// Whether it has `standby.signal`; without, pg_rewind deletes the target's.
    pub standby_signal: bool,
    /// Whether it is in recovery.
    pub in_recovery: bool,
    /// Timeline of its last checkpoint: the promotion's own, or it has not checkpointed since and
    /// pg_rewind may wrongly find nothing to do.
    pub checkpoint_timeline: Timeline,
    /// Redo position of that checkpoint.
    pub checkpoint_redo: Lsn,
}

/// Whether pg_rewind can work on this directory.
pub fn rewind_possible(control: &ControlData) -> Result<(), CannotRewind> {
    if !control.data_checksums && !control.wal_log_hints {
        return Err(CannotRewind::NoHints);
    }
    if !control.state.is_clean() {
        return Err(CannotRewind::NotClean);
    }
    Ok(())
}

/// Asks the source, as the rewind role over TCP, whether it can serve.
pub async fn check_source(
    source: &Source,
    password: &Secret,
    timeout: Duration,
) -> Result<SourceCheck, SessionError> {
    let mut config = Config::new();
    config.host(&source.host).port(source.port).user(&source.user).dbname("postgres");
    config.password(password.expose());
    let session = match &source.tls {
        None => session::connect_with(config, NoTls, timeout).await?,
        Some((paths, _)) => {
            let tls = howdah_locks::keyring::of_a_program(paths);
            let tls = tls.map_err(|why| SessionError::Certificates(why.to_string()))?;
            config.ssl_mode(SslMode::Require);
            session::connect_with(config, MakeRustlsConnect::new(tls), timeout).await?
        }
    };
    let sql = "SELECT (pg_stat_file('standby.signal', true)).size IS NOT NULL,
        pg_is_in_recovery(), timeline_id, redo_lsn::text FROM pg_control_checkpoint()";
    let rows = session.query(sql, &[]).await?;
    let what = "the check of a rewind source";
    let bad = |detail: &str| SessionError::Answer { what, detail: detail.to_owned() };
    let row = rows.first().ok_or_else(|| bad("no row"))?;
    let redo: &str = get(row, 3, what)?;
    Ok(SourceCheck {
        standby_signal: get(row, 0, what)?,
        in_recovery: get(row, 1, what)?,
        checkpoint_timeline: Timeline(get::<i32>(row, 2, what)?.cast_unsigned()),
        checkpoint_redo: redo.parse().map_err(|_| bad(redo))?,
    })
}

/// Sets the marker and runs pg_rewind. `progress` gets its lines. Whatever comes of it, the marker
/// stands afterwards; the caller clears it once [`finish_rewind`] succeeded.
pub async fn run_rewind(
    install: &Install,
    data_dir: &Path,
    source: &Source,
    mut progress: impl FnMut(&str),
) -> Result<(), RewindError> {
    Marker::Rewinding.set(data_dir)?;
    let mut tool = Tool::new(install, "pg_rewind")
        .path_arg("--target-pgdata", data_dir)
        .arg(format!("--source-server={}", source.conninfo(Some("postgres"))?))
        .arg("--no-ensure-shutdown")
        .arg("--progress");
    if let Some(passfile) = &source.passfile {
        tool = tool.env("PGPASSFILE", passfile);
    }
    tool.run(|line| progress(line)).await?;
    Ok(())
}

/// After a successful pg_rewind, which copied the source's files over: `standby.signal` first, then
/// this member's own configuration, all durable.
pub fn finish_rewind(
    settings: &PgSettings,
    now: &Dynamic,
    mode: HbaMode,
) -> Result<Prepared, RewindError> {
    signals::write_standby_signal(&settings.data_dir)?;
    let prepared = prepare(settings, now, mode)?;
    files::sync_dir(&settings.data_dir)?;
    Ok(prepared)
}

/// Directory for what a rewind of this data directory erases: `<data_dir>.lost/<name>`.
pub fn lost_dir(data_dir: &Path, name: &str) -> PathBuf {
    files::beside(data_dir, ".lost").join(name)
}
