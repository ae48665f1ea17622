//! A guard with its agent and a fresh data directory, and what tests ask them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use howdah_core::Epoch;
use howdah_guard::clock::boottime_now;
use howdah_guard::wire::{Event, Reply, Request, StartPostgres, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Member {
    dir: PathBuf,
    guard: Child,
    writers: Vec<Child>,
    keep: tempfile::TempDir,
}

/// Waits until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program of the PostgreSQL under test, which tools/with-test-root names.
fn bin(program: &str) -> String {
    let named = std::env::var("HOWDAH_TEST_PG_BIN");
    format!("{}/{program}", named.as_deref().unwrap_or("/usr/lib/postgresql/15/bin"))
}

/// As the user that PostgreSQL runs as.
fn unprivileged(program: &str) -> Command {
    let mut command = Command::new(program);
    if Uid::effective().is_root() {
        let user = User::from_name("postgres").unwrap().unwrap();
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

impl Member {
    /// A guard with such options; PostgreSQL is down.
    pub fn new(options: &str) -> Self {
        Self::with_env(options, &[])
    }

    pub fn with_env(options: &str, env: &[(&str, &str)]) -> Self {
        let root = std::env::var_os("HOWDAH_TEST_ROOT").map(PathBuf::from);
        let root = root.unwrap_or_else(|| "/var/tmp/howdah-test".into());
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let keep = tempfile::Builder::new().prefix("guard_").tempdir_in(&root).unwrap();
        let dir = fs::canonicalize(keep.path()).unwrap();
        if Uid::effective().is_root() {
            let user = User::from_name("postgres").unwrap().unwrap();
            chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let data = dir.join("data");
        let initdb = unprivileged(&bin("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
            .arg(&data)
            .current_dir(&dir)
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let log = File::create(dir.join("guard.log")).unwrap();
        let guard = Command::new(std::env::current_exe().unwrap())
            .arg("play-guard")
            .env("TEST_DIR", &dir)
            .env("TEST_OPTIONS", options)
            .envs(env.iter().copied())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let member = Self { dir, guard, writers: Vec::new(), keep };
        member.status();
        member
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("guard.log")).unwrap_or_default()
    }

    /// Says something to the agent that lives now; none: there is none, or it ended meanwhile.
    pub fn say(&self, line: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.path("agent.sock")).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).ok()?;
        answer.ends_with('\n').then(|| answer.trim().to_owned())
    }

    pub fn ask(&self, request: Request) -> Reply {
        let line = serde_json::to_string(&request).unwrap();
        let answer = until(&format!("{line}; {}", self.log()), || self.say(&line));
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
    }

    pub fn status(&self) -> Status {
        match self.ask(Request::Status) {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Arms so that the deadline comes after `span`.
    pub fn arm(&self, epoch: u64, renewals: u64, span: Duration) {
        let deadline = boottime_now() + span;
        let arm = Request::Arm { epoch: Epoch(epoch), renewals, deadline, cut: true };
        assert_eq!(self.ask(arm), Reply::Done);
    }

    pub fn start_request(&self, authority: Option<u64>) -> Request {
        let mut args = vec!["-D".to_owned(), self.data().display().to_string()];
        let sockets = format!("unix_socket_directories={}", self.dir.display());
        let settings = ["listen_addresses=", "port=5432", "fsync=off", "restart_after_crash=off"];
        for setting in settings.into_iter().chain([sockets.as_str(), "shared_buffers=16MB"]) {
            args.extend(["-c".to_owned(), setting.to_owned()]);
        }
        Request::StartPostgres(StartPostgres {
            program: bin("postgres").into(),
            args,
            env: vec![("LC_MESSAGES".into(), "C".into())],
            cwd: self.data(),
            data_dir: self.data(),
            authority: authority.map(Epoch),
            log: Some(self.path("postgres.log")),
        })
    }

    /// Starts and waits until it answers; the postmaster.
    pub fn start(&self, authority: Option<u64>) -> i32 {
        let pid = match self.ask(self.start_request(authority)) {
            Reply::Started { pid } => pid,
            other => panic!("{other:?}"),
        };
        let log = || fs::read_to_string(self.path("postgres.log")).unwrap_or_default();
        until("PostgreSQL answers", || {
            self.sql("select 1").or_else(|| {
                assert!(self.status().postmaster.is_some(), "{}\n{}", self.log(), log());
                None
            })
        });
        pid
    }

    /// Starts read-write, with clients that write as fast as they can.
    pub fn start_busy(&mut self) -> i32 {
        self.arm(1, 1, LIMIT);
        let pid = self.start(Some(1));
        self.sql("create table t(n int)").unwrap();
        for _ in 0..4 {
            let loops = "do $$ begin loop insert into t values (1); commit; end loop; end $$";
            self.writers.push(self.psql(loops).stdout(Stdio::null()).spawn().unwrap());
        }
        let rows = || self.sql("select count(*) from t").and_then(|text| text.parse::<u64>().ok());
        until("clients write", || rows().filter(|rows| *rows > 100));
        pid
    }

    fn psql(&self, sql: &str) -> Command {
        let mut command = unprivileged("/usr/bin/psql");
        command.args(["-XAtq", "-U", "postgres", "-p", "5432", "-d", "postgres", "-h"]);
        command.arg(&self.dir).args(["-c", sql]).current_dir("/").stderr(Stdio::null());
        command
    }

    /// The first value; none: no answer.
    pub fn sql(&self, sql: &str) -> Option<String> {
        let output = self.psql(sql).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// What agents heard so far.
    pub fn events(&self) -> Vec<Event> {
        let text = fs::read_to_string(self.path("events")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn agent_pid(&self) -> i32 {
        until("an agent", || fs::read_to_string(self.path("agent.pid")).ok()?.parse().ok())
    }

    pub fn guard_pid(&self) -> i32 {
        self.guard.id().cast_signed()
    }

    /// Waits until another agent than `old` serves.
    pub fn next_agent(&self, old: i32) -> i32 {
        until(&format!("another agent; {}", self.log()), || {
            let pid = self.agent_pid();
            (pid != old && self.say("\"Status\"").is_some()).then_some(pid)
        })
    }

    /// Processes of PostgreSQL that live in the data directory, whoever their parent is.
    pub fn postgres_processes(&self) -> Vec<i32> {
        let data = self.data();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            (cwd == data).then_some(pid)
        });
        pids.collect()
    }

    /// The guard's exit code.
    pub fn guard_ends(&mut self) -> Option<i32> {
        until("the guard ends", || self.guard.try_wait().unwrap()).code()
    }
}

pub fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    Path::new(&format!("/proc/{pid}")).exists() && !stat.contains(") Z")
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("guard's log:\n{}", self.log());
        }
        let agent = fs::read_to_string(self.path("agent.pid")).ok();
        let _ = fs::remove_file(self.path("no-orphans"));
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        for mut writer in self.writers.drain(..) {
            let _ = writer.kill();
            let _ = writer.wait();
        }
        // The agent ends PostgreSQL, then itself; not looked for under a pid of somebody else.
        if let Some(pid) = agent.and_then(|pid| pid.parse().ok()) {
            let begin = Instant::now();
            while is_alive(pid) && begin.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for pid in self.postgres_processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(self.keep.path());
    }
}
