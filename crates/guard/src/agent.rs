//! The agent's process: started, and started again with growing pauses.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;

use crate::AgentCommand;
use crate::client::SOCKET_VARIABLE;

/// An agent that lived this long was well; the next pause is short again.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// Pauses before another agent is started.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSES: [u64; 6] = [1, 2, 4, 8, 16, 30];

/// The agent, or the pause before the next one.
#[derive(Debug)]
pub(crate) enum AgentState {
    /// It runs.
    Running {
        /// Its process id.
        pid: i32,
        /// Since when.
        since: Instant,
    },
    /// The next one is started then.
    Pausing(Instant),
    /// No other one is started.
    Ended,
}

/// How often in a row agents died early.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    deaths: usize,
}

impl Pauses {
    /// The pause after an agent that lived for `life`.
    pub fn after(&mut self, life: Duration) -> Duration {
        if life >= WELL_AFTER {
            self.deaths = 0;
        }
        self.deaths += 1;
        match self.deaths {
            1 => FIRST_PAUSE,
            deaths => Duration::from_secs(PAUSES[(deaths - 2).min(PAUSES.len() - 1)]),
        }
    }
}

/// Starts an agent that inherits `socket`; its process id.
pub(crate) fn start(command: &AgentCommand, socket: &OwnedFd) -> std::io::Result<i32> {
    let fd = socket.as_raw_fd();
    let mut child = Command::new(&command.program);
    child.args(&command.args).stdin(Stdio::null()).env(SOCKET_VARIABLE, fd.to_string());
    // SAFETY: between fork and exec only async-signal-safe calls are made: fcntl, setpgid, prctl.
    unsafe {
        child.pre_exec(move || {
            // Inherited on purpose.
            if libc::fcntl(fd, libc::F_SETFD, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            // Ctrl-C in a terminal is for the guard, which tells the agent.
            libc::setpgid(0, 0);
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            Ok(())
        });
    }
    Ok(child.spawn()?.id().cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_a_long_life_forgives() {
        let mut pauses = Pauses::default();
        let seconds: Vec<f64> =
            (0..9).map(|_| pauses.after(Duration::from_secs(1)).as_secs_f64()).collect();
        assert_eq!(seconds, [0.1, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(pauses.after(WELL_AFTER), FIRST_PAUSE);
    }
}
