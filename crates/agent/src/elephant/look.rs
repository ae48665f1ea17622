//! Looks at the server from time to time, and soon after something happened.

use std::sync::Arc;
use std::time::Duration;

use howdah_core::{Lsn, Timeline};
use howdah_guard::wire::{Reply, Request};
use howdah_postgres::session::{self, Probe, Session, SessionError};
use tokio::sync::mpsc;

use super::{Elephant, GUARD_LIMIT, JobError, Observed, Seen, Sight, lock};
use crate::clock::Clock;
use crate::shell::News;

/// Pause between looks while a server is starting.
const SOON: Duration = Duration::from_millis(15);

impl Elephant {
    /// A fresh session as the local superuser.
    pub(crate) async fn session(&self, limit: Duration) -> Result<Session, SessionError> {
        let pg = &self.config.postgresql;
        let user = &pg.authentication.superuser.username;
        session::connect(&self.socket_dir(), pg.port, user, limit).await
    }

    /// Looks at the server for as long as somebody listens. Each look is a *fresh* connection:
    /// sessions that exist go on while a hung postmaster lets nobody in.
    pub async fn watch(
        self: Arc<Self>,
        clock: Arc<dyn Clock>,
        every: Duration,
        limit: Duration,
        outbox: mpsc::UnboundedSender<News>,
    ) {
        loop {
            let mut pause = every;
            if let Ok(Reply::Status(status)) = self.guard(Request::Status, GUARD_LIMIT).await
                && let Some(postmaster) = status.postmaster
            {
                let asked = clock.boot();
                let sight = self.look(limit).await;
                if matches!(sight, Sight::Answer(_)) && lock(&self.pending).is_none() {
                    // The files are re-read when a server starts or is adopted.
                    if let Err(why) = self.look_for_pending(limit).await {
                        tracing::debug!(%why, "parameters that wait for a restart are not known");
                    }
                }
                let hurried = self.hurried.load(std::sync::atomic::Ordering::Relaxed);
                if hurried || !matches!(sight, Sight::Answer(_)) {
                    pause = SOON;
                }
                let observed = Observed { pid: postmaster.pid, asked, sight };
                if outbox.send(News::Observed(observed)).is_err() {
                    return;
                }
            }
            let _ = tokio::time::timeout(pause, self.look.notified()).await;
        }
    }

    /// One look.
    pub(crate) async fn look(&self, limit: Duration) -> Sight {
        match self.try_look(limit).await {
            Ok(seen) => Sight::Answer(Box::new(seen)),
            Err(SessionError::TooManyClients(_)) => Sight::Alive,
            Err(SessionError::TimedOut(_)) => Sight::Silent,
            Err(error) if error.proves_life() => Sight::StartingUp,
            // Refused: it does not listen yet, or no longer; its exit is the guard's to tell.
            Err(error) => {
                tracing::debug!(%error, "looked at PostgreSQL");
                Sight::StartingUp
            }
        }
    }

    async fn try_look(&self, limit: Duration) -> Result<Seen, SessionError> {
        let session = self.session(limit).await?;
        let probe = session.probe().await?;
        let names = ["primary_conninfo", "server_version_num"];
        let settings = session.settings(&names).await?;
        let text = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
        let timeline = timeline(&probe);
        let history = howdah_postgres::history::read_history(&self.data_dir(), timeline);
        Ok(Seen {
            in_recovery: probe.in_recovery,
            timeline,
            history: history.unwrap_or_default(),
            received: received(&probe),
            replayed: probe.replay_lsn.or(probe.write_lsn).unwrap_or_default(),
            streaming: probe.wal_receiver.as_ref().is_some_and(|r| r.status == "streaming"),
            has_upstream: !text("primary_conninfo").is_empty(),
            server_version: text("server_version_num").parse().unwrap_or(0),
            started_ms: probe.started.0,
        })
    }

    /// Waits until the server answers, for at most `limit`; the first answer.
    pub(crate) async fn until_it_answers(
        &self,
        pid: i32,
        limit: Duration,
        mut good: impl FnMut(&Seen) -> bool,
    ) -> Result<Seen, JobError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Sight::Answer(seen) = self.look(Duration::from_secs(5)).await
                && good(&seen)
            {
                return Ok(*seen);
            }
            // A postmaster that ended will never answer.
            if self.postmaster().await.ok() != Some(pid) {
                return Err(JobError(format!(
                    "PostgreSQL ended; see {}/log",
                    self.data_dir().display()
                )));
            }
            if tokio::time::Instant::now() >= deadline {
                let text = format!("PostgreSQL was not ready within {} s", limit.as_secs());
                return Err(JobError(text));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The control file's timeline may lag behind the replay; a walreceiver knows better.
fn timeline(probe: &Probe) -> Timeline {
    let receives = probe.wal_receiver.as_ref().filter(|r| r.status == "streaming");
    receives.map_or(probe.timeline, |receiver| receiver.timeline.max(probe.timeline))
}

fn received(probe: &Probe) -> Lsn {
    if probe.in_recovery {
        probe.receive_lsn.max(probe.replay_lsn).unwrap_or_default()
    } else {
        probe.flush_lsn.or(probe.write_lsn).unwrap_or_default()
    }
}
