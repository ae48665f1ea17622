//! Howdah's rules: the replicated state, the commands that change it, and the decisions of members.
//!
//! The contract. `ClusterState::apply(index, Command) -> Outcome` is deterministic: no clock, no
//! randomness, no hash order, no I/O; a refused command is an `Outcome`, never an error, and changes
//! nothing. `decide(&View) -> Decision` is total: any view gives an answer, a missing or stale one
//! the cautious answer, and every answer carries a typed `Reason`. An `Action` leaves its executor
//! no choice and carries the epoch it was decided under. So the same code runs in production, in
//! golden scripts, in simulation and in model checking.
//!
//! Not here: anything that waits, sleeps, opens or logs. A test over `cargo metadata` keeps such
//! dependencies out.

pub mod action;
mod apply;
pub mod command;
pub mod decide;
pub mod election;
pub mod ids;
pub mod lineage;
pub mod rails;
pub mod reason;
pub mod record;
pub mod rights;
pub mod settings;
pub mod state;
pub mod sync;
pub mod view;

pub use action::{Action, Decision};
pub use command::{Command, Outcome, Rejection};
pub use decide::decide;
pub use ids::*;
pub use lineage::{Reach, Timelines};
pub use reason::Reason;
pub use record::*;
pub use rights::{Audit, AuditEnd, Right, Token};
pub use settings::*;
pub use state::{ClusterState, SyncRecord, SyncState};
