//! The storm: clusters of the built binary are broken in every way that the host allows, while clients
//! write down what they asked and what came of it; checkers look for an explanation of that.
//!
//! [`history`] is what clients wrote down; [`check`] says what is wrong with it. Both are pure: no
//! clock, no network, the same answer for the same history. [`workload`] is what clients do, [`crew`] all
//! clients of a run, [`nemesis`] what is done to the cluster, [`schedule`] in which order, [`run`] the run itself, [`judge`],
//! [`whole`] and [`one_log`] what is looked at when it is over, [`evidence`] what is kept where something was found,
//! [`report`] what people and machines see of it,
//! [`campaign`] many runs, and [`shrink`] what is left of a schedule that fails. [`patroni`] is another system that the same storm can be let loose on, and
//! [`plain`] one PostgreSQL alone, for control.

pub mod campaign;
pub mod check;
pub mod client;
pub mod crew;
pub mod evidence;
pub mod history;
pub mod judge;
pub mod nemesis;
pub mod one_log;
pub mod patroni;
pub mod plain;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod schedule;
pub mod shrink;
pub mod whole;
pub mod workload;
