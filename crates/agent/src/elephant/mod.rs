//! The local PostgreSQL as the loop and its jobs handle it: files and answers by `howdah_postgres`,
//! every process through the guard.
//!
//! State: the identity file (data id, promise, floor) is the only thing of its own that survives a
//! restart; what is remembered beside it (upstream, who is admitted) is written before each start.
//! Invariants: a promise is on disk before it is acted on; a new data id is on disk before the first
//! byte of the data is changed; whatever needs authority goes through the guard with its epoch.

mod access;
mod disk;
mod in_force;
mod look;
mod server;
mod types;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use howdah_core::{ClusterState, Lsn, Timeline};
use howdah_guard::client::GuardClient;
use howdah_postgres::control::ControlData;
use howdah_postgres::hba::HbaMode;
use howdah_postgres::identity::Identity;
use howdah_postgres::install::Install;
use howdah_postgres::session::{Session, SessionError};
use howdah_postgres::settings::Dynamic;
use tokio::sync::Notify;

use crate::config::Config;
use crate::troubles::Troubles;
pub(crate) use server::Processes;
pub use types::{Adopted, JobError, JobOutput, Observed, Progress, Seen, Sight};

/// Limit of a question to the guard; it answers from memory.
pub(crate) const GUARD_LIMIT: Duration = Duration::from_secs(2);

/// The local PostgreSQL.
pub struct Elephant {
    config: Config,
    guard: GuardClient,
    pub(crate) install: Install,
    os_user: String,
    identity: Mutex<Identity>,
    now: Mutex<(Dynamic, HbaMode)>,
    /// Whether `now` holds what commits wait for: not while a server runs that an earlier agent
    /// started, until it was looked at.
    names_known: AtomicBool,
    /// Postmaster of which it is proven that commits ask whether somebody is to be waited for; 0: of
    /// none. See jobs/demand.rs.
    asks: AtomicI32,
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
    /// Where a standby without a walreceiver stood last when its WAL was asked for its timeline, and what
    /// it said.
    read_at: Mutex<Option<(Lsn, Option<Timeline>)>>,
    /// What the local primary's roles have; none: not known.
    roles_set: tokio::sync::Mutex<Option<access::RolesSet>>,
    /// Version of the shared passwords that the roles of the local primary have.
    secrets_version: AtomicU64,
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
        let identity = disk::identity_at_start(&config.postgresql.data_dir)?;
        Ok(Self {
            current: tokio::sync::watch::Sender::new(Arc::new(config.clone())),
            pending: Mutex::default(),
            read_at: Mutex::default(),
            config,
            guard,
            install,
            os_user,
            identity: Mutex::new(identity),
            now: Mutex::new((Dynamic::isolated(), HbaMode::Barred)),
            names_known: AtomicBool::new(true),
            asks: AtomicI32::new(0),
            barred: AtomicI32::new(0),
            state: Mutex::default(),
            percent: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            troubles: Troubles::default(),
            segment_size: AtomicU64::new(0),
            roles_set: tokio::sync::Mutex::default(),
            secrets_version: AtomicU64::new(0),
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
        let session = self.session(limit).await?;
        Ok(self.ask_for_pending(&session).await?)
    }

    /// The same over a session that is open.
    pub(crate) async fn ask_for_pending(
        &self,
        session: &Session,
    ) -> Result<BTreeMap<String, String>, SessionError> {
        let pending = session.pending_restart().await?;
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

    /// The local primary's roles have the passwords of this version.
    pub(crate) fn secrets_are_set(&self, version: u64) {
        if self.secrets_version.swap(version, Ordering::Relaxed) != version {
            // Somebody may wait to hear it.
            self.look.notify_one();
        }
    }

    /// Version of the passwords that the local primary's roles have.
    pub(crate) fn secrets_version(&self) -> u64 {
        self.secrets_version.load(Ordering::Relaxed)
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
