//! Forks: agent, postmaster, and errands to the disk.
//!
//! The parent never waits for the child: an executable on a hanging disk must not hold up the
//! deadline. A child that cannot become its program says why on stderr and exits with 126, which
//! the guard sees as its end. The guard has one thread, so the child may do as it likes before
//! exec.

use std::ffi::{CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use howdah_core::BootInstant;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, fork};

use crate::cgroup::Cgroup;
use crate::clock::boottime_now;
use crate::log::log;
use crate::sys;
use crate::wire::FD_VARIABLE;

/// Exit code of a child that could not become its program.
const CANNOT_START: i32 = 126;

/// What a child becomes.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub program: &'a Path,
    pub args: Vec<&'a OsStr>,
    /// Added to the guard's own environment.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: Option<&'a Path>,
    /// Descriptor that stays open in it, named by `HOWDAH_GUARD_FD`.
    pub pass: Option<RawFd>,
    /// Descriptors that must not live on in a child that hangs before its exec.
    pub close: Vec<RawFd>,
    pub cgroup: Option<&'a Cgroup>,
    /// Signal it gets when the guard dies.
    pub death_signal: Option<Signal>,
    /// File for its output.
    pub log: Option<&'a Path>,
    /// It does not start from then on.
    pub not_after: Option<BootInstant>,
}

/// Why nothing was forked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("an argument or variable of {program} contains a NUL byte")]
    Nul { program: String },
    #[error("fork: {0}")]
    Fork(#[from] nix::Error),
}

/// Starts a program; its process.
pub(crate) fn spawn(program: &Program<'_>) -> Result<i32, SpawnError> {
    let nul = |_| SpawnError::Nul { program: program.program.display().to_string() };
    let path = CString::new(program.program.as_os_str().as_bytes()).map_err(nul)?;
    let mut argv = vec![path.clone()];
    for arg in &program.args {
        argv.push(CString::new(arg.as_bytes()).map_err(nul)?);
    }
    let mut envp = Vec::new();
    for (name, value) in environment(program) {
        let mut pair = name;
        pair.push("=");
        pair.push(value);
        envp.push(CString::new(pair.as_bytes()).map_err(nul)?);
    }
    let parent = std::process::id();
    // SAFETY: the guard has one thread, so the child inherits no lock held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let why = match prepare(program, parent) {
                Ok(()) => match nix::unistd::execve(&path, &argv, &envp) {
                    Ok(never) => match never {},
                    Err(error) => io::Error::from(error),
                },
                Err(error) => error,
            };
            log!("cannot start {}: {why}", program.program.display());
            exit_now(CANNOT_START)
        }
    }
}

/// Does something in a child of its own; `Ok` becomes exit code 0, an error its number.
pub(crate) fn errand(
    close: &[RawFd],
    work: impl FnOnce() -> io::Result<()>,
) -> Result<i32, SpawnError> {
    // SAFETY: the guard has one thread, so the child inherits no lock held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            close_all(close);
            let result = sys::set_parent_death_signal(Signal::SIGKILL).and_then(|()| work());
            let number = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO).clamp(1, 255);
            exit_now(result.map_or_else(number, |()| 0))
        }
    }
}

fn exit_now(code: i32) -> ! {
    // SAFETY: ends this process; the parent's buffers and handlers must not run here.
    unsafe { libc::_exit(code) }
}

fn environment(program: &Program<'_>) -> Vec<(OsString, OsString)> {
    let given = |name: &OsStr| program.env.iter().any(|(known, _)| known == name);
    let mut all: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| name != FD_VARIABLE && !given(name))
        .chain(program.env.iter().cloned())
        .collect();
    if let Some(fd) = program.pass {
        all.push((FD_VARIABLE.into(), fd.to_string().into()));
    }
    all
}

fn close_all(fds: &[RawFd]) {
    for fd in fds {
        // SAFETY: this is a fork; its copies are closed by number and nothing uses them later.
        unsafe { libc::close(*fd) };
    }
}

/// Between fork and exec, in the child.
fn prepare(program: &Program<'_>, parent: u32) -> io::Result<()> {
    close_all(&program.close);
    // A terminal's Ctrl-C reaches the guard alone.
    nix::unistd::setsid()?;
    if let Some(cgroup) = program.cgroup {
        cgroup.join()?;
    }
    if let Some(signal) = program.death_signal {
        sys::set_parent_death_signal(signal)?;
        // The guard may have died before the line above.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::other("the guard is gone"));
        }
    }
    sys::set_no_new_privileges()?;
    if let Some(cwd) = program.cwd {
        std::env::set_current_dir(cwd)?;
    }
    redirect(program.log)?;
    if let Some(fd) = program.pass {
        // SAFETY: the parent holds this descriptor open across the fork.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(Signal::SIGPIPE, &default) }?;
    SigSet::empty().thread_set_mask()?;
    if program.not_after.is_some_and(|limit| boottime_now() >= limit) {
        return Err(io::Error::other("the deadline has passed"));
    }
    Ok(())
}

fn redirect(log: Option<&Path>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).open("/dev/null")?;
    dup2(null.as_raw_fd(), 0)?;
    if let Some(path) = log {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        dup2(file.as_raw_fd(), 1)?;
        dup2(file.as_raw_fd(), 2)?;
    }
    Ok(())
}

fn dup2(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: replaces a standard stream of the child by an open file; neither is owned elsewhere.
    let result = unsafe { libc::dup2(from, to) };
    nix::errno::Errno::result(result).map(drop).map_err(io::Error::from)
}
