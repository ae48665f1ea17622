//! What may be done under which epoch.

use std::fs;
use std::time::Duration;

use howdah_core::Epoch;
use howdah_guard::wire::{Event, Refusal, Reply, Request};

use crate::member::{LIMIT, Member, until};

pub fn a_start_needs_standby_signal_or_the_armed_epoch() {
    let member = Member::new("");
    let refused = |authority, why: Refusal| {
        assert_eq!(member.ask(member.start_request(authority)), Reply::Refused(why));
        assert_eq!(member.status().postmaster, None);
    };
    refused(None, Refusal::NoStandbySignal { data_dir: member.data() });
    refused(Some(3), Refusal::NotArmed);
    member.arm(3, 1, LIMIT);
    refused(Some(4), Refusal::WrongEpoch { armed: Epoch(3) });
    refused(None, Refusal::NoStandbySignal { data_dir: member.data() });
    let data_dir = member.data();
    assert_eq!(member.ask(Request::PutStandbySignal { data_dir }), Reply::Done);
    refused(Some(2), Refusal::WrongEpoch { armed: Epoch(3) });
    assert!(member.path("data/standby.signal").exists(), "removed without authority");
    let pid = member.start(Some(3));
    assert!(!member.path("data/standby.signal").exists());
    assert_eq!(member.sql("select pg_is_in_recovery()").as_deref(), Some("f"));
    assert_eq!(member.status().postmaster.unwrap().authority, Some(Epoch(3)));
    let running = Reply::Refused(Refusal::Running { pid });
    assert_eq!(member.ask(member.start_request(None)), running);
}

pub fn a_promotion_needs_the_armed_epoch() {
    let member = Member::new("cgroup");
    let promote =
        |epoch| member.ask(Request::Promote { epoch: Epoch(epoch), data_dir: member.data() });
    assert_eq!(promote(1), Reply::Refused(Refusal::NoPostmaster));
    fs::write(member.path("data/standby.signal"), "").unwrap();
    member.start(None);
    assert_eq!(member.status().postmaster.unwrap().authority, None);
    assert_eq!(promote(1), Reply::Refused(Refusal::NotArmed));
    member.arm(2, 0, LIMIT);
    assert_eq!(promote(1), Reply::Refused(Refusal::WrongEpoch { armed: Epoch(2) }));
    let elsewhere = Request::Promote { epoch: Epoch(2), data_dir: "/elsewhere".into() };
    let refused = Reply::Refused(Refusal::WrongDirectory { running: member.data() });
    assert_eq!(member.ask(elsewhere), refused);
    assert_eq!(member.sql("select pg_is_in_recovery()").as_deref(), Some("t"));
    assert_eq!(promote(2), Reply::Done);
    until("it leaves recovery", || {
        member.sql("select pg_is_in_recovery()").filter(|recovers| recovers == "f")
    });
    assert_eq!(member.status().postmaster.unwrap().authority, Some(Epoch(2)));
    let data_dir = member.data();
    assert_eq!(member.ask(Request::PutStandbySignal { data_dir }), Reply::Done);
    assert!(member.path("data/standby.signal").exists());
    let disarm = |renewals| member.ask(Request::Disarm { epoch: Epoch(2), renewals });
    assert_eq!(disarm(0), Reply::Done);
    assert_eq!(promote(2), Reply::Refused(Refusal::NotArmed));
    let deadline = howdah_guard::clock::boottime_now() + Duration::from_secs(9);
    let again = Request::Arm { epoch: Epoch(2), renewals: 0, deadline, cut: false };
    let refused = Refusal::NotNewer { epoch: Epoch(2), renewals: 0 };
    assert_eq!(member.ask(again), Reply::Refused(refused));
}

pub fn signals_reach_postgresql_alone() {
    let member = Member::new("");
    let send = |pid, signal, authority: Option<u64>| {
        member.ask(Request::Signal { pid, signal, authority: authority.map(Epoch) })
    };
    assert_eq!(send(1, libc::SIGTERM, None), Reply::Refused(Refusal::NoPostmaster));
    member.arm(1, 0, LIMIT);
    let pid = member.start(Some(1));
    for other in [1, member.agent_pid(), member.guard_pid(), -1, 0] {
        let refused = Reply::Refused(Refusal::NotOurs { pid: other });
        assert_eq!(send(other, libc::SIGTERM, None), refused);
    }
    for bad in [libc::SIGUSR1, 0, 999] {
        assert_eq!(send(pid, bad, None), Reply::Refused(Refusal::BadSignal { signal: bad }));
    }
    let wrong = Reply::Refused(Refusal::WrongEpoch { armed: Epoch(1) });
    assert_eq!(send(pid, libc::SIGHUP, Some(2)), wrong);
    assert_eq!(send(pid, libc::SIGHUP, Some(1)), Reply::Done);
    let Reply::Processes(list) = member.ask(Request::Processes) else { panic!("no list") };
    assert_eq!((list[0].pid, list[0].ppid), (pid, member.guard_pid()));
    let writer = list.iter().find(|process| process.title.contains("walwriter"));
    let writer = writer.unwrap_or_else(|| panic!("no walwriter in {list:?}")).pid;
    assert_eq!(send(writer, libc::SIGHUP, Some(1)), Reply::Done);
    // A fast stop is a signal to the postmaster, and an end in good order.
    assert_eq!(send(pid, libc::SIGINT, None), Reply::Done);
    let status = until("the end", || {
        member.events().into_iter().find_map(|event| match event {
            Event::PostmasterExited { pid: gone, code, all_gone, .. } => {
                Some((gone, code, all_gone))
            }
            _ => None,
        })
    });
    assert_eq!(status, (pid, Some(0), true));
    let last = member.status().last_exit.unwrap();
    assert_eq!((last.pid, last.code, last.signal), (pid, Some(0), None));
}
