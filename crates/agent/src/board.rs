//! What this member publishes of itself, and what it heard of its peers.
//!
//! Place: the loop writes its own status; `peers` writes what was heard; the gRPC services, REST and
//! the loop's view read. Memory only: after a restart everything is heard anew.
//! Invariant: telemetry. No decision that gives authority rests on it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use howdah_core::{BootInstant, Epoch, MemberName};
use howdah_rpc::peer::Status;
use tokio::sync::watch;

/// A peer's last words, and when they came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What it said.
    pub status: Status,
    /// When, on this member's clock.
    pub at: BootInstant,
}

/// What this member's doors, and a hand-over under way, tell the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorWords {
    /// No session is left with a primary of an earlier epoch than this; 0: there are no doors.
    pub epoch: Epoch,
    /// New connections are held, since the leader of this epoch hands over; 0: they are not.
    pub hold_epoch: Epoch,
    /// This member leads, and is about to hand over.
    pub closing: bool,
}

/// How long this member may act as leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLease {
    /// Epoch that the guard is armed for.
    pub armed: Option<Epoch>,
    /// Its deadline.
    pub deadline: Option<BootInstant>,
}

/// What is known of all members beside the log.
#[derive(Debug)]
pub struct Board {
    own: watch::Sender<Status>,
    doors: Mutex<DoorWords>,
    lease: watch::Sender<OwnLease>,
    heard: Mutex<BTreeMap<MemberName, Heard>>,
    changed: watch::Sender<u64>,
}

impl DoorWords {
    fn put_into(self, status: &mut Status) {
        status.doors_epoch = self.epoch.0;
        status.doors_hold_epoch = self.hold_epoch.0;
        status.closing = self.closing;
    }
}

impl Default for Board {
    fn default() -> Self {
        Self {
            own: watch::Sender::new(Status::default()),
            doors: Mutex::default(),
            lease: watch::Sender::new(OwnLease::default()),
            heard: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Board {
    /// Publishes this member's status; peers are told if it changed.
    pub fn publish(&self, mut status: Status) {
        // Held meanwhile, so that what is said of the doors does not go back.
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.put_into(&mut status);
        self.own.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }

    /// Changes what is said of the doors; peers are told at once.
    pub fn tell_of_doors(&self, change: impl FnOnce(&mut DoorWords)) {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *doors;
        change(&mut doors);
        if *doors != before {
            self.own.send_modify(|status| doors.put_into(status));
        }
    }

    /// Publishes how long this member may act, for its own doors.
    pub fn publish_lease(&self, lease: OwnLease) {
        self.lease.send_if_modified(|known| {
            let changed = *known != lease;
            *known = lease;
            changed
        });
    }

    /// How long this member may act, and its changes.
    pub fn lease(&self) -> watch::Receiver<OwnLease> {
        self.lease.subscribe()
    }

    /// This member's status, and its changes.
    pub fn own(&self) -> watch::Receiver<Status> {
        self.own.subscribe()
    }

    /// A peer spoke.
    pub fn hear(&self, member: MemberName, status: Status, at: BootInstant) {
        let heard = Heard { status, at };
        let mut peers = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let news = peers.get(&member).is_none_or(|known| known.status != heard.status);
        peers.insert(member, heard);
        drop(peers);
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// What peers last said.
    pub fn heard(&self) -> BTreeMap<MemberName, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ticks when a peer says something new.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
