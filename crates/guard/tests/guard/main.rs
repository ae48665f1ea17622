//! The guard with a real PostgreSQL below it.
//!
//! This program plays three parts: the tests, the guard (`play-guard`) and the agent
//! (`play-agent`). Guard and agent must be processes of their own, and a guard the only thread of
//! its process, hence a `main` instead of the usual harness; it speaks as much of the harness's
//! command line as cargo and nextest use.

// The part of the agent copies a descriptor that it knows by its number alone.
#![allow(unsafe_code)]
// Without the usual harness nothing here counts as a test for clippy.
#![allow(clippy::unwrap_used)]

mod agent;
mod authority;
mod deadline;
mod ending;
mod member;

use std::process::ExitCode;

type Test = (&'static str, fn());

macro_rules! tests {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),+),+]
    };
}

const TESTS: &[Test] = tests! {
    deadline: kills_busy_backends_through_the_control_group,
        kills_busy_backends_by_their_parents,
        goes_on_when_the_agent_is_killed,
        kills_though_the_agent_is_stopped,
        kills_without_any_agent,
        disabled_it_kills_nothing;
    authority: a_start_needs_standby_signal_or_the_armed_epoch,
        a_promotion_needs_the_armed_epoch,
        signals_reach_postgresql_alone;
    ending: sigterm_stops_everything_in_good_order,
        a_killed_guard_takes_postgresql_along,
        the_agent_ends_what_a_killed_guard_leaves,
        a_killed_postmaster_leaves_no_backends,
        killing_on_request_is_proven,
        exit_codes_that_end_the_guard,
        a_broken_connection_costs_the_agent_alone,
        an_agent_that_hangs_is_replaced;
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("play-guard") => return agent::play_guard(),
        Some("play-agent") => agent::play_agent(),
        _ => {}
    }
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    if flag("--ignored") {
        return ExitCode::SUCCESS;
    }
    let names = args.iter().filter(|arg| !arg.starts_with('-') && *arg != "terse");
    let filters: Vec<&String> = names.collect();
    let chosen = TESTS.iter().filter(|(name, _)| {
        let fits = |filter: &&String| {
            if flag("--exact") { filter.as_str() == *name } else { name.contains(filter.as_str()) }
        };
        filters.is_empty() || filters.iter().any(fits)
    });
    let mut failed = Vec::new();
    for (name, test) in chosen {
        if flag("--list") {
            println!("{name}: test");
        } else if std::panic::catch_unwind(test).is_err() {
            println!("{name} FAILED");
            failed.push(name);
        } else {
            println!("{name} ok");
        }
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
