//! The agent: observes the local PostgreSQL, decides by `howdah_core`, acts; and answers people.
//!
//! Place: a child of the guard, one per member. `run` opens the replicated log, starts the services
//! and the loop, and ends with the loop.
//! State: the log's directory and the identity file; everything else is observed anew at a start.
//! Failure: when the agent dies, PostgreSQL goes on until the guard's deadline; the guard starts
//! another agent, which adopts what runs.

mod agent_check;
pub mod board;
pub mod bouncers;
pub mod clock;
pub mod cluster_config;
pub mod config;
pub mod counters;
mod death;
pub mod doors;
pub mod elephant;
pub mod explain;
pub mod front;
#[doc(hidden)]
pub mod fuzzing;
pub mod jobs;
pub mod locks;
pub mod order;
mod passwords;
pub mod peers;
pub mod reload;
pub mod rest;
pub mod services;
pub mod shell;
pub mod start;
pub mod status;
pub mod troubles;
pub mod vip;

pub use start::{ExitCode, run};
