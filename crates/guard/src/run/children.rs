//! Reaps, starts the agent and starts it again.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use howdah_core::BootInstant;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Guard;
use super::kill::{Why, send};
use super::link::Link;
use crate::clock::boottime_now;
use crate::log::log;
use crate::procfs::Scan;
use crate::spawn::{Program, spawn};
use crate::vip::Keeper;
use crate::wire::LastExit;

/// Pause before the first restart of an agent.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So much of life makes up for one quick death. An agent that dies of its start dies sooner and is
/// started ever more slowly. One that serves for some seconds and is then killed, again and again,
/// does more good than none: its lease lives on only if the next one comes within it.
const FORGIVES: Duration = Duration::from_secs(2);
/// For so long an agent may live on after it closed its connection.
const HANG_UP: Duration = Duration::from_secs(5);
/// Part of the silence that is allowed, for which it is waited once more.
const LAST_CHANCE: u32 = 4;
/// Pause between two looks for what a dead agent left behind.
const HELPERS: Duration = Duration::from_millis(5);

/// The agent.
#[derive(Debug)]
pub(super) enum Agent {
    Running {
        pid: i32,
        since: BootInstant,
        /// It closed its connection and is killed then.
        patience: Option<BootInstant>,
        /// When it asked something last.
        heard: BootInstant,
        /// Since when its silence is too long. It is given a moment then: machine or guard may have
        /// stood still with it.
        doubted: Option<BootInstant>,
    },
    Dead {
        /// When the next one is started; none: never.
        restart: Option<BootInstant>,
        /// Looks in a row that found no helper of it; two prove that none is left.
        clean: u32,
        /// Why it could not even be forked.
        why: Option<String>,
    },
}

impl Agent {
    pub fn new() -> Self {
        Self::Dead { restart: None, clean: 2, why: None }
    }

    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } => Some(*pid),
            Self::Dead { .. } => None,
        }
    }

    /// Whether it is dead and so is everything it started.
    pub fn all_gone(&self) -> bool {
        matches!(self, Self::Dead { clean: 2.., .. })
    }

    pub fn hung_up(&mut self, now: BootInstant) {
        if let Self::Running { patience, .. } = self {
            *patience = Some(now + HANG_UP);
        }
    }

    /// It asked something.
    pub fn spoke(&mut self, now: BootInstant) {
        if let Self::Running { heard, doubted, .. } = self {
            (*heard, *doubted) = (now, None);
        }
    }

    /// Whether it is silent for so long, and was given a moment to speak.
    fn hangs(&mut self, silence: Duration, now: BootInstant) -> bool {
        let Self::Running { heard, doubted, .. } = self else { return false };
        if now.since(*heard) < silence {
            return false;
        }
        let since = *doubted.get_or_insert(now);
        now.since(since) >= silence / LAST_CHANCE
    }

    /// No agent is started any more.
    pub fn no_more(&mut self) {
        if let Self::Dead { restart, .. } = self {
            *restart = None;
        }
    }

    pub fn due(&self, silence: Duration) -> Option<BootInstant> {
        match self {
            Self::Running { patience, heard, doubted, .. } => {
                let silent = doubted.map_or(*heard + silence, |at| at + silence / LAST_CHANCE);
                Some(patience.map_or(silent, |patience| patience.min(silent)))
            }
            Self::Dead { clean: ..2, .. } => Some(boottime_now() + HELPERS),
            Self::Dead { restart, .. } => *restart,
        }
    }
}

/// Pause before an agent is started again after so many quick deaths in a row.
fn pause(quick_deaths: u32) -> Duration {
    match quick_deaths {
        0 => FIRST_PAUSE,
        more => Duration::from_secs(1 << (more - 1).min(5)).min(LONGEST_PAUSE),
    }
}

/// The quick deaths that are still held against an agent that lived so long.
fn unforgiven(quick_deaths: u32, lived: Duration) -> u32 {
    let forgiven = lived.as_millis() / FORGIVES.as_millis();
    quick_deaths.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
}

impl Guard {
    /// Takes the dead off the process table.
    pub(super) fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid.as_raw(), Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.ended(pid.as_raw(), None, Some(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                // A signal without a name for nix, among others: the child is reaped all the same,
                // and whoever it was is found missing below.
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return self.find_missing(),
            }
        }
    }

    /// After a child was reaped whose end could not be read.
    fn find_missing(&mut self) {
        let errand = self.errands.front().and_then(|errand| errand.pid);
        let postmaster = self.postmaster.as_ref().map(|postmaster| postmaster.pid);
        let keeper = self.address.keeper.as_ref().and_then(Keeper::pid);
        for pid in [self.agent.pid(), postmaster, errand, keeper].into_iter().flatten() {
            if nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
                self.ended(pid, None, None);
            }
        }
    }

    fn ended(&mut self, pid: i32, code: Option<i32>, signal: Option<i32>) {
        if self.agent.pid() == Some(pid) {
            return self.agent_ended(code, signal);
        }
        if self.errands.front().is_some_and(|errand| errand.pid == Some(pid)) {
            return self.errand_ended(code);
        }
        if self.keeper_ended(pid, &describe(code, signal)) {
            return;
        }
        if self.postmaster.as_ref().is_none_or(|postmaster| postmaster.pid != pid) {
            return;
        }
        self.postmaster = None;
        let at = boottime_now();
        let exit = LastExit { pid, at, status: describe(code, signal), code, signal };
        self.last_exit = Some(exit.clone());
        // Backends of a dead postmaster go on committing and acknowledging.
        self.kill_postgres(Why::Exited(exit), at);
    }

    fn agent_ended(&mut self, code: Option<i32>, signal: Option<i32>) {
        let now = boottime_now();
        let lived = match &self.agent {
            Agent::Running { since, .. } => now.since(*since),
            Agent::Dead { .. } => Duration::ZERO,
        };
        self.quick_deaths = unforgiven(self.quick_deaths, lived);
        self.link = None;
        self.agent = Agent::Dead { restart: None, clean: 0, why: None };
        self.kill_helpers();
        if self.ends_with_agent(code) {
            return;
        }
        let status = describe(code, signal);
        if self.options.agent_restart {
            let pause = pause(self.quick_deaths);
            self.quick_deaths = self.quick_deaths.saturating_add(1);
            self.agent = Agent::Dead { restart: Some(now + pause), clean: 0, why: None };
            log!("the agent ended ({status}); another one starts in {} ms", pause.as_millis());
        } else {
            log!("the agent ended ({status}) and is not started again, as asked");
        }
    }

    /// Clears away what a dead agent left behind, and starts the next one when it is due.
    pub(super) fn tend_agent(&mut self) {
        let now = boottime_now();
        if self.agent.hangs(self.options.agent_silence, now) {
            let limit = self.options.agent_silence;
            log!("the agent has asked nothing for more than {limit:?}: it hangs, and is killed");
            self.kill_agent();
            self.agent.spoke(now);
            return;
        }
        match &self.agent {
            Agent::Running { patience: Some(limit), .. } if now >= *limit => {
                log!("the agent closed its connection and does not end; it is killed");
                self.kill_agent();
                self.agent.hung_up(now);
            }
            Agent::Running { .. } => {}
            Agent::Dead { clean: ..2, .. } => self.kill_helpers(),
            Agent::Dead { restart: Some(at), .. } if now >= *at => {
                self.restarts += 1;
                self.start_agent();
            }
            Agent::Dead { .. } => {}
        }
    }

    pub(super) fn kill_agent(&mut self) {
        if let Some(pid) = self.agent.pid() {
            send(pid, Signal::SIGKILL);
        }
    }

    /// Kills what is below us and not below the postmaster: the agent's helpers came to us.
    fn kill_helpers(&mut self) {
        let mut spared = self.spared();
        spared.extend(self.postmaster.as_ref().map(|postmaster| postmaster.pid));
        let Ok(scan) = Scan::take() else { return };
        let left = scan.below_except(self.own_pid(), &spared);
        for pid in &left {
            send(*pid, Signal::SIGKILL);
        }
        if let Agent::Dead { clean, .. } = &mut self.agent {
            *clean = if left.is_empty() { *clean + 1 } else { 0 };
        }
    }

    /// Starts an agent with a connection of its own.
    pub(super) fn start_agent(&mut self) {
        self.lease.forget_spent();
        let now = boottime_now();
        match self.fork_agent() {
            Ok((pid, link)) => {
                self.serial += 1;
                self.link = Some(link);
                self.agent =
                    Agent::Running { pid, since: now, patience: None, heard: now, doubted: None };
                self.tell_of_vip();
            }
            Err(why) => {
                log!("cannot start the agent: {why}");
                let restart = Some(now + pause(self.quick_deaths));
                self.quick_deaths = self.quick_deaths.saturating_add(1);
                self.agent = Agent::Dead { restart, clean: 2, why: Some(why) };
            }
        }
    }

    fn fork_agent(&self) -> Result<(i32, Link), String> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let link = Link::new(ours).map_err(|error| error.to_string())?;
        let program = Program {
            program: &self.command.program,
            args: self.command.args.iter().map(|arg| arg.as_os_str()).collect(),
            env: Vec::new(),
            cwd: None,
            pass: Some(theirs.as_raw_fd()),
            close: vec![link.raw()],
            cgroup: None,
            // It outlives us, to kill what we could not.
            death_signal: None,
            log: None,
            not_after: None,
        };
        Ok((spawn(&program).map_err(|error| error.to_string())?, link))
    }
}

fn describe(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal.map(|number| (number, Signal::try_from(number)))) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some((_, Ok(signal)))) => format!("killed by {signal}"),
        (None, Some((number, Err(_)))) => format!("killed by signal {number}"),
        (None, None) => "ended in an unknown way".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_slow_down() {
        let pauses: Vec<u128> = (0..9).map(|deaths| pause(deaths).as_millis()).collect();
        let expected = [100, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        assert_eq!(pauses, expected);
    }

    /// The pause that comes after each of some lives.
    fn pauses(lives: &[u64]) -> Vec<u128> {
        let mut quick_deaths = 0;
        let mut pauses = Vec::new();
        for lived in lives {
            quick_deaths = unforgiven(quick_deaths, Duration::from_millis(*lived));
            pauses.push(pause(quick_deaths).as_millis());
            quick_deaths += 1;
        }
        pauses
    }

    #[test]
    fn only_an_agent_that_dies_of_its_start_is_slowed_down() {
        assert_eq!(pauses(&[300, 300, 300, 300]), [100, 1000, 2000, 4000]);
        assert_eq!(pauses(&[1999; 4]), [100, 1000, 2000, 4000]);
        // Killed again and again while it serves: no lease is lost by a pause.
        assert_eq!(pauses(&[2500; 5]), [100; 5]);
        // A bad spell is made up for, not forgotten at once.
        assert_eq!(pauses(&[300, 300, 300, 4000, 300, 8000]), [100, 1000, 2000, 1000, 2000, 100]);
        assert_eq!(pauses(&[300, 300, 300, u64::MAX]), [100, 1000, 2000, 100]);
    }
}
