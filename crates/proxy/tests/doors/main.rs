//! The doors on real sockets, before servers that are told what to say.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

mod fake;
mod hostile;
mod leading;
mod waiting;
