//! What happens once, before the loop: control group, other user, signals, timer.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use nix::unistd::{Gid, Uid, initgroups, setgid, setuid};

use super::address::Address;
use super::children::Agent;
use super::ending::Ending;
use super::{Guard, GuardError, system};
use crate::cgroup::Cgroup;
use crate::lease::Lease;
use crate::log::log;
use crate::options::{AgentCommand, CgroupMode, GuardOptions};
use crate::sys;
use crate::vip::Keeper;

/// The guard and the agent are the last ones that the kernel should kill for want of memory.
const OOM_SCORE: &str = "-900";

/// User id, primary group, name.
type User = (u32, u32, String);

/// Everything up to the first turn.
pub(super) fn prepare(options: GuardOptions, command: AgentCommand) -> Result<Guard, GuardError> {
    let root = Uid::effective().is_root();
    if root && options.drop_to.as_ref().is_none_or(|(uid, ..)| *uid == 0) {
        return Err(GuardError::Root);
    }
    let target = options.drop_to.as_ref().filter(|_| root);
    let cgroup = make_cgroup(options.use_cgroup, target);
    let postgres_env = protect_from_oom();
    let keeper = match &options.vip {
        None => None,
        Some(vip) => {
            let keeper = Keeper::fork(vip.clone(), || become_keeper(target));
            Some(keeper.or_else(system("fork the keeper of the virtual address"))?)
        }
    };
    if let Some(user) = target {
        become_user(user)?;
    }
    if !Uid::effective().is_root() {
        sys::keep_only(0).or_else(system("give up its capabilities"))?;
    }
    let before = std::os::unix::process::parent_id();
    if options.parent_death {
        sys::set_parent_death_signal(Signal::SIGTERM).or_else(system("follow its parent"))?;
    }
    sys::become_subreaper().or_else(system("become a subreaper"))?;
    let mut mask = SigSet::empty();
    for signal in
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGCHLD]
    {
        mask.add(signal);
    }
    mask.thread_block().or_else(system("block signals"))?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&mask, flags).or_else(system("open a signalfd"))?;
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer =
        TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).or_else(system("open a timer on BOOTTIME"))?;
    if options.parent_death && std::os::unix::process::parent_id() != before {
        // It died before the kernel was told: the signal that will not come is sent from here.
        nix::sys::signal::raise(Signal::SIGTERM).or_else(system("signal itself"))?;
    }
    let incarnation = sys::draw_incarnation().or_else(system("draw its incarnation"))?;
    if options.disabled_deadline {
        log!("TEST: the deadline does not kill; nothing keeps two servers from being writable");
    }
    let guard = Guard {
        options,
        command,
        incarnation,
        lease: Lease::new(),
        agent: Agent::new(),
        restarts: 0,
        quick_deaths: 0,
        link: None,
        serial: 0,
        postmaster: None,
        last_exit: None,
        killing: None,
        errands: VecDeque::new(),
        ending: Ending::No,
        address: Address { keeper, epoch: None },
        cgroup,
        signals,
        timer,
        timer_at: None,
        postgres_env,
    };
    Ok(guard)
}

fn make_cgroup(mode: CgroupMode, target: Option<&User>) -> Option<Cgroup> {
    if mode == CgroupMode::Off {
        return None;
    }
    let owner = target.map(|(uid, gid, _)| (Uid::from_raw(*uid), Gid::from_raw(*gid)));
    match Cgroup::create(owner) {
        Ok(cgroup) => Some(cgroup),
        Err(error) => {
            log!("no control group of our own ({error}); processes are found by their parents");
            None
        }
    }
}

/// Best effort. Variables that give PostgreSQL's backends the usual score back.
fn protect_from_oom() -> Vec<(String, String)> {
    if fs::write("/proc/self/oom_score_adj", OOM_SCORE).is_err() {
        return Vec::new();
    }
    [("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj"), ("PG_OOM_ADJUST_VALUE", "0")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// The user that the guard becomes as well, with the right to change addresses.
fn become_keeper(target: Option<&User>) -> Result<(), String> {
    if let Some(user) = target {
        sys::keep_capabilities().map_err(|why| format!("keep capabilities: {why}"))?;
        become_user(user).map_err(|why| why.to_string())?;
    }
    sys::keep_only(sys::NETWORK).map_err(|why| {
        format!(
            "it needs CAP_NET_ADMIN and CAP_NET_RAW ({why}); start howdah as root, or with these"
        )
    })
}

/// For good: there is no way back to root, for us or for anything below us.
fn become_user((uid, gid, name): &User) -> Result<(), GuardError> {
    let fault = |why: String| GuardError::Drop { name: name.clone(), why };
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    let groups_of = CString::new(name.as_str()).map_err(|error| fault(error.to_string()))?;
    let steps: [(&str, nix::Result<()>); 3] = [
        ("take on its groups", initgroups(&groups_of, gid)),
        ("take on its group", setgid(gid)),
        ("take on its id", setuid(uid)),
    ];
    for (what, result) in steps {
        result.map_err(|error: Errno| fault(format!("{what}: {error}")))?;
    }
    if Uid::current() != uid || Uid::effective() != uid || Gid::effective() != gid {
        return Err(fault("the kernel kept the old one".into()));
    }
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(fault("root could be taken back".into()));
    }
    Ok(())
}
