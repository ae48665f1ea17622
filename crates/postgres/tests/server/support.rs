//! Real servers for the tests: run as user postgres, on loopback, ended with the test.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use howdah_core::{DataId, MemberName};
use howdah_postgres::args::postmaster_args;
use howdah_postgres::hba::HbaMode;
use howdah_postgres::install::Install;
use howdah_postgres::prepare::prepare;
use howdah_postgres::session::{Probe, Session, connect};
use howdah_postgres::settings::{Dynamic, Follow, PgSettings, RoleNames, application_name};
use howdah_postgres::{history, signals, slots};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, getpid, setgid, setgroups, setuid};

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const ANSWER: Duration = Duration::from_secs(10);
pub const PASSWORD: &str = "s3cret:with\\odd'signs";

/// The directory of these tests. PostgreSQL refuses to run as root, so this process stops
/// being root first; all of it, since a process's identity is one for all its threads.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let base = std::env::var_os("HOWDAH_TEST_ROOT").map(PathBuf::from);
        let base = base.unwrap_or_else(|| "/var/tmp/howdah-test".into());
        let root = base.join("postgres");
        std::fs::create_dir_all(&root).unwrap();
        if Uid::effective().is_root() {
            std::fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).unwrap();
            let user = User::from_name("postgres").unwrap().expect("there is no user postgres");
            chown(&root, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            setgroups(&[]).unwrap();
            setgid(user.gid).unwrap();
            setuid(user.uid).unwrap();
        }
        root
    })
}

/// A directory that is removed with its value, if the test passed.
pub struct Room(PathBuf);

impl Room {
    pub fn new(name: &str) -> Self {
        let path = root().join(format!("{name}-{}", getpid()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

pub fn install() -> Install {
    let named = std::env::var_os("HOWDAH_TEST_PG_BIN").map(PathBuf::from);
    Install::find(named.as_deref(), None).unwrap()
}

/// Asks again until the answer is some, or fails after the deadline with what was waited for.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A PostgreSQL server under test.
pub struct Server {
    pub settings: PgSettings,
    pub install: Install,
    child: Option<Child>,
}

impl Server {
    pub fn new(room: &Room, name: &str, port: u16) -> Self {
        let os_user = User::from_uid(Uid::effective()).unwrap().unwrap().name;
        let settings = PgSettings {
            data_dir: room.join(name),
            listen: "127.0.0.1".into(),
            port,
            socket_dir: room.join(&format!("{name}.sock")),
            cluster_name: "demo".into(),
            major: install().major,
            parameters: BTreeMap::from([("shared_buffers".into(), "16MB".into())]),
            hba: Vec::new(),
            ident: Vec::new(),
            members: vec!["127.0.0.1".into()],
            roles: RoleNames {
                superuser: "postgres".into(),
                replication: "replicator".into(),
                rewind: "rewinder".into(),
            },
            os_user,
            tls: None,
        };
        Self { settings, install: install(), child: None }
    }

    pub fn data(&self) -> &Path {
        &self.settings.data_dir
    }

    /// What makes `self` follow `upstream`.
    pub fn follow(&self, upstream: &Server, name: &str, data_id: DataId) -> Dynamic {
        let member = MemberName::from(name);
        Dynamic::follow(
            Follow {
                host: "127.0.0.1".into(),
                port: upstream.settings.port,
                application_name: application_name(&member, data_id).unwrap(),
                slot: Some(slots::slot_name(&member)),
                user: "replicator".into(),
                passfile: Some(howdah_postgres::passfile::path(self.data())),
                tls: None,
            },
            None,
        )
    }

    /// Starts it as a standby and waits until it takes sessions.
    pub async fn start(&mut self, now: &Dynamic) {
        signals::write_standby_signal(self.data()).unwrap();
        let highest = history::highest_real(self.data()).unwrap();
        history::remove_comment_history_above(self.data(), highest).unwrap();
        prepare(&self.settings, now, HbaMode::Open).unwrap();
        let child = Command::new(self.install.postgres())
            .args(postmaster_args(&self.settings))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the server takes sessions", async || self.try_session().await).await;
    }

    async fn try_session(&self) -> Option<Session> {
        let s = &self.settings;
        connect(&s.socket_dir, s.port, "postgres", ANSWER).await.ok()
    }

    pub async fn session(&self) -> Session {
        let s = &self.settings;
        connect(&s.socket_dir, s.port, "postgres", ANSWER).await.unwrap()
    }

    pub async fn probe(&self) -> Probe {
        self.session().await.probe().await.unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server does not run");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    /// Rewrites the configuration and has the server read it.
    pub fn reload(&self, now: &Dynamic, mode: HbaMode) {
        prepare(&self.settings, now, mode).unwrap();
        self.signal(Signal::SIGHUP);
    }

    /// SIGINT: orderly. SIGQUIT: as after a crash.
    pub fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        let mut child = self.child.take().unwrap();
        let end = Instant::now() + DEADLINE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                // At its end a postmaster that is quit kills what does not go by itself.
                kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGQUIT).unwrap();
                child.wait().unwrap();
                panic!("the server did not stop on {signal}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub async fn promote(&self) {
        let session = self.session().await;
        session.query("SELECT pg_promote(false)", &[]).await.unwrap();
        until("it is promoted", async || {
            (!session.probe().await.unwrap().in_recovery).then_some(())
        })
        .await;
    }

    pub async fn count(&self) -> i64 {
        let rows = self.session().await.query("SELECT count(*) FROM public.t", &[]).await.unwrap();
        rows[0].get(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let quit = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGQUIT);
            if quit.is_ok() {
                let _ = child.wait();
            }
        }
    }
}
