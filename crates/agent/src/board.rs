//! What this member publishes of itself, and what it heard of its peers.
//!
//! Place: the loop writes its own status; `peers` writes what was heard; the gRPC services, REST and
//! the loop's view read. Memory only: after a restart everything is heard anew.
//! Invariant: telemetry. No decision that gives authority rests on it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use howdah_core::{BootInstant, MemberName};
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

/// What is known of all members beside the log.
#[derive(Debug)]
pub struct Board {
    own: watch::Sender<Status>,
    heard: Mutex<BTreeMap<MemberName, Heard>>,
    changed: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            own: watch::Sender::new(Status::default()),
            heard: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Board {
    /// Publishes this member's status; peers are told if it changed.
    pub fn publish(&self, status: Status) {
        self.own.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }

    /// This member's status, and its changes.
    pub fn own(&self) -> watch::Receiver<Status> {
        self.own.subscribe()
    }

    /// A peer spoke.
    pub fn hear(&self, member: MemberName, status: Status, at: BootInstant) {
        let heard = Heard { status, at };
        let mut peers = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let news = peers.get(&member).is_none_or(|known| known.status != heard.status);
        peers.insert(member, heard);
        drop(peers);
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// What peers last said.
    pub fn heard(&self) -> BTreeMap<MemberName, Heard> {
        self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Ticks when a peer says something new.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
