//! The virtual address: one that moves with the primary.
//!
//! Place: a process of its own, the keeper ([`keeper`]), forked by the guard before it gives its rights away: it alone
//! may change addresses and announce them (`CAP_NET_ADMIN`, `CAP_NET_RAW`). The guard tells it until when the address may be
//! held, which is never longer than PostgreSQL may be writable, and forgets it with the deadline.
//! Survives a restart: nothing. An address that an earlier life left is removed at the start.
//! Invariants: the kernel knows a lifetime of the address, which ends with the deadline, so that it goes from a machine
//! where nobody runs any more; an address that somebody else configured is never touched.
//! Killed half way: the guard's end ends the keeper, which removes the address first; a killed keeper's address ends
//! with its lifetime, and no other keeper comes before the guard is started again.

mod announce;
mod keeper;
pub(crate) mod netlink;

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use howdah_core::BootInstant;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use crate::log::log;

/// An address that the primary's machine holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// Bits of it that name the network.
    pub prefix: u8,
    /// Where it is held.
    pub interface: String,
}

/// What the keeper is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Order {
    /// Hold the address until then; none: until told otherwise (the cluster is in maintenance).
    Hold { until: Option<BootInstant> },
    /// Let it go.
    Drop,
}

/// What the keeper says when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Whether this machine has the address.
    pub held: bool,
    /// What keeps it from being held, or let go.
    pub trouble: Option<String>,
}

/// Longest message between the two, bytes.
const MESSAGE: usize = 4096;

/// The guard's end of the connection to its keeper. Nothing here waits.
#[derive(Debug)]
pub(crate) struct Keeper {
    pid: Option<i32>,
    link: OwnedFd,
    wanted: Order,
    sent: bool,
    pub said: Said,
}

impl Keeper {
    /// Forks the keeper. `become_user` gives away every right but that to change addresses.
    pub fn fork(vip: Vip, become_user: impl FnOnce() -> Result<(), String>) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        // SAFETY: the guard has one thread, so the child inherits no lock held by another.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self {
                pid: Some(child.as_raw()),
                link: ours,
                wanted: Order::Drop,
                sent: false,
                said: Said::default(),
            }),
            ForkResult::Child => {
                drop(ours);
                let code = match become_user() {
                    Ok(()) => keeper::run(vip, theirs),
                    Err(why) => {
                        log!("the virtual address cannot be kept: {why}");
                        1
                    }
                };
                // SAFETY: ends this process; the parent's buffers and handlers must not run here.
                unsafe { libc::_exit(code) }
            }
        }
    }

    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    pub fn raw(&self) -> RawFd {
        self.link.as_raw_fd()
    }

    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pid.map(|_| self.link.as_fd())
    }

    /// Has the address held until then.
    pub fn hold(&mut self, until: Option<BootInstant>) {
        self.order(Order::Hold { until });
    }

    /// Has it let go.
    pub fn let_go(&mut self) {
        self.order(Order::Drop);
    }

    fn order(&mut self, order: Order) {
        if self.wanted != order {
            (self.wanted, self.sent) = (order, false);
        }
        self.carry_on();
    }

    /// Sends what could not be sent, and takes in what the keeper says. Whether that is news.
    pub fn carry_on(&mut self) -> bool {
        if self.pid.is_none() {
            return false;
        }
        if !self.sent
            && let Ok(text) = serde_json::to_vec(&self.wanted)
        {
            // One that is full or broken: tried in the next turn, and its end is seen elsewhere.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            self.sent = send(self.raw(), &text, flags).is_ok();
        }
        let mut news = false;
        let mut bytes = [0_u8; MESSAGE];
        loop {
            match recv(self.raw(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return news,
                Ok(count) => {
                    if let Ok(said) = serde_json::from_slice(&bytes[..count]) {
                        (self.said, news) = (said, true);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => return news,
            }
        }
    }

    /// It ended, which it does not do by itself.
    pub fn ended(&mut self, status: &str) {
        self.pid = None;
        let trouble = format!("its keeper ended ({status}); restart howdah to have another one");
        self.said = Said { held: false, trouble: Some(trouble) };
    }

    /// Has it let the address go and end, and waits for that a little: only when everything else is over.
    pub fn finish(self) {
        let Some(pid) = self.pid else { return };
        drop(self.link);
        keeper::wait_for_end(pid);
    }
}
