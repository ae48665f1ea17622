//! The guard's loop.
//!
//! One thread; each turn looks at the deadline first, then at signals, children, the kill under
//! way, the socket, and what is due. Whatever takes long is a state that later turns carry on, so
//! that the deadline is never waited for behind something else.

mod address;
mod children;
mod ending;
mod kill;
pub(crate) mod link;
mod requests;
mod setup;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use howdah_core::{BootInstant, Incarnation};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerSetTimeFlags};

use crate::cgroup::Cgroup;
use crate::clock::{Reading, boottime_now};
use crate::lease::Lease;
use crate::log::log;
use crate::options::{AgentCommand, GuardOptions};
use crate::vip::Keeper;
use crate::wire::{Event, FromGuard, KillPath, LastExit, Postmaster, Refusal, Reply};
use address::Address;
use children::Agent;
use ending::Ending;
use kill::{Killing, Why};
use link::Link;
use requests::Errand;

/// Longest sleep while armed: so long at most a suspend of the machine goes unnoticed whose end leaves
/// some of the lease. The deadline itself has its timer.
const LOOK_ARMED: Duration = Duration::from_millis(500);
/// Longest sleep otherwise.
const LOOK_IDLE: Duration = Duration::from_secs(60);

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The operating system refused something that a guard needs.
    #[error("the guard cannot {what}: {error}")]
    System {
        /// What it tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The other user's rights could not be taken on, or not for good.
    #[error("cannot become user {name}: {why}")]
    Drop {
        /// The user.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// Started as root with nobody to become.
    #[error("PostgreSQL does not run as root; name the user to run as")]
    Root,
    /// The agent could not be forked at the start.
    #[error("cannot start the agent: {why}")]
    Agent {
        /// What went wrong.
        why: String,
    },
}

/// `.or_else(system("do something"))`.
fn system<T, E: Into<std::io::Error>>(
    what: &'static str,
) -> impl FnOnce(E) -> Result<T, GuardError> {
    move |error| Err(GuardError::System { what, error: error.into() })
}

/// Runs the guard, and the agent below it, until the end; the exit code. Must be called before the
/// process has a second thread.
///
/// # Errors
/// If it cannot begin. Once it runs it ends only in the ways of its exit codes: 0 stopped as asked,
/// 1 killed after `stop_grace`, 64, 70 or 78 if the agent ended with that.
pub fn run(options: GuardOptions, agent: AgentCommand) -> Result<i32, GuardError> {
    let mut guard = setup::prepare(options, agent)?;
    guard.start_agent();
    if let Agent::Dead { why: Some(why), .. } = &guard.agent {
        return Err(GuardError::Agent { why: why.clone() });
    }
    let code = loop {
        if let Some(code) = guard.turn() {
            break code;
        }
    };
    guard.clean_up();
    Ok(code)
}

struct Guard {
    options: GuardOptions,
    command: AgentCommand,
    incarnation: Incarnation,
    lease: Lease,
    agent: Agent,
    restarts: u32,
    /// Deaths of the agent in a row, each soon after its start.
    quick_deaths: u32,
    link: Option<Link>,
    /// Number of the connection; a reply never goes to a later agent.
    serial: u64,
    postmaster: Option<Postmaster>,
    last_exit: Option<LastExit>,
    killing: Option<Killing>,
    /// The first one is under way.
    errands: VecDeque<Errand>,
    ending: Ending,
    address: Address,
    cgroup: Option<Cgroup>,
    signals: SignalFd,
    timer: TimerFd,
    /// Deadline that the timer is set to.
    timer_at: Option<BootInstant>,
    /// Variables for PostgreSQL alone.
    postgres_env: Vec<(String, String)>,
}

impl Guard {
    /// One turn of the loop; the exit code once all is over.
    fn turn(&mut self) -> Option<i32> {
        self.look_at_deadline();
        self.take_signals();
        self.reap();
        self.carry_on_killing();
        self.serve();
        self.tend_agent();
        self.tend_keeper();
        self.run_errands();
        if let Some(code) = self.carry_on_ending() {
            return Some(code);
        }
        self.set_timer();
        self.sleep();
        None
    }

    /// Kills PostgreSQL if the lease is lost.
    fn look_at_deadline(&mut self) {
        if self.options.disabled_deadline {
            return;
        }
        if let Some(lost) = self.lease.expire(Reading::take()) {
            self.kill_postgres(Why::Deadline { epoch: lost.epoch }, lost.since);
            let cause =
                if lost.suspended { "the machine was suspended" } else { "deadline passed" };
            log!("{cause}: epoch {} is over, PostgreSQL is being killed", lost.epoch);
        }
    }

    fn take_signals(&mut self) {
        loop {
            match self.signals.read_signal() {
                Ok(Some(info)) => self.signalled(i32::try_from(info.ssi_signo).unwrap_or(0)),
                Ok(None) => return,
                Err(error) => {
                    log!("cannot read signals: {error}");
                    return;
                }
            }
        }
    }

    fn signalled(&mut self, number: i32) {
        match Signal::try_from(number) {
            Ok(Signal::SIGTERM) => self.asked_to_end(false),
            Ok(Signal::SIGINT) => self.asked_to_end(true),
            Ok(Signal::SIGHUP) => self.tell(Event::Reload),
            Ok(Signal::SIGUSR2) => self.tell(Event::Reexec),
            // SIGCHLD: children are looked at in each turn.
            _ => {}
        }
    }

    /// Reads, answers and writes as far as the socket allows without waiting.
    fn serve(&mut self) {
        let Some(link) = self.link.as_mut() else { return };
        link.receive();
        while let Some(link) = self.link.as_mut() {
            match link.next_request() {
                Ok(Some((id, request))) => {
                    self.agent.spoke(boottime_now());
                    // Many requests in one turn must not hide the deadline.
                    self.look_at_deadline();
                    let answer = match request {
                        Ok(request) => self.handle(id, request),
                        Err(why) => Some(Reply::Refused(Refusal::Unknown { why })),
                    };
                    if let Some(reply) = answer {
                        self.reply(self.serial, id, reply);
                    }
                }
                Ok(None) => break,
                Err(why) => {
                    log!("the agent's connection is broken ({why}); the agent is killed");
                    self.kill_agent();
                    self.link = None;
                }
            }
        }
        if let Some(link) = self.link.as_mut() {
            link.flush();
            if link.ended() {
                // It is ending, and its exit code is worth waiting for a little.
                self.link = None;
                self.agent.hung_up(boottime_now());
            }
        }
    }

    /// Answers a request of the connection `serial`; nobody is there to hear it if that is gone.
    fn reply(&mut self, serial: u64, id: u64, reply: Reply) {
        if serial == self.serial
            && let Some(link) = self.link.as_mut()
        {
            link.send(&FromGuard::Reply { id, reply });
        }
    }

    fn tell(&mut self, event: Event) {
        if let Some(link) = self.link.as_mut() {
            link.send(&FromGuard::Event(event));
        }
    }

    fn kill_path(&self) -> KillPath {
        if self.cgroup.is_some() { KillPath::Cgroup } else { KillPath::Subreaper }
    }

    fn set_timer(&mut self) {
        let deadline = self.lease.armed().map(|armed| armed.deadline);
        let deadline = deadline.filter(|_| !self.options.disabled_deadline);
        if deadline == self.timer_at {
            return;
        }
        let result = match deadline {
            Some(at) => {
                let at = TimeSpec::from_duration(Duration::from_nanos(at.0));
                self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
            None => self.timer.unset(),
        };
        match result {
            Ok(()) => self.timer_at = deadline,
            // The loop looks twice a second anyway, and tries again then.
            Err(error) => log!("cannot set the timer: {error}"),
        }
    }

    /// Until something happens or is due.
    fn sleep(&self) {
        let now = boottime_now();
        let mut limit = if self.lease.armed().is_some() { LOOK_ARMED } else { LOOK_IDLE };
        let dues = [
            self.agent.due(self.options.agent_silence),
            self.ending.due(),
            self.killing.as_ref().map(|it| it.due(now)),
        ];
        for due in dues.into_iter().flatten() {
            limit = limit.min(due.since(now));
        }
        // Rounded up, or a due time less than a millisecond away would be polled for.
        let millis = u16::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX);
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(link) = &self.link {
            let writes = if link.has_output() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(link.as_fd(), PollFlags::POLLIN | writes));
        }
        if let Some(fd) = self.address.keeper.as_ref().and_then(Keeper::as_fd) {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        // Interrupted or failed: the next turn looks at everything.
        let _ = poll(&mut fds, PollTimeout::from(millis));
        if fds[1].revents().is_some_and(|events| !events.is_empty()) {
            // Reading makes the timer quiet again; the turn looks at the clock itself.
            let _ = self.timer.wait();
        }
    }

    fn data_dir(&self) -> Option<&PathBuf> {
        self.postmaster.as_ref().map(|postmaster| &postmaster.data_dir)
    }

    fn clean_up(&mut self) {
        if let Some(cgroup) = self.cgroup.take() {
            cgroup.remove();
        }
        if let Some(keeper) = self.address.keeper.take() {
            keeper.finish();
        }
    }
}
