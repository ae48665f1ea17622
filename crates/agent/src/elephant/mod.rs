//! The local PostgreSQL as the loop and its jobs handle it: files and answers by `howdah_postgres`,
//! every process through the guard.
//!
//! State: the identity file (data id, promise, floor) is the only thing of its own that survives a
//! restart; what is remembered beside it (upstream, who is admitted) is written before each start.
//! Invariants: a promise is on disk before it is acted on; a new data id is on disk before the first
//! byte of the data is changed; whatever needs authority goes through the guard with its epoch.

mod look;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use howdah_core::view::{ClusterData, DataView};
use howdah_core::{
    ClusterState, DataId, Epoch, HistoryEntry, Incarnation, Lsn, MemberName, Position, Timeline,
};
use howdah_guard::client::GuardClient;
use howdah_postgres::clone::Source;
use howdah_postgres::control::{ClusterControlState, ControlData};
use howdah_postgres::datadir::{self, DataDir, Marker};
use howdah_postgres::hba::HbaMode;
use howdah_postgres::identity::{Identity, Loaded};
use howdah_postgres::install::Install;
use howdah_postgres::passfile::Secret;
use howdah_postgres::settings::{Dynamic, PgSettings, RoleNames};
use howdah_postgres::walscan::WalScan;
use howdah_postgres::{clone, history, passfile};
use tokio::sync::Notify;

use crate::config::Config;
use crate::troubles::Troubles;
pub(crate) use server::Processes;

/// Limit of a question to the guard; it answers from memory.
pub(crate) const GUARD_LIMIT: Duration = Duration::from_secs(2);

/// How often a look at the data directory is tried again, and after which pause.
const INSPECT_RETRIES: u32 = 5;
const INSPECT_PAUSE: Duration = Duration::from_millis(500);

/// A job failed; the sentence is for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JobError(pub String);

macro_rules! job_error_from {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for JobError {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

job_error_from!(
    howdah_guard::client::GuardCallError,
    howdah_postgres::clone::CloneError,
    howdah_postgres::control::ControlError,
    howdah_postgres::files::FileError,
    howdah_postgres::history::HistoryError,
    howdah_postgres::initdb::InitdbError,
    howdah_postgres::passfile::PassfileError,
    howdah_postgres::prepare::PrepareError,
    howdah_postgres::rewind::CannotRewind,
    howdah_postgres::rewind::RewindError,
    howdah_postgres::saved_wal::SaveError,
    howdah_postgres::session::SessionError,
    howdah_postgres::settings::SettingsError,
    howdah_postgres::walscan::WalScanError,
    tokio::task::JoinError,
);

/// What a job that succeeded changed.
#[derive(Debug)]
pub enum JobOutput {
    /// Nothing that the loop must know.
    Done,
    /// A server was started.
    Started {
        /// Its postmaster.
        pid: i32,
        /// Epoch under which it is read-write.
        authority: Option<Epoch>,
        /// Clients are admitted.
        open: bool,
        /// It has this upstream already.
        following: Option<(MemberName, Epoch)>,
    },
    /// The server is stopped.
    Stopped,
    /// The promise is out and proven.
    Promised(Epoch),
    /// The server left recovery.
    Promoted {
        /// Under this epoch.
        epoch: Epoch,
        /// As it is now.
        seen: Box<Seen>,
    },
    /// The upstream is this one.
    Followed {
        /// The leader.
        leader: MemberName,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Clients are admitted.
    Opened,
    /// Roles and slots are right.
    Prepared,
    /// The data was replaced.
    FreshData(DataId),
}

/// What an earlier agent left.
#[derive(Debug)]
pub struct Adopted {
    /// Life of the guard.
    pub incarnation: Incarnation,
    /// The postmaster that runs.
    pub pid: Option<i32>,
    /// Epoch under which it is read-write.
    pub authority: Option<Epoch>,
    /// Clients are admitted.
    pub open: bool,
    /// Contents id.
    pub data_id: DataId,
    /// The promise.
    pub promise: Epoch,
}

/// A look at the server.
#[derive(Debug)]
pub struct Observed {
    /// The postmaster that was looked at.
    pub pid: i32,
    /// When it was asked.
    pub asked: howdah_core::BootInstant,
    /// What came.
    pub sight: Sight,
}

/// What a look at the server gave.
#[derive(Debug)]
pub enum Sight {
    /// It answered.
    Answer(Box<Seen>),
    /// It is not ready yet, and says so.
    StartingUp,
    /// It lives, but has no connection left.
    Alive,
    /// Nothing came.
    Silent,
}

/// A server that answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Read-only.
    pub in_recovery: bool,
    /// Timeline that it writes or replays.
    pub timeline: Timeline,
    /// How it came there.
    pub history: Vec<HistoryEntry>,
    /// Write position, or end of what was received.
    pub received: Lsn,
    /// Replayed position.
    pub replayed: Lsn,
    /// A walreceiver streams.
    pub streaming: bool,
    /// primary_conninfo is set.
    pub has_upstream: bool,
    /// As 150018.
    pub server_version: u32,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// Who streams from here, without what changes all the time.
    pub replication: Vec<howdah_rpc::peer::Standby>,
    /// While something is left to replay: age of the last commit replayed, in steps of a second.
    pub replay_lag_ms: u64,
}

/// Progress of a long job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u32,
    /// Bytes so far.
    pub bytes: u64,
}

/// The local PostgreSQL.
pub struct Elephant {
    config: Config,
    guard: GuardClient,
    pub(crate) install: Install,
    os_user: String,
    identity: Mutex<Identity>,
    now: Mutex<(Dynamic, HbaMode)>,
    /// Postmaster of which it was proven that no client is in; 0: of none.
    barred: AtomicI32,
    /// The configuration with what was reloaded since the start.
    current: tokio::sync::watch::Sender<Arc<Config>>,
    /// Parameters that wait for a restart, as `old->new`.
    pending: Mutex<BTreeMap<String, String>>,
    state: Mutex<Arc<ClusterState>>,
    percent: AtomicU32,
    bytes: AtomicU64,
    /// What is wrong though nothing crashed.
    pub troubles: Troubles,
    /// Bytes of a WAL segment; 0: not read yet.
    segment_size: AtomicU64,
    look: Notify,
    hurried: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Elephant {
    /// The PostgreSQL of this configuration. `epoch` is the log's: without an identity file the old
    /// promise is unknown, and no older epoch may be followed.
    ///
    /// # Errors
    /// If its identity file cannot be read.
    pub fn new(config: Config, install: Install, guard: GuardClient) -> Result<Self, JobError> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
        let os_user = user.ok().flatten().map(|user| user.name);
        let os_user = os_user.ok_or_else(|| {
            JobError("the user that howdah runs as has no name in the user database".into())
        })?;
        clone::recover_half_swap(&config.postgresql.data_dir)?;
        let identity = match Identity::load(&config.postgresql.data_dir)? {
            Loaded::Whole(identity) => identity,
            Loaded::Missing => Identity::fresh(Epoch(0)),
            Loaded::Torn { why } => {
                tracing::warn!(why, "the identity file is damaged; the data gets a new id");
                Identity::fresh(Epoch(0))
            }
        };
        identity.save(&config.postgresql.data_dir)?;
        Ok(Self {
            current: tokio::sync::watch::Sender::new(Arc::new(config.clone())),
            pending: Mutex::default(),
            config,
            guard,
            install,
            os_user,
            identity: Mutex::new(identity),
            now: Mutex::new((Dynamic::isolated(), HbaMode::Barred)),
            barred: AtomicI32::new(0),
            state: Mutex::default(),
            percent: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            troubles: Troubles::default(),
            segment_size: AtomicU64::new(0),
            look: Notify::new(),
            hurried: AtomicBool::new(false),
        })
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.config.postgresql.data_dir.clone()
    }

    /// The replicated state as the loop last saw it.
    pub(crate) fn state(&self) -> Arc<ClusterState> {
        lock(&self.state).clone()
    }

    /// The loop saw a new state.
    pub fn set_state(&self, state: Arc<ClusterState>) {
        *lock(&self.state) = state;
    }

    /// The configuration with what was reloaded since the start.
    pub(crate) fn current(&self) -> Arc<Config> {
        self.current.borrow().clone()
    }

    /// Changes of the configuration.
    pub(crate) fn current_changes(&self) -> tokio::sync::watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    /// A reload took this.
    pub(crate) fn set_current(&self, config: Config) {
        self.current.send_replace(Arc::new(config));
    }

    /// Parameters that wait for a restart, with old and new value as `old->new`.
    pub(crate) fn pending_restart(&self) -> BTreeMap<String, String> {
        lock(&self.pending).clone()
    }

    /// Asks the server which parameters wait for a restart, and remembers it.
    pub(crate) async fn look_for_pending(
        &self,
        limit: Duration,
    ) -> Result<BTreeMap<String, String>, JobError> {
        let pending = self.session(limit).await?.pending_restart().await?;
        lock(&self.pending).clone_from(&pending);
        Ok(pending)
    }

    /// Bytes of a WAL segment, once the control file was read.
    pub(crate) async fn segment_size(&self) -> Option<u64> {
        let known = self.segment_size.load(Ordering::Relaxed);
        if known > 0 {
            return Some(known);
        }
        let control = ControlData::read(&self.install, &self.data_dir()).await.ok()?;
        let size = control.wal_segment_size;
        self.segment_size.store(size, Ordering::Relaxed);
        Some(size)
    }

    /// Progress of the long job under way.
    pub fn progress(&self) -> Progress {
        Progress {
            percent: self.percent.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_progress(&self, percent: u32, bytes: u64) {
        self.percent.store(percent, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Contents id, promise and floor.
    pub(crate) fn identity(&self) -> Identity {
        *lock(&self.identity)
    }

    /// Raises the promise, durably.
    pub(crate) fn promise(&self, epoch: Epoch) -> Result<(), JobError> {
        let mut identity = lock(&self.identity);
        if identity.promise_at_least(epoch) {
            identity.save(&self.config.postgresql.data_dir)?;
        }
        Ok(())
    }

    /// Remembers, durably, that WAL up to `position` was whole on disk once.
    pub(crate) fn raise_floor(&self, position: Position) -> Result<(), JobError> {
        let mut identity = lock(&self.identity);
        if identity.floor_at_least(position) {
            identity.save(&self.config.postgresql.data_dir)?;
        }
        Ok(())
    }

    /// Draws a new contents id, durably, before the first byte of the data is changed.
    pub(crate) fn fresh_identity(&self) -> Result<DataId, JobError> {
        let mut identity = lock(&self.identity);
        *identity = Identity::fresh(identity.promise);
        identity.save(&self.config.postgresql.data_dir)?;
        Ok(identity.data_id)
    }

    /// Settings for rendering, of configuration and log together.
    pub(crate) fn settings(&self) -> PgSettings {
        let (state, config) = (self.state(), self.current());
        let pg = &config.postgresql;
        let mut parameters = state.settings.parameters.clone();
        parameters.extend(pg.parameters.clone());
        let host = |address: &str| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.trim_matches(['[', ']']).to_owned()
        };
        let mut members: Vec<String> =
            state.members.values().map(|member| host(&member.postgres_address)).collect();
        members.sort();
        members.dedup();
        let mut hba = state.settings.pg_hba.clone();
        hba.extend(pg.pg_hba.clone());
        let roles = &pg.authentication;
        PgSettings {
            data_dir: pg.data_dir.clone(),
            listen: pg.listen_hosts.join(","),
            port: pg.port,
            socket_dir: self.socket_dir(),
            cluster_name: self.config.scope.clone(),
            major: self.install.major,
            parameters,
            hba,
            ident: pg.pg_ident.clone(),
            members,
            roles: RoleNames {
                superuser: roles.superuser.username.clone(),
                replication: roles.replication.username.clone(),
                rewind: roles.rewind.username.clone(),
            },
            os_user: self.os_user.clone(),
        }
    }

    /// Directory of the sockets.
    pub fn socket_dir(&self) -> PathBuf {
        let mut name = self.config.postgresql.data_dir.clone().into_os_string();
        name.push(".sock");
        name.into()
    }

    /// Passwords of the replication and the rewind role: configured ones first, else the cluster's.
    pub(crate) fn passwords(&self) -> Result<(Secret, Secret), JobError> {
        let state = self.state();
        let roles = &self.config.postgresql.authentication;
        let pick = |configured: Option<&crate::config::Secret>, shared: Option<&String>| {
            configured
                .map(|secret| Secret::new(secret.reveal()))
                .or_else(|| shared.map(Secret::new))
                .ok_or_else(|| JobError("the cluster's secrets are not there yet".into()))
        };
        let shared = state.secrets.as_ref();
        let replication =
            pick(roles.replication.password.as_ref(), shared.map(|s| &s.replication))?;
        let rewind = pick(roles.rewind.password.as_ref(), shared.map(|s| &s.rewind))?;
        Ok((replication, rewind))
    }

    /// Writes the password file; its path.
    pub(crate) fn passfile(&self) -> Result<PathBuf, JobError> {
        let (replication, rewind) = self.passwords()?;
        let roles = &self.config.postgresql.authentication;
        let entries = [
            (roles.replication.username.as_str(), &replication),
            (&roles.rewind.username, &rewind),
        ];
        Ok(passfile::write(&self.data_dir(), &entries)?)
    }

    /// Where a member's PostgreSQL is reached, for `user`.
    pub(crate) fn source(&self, member: &MemberName, user: &str) -> Result<Source, JobError> {
        let state = self.state();
        let known = state.members.get(member);
        let address = known.map(|member| member.postgres_address.clone());
        let address = address.ok_or_else(|| JobError(format!("there is no member {member}")))?;
        let (host, port) = address.rsplit_once(':').unwrap_or((&address, "5432"));
        let port = port.parse().map_err(|_| JobError(format!("{address} is no address")))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Source { host, port, user: user.to_owned(), passfile: Some(self.passfile()?) })
    }

    /// Looks at the data directory: what it is, and while no server runs, where its WAL ends.
    /// An error may pass (no memory for a child, a control file in the middle of a write); one that
    /// stays makes the directory unusable.
    pub async fn inspect(&self, running: bool) -> DataView {
        let mut tries = 0;
        loop {
            match self.try_inspect(running).await {
                Ok(view) => return view,
                Err(why) if tries < INSPECT_RETRIES => {
                    tracing::warn!(%why, "the data directory could not be looked at; tries again");
                    tries += 1;
                    tokio::time::sleep(INSPECT_PAUSE).await;
                }
                Err(why) => return DataView::Unusable(why.to_string()),
            }
        }
    }

    async fn try_inspect(&self, running: bool) -> Result<DataView, JobError> {
        let data_dir = self.data_dir();
        let cluster = match datadir::inspect(&data_dir)? {
            DataDir::Missing | DataDir::Empty => return Ok(DataView::Empty),
            DataDir::Foreign { why } => {
                return Ok(DataView::Unusable(format!("{}: {why}", data_dir.display())));
            }
            DataDir::Cluster(cluster) => cluster,
        };
        if cluster.major != self.install.major {
            return Ok(DataView::Unusable(format!(
                "{} is of PostgreSQL {}, {} holds {}; set postgresql.bin_dir",
                data_dir.display(),
                cluster.major,
                self.install.bin_dir.display(),
                self.install.major
            )));
        }
        if cluster.marker == Some(Marker::Rewinding) {
            return Ok(DataView::HalfDone);
        }
        let control = ControlData::read(&self.install, &data_dir).await?;
        let (disk_end, history) = if running {
            (None, Vec::new())
        } else {
            match self.disk_end(&control).await {
                Ok((end, history)) => (Some(end), history),
                Err(why) => {
                    tracing::warn!(%why, "the end of the WAL on disk is not known");
                    (None, Vec::new())
                }
            }
        };
        self.judge_disk_end(disk_end)?;
        let clean = control.state.is_clean();
        let shutdown_end =
            disk_end.filter(|_| control.state == ClusterControlState::ShutDown).map(|end| end.lsn);
        Ok(DataView::Cluster(ClusterData {
            system_identifier: control.system_identifier,
            disk_end,
            history,
            clean,
            can_rewind: control.data_checksums || control.wal_log_hints,
            shutdown_end,
        }))
    }

    /// A disk end below the floor means that the disk forgot what it had said to hold: the contents
    /// get a new id, so that no old vote or acknowledgement counts for them.
    fn judge_disk_end(&self, disk_end: Option<Position>) -> Result<(), JobError> {
        let Some(end) = disk_end else { return Ok(()) };
        let identity = self.identity();
        if end.timeline == identity.floor.timeline && end.lsn < identity.floor.lsn {
            tracing::error!(
                %end, floor = %identity.floor,
                "the disk lost WAL that was written through; the data gets a new id"
            );
            self.fresh_identity()?;
        }
        self.raise_floor(end)
    }

    /// End of valid WAL on disk, and the history that leads there: along the newest timeline that
    /// pg_wal holds a history of.
    pub(crate) async fn disk_end(
        &self,
        control: &ControlData,
    ) -> Result<(Position, Vec<HistoryEntry>), JobError> {
        let (control, from) = (control.clone(), control.scan_start());
        let data_dir = self.data_dir();
        let newest = history::highest_real(&data_dir)?.max(from.timeline);
        let full = history::read_history(&data_dir, newest).unwrap_or_default();
        // A history that does not lead through the starting point belongs to another branch.
        let leads = newest == from.timeline
            || full.iter().any(|entry| entry.timeline == from.timeline && from.lsn <= entry.end);
        let (newest, full) = if leads {
            (newest, full)
        } else {
            (from.timeline, history::read_history(&data_dir, from.timeline).unwrap_or_default())
        };
        let scan_history = full.clone();
        let end = tokio::task::spawn_blocking(move || {
            WalScan::of(&data_dir, &control, &scan_history, newest).disk_end(from)
        })
        .await??;
        let history =
            full.into_iter().take_while(|entry| entry.timeline < end.position.timeline).collect();
        Ok((end.position, history))
    }

    /// Others wait for what is seen here: look often.
    pub fn hurry(&self, hurried: bool) {
        if self.hurried.swap(hurried, Ordering::Relaxed) != hurried && hurried {
            self.look.notify_one();
        }
    }

    /// The agent's own question: have the server looked at soon.
    pub fn look_soon(&self) {
        self.look.notify_one();
    }
}
