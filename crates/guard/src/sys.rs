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

/// Names this process, for those who list them.
pub(crate) fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the kernel reads up to 16 bytes of the string. What it says is for people only.
    let _ = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// A change of user leaves what this process may do, until [`keep_only`].
pub(crate) fn keep_capabilities() -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1)
}

/// May change addresses and interfaces; may send any frame. Source: linux/capability.h.
pub(crate) const NETWORK: u32 = (1 << 12) | (1 << 13);

/// Of all that this process may do beyond others of its user it keeps these, and its children none.
pub(crate) fn keep_only(capabilities: u32) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // Of programs that this one starts, ambient ones would be theirs. Old kernels know none.
    let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong);
    let header = Header { version: 0x2008_0522, pid: 0 };
    let low = Sets { effective: capabilities, permitted: capabilities, inheritable: 0 };
    let sets = [low, Sets::default()];
    // SAFETY: version 3 reads one header and two sets, which live here.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    Errno::result(set).map(drop).map_err(io::Error::from)
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
