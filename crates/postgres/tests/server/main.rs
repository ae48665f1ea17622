//! This crate on real PostgreSQL servers: start, probe, promote, clone, diverge, rewind, and the
//! end of WAL compared with pg_waldump.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lifecycle;
mod support;
mod wal;
