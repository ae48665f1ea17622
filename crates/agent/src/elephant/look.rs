//! One look at the server, and what it means.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_core::sync::Standby;
use howdah_core::{Lsn, Timeline};
use howdah_postgres::control::ControlData;
use howdah_postgres::history;
use howdah_postgres::session::{self, Probe, Session, SessionError, WalReceiver};
use howdah_postgres::settings::{parse_application_name, parse_sync_names};
use howdah_postgres::slots;

use super::{Elephant, JobError, Seen, Sight, lock};
use crate::clock::Clock;
use crate::troubles::Kind;

/// Pauses between looks at a server that starts: they grow with the time that it takes.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
const MOST_PAUSE: Duration = Duration::from_millis(250);

impl Elephant {
    /// A fresh session as the local superuser.
    pub(crate) async fn session(&self, limit: Duration) -> Result<Session, SessionError> {
        let pg = &self.config.postgresql;
        let user = &pg.authentication.superuser.username;
        session::connect(&self.socket_dir(), pg.port, user, limit).await
    }

    /// One look, by a fresh session.
    pub(crate) async fn look(&self, limit: Duration) -> Sight {
        self.open_and_look(limit).await.1
    }

    /// One look by a fresh session, and that session if it answered.
    pub(super) async fn open_and_look(&self, limit: Duration) -> (Option<Session>, Sight) {
        let looked = async {
            let session = self.session(limit).await?;
            let seen = self.ask(&session).await?;
            Ok((session, seen))
        };
        let why = match looked.await {
            Ok((session, seen)) => {
                self.troubles.set(Kind::Blocked, None);
                return (Some(session), Sight::Answer(Box::new(seen)));
            }
            Err(why) => why,
        };
        let sight = match why {
            SessionError::TooManyClients(why) => {
                self.troubles.set(Kind::Connections, Some(no_connection_left(&why)));
                Sight::Alive
            }
            // A lock on a catalog, or a stuck disk, lets no session come about; a postmaster that
            // still forks is not hung, and a restart would only add to the trouble.
            SessionError::TimedOut(after) if self.accepts(limit).await.is_ok() => {
                self.troubles.set(Kind::Blocked, Some(blocked(after)));
                Sight::Alive
            }
            SessionError::TimedOut(_) => Sight::Silent,
            error if error.proves_life() => Sight::StartingUp,
            // Refused: it does not listen yet, or no longer; its exit is the guard's to tell.
            error => {
                tracing::debug!(%error, "looked at PostgreSQL");
                Sight::StartingUp
            }
        };
        (None, sight)
    }

    /// Whether the postmaster takes a connection and starts a process for it.
    pub(super) async fn accepts(&self, limit: Duration) -> Result<(), SessionError> {
        let port = self.config.postgresql.port;
        session::accepts_connections(&self.socket_dir(), port, limit).await
    }

    /// Slots for new members, and for those whose slot was lost.
    async fn keep_up(&self, session: &Session, probe: &Probe) -> Result<(), SessionError> {
        let state = self.state();
        if probe.in_recovery
            || !state.settings.use_slots
            || !state.members.contains_key(&self.config.name)
        {
            return Ok(());
        }
        let others = state.members.keys().filter(|name| **name != self.config.name).cloned();
        let changes = slots::on_primary(&others.collect(), &probe.slots);
        slots::change(session, &changes).await
    }

    /// How the server is, by this session; on the way slots are looked after.
    pub(super) async fn ask(&self, session: &Session) -> Result<Seen, SessionError> {
        let probe = session.probe().await?;
        if let Err(why) = self.know_names(&probe.synchronous_standby_names) {
            tracing::warn!(%why, "what an earlier agent set cannot be written down");
        }
        if let Err(why) = self.keep_up(session, &probe).await {
            tracing::debug!(%why, "slots were not looked after");
        }
        let mut seen = self.see(&probe);
        self.read_the_timeline(&probe, &mut seen).await;
        Ok(seen)
    }

    /// Without a walreceiver a standby names the timeline of its last restart point. Where pg_wal has the
    /// history of a newer one, it may have replayed that since, or may be past the fork and unable to
    /// follow it: the WAL itself says which.
    async fn read_the_timeline(&self, probe: &Probe, seen: &mut Seen) {
        if !seen.in_recovery || receives(probe) {
            return;
        }
        let newest = history::highest_real(&self.data_dir()).unwrap_or_default();
        if newest <= seen.timeline {
            return;
        }
        let known = lock(&self.read_at).filter(|(lsn, _)| *lsn == seen.received);
        let said = match known {
            Some((_, said)) => said,
            None => {
                let said = self.timeline_on_disk(seen.received).await;
                *lock(&self.read_at) = Some((seen.received, said));
                said
            }
        };
        if let Some(timeline) = said.filter(|timeline| *timeline > seen.timeline) {
            seen.timeline = timeline;
            seen.history = history::read_history(&self.data_dir(), timeline).unwrap_or_default();
        }
    }

    /// The timeline on which WAL that reaches `lsn` lies on the disk; none: the newest history does not lead
    /// there, or it cannot be read.
    async fn timeline_on_disk(&self, lsn: Lsn) -> Option<Timeline> {
        let control = ControlData::read(&self.install, &self.data_dir()).await.ok()?;
        let (end, _) = self.disk_end(&control).await.ok()?;
        (end.lsn >= lsn).then_some(end.timeline)
    }

    /// What a probe says.
    pub(crate) fn see(&self, probe: &Probe) -> Seen {
        let timeline = timeline(probe);
        let history = history::read_history(&self.data_dir(), timeline);
        Seen {
            in_recovery: probe.in_recovery,
            timeline,
            history: history.unwrap_or_default(),
            received: received(probe),
            replayed: probe.replay_lsn.or(probe.write_lsn).unwrap_or_default(),
            streaming: probe.wal_receiver.as_ref().is_some_and(WalReceiver::streams),
            has_upstream: !probe.upstream.is_empty(),
            server_version: probe.server_version,
            started_ms: probe.started.0,
            replay_lag_ms: replay_lag_ms(probe),
            replication: probe.replication.iter().map(standby).collect(),
            standbys: streaming(probe),
            demand: parse_sync_names(&probe.synchronous_standby_names),
        }
    }

    /// Waits until the server answers, for at most `limit`; the first answer.
    pub(crate) async fn until_it_answers(
        &self,
        pid: i32,
        limit: Duration,
        mut good: impl FnMut(&Seen) -> bool,
    ) -> Result<Seen, JobError> {
        let began = tokio::time::Instant::now();
        loop {
            if let Sight::Answer(seen) = self.look(Duration::from_secs(5)).await
                && good(&seen)
            {
                return Ok(*seen);
            }
            // A postmaster that ended will never answer.
            if self.postmaster().await.ok() != Some(pid) {
                let last = last_words(&self.data_dir()).unwrap_or_default();
                return Err(JobError(format!(
                    "PostgreSQL ended; {last}see {}/log",
                    self.data_dir().display()
                )));
            }
            if began.elapsed() >= limit {
                let text = format!("PostgreSQL was not ready within {} s", limit.as_secs());
                return Err(JobError(text));
            }
            // PostgreSQL logs each look in vain; a long recovery is not filled with them.
            let pause = began.elapsed() / 20;
            tokio::time::sleep(pause.clamp(LEAST_PAUSE, MOST_PAUSE)).await;
        }
    }
}

/// Whether a walreceiver says on which timeline it is.
fn receives(probe: &Probe) -> bool {
    probe.wal_receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming")
}

/// The control file's timeline may lag behind the replay; a walreceiver knows better.
fn timeline(probe: &Probe) -> Timeline {
    let receiver = probe.wal_receiver.as_ref().filter(|_| receives(probe));
    receiver.map_or(probe.timeline, |receiver| receiver.timeline.max(probe.timeline))
}

fn received(probe: &Probe) -> Lsn {
    if probe.in_recovery {
        probe.receive_lsn.max(probe.replay_lsn).unwrap_or_default()
    } else {
        probe.flush_lsn.or(probe.write_lsn).unwrap_or_default()
    }
}

/// Members that stream, and what they have flushed. One that came back may be listed twice, its old
/// walsender waiting for its end: what it said last counts.
fn streaming(probe: &Probe) -> BTreeMap<Standby, Lsn> {
    let mut streaming = BTreeMap::new();
    for one in probe.replication.iter().filter(|one| one.state == "streaming") {
        if let Some((member, data_id)) = parse_application_name(&one.application_name) {
            let flushed: &mut Lsn = streaming.entry(Standby { member, data_id }).or_default();
            *flushed = one.flush.unwrap_or_default().max(*flushed);
        }
    }
    streaming
}

fn standby(standby: &howdah_postgres::session::Replication) -> howdah_rpc::peer::Standby {
    howdah_rpc::peer::Standby {
        user: standby.user.clone(),
        application_name: standby.application_name.clone(),
        client_addr: standby.client_addr.clone().unwrap_or_default(),
        state: standby.state.clone(),
        sync_state: standby.sync_state.clone(),
    }
}

/// Whole seconds, so that an idle standby's status does not change with each look. The commit time is
/// by the primary's clock: this is for people.
fn replay_lag_ms(probe: &Probe) -> u64 {
    let left = probe.in_recovery && probe.receive_lsn > probe.replay_lsn;
    let last = probe.last_replayed.filter(|_| left);
    let now = crate::clock::SystemClock.wall().0;
    last.map_or(0, |last| now.saturating_sub(last.0) / 1000 * 1000)
}

fn no_connection_left(why: &str) -> String {
    format!(
        "PostgreSQL has no connection left, also none for howdah ({why}): end sessions of superusers, \
         or raise superuser_reserved_connections"
    )
}

fn blocked(after: Duration) -> String {
    format!(
        "PostgreSQL takes connections, but no session comes about within {} ms: somebody may hold a \
         lock on a catalog (pg_authid, pg_class, pg_database; see pg_locks from a session that still \
         works), or its disk is stuck; howdah does not restart it for that",
        after.as_millis()
    )
}

/// The last thing that PostgreSQL said before it gave up.
fn last_words(data_dir: &std::path::Path) -> Option<String> {
    let logs = std::fs::read_dir(data_dir.join("log")).ok()?.filter_map(Result::ok);
    let newest = logs.max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok())?;
    let bytes = std::fs::read(newest.path()).ok()?;
    let tail = &bytes[bytes.len().saturating_sub(16 << 10)..];
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().find(|line| {
        line.contains("PANIC:") || (line.contains("FATAL:") && !line.contains("starting up"))
    })?;
    let from = line.find("PANIC:").or_else(|| line.find("FATAL:"))?;
    Some(format!("it said: {}; ", &line[from..]))
}
