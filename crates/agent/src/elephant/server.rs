//! The server's processes, through the guard: start, stop, kill, signal, and the deadline.

use std::sync::atomic::Ordering;
use std::time::Duration;

use howdah_core::sync::Demand;
use howdah_core::sync::choose::Mode;
use howdah_core::{Epoch, Lsn, Timeline};
use howdah_guard::wire::{Reply, Request, StartPostgres};
use howdah_postgres::datadir::Marker;
use howdah_postgres::hba::HbaMode;
use howdah_postgres::procs::{Children, Proc};
use howdah_postgres::settings::{Dynamic, sync_names};
use howdah_postgres::{args, history, prepare, signals};

use super::{Adopted, Elephant, GUARD_LIMIT, JobError, in_force, lock};
use crate::shell::Arming;

/// Limit of killing all of PostgreSQL; the guard goes on trying beyond it.
const KILL_LIMIT: Duration = Duration::from_secs(15);

impl Elephant {
    /// Asks the guard something, without blocking the runtime.
    pub(crate) async fn guard(&self, request: Request, limit: Duration) -> Result<Reply, JobError> {
        let guard = self.guard.clone();
        Ok(tokio::task::spawn_blocking(move || guard.call(request, limit)).await??)
    }

    /// Takes over what runs.
    ///
    /// # Errors
    /// If the guard does not answer.
    pub async fn adopt(&self) -> Result<Adopted, JobError> {
        let Reply::Status(status) = self.guard(Request::Status, GUARD_LIMIT).await? else {
            return Err(JobError("the guard answered something else than its status".into()));
        };
        let postmaster = status.postmaster;
        if postmaster.is_none() {
            // The lease of a former life is given back on the word that its server is gone.
            self.end_foreign_server().await?;
        }
        self.names_known.store(postmaster.is_none(), Ordering::Relaxed);
        let identity = self.identity();
        let hba = std::fs::read_to_string(self.data_dir().join(howdah_postgres::hba::HBA_FILE));
        let open = hba.is_ok_and(|text| !text.contains(" reject"));
        if open {
            lock(&self.now).1 = HbaMode::Open;
        }
        let pid = postmaster.as_ref().map(|postmaster| postmaster.pid);
        let in_force = pid.and_then(|pid| in_force::recall(&self.data_dir(), pid));
        if let (Some(pid), Some((demand, _))) = (pid, &in_force)
            && demand.acks > 0
        {
            self.set_asks(pid);
        }
        Ok(Adopted {
            in_force,
            incarnation: status.incarnation,
            pid,
            authority: postmaster.and_then(|postmaster| postmaster.authority),
            open,
            data_id: identity.data_id,
            promise: identity.promise,
        })
    }

    /// Tells the guard until when PostgreSQL may be writable.
    ///
    /// # Errors
    /// Why it refused.
    pub async fn arm(&self, arming: Arming) -> Result<(), String> {
        let request = Request::Arm {
            epoch: arming.epoch,
            renewals: arming.renewals,
            deadline: arming.deadline,
            cut: false,
        };
        match self.guard(request, GUARD_LIMIT).await.map_err(|why| why.to_string())? {
            Reply::Done => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Asks the guard how things are, so that it hears of us.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn sign_of_life(&self) -> Result<(), JobError> {
        self.guard(Request::Status, GUARD_LIMIT).await.map(drop)
    }

    /// Has the guard hold the virtual address under this epoch, or let it go.
    ///
    /// # Errors
    /// Why it refused.
    pub async fn vip(&self, epoch: Option<Epoch>) -> Result<(), JobError> {
        let request = epoch.map_or(Request::DropVip, |epoch| Request::HoldVip { epoch });
        done(self.guard(request, GUARD_LIMIT).await?)
    }

    /// The first deadline after maintenance mode. An earlier attempt may have set one, which ends
    /// sooner, so that it holds for this attempt too.
    ///
    /// # Errors
    /// Why the guard has none.
    pub async fn arm_first(&self, arming: Arming) -> Result<(), String> {
        let Err(why) = self.arm(arming).await else { return Ok(()) };
        match self.guard(Request::Status, GUARD_LIMIT).await {
            Ok(Reply::Status(status))
                if status.armed.is_some_and(|armed| armed.epoch == arming.epoch) =>
            {
                Ok(())
            }
            _ => Err(why),
        }
    }

    /// Maintenance mode is in the log: no deadline from this renewal on.
    ///
    /// # Errors
    /// Why the guard refused.
    pub async fn disarm_for(&self, epoch: Epoch, renewals: u64) -> Result<(), String> {
        let request = Request::Disarm { epoch, renewals };
        match self.guard(request, GUARD_LIMIT).await.map_err(|why| why.to_string())? {
            Reply::Done => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// No deadline from now on. Only while no server is writable.
    pub(crate) async fn disarm(&self) -> Result<(), JobError> {
        let Reply::Status(status) = self.guard(Request::Status, GUARD_LIMIT).await? else {
            return Err(JobError("the guard answered something else than its status".into()));
        };
        if let Some(armed) = status.armed {
            let request = Request::Disarm { epoch: armed.epoch, renewals: armed.renewals };
            done(self.guard(request, GUARD_LIMIT).await?)?;
        }
        Ok(())
    }

    /// A server that an earlier agent started says what its commits wait for. The file is made to
    /// say the same, for what stands there may never have been read.
    pub(crate) fn know_names(&self, shown: &str) -> Result<(), JobError> {
        if self.names_known.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let (mut now, mode) = self.written();
        now.synchronous_standby_names = shown.to_owned();
        *lock(&self.now) = (now, mode);
        Ok(())
    }

    /// What commits wait for on a server that is no primary yet: for nobody that is there, if they are
    /// ever to wait, so that none slips through at a promotion.
    pub(crate) fn names_at_rest(&self) -> Result<String, JobError> {
        let state = self.state();
        let off = state.settings.synchronous_mode == Mode::Off && state.sync.record().is_none();
        Ok(sync_names(&if off { Demand::nobody() } else { Demand::blocked() })?)
    }

    /// Whether commits of this postmaster ask whether somebody is to be waited for.
    pub(crate) fn asks(&self, postmaster: i32) -> bool {
        self.asks.load(Ordering::Relaxed) == postmaster
    }

    /// Nothing is proven any more of how commits wait.
    pub(crate) fn forget_in_force(&self) -> Result<(), JobError> {
        in_force::forget(&self.data_dir())
    }

    /// Since when, by its WAL, this postmaster's commits wait for these.
    pub(crate) fn remember_in_force(
        &self,
        postmaster: i32,
        demand: &Demand,
        since: Lsn,
    ) -> Result<(), JobError> {
        in_force::remember(&self.data_dir(), postmaster, demand, since)
    }

    /// That is proven now; 0: of no postmaster.
    pub(crate) fn set_asks(&self, postmaster: i32) {
        self.asks.store(postmaster, Ordering::Relaxed);
    }

    /// Writes configuration and HBA file for `now`, and remembers it.
    pub(crate) fn write_files(&self, now: Dynamic, mode: HbaMode) -> Result<bool, JobError> {
        if !self.names_known.load(Ordering::Relaxed) {
            let text = "the server of an earlier agent was not looked at yet; try again";
            return Err(JobError(text.into()));
        }
        if now.synchronous_standby_names.is_empty() {
            self.set_asks(0);
        }
        let prepared = prepare::prepare(&self.settings(), &now, mode)?;
        for warning in prepared.warnings {
            tracing::warn!("{warning}");
        }
        if mode != HbaMode::Barred {
            self.barred(0);
        }
        *lock(&self.now) = (now, mode);
        Ok(prepared.changed)
    }

    /// No client is in this postmaster, nor gets in by the files that are written.
    pub(crate) fn barred(&self, postmaster: i32) {
        self.barred.store(postmaster, Ordering::Relaxed);
    }

    /// Whether that was proven for this postmaster.
    pub(crate) fn is_barred(&self, postmaster: i32) -> bool {
        self.barred.load(Ordering::Relaxed) == postmaster
    }

    /// What was written last.
    pub(crate) fn written(&self) -> (Dynamic, HbaMode) {
        lock(&self.now).clone()
    }

    /// Starts the server: as a standby, or in place under a held lease.
    pub(crate) async fn start(
        &self,
        authority: Option<Epoch>,
        now: Dynamic,
    ) -> Result<i32, JobError> {
        let data_dir = self.data_dir();
        if Marker::Rewinding.is_set(&data_dir)? {
            return Err(JobError("the data directory is half rewound; it is never started".into()));
        }
        history::remove_comment_history_above(&data_dir, history::highest_real(&data_dir)?)?;
        self.end_foreign_server().await?;
        mend_mode(&data_dir)?;
        if authority.is_none() {
            self.disarm().await?;
            signals::write_standby_signal(&data_dir)?;
        }
        // What an earlier server's commits waited for ended with it.
        self.names_known.store(true, Ordering::Relaxed);
        let now = Dynamic { synchronous_standby_names: self.names_at_rest()?, ..now };
        let asks = !now.synchronous_standby_names.is_empty();
        self.write_files(now, HbaMode::Barred)?;
        let settings = self.settings();
        let request = Request::StartPostgres(StartPostgres {
            program: self.install.postgres(),
            args: args::postmaster_args(&settings),
            env: vec![("LC_MESSAGES".into(), "C".into())],
            cwd: data_dir.clone(),
            data_dir: data_dir.clone(),
            authority,
            log: Some(data_dir.join("log").join("postmaster.log")),
        });
        std::fs::create_dir_all(data_dir.join("log"))
            .map_err(|error| JobError(format!("create {}/log: {error}", data_dir.display())))?;
        match self.guard(request, GUARD_LIMIT).await? {
            Reply::Started { pid } => {
                lock(&self.pending).clear();
                self.segment_size.store(0, Ordering::Relaxed);
                self.barred(pid);
                // It reads the setting before it lets anybody in.
                self.set_asks(if asks { pid } else { 0 });
                Ok(pid)
            }
            Reply::Refused(why) => Err(JobError(format!("the guard refused: {why}"))),
            other => Err(JobError(format!("the guard answered {other:?}"))),
        }
    }

    /// A server that is not below our guard, left by a guard that was killed or started by a person,
    /// is never taken as ours: it is ended before ours is started.
    async fn end_foreign_server(&self) -> Result<(), JobError> {
        if self.postmaster().await.is_ok() {
            // Ours runs: the guard refuses a second one.
            return Ok(());
        }
        let data_dir = self.data_dir();
        let kill = move || howdah_guard::orphans::kill_postgres_of(&data_dir);
        let killed = tokio::task::spawn_blocking(kill).await?;
        let killed = killed.map_err(|error| JobError(error.to_string()))?;
        if killed > 0 {
            tracing::warn!(killed, "ended processes of a PostgreSQL that was not our guard's");
        }
        Ok(())
    }

    /// Ends every process of the server, and proves it.
    ///
    /// # Errors
    /// If the guard does not answer.
    pub async fn kill(&self) -> Result<(), JobError> {
        match self.guard(Request::KillPostgres, KILL_LIMIT).await? {
            Reply::Refused(why) => Err(JobError(format!("the guard refused: {why}"))),
            _ => Ok(()),
        }
    }

    /// The guard is gone: ends the server's processes from here.
    pub fn kill_without_guard(&self) {
        match howdah_guard::orphans::kill_postgres_of(&self.data_dir()) {
            Ok(killed) => tracing::warn!(killed, "the guard is gone; PostgreSQL was killed"),
            Err(why) => tracing::error!(%why, "the guard is gone and PostgreSQL cannot be killed"),
        }
    }

    /// Sends a signal to one of the server's processes.
    pub(crate) async fn signal(
        &self,
        pid: i32,
        signal: i32,
        authority: Option<Epoch>,
    ) -> Result<(), JobError> {
        done(self.guard(Request::Signal { pid, signal, authority }, GUARD_LIMIT).await?)
    }

    /// The postmaster and everything below it.
    pub(crate) async fn processes(&self) -> Result<Processes, JobError> {
        match self.guard(Request::Processes, GUARD_LIMIT).await? {
            Reply::Processes(list) => {
                let list: Vec<Proc> = list
                    .into_iter()
                    .map(|process| Proc {
                        pid: process.pid,
                        ppid: process.ppid,
                        title: process.title,
                    })
                    .collect();
                // The guard lists the postmaster first.
                let postmaster = list.first().map(|process| process.pid);
                let down = || JobError("PostgreSQL is down".into());
                let postmaster = postmaster.ok_or_else(down)?;
                Ok(Processes { postmaster, list, cluster_name: self.config.scope.clone() })
            }
            other => Err(JobError(format!("the guard answered {other:?}"))),
        }
    }

    /// Process id of the postmaster.
    pub(crate) async fn postmaster(&self) -> Result<i32, JobError> {
        let Reply::Status(status) = self.guard(Request::Status, GUARD_LIMIT).await? else {
            return Err(JobError("the guard answered something else than its status".into()));
        };
        let postmaster = status.postmaster.ok_or_else(|| JobError("PostgreSQL is down".into()))?;
        Ok(postmaster.pid)
    }

    /// Has the server read its files again.
    pub(crate) async fn reload(&self) -> Result<(), JobError> {
        let pid = self.postmaster().await?;
        self.signal(pid, nix::libc::SIGHUP, None).await
    }

    /// Has the server leave recovery, if the guard still holds this epoch's deadline.
    pub(crate) async fn leave_recovery(&self, epoch: Epoch) -> Result<(), JobError> {
        let data_dir = self.data_dir();
        done(self.guard(Request::Promote { epoch, data_dir }, GUARD_LIMIT).await?)
    }

    /// Puts standby.signal back, so that whatever else starts this directory gets a standby.
    pub(crate) async fn put_standby_signal(&self) -> Result<(), JobError> {
        let data_dir = self.data_dir();
        done(self.guard(Request::PutStandbySignal { data_dir }, GUARD_LIMIT).await?)
    }

    /// Tells the guard that everything is stopped in good order.
    pub async fn tell_shutdown(&self) {
        if let Err(why) = self.guard(Request::Shutdown, GUARD_LIMIT).await {
            tracing::warn!(%why, "the guard did not take the end");
        }
    }

    /// Makes a promotion take exactly the reserved number.
    pub(crate) fn reserve_timeline(
        &self,
        own: Timeline,
        reserved: Timeline,
    ) -> Result<(), JobError> {
        Ok(history::put_comment_history(&self.data_dir(), own, reserved)?)
    }
}

/// A listing of the server's processes.
pub(crate) struct Processes {
    postmaster: i32,
    list: Vec<Proc>,
    cluster_name: String,
}

impl Processes {
    /// Sorted by what they are.
    pub fn children(&self) -> Children<'_> {
        Children::of(self.postmaster, &self.cluster_name, &self.list)
    }
}

/// PostgreSQL does not start in a directory that others can read or write: ours is closed again.
fn mend_mode(data_dir: &std::path::Path) -> Result<(), JobError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let failed = |error: std::io::Error| JobError(format!("{}: {error}", data_dir.display()));
    let meta = std::fs::metadata(data_dir).map_err(failed)?;
    if meta.mode() & 0o027 == 0 || meta.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    tracing::warn!(
        "{} had mode {:04o}; PostgreSQL wants 0700, so it is set",
        data_dir.display(),
        meta.mode() & 0o7777
    );
    std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn done(reply: Reply) -> Result<(), JobError> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Refused(why) => Err(JobError(format!("the guard refused: {why}"))),
        other => Err(JobError(format!("the guard answered {other:?}"))),
    }
}
