//! The gRPC services of a member, beside the log's own.

pub(crate) mod audit;
pub mod control;
mod log;
mod lost;
pub mod operations;
pub mod peer;
pub mod rights;
pub mod upkeep;
