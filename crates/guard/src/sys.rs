//! System calls that have no safe form: process attributes, and randomness.

use std::io;

use howdah_core::Incarnation;
use nix::errno::Errno;
use nix::sys::signal::Signal;

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take one integer and no pointers.
    let result = unsafe { libc::prctl(option, value, zero, zero, zero) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// Orphans below this process become its children.
pub(crate) fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// This process gets `signal` when the thread that forked it ends. A change of user clears it.
pub(crate) fn set_parent_death_signal(signal: Signal) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// No program below this one gains privileges.
pub(crate) fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Draws the name of a guard's life. Needs no file, so it also works without free descriptors.
pub(crate) fn draw_incarnation() -> io::Result<Incarnation> {
    let mut bytes = [0_u8; 8];
    loop {
        // SAFETY: the pointer and the length describe `bytes`.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match Errno::result(got) {
            // Up to 256 bytes are never cut short; zero means "no guard" in the log.
            Ok(8) if bytes != [0; 8] => return Ok(Incarnation(u64::from_ne_bytes(bytes))),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_lives_have_two_names() {
        assert_ne!(super::draw_incarnation().unwrap(), super::draw_incarnation().unwrap());
    }
}
