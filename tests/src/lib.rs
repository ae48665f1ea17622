//! The ground under the end-to-end tests: clusters of the built binary on real PostgreSQL.
//!
//! Each test starts its own cluster on loopback ports of its own (or in network namespaces), under
//! `$HOWDAH_TEST_ROOT`, as user `postgres` when run by root. What a test starts ends with it, also
//! when it panics: processes are found below the member's own process, never by name.

pub mod booted;
pub mod calls;
pub mod checks;
pub mod cluster;
pub mod dice;
pub mod directed;
pub mod disks;
pub mod fault;
pub mod ground;
pub mod haproxy;
pub mod keys;
pub mod manager;
pub mod member;
pub mod net;
pub mod pgbouncer;
pub mod power;
pub mod rest;
pub mod visitor;
pub mod volume;
pub mod writer;

pub use cluster::{Cluster, Options};
pub use disks::Disks;
pub use fault::Fault;
pub use ground::{Ground, wait_for};
pub use haproxy::Haproxy;
pub use member::Member;
pub use pgbouncer::Pgbouncer;
pub use power::Machine;
pub use visitor::Visitors;
pub use volume::Volume;
pub use writer::{Ack, Writer};
