//! The postmaster: started, signalled, promoted.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::procfs;
use crate::wire::{Refusal, StartPostgres};

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::System(format!("{doing} {}: {error}", path.display()))
}

/// Starts it; its process id. The caller has checked the authority.
pub(crate) fn start(request: &StartPostgres, cgroup: Option<&Cgroup>) -> Result<i32, Refusal> {
    let signal = request.data_dir.join("standby.signal");
    match request.authority {
        // Rule S6: whatever starts here without a lease starts as a standby.
        None if !signal.exists() => {
            return Err(Refusal::NoStandbySignal(request.data_dir.clone()));
        }
        None => {}
        Some(_) => remove_durably(&signal)?,
    }
    let mut command = Command::new(&request.program);
    command.args(&request.args).envs(request.env.iter().cloned()).current_dir(&request.cwd);
    command.stdin(Stdio::null());
    if let Some(path) = &request.log {
        let log = File::options().create(true).append(true).open(path);
        let log = log.map_err(|error| failed("open", path, &error))?;
        let copy = log.try_clone().map_err(|error| failed("open", path, &error))?;
        command.stdout(log).stderr(copy);
    }
    let procs = cgroup.map(|cgroup| format!("{}\0", cgroup.procs().display()).into_bytes());
    // SAFETY: getpid has no preconditions.
    let guard = unsafe { libc::getpid() };
    // SAFETY: between fork and exec only async-signal-safe calls are made: open, write, close,
    // prctl, setpgid, getppid. Nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if let Some(path) = &procs {
                enter_cgroup(path);
            }
            // Ctrl-C in a terminal is for the guard.
            libc::setpgid(0, 0);
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT);
            // The guard may have died before the line above.
            if libc::getppid() != guard {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    let child = command.spawn().map_err(|error| failed("start", &request.program, &error))?;
    Ok(child.id().cast_signed())
}

/// Moves the calling process into the cgroup whose cgroup.procs file (NUL-terminated) is named. If
/// that fails the guard still reaches it as child subreaper.
fn enter_cgroup(path: &[u8]) {
    // SAFETY: `path` ends with NUL; the descriptor is used only here.
    unsafe {
        let fd = libc::open(path.as_ptr().cast(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, c"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }
}

/// Removes a file so that it stays removed.
fn remove_durably(path: &Path) -> Result<(), Refusal> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path, &error)),
    }
}

fn sync_parent(path: &Path) -> Result<(), Refusal> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let synced = File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(|error| failed("sync", parent, &error))
}

/// Writes standby.signal so that it stays.
pub(crate) fn put_standby_signal(data_dir: &Path) -> Result<(), Refusal> {
    let path = data_dir.join("standby.signal");
    let file = File::options().create(true).append(true).open(&path);
    file.and_then(|file| file.sync_all()).map_err(|error| failed("write", &path, &error))?;
    sync_parent(&path)
}

/// Has the server leave recovery: what `pg_ctl promote` does, without its waiting.
pub(crate) fn promote(pid: i32, data_dir: &Path) -> Result<(), Refusal> {
    let path = data_dir.join("promote");
    fs::write(&path, "").map_err(|error| failed("write", &path, &error))?;
    send(pid, libc::SIGUSR1)
}

/// Sends a signal.
pub(crate) fn send(pid: i32, signal: i32) -> Result<(), Refusal> {
    let number = Signal::try_from(signal);
    let number = number.map_err(|_| Refusal::System(format!("{signal} is no signal")))?;
    let sent = kill(Pid::from_raw(pid), number);
    sent.map_err(|errno| Refusal::System(format!("signal {signal} to {pid}: {errno}")))
}

/// Whether `pid` is the postmaster or below it.
pub(crate) fn is_ours(pid: i32, postmaster: i32) -> bool {
    pid == postmaster || procfs::descendants(&[postmaster], None).contains(&pid)
}
