//! The gRPC services of a member, beside the log's own.

pub mod control;
pub mod operations;
pub mod peer;
pub mod upkeep;
