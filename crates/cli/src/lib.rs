//! The mouth: every subcommand of `howdah`, for people and for programs.
//!
//! Place: the binary calls [`commands::dispatch`]; commands speak gRPC to any member. No state of
//! its own survives, except what `demo` lays down in its directory until it ends.

pub mod args;
pub mod client;
pub mod commands;
pub mod demo;
pub mod docs;
pub mod failure;
mod member_file;
pub mod output;
