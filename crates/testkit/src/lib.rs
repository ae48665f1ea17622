//! For tests only: the runner of golden scripts, and what else several rooms' tests share.

pub mod golden;
pub mod invariant;
pub mod sim;
pub mod wal;
