//! One line on stderr per noteworthy event; never a reason to wait.
//!
//! A reader that stopped reading must not keep the guard from its deadline: a line that does not
//! fit into the pipe at once is dropped.

use std::fmt::Arguments;
use std::io::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest line: a pipe that is writable takes this much without blocking.
const LINE_MAX: usize = 4096;

/// Writes one line, or drops it.
pub(crate) fn line(text: Arguments<'_>) {
    let mut line = format!("guard: {text}").replace('\n', " ").into_bytes();
    line.truncate(LINE_MAX - 1);
    line.push(b'\n');
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT));
    if ready {
        // There is nowhere to report it.
        let _ = stderr.lock().write_all(&line);
    }
}

/// `log!("text {}", value)`.
macro_rules! log {
    ($($text:tt)*) => { $crate::log::line(format_args!($($text)*)) };
}
pub(crate) use log;
