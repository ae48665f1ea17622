//! The guard's loop: signals, the deadline, the agent's questions, children that end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use howdah_core::{BootInstant, Incarnation};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid};
use nix::{libc, unistd};

use crate::agent::{AgentState, Pauses};
use crate::cgroup::Cgroup;
use crate::deadline::Deadline;
use crate::socket::Connection;
use crate::wire::{
    Armed, Ask, Event, Postmaster, Process, Refusal, Reply, Request, Say, StartPostgres, Status,
    VERSION,
};
use crate::{
    AgentCommand, CgroupMode, GuardError, GuardOptions, agent, clock, kill, postmaster, procfs, say,
    system,
};

/// A suspend that lasted longer than this counts as a lease that was lost.
const SUSPEND_MAX: Duration = Duration::from_millis(50);
/// Exit codes of the agent that end the guard too.
const USAGE: i32 = 64;
const INTERNAL: i32 = 70;
const FOREIGN: i32 = 78;

/// Runs the guard until everything is stopped; the exit code of the process.
///
/// # Errors
/// `GuardError` if the operating system denies what nothing works without.
pub fn run(options: GuardOptions, command: AgentCommand) -> Result<i32, GuardError> {
    let cgroup = match options.use_cgroup {
        CgroupMode::Auto => Cgroup::make(options.drop_to.as_ref().map(|(uid, gid, _)| (*uid, *gid))),
        CgroupMode::Off => None,
    };
    if let Some((uid, gid, name)) = &options.drop_to {
        drop_privileges(*uid, *gid, name)?;
    }
    let parent = unistd::getppid();
    // SAFETY: prctl with these arguments has no memory effects.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        if options.parent_death {
            // After dropping privileges, which clears it.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT);
        }
    }
    if options.parent_death && unistd::getppid() != parent {
        return Ok(0);
    }
    let mut guard = Guard::new(options, command, cgroup)?;
    let code = guard.serve();
    if let Some(cgroup) = &guard.cgroup {
        cgroup.remove();
    }
    code
}

fn drop_privileges(uid: u32, gid: u32, name: &str) -> Result<(), GuardError> {
    let user = std::ffi::CString::new(name).unwrap_or_default();
    system("initgroups", unistd::initgroups(&user, Gid::from_raw(gid)))?;
    system("setgid", unistd::setgid(Gid::from_raw(gid)))?;
    system("setuid", unistd::setuid(Uid::from_raw(uid)))
}

fn draw_incarnation() -> Incarnation {
    use std::io::Read;
    let mut bytes = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_err() {
        // Without a source of randomness: two clocks and the process id; never seen outside tests.
        let mixed = clock::boottime_now().0 ^ u64::from(std::process::id()).rotate_left(40);
        return Incarnation(mixed ^ clock::monotonic_now().rotate_left(17));
    }
    Incarnation(u64::from_le_bytes(bytes))
}

struct Guard {
    options: GuardOptions,
    command: AgentCommand,
    cgroup: Option<Cgroup>,
    signals: SignalFd,
    timer: TimerFd,
    incarnation: Incarnation,
    deadline: Deadline,
    suspended_at_arming: Duration,
    postmaster: Option<Postmaster>,
    agent: AgentState,
    pauses: Pauses,
    agent_restarts: u32,
    connection: Option<Connection>,
    /// Since when the guard is to stop, and whether without handing over.
    stopping: Option<(Instant, bool)>,
    agent_said_end: bool,
    exit: Option<i32>,
}

impl Guard {
    fn new(
        options: GuardOptions,
        command: AgentCommand,
        cgroup: Option<Cgroup>,
    ) -> Result<Self, GuardError> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR2,
        ] {
            set.add(signal);
        }
        system("block signals", set.thread_block())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = system("signalfd", SignalFd::with_flags(&set, flags))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = system("timerfd", TimerFd::new(ClockId::CLOCK_BOOTTIME, flags))?;
        Ok(Self {
            options,
            command,
            cgroup,
            signals,
            timer,
            incarnation: draw_incarnation(),
            deadline: Deadline::default(),
            suspended_at_arming: clock::suspended(),
            postmaster: None,
            agent: AgentState::Pausing(Instant::now()),
            pauses: Pauses::default(),
            agent_restarts: 0,
            connection: None,
            stopping: None,
            agent_said_end: false,
            exit: None,
        })
    }

    fn serve(&mut self) -> Result<i32, GuardError> {
        loop {
            self.check_deadline();
            self.start_agent_if_due();
            self.enforce_stop();
            if let Some(code) = self.exit {
                return Ok(code);
            }
            self.wait()?;
            self.take_signals();
            self.reap();
            self.answer();
        }
    }

    /// Waits until something is to be done.
    fn wait(&mut self) -> Result<(), GuardError> {
        let timeout = match (&self.agent, self.stopping) {
            (AgentState::Pausing(at), _) => at.saturating_duration_since(Instant::now()),
            (_, Some(_)) => Duration::from_millis(200),
            _ => Duration::from_secs(3600),
        };
        let timeout = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(connection) = &self.connection {
            let mut flags = PollFlags::POLLIN;
            if connection.wants_to_write() {
                flags |= PollFlags::POLLOUT;
            }
            fds.push(PollFd::new(connection.fd(), flags));
        }
        match poll(&mut fds, PollTimeout::from(timeout)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => system("poll", Err(errno)),
        }
    }

    /// Sets the timer to the deadline, or to nothing.
    fn set_timer(&self) {
        let armed = self.deadline.armed().map_or(0, |armed| armed.deadline.0);
        let instant = Duration::from_nanos(armed);
        let set = if armed == 0 {
            self.timer.unset()
        } else {
            let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
            self.timer.set(Expiration::OneShot(instant.into()), flags)
        };
        if let Err(errno) = set {
            say(format_args!("cannot set the timer: {errno}"));
        }
    }

    /// At the deadline, or after a suspend: everything of PostgreSQL is killed and proven gone.
    fn check_deadline(&mut self) {
        let now = clock::boottime_now();
        let armed = self.deadline.armed();
        let slept = clock::suspended().saturating_sub(self.suspended_at_arming) > SUSPEND_MAX;
        if !(self.deadline.expired(now) || (armed.is_some() && slept)) {
            return;
        }
        if self.options.disabled_deadline {
            // The timer would fire for ever.
            let _ = self.timer.unset();
            return;
        }
        let pid = self.postmaster.as_ref().map(|postmaster| postmaster.pid);
        if !kill::all(pid, self.agent_pid(), self.cgroup.as_ref()) {
            say(format_args!("processes of PostgreSQL outlive SIGKILL; tries on"));
            return;
        }
        self.postmaster = None;
        let due = armed.map_or(now, |armed| armed.deadline);
        let took = clock::boottime_now().since(due);
        if let Some(epoch) = self.deadline.burn() {
            self.incarnation = draw_incarnation();
            say(format_args!("the lease of epoch {epoch} ran out: PostgreSQL is dead ({took:?})"));
            let new_incarnation = self.incarnation;
            self.tell(Event::DeadlineFired { epoch, new_incarnation, took });
        }
        self.set_timer();
    }

    fn agent_pid(&self) -> Option<i32> {
        match self.agent {
            AgentState::Running { pid, .. } => Some(pid),
            AgentState::Pausing(_) | AgentState::Ended => None,
        }
    }

    fn tell(&mut self, event: Event) {
        if let Some(connection) = &mut self.connection {
            connection.say(&Say::Event(event));
        }
    }

    fn start_agent_if_due(&mut self) {
        let due = matches!(self.agent, AgentState::Pausing(at) if Instant::now() >= at);
        if !due {
            return;
        }
        if self.stopping.is_some() {
            // Nobody is left who could hand over.
            self.agent = AgentState::Ended;
            return;
        }
        let started = Connection::pair().and_then(|(connection, theirs)| {
            let pid = agent::start(&self.command, &theirs)?;
            Ok((connection, pid))
        });
        match started {
            Ok((connection, pid)) => {
                self.connection = Some(connection);
                self.agent = AgentState::Running { pid, since: Instant::now() };
            }
            Err(error) => {
                let program = self.command.program.display();
                say(format_args!("cannot start the agent {program}: {error}"));
                let pause = self.pauses.after(Duration::ZERO);
                self.agent = AgentState::Pausing(Instant::now() + pause);
            }
        }
    }

    /// While stopping: without an agent, PostgreSQL is stopped from here; what takes too long is
    /// killed.
    fn enforce_stop(&mut self) {
        let Some((since, _)) = self.stopping else { return };
        let late = since.elapsed() >= self.options.stop_grace;
        if late && let Some(pid) = self.agent_pid() {
            say(format_args!("the agent did not stop in time and is killed"));
            // Its end is seen by `reap`.
            let _ = postmaster::send(pid, libc::SIGKILL);
        }
        if !late && !matches!(self.agent, AgentState::Ended) {
            return;
        }
        self.stop_postgres(Duration::from_secs(10));
        if matches!(self.agent, AgentState::Ended) {
            self.exit = Some(self.exit.unwrap_or(0));
        }
    }

    /// A fast shutdown, then the end of whatever is left.
    fn stop_postgres(&mut self, limit: Duration) {
        let Some(pid) = self.postmaster.as_ref().map(|postmaster| postmaster.pid) else { return };
        let end = Instant::now() + limit;
        let _ = postmaster::send(pid, libc::SIGINT);
        while Instant::now() < end && !self.deadline.expired(clock::boottime_now()) {
            if !procfs::lives(pid) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        kill::all(Some(pid), self.agent_pid(), self.cgroup.as_ref());
        self.postmaster = None;
    }

    fn take_signals(&mut self) {
        // Also clears the timer's count, which is only there to wake the loop.
        let _ = self.timer.wait();
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) => {
                    let again = self.stopping.is_some();
                    let fast = again || signal == Signal::SIGINT;
                    let since = self.stopping.map_or_else(Instant::now, |(since, _)| since);
                    self.stopping = Some((since, fast));
                    self.tell(Event::Terminate { fast });
                }
                Ok(Signal::SIGHUP) => self.tell(Event::Reload),
                Ok(Signal::SIGUSR2) => self.tell(Event::Reexec),
                _ => {}
            }
        }
    }

    /// Takes note of children that ended.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid().map(Pid::as_raw) else { return };
            let (code, how) = match status {
                WaitStatus::Exited(_, code) => (Some(code), format!("exit code {code}")),
                WaitStatus::Signaled(_, signal, _) => (None, format!("{signal}")),
                _ => continue,
            };
            if self.agent_pid() == Some(pid) {
                self.agent_ended(code, &how);
            } else if self.postmaster.as_ref().is_some_and(|known| known.pid == pid) {
                self.postmaster_ended(pid, how);
            }
        }
    }

    fn postmaster_ended(&mut self, pid: i32, status: String) {
        self.postmaster = None;
        // A busy backend outlives its postmaster, and goes on committing.
        let all_gone = kill::all(None, self.agent_pid(), self.cgroup.as_ref());
        self.tell(Event::PostmasterExited { pid, status, all_gone });
    }

    fn agent_ended(&mut self, code: Option<i32>, how: &str) {
        let AgentState::Running { since, .. } = self.agent else { return };
        self.connection = None;
        self.agent = AgentState::Ended;
        let postmaster = self.postmaster.as_ref().map(|postmaster| postmaster.pid);
        kill::helpers(postmaster);
        match code {
            Some(0) if self.stopping.is_some() || self.agent_said_end => {
                self.stop_postgres(Duration::from_secs(10));
                self.exit = Some(0);
            }
            Some(code @ (USAGE | FOREIGN)) => {
                self.stop_postgres(self.options.stop_grace);
                self.exit = Some(code);
            }
            Some(INTERNAL) => {
                kill::all(postmaster, None, self.cgroup.as_ref());
                self.postmaster = None;
                self.exit = Some(INTERNAL);
            }
            // It never came up, for a reason that it has told: a person should see that.
            Some(2) if postmaster.is_none() && self.agent_restarts == 0 => self.exit = Some(2),
            _ if self.stopping.is_some() => {}
            _ => {
                say(format_args!("the agent ended: {how}"));
                if self.options.agent_restart {
                    let pause = self.pauses.after(since.elapsed());
                    self.agent = AgentState::Pausing(Instant::now() + pause);
                    self.agent_restarts += 1;
                }
            }
        }
    }

    /// Answers the agent's questions.
    fn answer(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        connection.flush();
        for Ask { id, request } in connection.receive() {
            // A deadline that passed meanwhile comes before anything that was asked.
            self.check_deadline();
            let reply = self.reply(request);
            if let Some(connection) = &mut self.connection {
                connection.say(&Say::Reply { id, reply });
            }
        }
        if self.connection.as_ref().is_some_and(Connection::is_broken) {
            self.connection = None;
        }
    }

    fn reply(&mut self, request: Request) -> Reply {
        let result = match request {
            Request::Status => return Reply::Status(self.status()),
            Request::Processes => return Reply::Processes(self.processes()),
            Request::StartPostgres(start) => match self.start_postgres(&start) {
                Ok(pid) => return Reply::Started { pid },
                Err(refusal) => Err(refusal),
            },
            Request::KillPostgres => return self.kill_postgres(),
            Request::Arm { epoch, renewals, deadline, cut } => {
                self.arm(Armed { epoch, renewals, deadline }, cut)
            }
            Request::Disarm { epoch, renewals } => {
                let disarmed = self.deadline.disarm(epoch, renewals, clock::boottime_now());
                self.set_timer();
                disarmed
            }
            Request::Signal { pid, signal, authority } => self.signal(pid, signal, authority),
            Request::Promote { epoch, data_dir } => {
                self.check(epoch).and_then(|()| match &mut self.postmaster {
                    Some(running) => {
                        running.authority = Some(epoch);
                        postmaster::promote(running.pid, &data_dir)
                    }
                    None => Err(Refusal::NoPostmaster),
                })
            }
            Request::PutStandbySignal { data_dir } => postmaster::put_standby_signal(&data_dir),
            Request::Shutdown => {
                self.agent_said_end = true;
                Ok(())
            }
        };
        match result {
            Ok(()) => Reply::Done,
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    /// Authority, checked right before its effect.
    fn check(&self, epoch: howdah_core::Epoch) -> Result<(), Refusal> {
        self.deadline.check(epoch, clock::boottime_now())
    }

    fn arm(&mut self, armed: Armed, cut: bool) -> Result<(), Refusal> {
        let now: BootInstant = clock::boottime_now();
        if self.deadline.armed().is_none() {
            self.suspended_at_arming = clock::suspended();
        }
        self.deadline.arm(armed, cut, now)?;
        self.set_timer();
        Ok(())
    }

    fn start_postgres(&mut self, start: &StartPostgres) -> Result<i32, Refusal> {
        if let Some(running) = &self.postmaster {
            return Err(Refusal::Running(running.pid));
        }
        if let Some(epoch) = start.authority {
            self.check(epoch)?;
        }
        let pid = postmaster::start(start, self.cgroup.as_ref())?;
        let (data_dir, authority) = (start.data_dir.clone(), start.authority);
        self.postmaster = Some(Postmaster { pid, data_dir, authority });
        Ok(pid)
    }

    fn signal(
        &self,
        pid: i32,
        signal: i32,
        authority: Option<howdah_core::Epoch>,
    ) -> Result<(), Refusal> {
        let running = self.postmaster.as_ref().ok_or(Refusal::NoPostmaster)?;
        if !postmaster::is_ours(pid, running.pid) {
            return Err(Refusal::ForeignProcess(pid));
        }
        if let Some(epoch) = authority {
            self.check(epoch)?;
        }
        postmaster::send(pid, signal)
    }

    fn kill_postgres(&mut self) -> Reply {
        let (began, pid) = (Instant::now(), self.postmaster.as_ref().map(|known| known.pid));
        if !kill::all(pid, self.agent_pid(), self.cgroup.as_ref()) {
            let text = "processes of PostgreSQL outlive SIGKILL; they hang in the kernel";
            return Reply::Refused(Refusal::System(text.into()));
        }
        self.postmaster = None;
        Reply::Killed { took: began.elapsed() }
    }

    fn processes(&self) -> Vec<Process> {
        let Some(running) = &self.postmaster else { return Vec::new() };
        let below = procfs::descendants(&[running.pid], None);
        [running.pid].into_iter().chain(below).filter_map(procfs::process).collect()
    }

    fn status(&self) -> Status {
        Status {
            version: VERSION,
            incarnation: self.incarnation,
            armed: self.deadline.armed(),
            postmaster: self.postmaster.clone(),
            kill_path: if self.cgroup.is_some() { "cgroup" } else { "subreaper" }.into(),
            agent_restarts: self.agent_restarts,
        }
    }
}
