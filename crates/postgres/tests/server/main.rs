//! This crate on real PostgreSQL servers: start, probe, promote, clone, diverge, rewind, and the
//! end of WAL compared with pg_waldump.

mod lifecycle;
mod support;
mod wal;
