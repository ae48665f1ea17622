//! The guard: the small process that owns the postmaster and kills all of it at the deadline.
//!
//! Place: `howdah run` *is* the guard: the unit's main process, parent of the postmaster and of the
//! agent, which it restarts when it dies. It makes "writable only inside the own deadline" true
//! when the agent is killed, stopped or wedged. The agent talks to it through [`client`].
//! State: memory alone. A guard that ended, or whose deadline passed, never comes back: the next
//! life has another incarnation, and grants name the incarnation.
//! Invariants: one thread and one poll loop, nothing in it waits for the disk while a server runs
//! (files are written by short-lived children); the newest (epoch, renewals) sets the deadline, and
//! an expired one is never extended; a server is started read-write, promoted or signalled under an
//! epoch only while exactly that epoch is armed and its deadline lies ahead.
//! The virtual address, where one is configured, has a process of its own ([`vip`]).
//! Failure: when the guard is killed, the kernel sends the postmaster SIGQUIT and the agent, which
//! sees the end of the socket, kills the rest ([`orphans`]).

// fork, exec between fork and main, descriptors by number: there is no safe interface for these.
#![allow(unsafe_code)]

mod cgroup;
pub mod client;
pub mod clock;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod lease;
mod lock_file;
mod log;
mod options;
pub mod orphans;
mod procfs;
mod run;
mod signal_file;
mod spawn;
mod sys;
pub mod vip;
pub mod wire;

pub use options::{AgentCommand, CgroupMode, GuardOptions, disabled_by_environment};
pub use run::{GuardError, run};
