//! The deadline, whatever becomes of the agent.

use std::time::{Duration, Instant};

use howdah_core::Epoch;
use howdah_guard::clock::boottime_now;
use howdah_guard::wire::{Event, KillPath};
use nix::sys::signal::Signal;

use crate::member::{Member, is_alive, signal, until};

/// From the deadline to the proof.
const KILL: Duration = Duration::from_millis(500);
const SHORT: Duration = Duration::from_millis(700);

fn fired(member: &Member) -> (Epoch, howdah_core::Incarnation, Duration) {
    until(&format!("the deadline; {}", member.log()), || {
        member.events().into_iter().find_map(|event| match event {
            Event::DeadlineFired { epoch, new_incarnation, took } => {
                Some((epoch, new_incarnation, took))
            }
            _ => None,
        })
    })
}

fn kills_busy_backends(mut member: Member, path: KillPath) {
    assert_eq!(member.status().kill_path, path);
    let pid = member.start_busy();
    let before = member.status();
    // The first client writes before the last one is in.
    until("all clients are in", || (member.postgres_processes().len() > 8).then_some(()));
    member.arm(1, 2, SHORT);
    let (epoch, incarnation, took) = fired(&member);
    assert_eq!(member.postgres_processes(), [0; 0], "left after the proof");
    assert!(took < KILL, "took {took:?}");
    assert_eq!(epoch, Epoch(1));
    let after = member.status();
    assert!(incarnation == after.incarnation && incarnation != before.incarnation);
    assert_eq!((after.armed, after.postmaster), (None, None));
    let exited = member.events().into_iter().any(|event| {
        matches!(event, Event::PostmasterExited { pid: gone, signal, all_gone: true, .. }
            if gone == pid && signal == Some(libc::SIGKILL))
    });
    assert!(exited, "{:?}", member.events());
    // Life goes on, as a standby.
    let data_dir = member.data();
    member.ask(howdah_guard::wire::Request::PutStandbySignal { data_dir });
    member.start(None);
    assert_eq!(member.sql("select pg_is_in_recovery()").as_deref(), Some("t"));
}

pub fn kills_busy_backends_through_the_control_group() {
    let member = Member::new("cgroup");
    if member.status().kill_path == KillPath::Cgroup {
        kills_busy_backends(member, KillPath::Cgroup);
    } else {
        eprintln!("not tried: no control group can be made here: {}", member.log());
    }
}

pub fn kills_busy_backends_by_their_parents() {
    kills_busy_backends(Member::new(""), KillPath::Subreaper);
}

pub fn goes_on_when_the_agent_is_killed() {
    let mut member = Member::new("cgroup");
    let pid = member.start_busy();
    member.arm(1, 2, Duration::from_secs(6));
    let before = member.status();
    let helper: i32 = member.say("helper").unwrap().parse().unwrap();
    assert!(is_alive(helper));
    let agent = member.agent_pid();
    signal(agent, Signal::SIGKILL);
    member.next_agent(agent);
    assert!(!is_alive(helper), "a helper outlived its agent");
    let after = member.status();
    assert_eq!(after.agent_restarts, 1);
    assert_eq!(after.armed, before.armed, "the deadline changed");
    assert_eq!(after.postmaster.map(|postmaster| postmaster.pid), Some(pid));
    assert!(member.sql("insert into t values (0) returning n").is_some(), "not writable any more");
    let (_, _, took) = fired(&member);
    assert!(took < KILL, "took {took:?}");
    assert_eq!(member.postgres_processes(), [0; 0]);
}

pub fn kills_though_the_agent_is_stopped() {
    let mut member = Member::new("");
    member.start_busy();
    member.arm(1, 2, SHORT);
    let agent = member.agent_pid();
    signal(agent, Signal::SIGSTOP);
    let begin = Instant::now();
    until("all of PostgreSQL is gone", || member.postgres_processes().is_empty().then_some(()));
    assert!(begin.elapsed() < SHORT + KILL, "took {:?}", begin.elapsed());
    signal(agent, Signal::SIGCONT);
    assert_eq!(fired(&member).0, Epoch(1));
}

pub fn kills_without_any_agent() {
    let mut member = Member::new("no-restart");
    member.start_busy();
    member.arm(1, 2, Duration::from_secs(2));
    signal(member.agent_pid(), Signal::SIGKILL);
    assert!(member.sql("select 1").is_some(), "PostgreSQL died with the agent");
    until("all of PostgreSQL is gone", || member.postgres_processes().is_empty().then_some(()));
    until("the guard says so", || member.log().contains("all of PostgreSQL is gone").then_some(()));
    assert!(member.say("\"Status\"").is_none(), "another agent was started");
}

/// The negative control: without the deadline the tests above would see PostgreSQL live on.
pub fn disabled_it_kills_nothing() {
    let mut member = Member::with_env("", &[("HOWDAH_TEST_GUARD_DISABLED", "1")]);
    let pid = member.start_busy();
    member.arm(1, 2, SHORT);
    let after = boottime_now() + SHORT + KILL;
    until("the deadline is over", || (boottime_now() > after).then_some(()));
    assert!(member.sql("insert into t values (0) returning n").is_some());
    assert!(is_alive(pid));
}
