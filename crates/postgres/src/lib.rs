//! Everything about one local PostgreSQL: its files, its WAL on disk, its answers, its helpers.
//!
//! For the agent. Starting, stopping, signalling and promoting are the guard's; this room prepares
//! the files and arguments that the guard starts with, and reads what came of it. The helper
//! programs (initdb, pg_controldata, pg_rewind, pg_basebackup, pg_waldump) it runs itself.
//!
//! Survives a restart: only files, each written aside, fsynced and renamed. Nothing is kept in
//! memory between two calls, so every call can be repeated after a kill at any point.
//! Invariants: no secret in an argument, a log line or a file that others can read; a directory
//! that is half done carries a marker beside it and is never offered for a start.
//! Functions without `async` do short blocking file work; [`walscan`] and copying WAL belong on a
//! blocking thread.

pub mod args;
pub mod clone;
pub mod control;
pub mod datadir;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod hba;
pub mod history;
pub mod identity;
pub mod initdb;
pub mod install;
pub mod kept_wal;
pub mod passfile;
pub mod pgbouncer;
pub mod prepare;
pub mod procs;
pub mod rewind;
pub mod roles;
pub mod saved_wal;
pub mod session;
pub mod settings;
pub mod signals;
pub mod slots;
pub mod tool;
pub mod versions;
pub mod walscan;
