//! A disk that is slow to write through, or refuses to: stands before libc's `fsync` and `fdatasync` in a
//! member's processes (`LD_PRELOAD`).
//!
//! Each call reads the file that `TEST_SYNC_FILE` names: `slow MILLISECONDS` waits before it syncs, `fail`
//! gives EIO without syncing; without the file, or with anything else in it, libc's own is done. No state, no
//! allocation: it runs in the midst of anything, after a fork too.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_long};

/// Longest that one call waits, milliseconds.
const SLOWEST: c_long = 10_000;

#[derive(Clone, Copy)]
enum Mood {
    Well,
    Slow(c_long),
    Fails,
}

const NAME: &CStr = c"TEST_SYNC_FILE";

fn mood() -> Mood {
    let mut text = [0_u8; 32];
    // SAFETY: `getenv` gives null or a string of the environment, which nobody changes here; `read` gets a
    // buffer and its own length.
    let read = unsafe {
        let path = libc::getenv(NAME.as_ptr());
        if path.is_null() {
            return Mood::Well;
        }
        let file = libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Mood::Well;
        }
        let read = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        read
    };
    let read = usize::try_from(read).unwrap_or(0);
    let text = std::str::from_utf8(&text[..read]).unwrap_or_default().trim();
    match text.strip_prefix("slow ") {
        Some(number) => number.parse().map_or(Mood::Well, |ms: c_long| Mood::Slow(ms.min(SLOWEST))),
        None if text == "fail" => Mood::Fails,
        None => Mood::Well,
    }
}

/// Waits, fails, or makes the call itself.
fn sync(call: c_long, fd: c_int) -> c_int {
    match mood() {
        Mood::Well => {}
        Mood::Slow(ms) => {
            let time = libc::timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
            // SAFETY: the time is a valid one, and nobody asks what was left of it.
            unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
        }
        Mood::Fails => {
            // SAFETY: errno is this thread's own.
            unsafe { *libc::__errno_location() = libc::EIO };
            return -1;
        }
    }
    // SAFETY: both calls take a descriptor, and refuse one that is none.
    c_int::try_from(unsafe { libc::syscall(call, fd) }).unwrap_or(-1)
}

/// As libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    sync(libc::SYS_fsync, fd)
}

/// As libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(libc::SYS_fdatasync, fd)
}
