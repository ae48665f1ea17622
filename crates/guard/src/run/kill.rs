//! Kills every process of PostgreSQL, and proves it.
//!
//! Through the control group if there is one; and always by parents: the postmaster is stopped so
//! that it forks no more, everything below the guard but the agent's part is killed, then the
//! postmaster, and again what became the guard's child by that, until two looks in a row find
//! nothing, zombies included. Process groups and sessions reach nothing: each backend has its own.
//! A kill is carried on turn by turn. What hangs in the kernel keeps it unproven, never the loop.

use std::time::Duration;

use howdah_core::{BootInstant, Epoch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Guard;
use crate::clock::boottime_now;
use crate::log::log;
use crate::procfs::Scan;
use crate::sys;
use crate::vip::Keeper;
use crate::wire::{Event, KillProof, LastExit, Reply};

/// For so long it is looked very often.
const HURRY: Duration = Duration::from_secs(2);
/// Pause between two looks then.
const PAUSE: Duration = Duration::from_millis(1);
/// Pause between two looks afterwards.
const PAUSE_LONG: Duration = Duration::from_millis(50);
/// After so long people are told.
const COMPLAIN: Duration = Duration::from_secs(10);

/// What a proven kill is followed by.
#[derive(Debug)]
pub(super) enum Why {
    /// The lease was lost.
    Deadline { epoch: Epoch },
    /// The agent asked.
    Asked { serial: u64, id: u64 },
    /// The postmaster ended: what it left behind.
    Exited(LastExit),
    /// The guard ends.
    Ending,
}

/// A kill under way.
#[derive(Debug)]
pub(super) struct Killing {
    reasons: Vec<(Why, BootInstant)>,
    began: BootInstant,
    clean: u32,
    complained: bool,
}

impl Killing {
    /// When to look again.
    pub fn due(&self, now: BootInstant) -> BootInstant {
        now + if now.since(self.began) < HURRY { PAUSE } else { PAUSE_LONG }
    }
}

impl Guard {
    /// Begins to kill at once; `since` is when the need arose.
    pub(super) fn kill_postgres(&mut self, why: Why, since: BootInstant) {
        self.let_vip_go();
        let began = boottime_now();
        let killing = self.killing.get_or_insert_with(|| Killing {
            reasons: Vec::new(),
            began,
            clean: 0,
            complained: false,
        });
        killing.reasons.push((why, since));
        self.strike();
    }

    /// Goes on until nothing is left, then says so to whom it concerns.
    pub(super) fn carry_on_killing(&mut self) {
        // Children that died are reaped between two looks.
        while self.killing.is_some() {
            let nothing_left = self.strike() && self.postmaster.is_none();
            let Some(killing) = self.killing.as_mut() else { return };
            if !nothing_left {
                killing.clean = 0;
                if !killing.complained && boottime_now().since(killing.began) > COMPLAIN {
                    killing.complained = true;
                    log!("processes of PostgreSQL do not die; they hang in the kernel. Trying on");
                }
                return;
            }
            killing.clean += 1;
            if killing.clean >= 2 {
                self.proven();
            }
        }
    }

    /// One blow. True: nothing was there to be hit.
    fn strike(&mut self) -> bool {
        let mut empty = true;
        if let Some(cgroup) = &self.cgroup {
            if let Err(error) = cgroup.kill() {
                log!("cgroup.kill: {error}; processes are found by their parents");
            }
            empty = cgroup.is_empty().unwrap_or(true);
        }
        let postmaster = self.postmaster.as_ref().map(|postmaster| postmaster.pid);
        if let Some(pid) = postmaster {
            send(pid, Signal::SIGSTOP);
        }
        let victims = match Scan::take() {
            Ok(scan) => scan.below_except(self.own_pid(), &self.spared()),
            Err(error) => {
                log!("cannot list processes: {error}");
                return false;
            }
        };
        // The postmaster last: it would see its children die.
        for pid in victims.iter().filter(|pid| Some(**pid) != postmaster) {
            send(*pid, Signal::SIGKILL);
        }
        if let Some(pid) = postmaster {
            send(pid, Signal::SIGKILL);
        }
        empty && victims.is_empty()
    }

    /// The agent, our own errand to the disk, and the keeper of the virtual address.
    pub(super) fn spared(&self) -> Vec<i32> {
        let errand = self.errands.front().and_then(|errand| errand.pid);
        let keeper = self.address.keeper.as_ref().and_then(Keeper::pid);
        self.agent.pid().into_iter().chain(errand).chain(keeper).collect()
    }

    pub(super) fn own_pid(&self) -> i32 {
        std::process::id().cast_signed()
    }

    fn proven(&mut self) {
        let Some(killing) = self.killing.take() else { return };
        let now = boottime_now();
        let path = self.kill_path();
        let mut fired: Option<(Epoch, Duration)> = None;
        for (why, since) in killing.reasons {
            let took = now.since(since);
            match why {
                Why::Deadline { epoch } => fired = Some((epoch, took)),
                Why::Asked { serial, id } => {
                    let proof = KillProof { path, took };
                    self.reply(serial, id, Reply::Killed { proof });
                }
                Why::Exited(exit) => self.tell(exited(exit)),
                Why::Ending => {}
            }
        }
        let Some((epoch, took)) = fired else { return };
        match sys::draw_incarnation() {
            Ok(incarnation) => self.incarnation = incarnation,
            Err(error) => {
                // Without a new name the old one must not come back: the lease stays expired.
                log!("cannot draw a new incarnation: {error}; this guard arms nothing any more");
                return;
            }
        }
        self.lease.begin_anew();
        log!("all of PostgreSQL is gone {} ms after the deadline", took.as_millis());
        self.tell(Event::DeadlineFired { epoch, new_incarnation: self.incarnation, took });
    }
}

fn exited(exit: LastExit) -> Event {
    let LastExit { pid, status, code, signal, .. } = exit;
    Event::PostmasterExited { pid, status, code, signal, all_gone: true }
}

/// A process that is gone needs no signal; one that may not be hit shows in the next look.
pub(super) fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}
