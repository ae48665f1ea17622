//! Whether sessions of one epoch may go on: the lease's deadline at every byte that leaves.
//!
//! Place: one [`Gate`] per epoch that this member's doors led to. The agent moves its deadline as
//! renewals are applied and shuts it with the epoch; each session asks before it passes on what
//! the primary said.
//! State: memory only. A new process has no sessions of an old one.
//! Invariants: a gate that was shut stays shut; a session that registers at a shut gate is ended.
//! Failure: a thread that is stopped between the question and its write can send that one chunk
//! later; what the server has already handed to the kernel is gone as well. Promises and the guard
//! (rules S3, S7) cover both.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use howdah_core::{BootInstant, Epoch};
use tokio::sync::watch;
use tokio::task::AbortHandle;

const SHUT: u64 = 0;
const NO_DEADLINE: u64 = u64::MAX;

/// The gate of one epoch.
#[derive(Debug)]
pub struct Gate {
    epoch: Epoch,
    /// Nanoseconds of the boot clock.
    until: AtomicU64,
    sessions: Mutex<Sessions>,
    /// Ticks when the last session has gone after it was shut.
    emptied: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    /// Those that were not told to end.
    open: BTreeMap<u64, AbortHandle>,
    /// Those that are there still.
    alive: usize,
}

impl Gate {
    /// Open until `until`; none: until it is shut. `emptied` ticks when its last session has gone
    /// after that.
    pub fn new(epoch: Epoch, until: Option<BootInstant>, emptied: Arc<watch::Sender<u64>>) -> Self {
        let (until_ns, sessions) = (AtomicU64::new(NO_DEADLINE), Mutex::default());
        let gate = Self { epoch, until: until_ns, sessions, emptied };
        gate.extend(until);
        gate
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Moves the deadline, unless the gate is shut.
    pub fn extend(&self, until: Option<BootInstant>) {
        let until = until.map_or(NO_DEADLINE, |until| until.0.max(SHUT + 1));
        // Only a shut gate refuses, and nothing opens it.
        let _ = self.until.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |known| {
            (known != SHUT).then_some(until)
        });
    }

    /// Whether the primary of this epoch may be heard now.
    pub fn is_open(&self, now: BootInstant) -> bool {
        now.0 < self.until.load(Ordering::SeqCst)
    }

    /// Whether it may be heard at this moment.
    pub fn lets_through(&self) -> bool {
        let until = self.until.load(Ordering::SeqCst);
        until == NO_DEADLINE || now().0 < until
    }

    /// Shuts it for good, and ends its sessions.
    pub fn shut(&self) -> usize {
        self.until.store(SHUT, Ordering::SeqCst);
        let open = std::mem::take(&mut self.lock().open);
        for session in open.values() {
            session.abort();
        }
        open.len()
    }

    /// Takes a session in; `None`, and it is ended, if the gate is shut.
    pub fn enter(&self, session: AbortHandle) -> Option<u64> {
        let mut sessions = self.lock();
        // Under the lock, so that no session slips in behind `shut`.
        if self.until.load(Ordering::SeqCst) == SHUT {
            session.abort();
            return None;
        }
        sessions.next += 1;
        sessions.alive += 1;
        let number = sessions.next;
        sessions.open.insert(number, session);
        Some(number)
    }

    /// A session that was taken in has ended, and its connections are closed.
    pub fn leave(&self, number: u64) {
        let mut sessions = self.lock();
        sessions.open.remove(&number);
        sessions.alive -= 1;
        let shut = self.until.load(Ordering::SeqCst) == SHUT;
        if sessions.alive == 0 && shut {
            self.emptied.send_modify(|count| *count += 1);
        }
    }

    /// How many sessions are there still.
    pub fn sessions(&self) -> usize {
        self.lock().alive
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The boot clock, which goes on while the machine sleeps; the lease counts on it.
pub fn now() -> BootInstant {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    // The clock is part of every kernel that howdah runs on.
    let time = nix::time::clock_gettime(clock).expect("CLOCK_BOOTTIME is there");
    BootInstant(std::time::Duration::from(time).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_is_open_until_its_deadline_and_never_again_once_it_is_shut() {
        let emptied = Arc::new(watch::Sender::new(0));
        let gate = Gate::new(Epoch(3), Some(BootInstant(100)), emptied.clone());
        assert!(gate.is_open(BootInstant(99)));
        assert!(!gate.is_open(BootInstant(100)));
        gate.extend(Some(BootInstant(200)));
        assert!(gate.is_open(BootInstant(150)));
        let session = tokio::spawn(std::future::pending::<()>());
        let number = gate.enter(session.abort_handle());
        assert_eq!(number, Some(1));
        assert_eq!(gate.shut(), 1);
        assert!(session.await.unwrap_err().is_cancelled());
        assert_eq!((gate.sessions(), *emptied.borrow()), (1, 0));
        gate.leave(1);
        assert_eq!((gate.sessions(), *emptied.borrow()), (0, 1));
        gate.extend(Some(BootInstant(300)));
        gate.extend(None);
        assert!(!gate.is_open(BootInstant(1)));
        let late = tokio::spawn(std::future::pending::<()>());
        assert_eq!(gate.enter(late.abort_handle()), None);
        assert!(late.await.unwrap_err().is_cancelled());
    }

    #[test]
    fn maintenance_mode_knows_no_deadline() {
        let gate = Gate::new(Epoch(3), None, Arc::new(watch::Sender::new(0)));
        assert!(gate.is_open(BootInstant(u64::MAX - 1)));
    }
}
