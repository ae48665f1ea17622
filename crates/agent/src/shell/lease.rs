//! The lease on this member's clock: when the record was seen to change, when a renewal was sent,
//! and until when this member may act.
//!
//! Invariants: the deadline belongs to the nonce in the *applied* record, and counts from before
//! that renewal was sent; a nonce that this process did not draw moves nothing (rule S2).

use std::collections::BTreeMap;

use howdah_core::view::LeaseView;
use howdah_core::{
    BootInstant, ClusterState, Epoch, Incarnation, LeaderRecord, LeaseState, MemberName, Nonce,
};

/// Nonces that are remembered; older ones are long answered.
const NONCES_KEPT: usize = 64;

/// What challengers' and holders' stopwatches depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    epoch: Epoch,
    renewals: u64,
    state: Option<LeaseState>,
    attempt: Option<u64>,
    open: Option<Epoch>,
}

/// The lease on this member's clock.
#[derive(Debug)]
pub struct Lease {
    /// Life of the guard.
    pub incarnation: Incarnation,
    key: Key,
    record_seen: BootInstant,
    election_seen: BootInstant,
    sent: BTreeMap<Nonce, BootInstant>,
    last_sent: Option<BootInstant>,
    /// A renewal is under way.
    pub renewing: bool,
    withheld: bool,
    deadline: Option<BootInstant>,
    armed: Option<Epoch>,
    own_renewal: bool,
    /// When the newest renewal that was applied was sent.
    renewed: Option<BootInstant>,
    /// Renewals sent before this give no right to go read-write in place.
    void_before: BootInstant,
}

/// What the guard must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForGuard {
    /// A deadline.
    Arm(Arming),
    /// Maintenance mode is in the log: no deadline.
    Disarm {
        /// Epoch of the record.
        epoch: Epoch,
        /// Its renewals.
        renewals: u64,
    },
}

/// A deadline for the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arming {
    /// Epoch of the record.
    pub epoch: Epoch,
    /// Its renewals.
    pub renewals: u64,
    /// When the renewal was sent.
    pub sent: BootInstant,
    /// Until when PostgreSQL may be writable.
    pub deadline: BootInstant,
}

impl Lease {
    /// Nothing seen yet.
    pub fn new(now: BootInstant) -> Self {
        Self {
            incarnation: Incarnation::default(),
            key: Key::default(),
            record_seen: now,
            election_seen: now,
            sent: BTreeMap::new(),
            last_sent: None,
            renewing: false,
            withheld: false,
            deadline: None,
            armed: None,
            own_renewal: false,
            renewed: None,
            void_before: now,
        }
    }

    /// Takes in the applied state; says what the guard must be told, if anything.
    pub fn take_in(
        &mut self,
        state: &ClusterState,
        me: &MemberName,
        holder_limit: impl Fn(&LeaderRecord) -> std::time::Duration,
        now: BootInstant,
    ) -> Option<ForGuard> {
        let record = state.leader.as_ref();
        let key = Key {
            epoch: state.epoch(),
            renewals: record.map_or(0, |record| record.renewals),
            state: record.map(|record| record.state),
            attempt: match &state.bootstrap {
                howdah_core::Bootstrap::Granted { attempt, .. } => Some(*attempt),
                _ => None,
            },
            open: state.election.as_ref().map(|open| open.epoch),
        };
        if key == self.key {
            return None;
        }
        if key.open != self.key.open {
            self.election_seen = now;
        }
        self.key = key;
        self.record_seen = now;
        let own = state
            .held()
            .filter(|record| record.holder == *me && record.incarnation == self.incarnation);
        let Some(record) = own else {
            self.lose();
            return None;
        };
        if self.armed.is_some_and(|epoch| epoch != record.epoch) {
            self.lose();
        }
        let sent = self.sent.get(&record.nonce).copied()?;
        self.renewed = Some(sent);
        let (epoch, renewals) = (record.epoch, record.renewals);
        if record.paused {
            (self.deadline, self.armed) = (None, None);
            self.own_renewal |= sent >= self.void_before;
            return Some(ForGuard::Disarm { epoch, renewals });
        }
        let deadline = sent + holder_limit(record);
        Some(ForGuard::Arm(Arming { epoch, renewals, sent, deadline }))
    }

    /// A renewal is about to be sent.
    pub fn sending(&mut self, nonce: Nonce, now: BootInstant) {
        self.sent.insert(nonce, now);
        while self.sent.len() > NONCES_KEPT {
            let oldest = self.sent.iter().min_by_key(|(_, at)| **at).map(|(nonce, _)| *nonce);
            if let Some(oldest) = oldest {
                self.sent.remove(&oldest);
            }
        }
        self.last_sent = Some(now);
        self.renewing = true;
    }

    /// The guard took a deadline.
    pub fn armed(&mut self, epoch: Epoch, deadline: BootInstant, sent: BootInstant) {
        if self.key.epoch != epoch || self.key.state != Some(LeaseState::Held) {
            return;
        }
        self.armed = Some(epoch);
        self.deadline = Some(self.deadline.map_or(deadline, |known| known.max(deadline)));
        if sent >= self.void_before {
            self.own_renewal = true;
        }
    }

    /// A release, hand-over or take-back is about to be proposed: nothing is renewed until it is
    /// over, and only a later renewal counts again.
    pub fn withhold(&mut self, now: BootInstant) {
        self.void_before = now;
        self.own_renewal = false;
        self.withheld = true;
    }

    /// Told at every turn, so that withholding ends with what it is for, however that ends: a
    /// member that went on withholding could win an election, and never begin.
    pub fn withhold_while(&mut self, gives_up: bool) {
        self.withheld &= gives_up;
    }

    /// No authority any more.
    pub fn lose(&mut self) {
        self.deadline = None;
        self.armed = None;
        self.own_renewal = false;
        self.renewed = None;
        self.last_sent = None;
        self.sent.clear();
    }

    /// As `decide` sees it.
    pub fn view(&self) -> LeaseView {
        LeaseView {
            record_seen: self.record_seen,
            election_seen: self.election_seen,
            deadline: self.deadline,
            armed: self.armed,
            own_renewal: self.own_renewal,
            renewal_sent: self.last_sent,
            renewed: self.renewed,
            renewing: self.renewing || self.withheld,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(nonce: u64, renewals: u64) -> ClusterState {
        let record = LeaderRecord {
            holder: "n1".into(),
            incarnation: Incarnation(7),
            epoch: Epoch(3),
            renewals,
            nonce: Nonce(nonce),
            state: LeaseState::Held,
            ..LeaderRecord::default()
        };
        ClusterState { leader: Some(record), ..ClusterState::default() }
    }

    fn lease() -> Lease {
        Lease { incarnation: Incarnation(7), ..Lease::new(BootInstant(0)) }
    }

    fn deadline_in(given: Option<ForGuard>) -> Arming {
        match given {
            Some(ForGuard::Arm(arming)) => arming,
            other => panic!("no deadline: {other:?}"),
        }
    }

    fn limit(_: &LeaderRecord) -> Duration {
        Duration::from_nanos(1000)
    }

    #[test]
    fn the_deadline_belongs_to_the_nonce_that_was_applied_not_to_a_later_retry() {
        let (mut lease, me) = (lease(), MemberName::from("n1"));
        lease.sending(Nonce(1), BootInstant(100));
        lease.sending(Nonce(2), BootInstant(900));
        let arming = deadline_in(lease.take_in(&held(1, 1), &me, limit, BootInstant(950)));
        assert_eq!((arming.sent, arming.deadline), (BootInstant(100), BootInstant(1100)));
    }

    #[test]
    fn a_nonce_that_this_process_did_not_draw_moves_nothing() {
        let (mut lease, me) = (lease(), MemberName::from("n1"));
        assert_eq!(lease.take_in(&held(5, 1), &me, limit, BootInstant(10)), None);
    }

    #[test]
    fn a_renewal_from_before_a_hand_over_gives_no_right_after_it() {
        let (mut lease, me) = (lease(), MemberName::from("n1"));
        lease.sending(Nonce(1), BootInstant(100));
        lease.withhold(BootInstant(200));
        lease.withhold_while(false);
        let arming = deadline_in(lease.take_in(&held(1, 1), &me, limit, BootInstant(300)));
        lease.armed(arming.epoch, arming.deadline, arming.sent);
        assert!(!lease.view().own_renewal);
        lease.sending(Nonce(2), BootInstant(400));
        let arming = deadline_in(lease.take_in(&held(2, 2), &me, limit, BootInstant(500)));
        lease.armed(arming.epoch, arming.deadline, arming.sent);
        assert!(lease.view().own_renewal);
    }

    #[test]
    fn a_hand_over_withholds_renewals_as_long_as_it_lasts_and_no_longer() {
        let mut lease = lease();
        lease.withhold(BootInstant(200));
        lease.withhold_while(true);
        assert!(lease.view().renewing);
        // Cut short or done: no news of the job's end is needed.
        lease.withhold_while(false);
        assert!(!lease.view().renewing);
        // Nor does being told again begin it again.
        lease.withhold_while(true);
        assert!(!lease.view().renewing);
    }

    #[test]
    fn in_pause_there_is_no_deadline_until_a_renewal_ends_it() {
        let (mut lease, me) = (lease(), MemberName::from("n1"));
        lease.sending(Nonce(1), BootInstant(100));
        let before = deadline_in(lease.take_in(&held(1, 1), &me, limit, BootInstant(150)));
        lease.armed(before.epoch, before.deadline, before.sent);
        lease.sending(Nonce(2), BootInstant(300));
        let mut paused = held(2, 2);
        paused.leader.as_mut().unwrap().paused = true;
        let given = lease.take_in(&paused, &me, limit, BootInstant(350));
        assert_eq!(given, Some(ForGuard::Disarm { epoch: Epoch(3), renewals: 2 }));
        assert_eq!((lease.view().deadline, lease.view().armed), (None, None));
        lease.sending(Nonce(3), BootInstant(500));
        let after = deadline_in(lease.take_in(&held(3, 3), &me, limit, BootInstant(550)));
        assert_eq!(after.deadline, BootInstant(1500));
    }

    #[test]
    fn losing_the_record_takes_every_right() {
        let (mut lease, me) = (lease(), MemberName::from("n1"));
        lease.sending(Nonce(1), BootInstant(100));
        let arming = deadline_in(lease.take_in(&held(1, 1), &me, limit, BootInstant(150)));
        lease.armed(arming.epoch, arming.deadline, arming.sent);
        let mut revoked = held(1, 1);
        revoked.leader.as_mut().unwrap().state = LeaseState::Revoked;
        lease.take_in(&revoked, &me, limit, BootInstant(160));
        assert_eq!(lease.view().deadline, None);
        // An answer of the guard that comes late gives nothing back.
        lease.armed(arming.epoch, arming.deadline, arming.sent);
        assert_eq!(lease.view().armed, None);
    }
}
