//! The process that holds the address.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use howdah_core::BootInstant;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use super::netlink::{Found, NO_END, Routes};
use super::{MESSAGE, Order, Said, Vip, announce::announce};
use crate::clock::boottime_now;
use crate::log::log;
use crate::sys;

/// Longest sleep: so long a suspend of the machine, or an address that somebody removed, goes unnoticed.
const LOOK: Duration = Duration::from_millis(500);
/// Announcements of a taking, after it: the first ones may be lost.
const ANNOUNCED: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];
/// For so long the guard waits for its keeper's end.
const END: Duration = Duration::from_secs(2);

struct Holding {
    until: Option<BootInstant>,
    since: BootInstant,
    announced: usize,
}

struct State {
    vip: Vip,
    routes: Routes,
    link: OwnedFd,
    held: Option<Holding>,
    said: Option<Said>,
}

/// Runs until the guard is gone; the exit code.
pub(super) fn run(vip: Vip, link: OwnedFd) -> i32 {
    // A terminal's Ctrl-C reaches the guard alone.
    let _ = setsid();
    sys::set_name(c"howdah-vip");
    let routes = match Routes::open() {
        Ok(routes) => routes,
        Err(why) => {
            log!("the virtual address cannot be kept: open a netlink socket: {why}");
            return 1;
        }
    };
    let mut state = State { vip, routes, link, held: None, said: None };
    let left = state.clear();
    state.say(left);
    while state.turn() {}
    let trouble = state.let_go().err();
    if let Some(why) = trouble {
        log!("{why}");
    }
    0
}

impl State {
    /// One turn; false: the guard is gone.
    fn turn(&mut self) -> bool {
        let now = boottime_now();
        if self.held.as_ref().and_then(|held| held.until).is_some_and(|until| now >= until) {
            let result = self.let_go();
            self.say(result.map(|()| false));
        }
        if !self.obey() {
            return false;
        }
        self.announce_again();
        let mut fds = [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
        let limit = self.due().map_or(LOOK, |due| due.since(boottime_now()).min(LOOK));
        let millis = u16::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX);
        // Interrupted or failed: the next turn looks at everything.
        let _ = poll(&mut fds, PollTimeout::from(millis));
        true
    }

    fn due(&self) -> Option<BootInstant> {
        let held = self.held.as_ref()?;
        let next = ANNOUNCED.get(held.announced).map(|after| held.since + *after);
        held.until.into_iter().chain(next).min()
    }

    /// Takes in all orders; the last one counts.
    fn obey(&mut self) -> bool {
        let mut last = None;
        let mut bytes = [0_u8; MESSAGE];
        let there = loop {
            match recv(self.link.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => break false,
                Ok(count) => last = serde_json::from_slice::<Order>(&bytes[..count]).ok().or(last),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break true,
                Err(_) => break false,
            }
        };
        let result = match last {
            _ if !there => return false,
            None => return true,
            Some(Order::Drop) => self.let_go().map(|()| false),
            Some(Order::Hold { until }) => self.hold(until),
        };
        self.say(result);
        true
    }

    /// Holds it; whether it does, for the time may be over.
    fn hold(&mut self, until: Option<BootInstant>) -> Result<bool, String> {
        let now = boottime_now();
        let lifetime = until.map_or(NO_END, |until| until.since(now));
        if lifetime.is_zero() {
            return self.let_go().map(|()| false);
        }
        let index = self.index()?;
        if self.held.is_none() {
            self.is_nobodys(index)?;
        }
        let held = self.routes.hold(&self.vip, index, lifetime);
        held.map_err(|why| self.cannot("be held", &why))?;
        let fresh = Holding { until, since: now, announced: 0 };
        let was = self.held.take();
        if was.is_none() {
            log!("holds {} on {}", self.vip.address, self.vip.interface);
        }
        self.held = Some(was.map_or(fresh, |was| Holding { until, ..was }));
        Ok(true)
    }

    fn announce_again(&mut self) {
        let now = boottime_now();
        let Some(held) = self.held.as_mut() else { return };
        let due = ANNOUNCED.get(held.announced).is_some_and(|after| now >= held.since + *after);
        if !due {
            return;
        }
        held.announced += 1;
        let told = if_nametoindex(self.vip.interface.as_str())
            .map_err(std::io::Error::from)
            .and_then(|index| announce(self.vip.address, index));
        if let Err(why) = told {
            log!("cannot announce {} on {}: {why}", self.vip.address, self.vip.interface);
        }
    }

    fn let_go(&mut self) -> Result<(), String> {
        if self.held.take().is_none() {
            return Ok(());
        }
        let gone = self.index().and_then(|index| {
            self.routes.let_go(&self.vip, index).map_err(|why| self.cannot("be let go", &why))
        });
        match &gone {
            Ok(()) => log!("let {} go", self.vip.address),
            Err(why) => log!("{why}; it ends with its lifetime"),
        }
        gone
    }

    /// Removes what an earlier life left.
    fn clear(&mut self) -> Result<bool, String> {
        let index = self.index()?;
        if self.is_nobodys(index)? == Found::Passing {
            let gone = self.routes.let_go(&self.vip, index);
            gone.map_err(|why| self.cannot("be taken off", &why))?;
        }
        Ok(false)
    }

    /// What a person configured is not ours to hold.
    fn is_nobodys(&mut self, index: u32) -> Result<Found, String> {
        let (address, interface) = (self.vip.address, &self.vip.interface);
        match self.routes.find(&self.vip, index) {
            Ok(Found::Permanent) => Err(format!(
                "the virtual address {address} stands on {interface} without an end: somebody else configured it; \
                 remove it there"
            )),
            Ok(found) => Ok(found),
            Err(why) => Err(self.cannot("be looked for", &why)),
        }
    }

    fn index(&self) -> Result<u32, String> {
        let interface = &self.vip.interface;
        if_nametoindex(interface.as_str()).map_err(|why| match why {
            Errno::ENODEV => format!("vip.interface: there is no interface {interface}"),
            why => format!("vip.interface {interface}: {why}"),
        })
    }

    fn cannot(&self, what: &str, why: &std::io::Error) -> String {
        let (address, interface) = (self.vip.address, &self.vip.interface);
        let hint = match why.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "; howdah must be started as root or with CAP_NET_ADMIN and CAP_NET_RAW"
            }
            _ => "",
        };
        format!("the virtual address {address} cannot {what} on {interface}: {why}{hint}")
    }

    /// Tells the guard, if it is news.
    fn say(&mut self, result: Result<bool, String>) {
        let said = match result {
            Ok(held) => Said { held, trouble: None },
            Err(why) => Said { held: self.held.is_some(), trouble: Some(why) },
        };
        if self.said.as_ref() == Some(&said) {
            return;
        }
        if let Some(why) = &said.trouble {
            log!("{why}");
        }
        if let Ok(text) = serde_json::to_vec(&said) {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(self.link.as_raw_fd(), &text, flags);
        }
        self.said = Some(said);
    }
}

/// For a guard that has nothing else to do any more.
pub(super) fn wait_for_end(pid: i32) {
    let (pid, until) = (Pid::from_raw(pid), boottime_now() + END);
    while let Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) =
        waitpid(pid, Some(WaitPidFlag::WNOHANG))
    {
        if boottime_now() >= until {
            // The address ends with its lifetime.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
