//! The guard: the tiny process that owns the postmaster and kills all of it at the deadline.
//!
//! Place: `howdah run` *is* the guard: the unit's main process, parent of the postmaster and of the
//! agent. It is single-threaded and knows no protocol but that of its one socket to the agent.
//! State: memory only. A guard that ended, or whose deadline passed, never comes back: the next one
//! draws another incarnation, and grants name incarnations.
//! Invariants: PostgreSQL is read-write only before the deadline of the newest (epoch, renewals)
//! that the agent gave; at the deadline every process of it is killed and proven gone, whatever
//! became of the agent; no deadline is taken once one has passed; a server is started only as a
//! standby, or in place under a deadline that is still ahead.
//! Failure: if the guard is killed, the kernel sends the postmaster SIGQUIT (PR_SET_PDEATHSIG), and
//! the agent kills the rest.
#![allow(unsafe_code)]

mod agent;
mod cgroup;
pub mod client;
pub mod clock;
mod deadline;
mod kill;
pub mod orphans;
mod postmaster;
mod procfs;
mod run;
mod socket;
pub mod wire;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use run::run;

/// How processes of PostgreSQL are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// By `cgroup.kill` where a cgroup of our own can be made, else as child subreaper.
    #[default]
    Auto,
    /// As child subreaper.
    Off,
}

/// How the guard runs.
#[derive(Clone, Debug)]
pub struct GuardOptions {
    /// Start another agent when one dies.
    pub agent_restart: bool,
    /// User to become first: uid, gid, name.
    pub drop_to: Option<(u32, u32, String)>,
    /// How processes of PostgreSQL are reached.
    pub use_cgroup: CgroupMode,
    /// How long agent and PostgreSQL may take to stop before they are killed.
    pub stop_grace: Duration,
    /// End in good order when the parent process dies.
    pub parent_death: bool,
    /// For tests that prove what the deadline is for: it never kills.
    pub disabled_deadline: bool,
}

/// How the agent is started.
#[derive(Clone, Debug)]
pub struct AgentCommand {
    /// Its program; `/proc/self/exe` works also where the user dropped to could not reach the file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// The guard cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A call of the operating system that nothing works without.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What came back.
        source: std::io::Error,
    },
}

pub(crate) fn system<T>(
    doing: &'static str,
    result: Result<T, impl Into<std::io::Error>>,
) -> Result<T, GuardError> {
    result.map_err(|source| GuardError::System { doing, source: source.into() })
}

/// One line on stderr, for a person.
pub(crate) fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    // Without a stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "guard: {text}");
}
