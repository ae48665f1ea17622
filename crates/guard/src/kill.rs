//! Kills all of PostgreSQL and proves it.
//!
//! Process groups and sessions reach nothing, since every backend has its own; a postmaster that is
//! killed alone leaves busy backends that go on committing. So: the cgroup, or, as child subreaper,
//! everything by parent, again and again, until the only child left is the agent.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::procfs;

/// How long one attempt goes on before the guard looks after its socket and signals again. Only
/// processes that hang in the kernel last longer.
const ATTEMPT: Duration = Duration::from_secs(10);

fn send(pid: i32, signal: Signal) {
    // It may have ended a moment ago.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Kills the postmaster and all that belongs to it; whether nothing is left. Children that end
/// meanwhile are reaped, but for the agent, whose end the guard's loop must see.
pub(crate) fn all(postmaster: Option<i32>, agent: Option<i32>, cgroup: Option<&Cgroup>) -> bool {
    let end = Instant::now() + ATTEMPT;
    loop {
        if let Some(pid) = postmaster {
            send(pid, Signal::SIGSTOP);
        }
        if let Some(cgroup) = cgroup {
            cgroup.kill();
        }
        let left = left(postmaster, agent, cgroup);
        for pid in left.iter().filter(|pid| Some(**pid) != postmaster) {
            send(*pid, Signal::SIGKILL);
        }
        if let Some(pid) = postmaster {
            send(pid, Signal::SIGKILL);
        }
        reap(&left, postmaster);
        let living = left.iter().any(|pid| procfs::lives(*pid));
        let done = !living
            && !postmaster.is_some_and(procfs::lives)
            && self::left(postmaster, agent, cgroup).iter().all(|pid| !procfs::lives(*pid));
        if done {
            reap(&left, postmaster);
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// What is left of PostgreSQL: below the postmaster, in the cgroup, and, since the guard is child
/// subreaper, every other child of the guard that is not the agent's.
fn left(postmaster: Option<i32>, agent: Option<i32>, cgroup: Option<&Cgroup>) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let mut left = procfs::descendants(&[own], agent);
    if let Some(pid) = postmaster {
        left.extend(procfs::descendants(&[pid], agent));
    }
    if let Some(cgroup) = cgroup {
        left.extend(cgroup.members());
    }
    left.sort_unstable();
    left.dedup();
    left.retain(|pid| Some(*pid) != agent && *pid != own);
    left
}

fn reap(left: &[i32], postmaster: Option<i32>) {
    for pid in left.iter().copied().chain(postmaster) {
        // Not a child, or not dead yet: either is seen at the next look.
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// Kills what an agent left behind: children of the guard that are neither the postmaster nor below
/// it. Its backends stay the postmaster's while that lives.
pub(crate) fn helpers(postmaster: Option<i32>) {
    let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let end = Instant::now() + ATTEMPT;
    loop {
        let mut left = procfs::descendants(&[own], postmaster);
        left.retain(|pid| Some(*pid) != postmaster);
        if left.is_empty() || Instant::now() >= end {
            return;
        }
        for pid in &left {
            send(*pid, Signal::SIGKILL);
        }
        reap(&left, None);
        std::thread::sleep(Duration::from_micros(500));
    }
}
