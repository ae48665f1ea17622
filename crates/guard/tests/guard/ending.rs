//! Ends of guard, agent and PostgreSQL, in good order and otherwise.

use std::fs;
use std::time::Duration;

use howdah_guard::wire::{Event, KillPath, Reply, Request};
use nix::sys::signal::Signal;

use crate::member::{LIMIT, Member, is_alive, signal, until};

fn gone(member: &Member) {
    until("all of PostgreSQL is gone", || member.postgres_processes().is_empty().then_some(()));
}

fn postgres_log(member: &Member) -> String {
    fs::read_to_string(member.path("postgres.log")).unwrap()
}

pub fn sigterm_stops_everything_in_good_order() {
    let mut member = Member::new("cgroup");
    member.start_busy();
    let agent = member.agent_pid();
    signal(member.guard_pid(), Signal::SIGHUP);
    until("Reload", || member.events().contains(&Event::Reload).then_some(()));
    signal(member.guard_pid(), Signal::SIGTERM);
    assert_eq!(member.guard_ends(), Some(0));
    assert_eq!(member.postgres_processes(), [0; 0]);
    assert!(!is_alive(agent));
    assert!(member.events().contains(&Event::Terminate { fast: false }));
    let log = postgres_log(&member);
    assert!(log.contains("database system is shut down"), "{log}");
}

/// By PR_SET_PDEATHSIG alone: the agent does nothing.
pub fn a_killed_guard_takes_postgresql_along() {
    let mut member = Member::new("cgroup");
    member.start_busy();
    fs::write(member.path("no-orphans"), "").unwrap();
    signal(member.guard_pid(), Signal::SIGKILL);
    assert_eq!(member.guard_ends(), None);
    gone(&member);
    let log = postgres_log(&member);
    assert!(log.contains("received immediate shutdown request"), "{log}");
}

/// The postmaster is stopped, so that its SIGQUIT does nothing.
pub fn the_agent_ends_what_a_killed_guard_leaves() {
    let mut member = Member::new("");
    let pid = member.start_busy();
    signal(pid, Signal::SIGSTOP);
    signal(member.guard_pid(), Signal::SIGKILL);
    member.guard_ends();
    gone(&member);
    let killed = until("the count", || {
        // Made first, written a moment later.
        fs::read_to_string(member.path("orphans")).ok()?.parse::<u32>().ok()
    });
    assert!(killed >= 6, "{killed}");
}

pub fn a_killed_postmaster_leaves_no_backends() {
    for options in ["", "cgroup"] {
        let mut member = Member::new(options);
        let pid = member.start_busy();
        signal(pid, Signal::SIGKILL);
        let exited = until("its end", || {
            member.events().into_iter().find_map(|event| match event {
                Event::PostmasterExited { pid, signal, all_gone, .. } => {
                    Some((pid, signal, all_gone))
                }
                _ => None,
            })
        });
        assert_eq!(member.postgres_processes(), [0; 0], "left after the event");
        assert_eq!(exited, (pid, Some(libc::SIGKILL), true));
        assert!(member.status().armed.is_some(), "the deadline is not the postmaster's");
    }
}

pub fn killing_on_request_is_proven() {
    for (options, least) in [("", KillPath::Subreaper), ("cgroup", KillPath::Cgroup)] {
        let mut member = Member::new(options);
        let path = member.status().kill_path;
        assert!(path == least || path == KillPath::Subreaper);
        member.start_busy();
        match member.ask(Request::KillPostgres) {
            Reply::Killed { proof } => {
                assert_eq!(proof.path, path);
                assert!(proof.took < Duration::from_millis(500), "{proof:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(member.postgres_processes(), [0; 0], "left after the proof");
        // With nothing to kill it is proven at once.
        assert!(matches!(member.ask(Request::KillPostgres), Reply::Killed { .. }));
    }
}

pub fn exit_codes_that_end_the_guard() {
    for (code, clean) in [(78, true), (64, true), (70, false)] {
        let mut member = Member::new("");
        member.start_busy();
        assert_eq!(member.say(&format!("exit {code}")), None);
        assert_eq!(member.guard_ends(), Some(code));
        assert_eq!(member.postgres_processes(), [0; 0], "left after exit code {code}");
        let log = postgres_log(&member);
        assert_eq!(log.contains("database system is shut down"), clean, "{code}: {log}");
    }
}

pub fn a_broken_connection_costs_the_agent_alone() {
    let mut member = Member::new("cgroup");
    let pid = member.start_busy();
    member.arm(1, 2, LIMIT);
    let (agent, armed) = (member.agent_pid(), member.status().armed);
    let _ = member.say("garbage");
    member.next_agent(agent);
    assert!(!is_alive(agent));
    let status = member.status();
    assert_eq!((status.armed, status.postmaster.map(|it| it.pid)), (armed, Some(pid)));
    assert!(member.sql("select 1").is_some());
    // Code 0 that nobody asked for is a death like any other.
    let agent = member.agent_pid();
    assert_eq!(member.say("exit 0"), None);
    member.next_agent(agent);
    assert_eq!(member.status().agent_restarts, 2);
}

pub fn an_agent_that_hangs_is_replaced() {
    let mut member = Member::new("silence");
    let postmaster = member.start_busy();
    let first = member.agent_pid();
    // One that asks is left alone, for longer than the silence that is allowed.
    let began = std::time::Instant::now();
    until("it was asked for four seconds", || {
        assert_eq!(member.status().agent_restarts, 0);
        (began.elapsed() > Duration::from_secs(4)).then_some(())
    });
    signal(first, Signal::SIGSTOP);
    let second = member.next_agent(first);
    assert_ne!(first, second);
    assert!(member.log().contains("it hangs, and is killed"), "{}", member.log());
    assert_eq!(member.status().agent_restarts, 1);
    // PostgreSQL has nothing to do with it.
    assert!(is_alive(postmaster));
}
