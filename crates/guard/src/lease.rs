//! The deadline: which one is in force, and what it allows. Pure; called by the guard's loop, and by the
//! model of the lease.
//!
//! Invariants: the newest (epoch, renewals) given sets the deadline; one that passed is never
//! extended; a deadline comes earlier only when that was asked for; authority is exactly the armed
//! epoch, before the deadline, on a machine that was not suspended meanwhile.

use std::time::Duration;

use howdah_core::{BootInstant, Epoch};

use crate::clock::Reading;
use crate::wire::{Armed, Refusal};

/// A change of BOOTTIME against MONOTONIC beyond this is a suspend, not jitter.
const SUSPEND: Duration = Duration::from_millis(50);

/// The lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The epoch that was armed.
    pub epoch: Epoch,
    /// Since when it counts as lost.
    pub since: BootInstant,
    /// Whether by a suspend, before the deadline.
    pub suspended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum State {
    #[default]
    Unarmed,
    Armed {
        armed: Armed,
        suspended: Duration,
    },
    /// Until the kill is proven.
    Expired,
}

/// Keeps the deadline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    state: State,
    /// Newest (epoch, renewals) that armed or disarmed.
    newest: Option<(Epoch, u64)>,
}

impl Lease {
    /// No deadline, and none was ever given.
    pub fn new() -> Self {
        Self::default()
    }

    /// The deadline in force.
    pub fn armed(&self) -> Option<Armed> {
        match self.state {
            State::Armed { armed, .. } => Some(armed),
            State::Unarmed | State::Expired => None,
        }
    }

    /// Sets the deadline.
    pub fn arm(&mut self, new: Armed, cut: bool, now: Reading) -> Result<(), Refusal> {
        let not_newer = |(epoch, renewals)| Refusal::NotNewer { epoch, renewals };
        let name = (new.epoch, new.renewals);
        match self.state {
            State::Expired => return Err(Refusal::Expired),
            State::Unarmed => {
                if let Some(newest) = self.newest.filter(|newest| name <= *newest) {
                    return Err(not_newer(newest));
                }
            }
            State::Armed { armed, suspended } => {
                if lost(&armed, suspended, now).is_some() {
                    return Err(Refusal::Expired);
                }
                let newest = (armed.epoch, armed.renewals);
                let later = new.deadline > armed.deadline;
                if name < newest || (name == newest && later) {
                    return Err(not_newer(newest));
                }
                if new.deadline < armed.deadline && !cut {
                    return Err(Refusal::WouldShorten);
                }
            }
        }
        // A cut may end it at once; anything else that is over already came too late.
        if new.deadline <= now.boot && !(cut && self.armed().is_some()) {
            return Err(Refusal::Expired);
        }
        self.newest = Some(name);
        self.state = State::Armed { armed: new, suspended: now.suspended };
        Ok(())
    }

    /// Takes the deadline away.
    pub fn disarm(&mut self, epoch: Epoch, renewals: u64, now: Reading) -> Result<(), Refusal> {
        let name = (epoch, renewals);
        match self.state {
            State::Expired => return Err(Refusal::Expired),
            State::Unarmed => {}
            State::Armed { armed, suspended } => {
                if lost(&armed, suspended, now).is_some() {
                    return Err(Refusal::Expired);
                }
                if name < (armed.epoch, armed.renewals) {
                    let (epoch, renewals) = (armed.epoch, armed.renewals);
                    return Err(Refusal::NotNewer { epoch, renewals });
                }
                self.state = State::Unarmed;
            }
        }
        self.newest = self.newest.max(Some(name));
        Ok(())
    }

    /// Whether something may be done under `epoch` now. Asked right before the effect.
    pub fn authority(&self, epoch: Epoch, now: Reading) -> Result<(), Refusal> {
        match self.state {
            State::Unarmed => Err(Refusal::NotArmed),
            State::Expired => Err(Refusal::Expired),
            State::Armed { armed, suspended } => {
                if lost(&armed, suspended, now).is_some() {
                    Err(Refusal::Expired)
                } else if armed.epoch == epoch {
                    Ok(())
                } else {
                    Err(Refusal::WrongEpoch { armed: armed.epoch })
                }
            }
        }
    }

    /// Whether the lease is lost now; said exactly once.
    pub fn expire(&mut self, now: Reading) -> Option<Lost> {
        let State::Armed { armed, suspended } = self.state else { return None };
        let lost = lost(&armed, suspended, now)?;
        self.state = State::Expired;
        Some(lost)
    }

    /// The kill is proven and another incarnation begins.
    pub fn begin_anew(&mut self) {
        *self = Self::new();
    }

    /// Another agent speaks from now on: nothing that an earlier one sent can still arrive.
    pub fn forget_spent(&mut self) {
        if matches!(self.state, State::Unarmed) {
            self.newest = None;
        }
    }
}

fn lost(armed: &Armed, suspended: Duration, now: Reading) -> Option<Lost> {
    let epoch = armed.epoch;
    if now.boot >= armed.deadline {
        return Some(Lost { epoch, since: armed.deadline, suspended: false });
    }
    let slept = now.suspended.saturating_sub(suspended) > SUSPEND;
    slept.then_some(Lost { epoch, since: now.boot, suspended: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: u64) -> Reading {
        Reading { boot: BootInstant(boot), suspended: Duration::from_secs(3) }
    }

    fn given(epoch: u64, renewals: u64, deadline: u64) -> Armed {
        Armed { epoch: Epoch(epoch), renewals, deadline: BootInstant(deadline) }
    }

    fn armed(epoch: u64, renewals: u64, deadline: u64) -> Lease {
        let mut lease = Lease::new();
        lease.arm(given(epoch, renewals, deadline), false, at(0)).unwrap();
        lease
    }

    #[test]
    fn the_newest_renewal_sets_the_deadline() {
        let older = || Err(Refusal::NotNewer { epoch: Epoch(5), renewals: 10 });
        // given while (5, 10) is armed until 100; cut; the answer; the deadline afterwards
        let cases = [
            (given(5, 11, 120), false, Ok(()), 120),
            (given(6, 0, 120), false, Ok(()), 120),
            (given(5, 9, 120), false, older(), 100),
            (given(4, 99, 120), false, older(), 100),
            (given(5, 10, 120), false, older(), 100),
            (given(5, 10, 120), true, older(), 100),
            (given(5, 10, 100), false, Ok(()), 100),
            (given(5, 11, 90), false, Err(Refusal::WouldShorten), 100),
            (given(5, 10, 90), false, Err(Refusal::WouldShorten), 100),
            (given(5, 11, 90), true, Ok(()), 90),
            (given(5, 10, 90), true, Ok(()), 90),
            (given(5, 9, 90), true, older(), 100),
        ];
        for (new, cut, answer, deadline) in cases {
            let mut lease = armed(5, 10, 100);
            assert_eq!(lease.arm(new, cut, at(50)), answer, "{new:?} cut {cut}");
            assert_eq!(lease.armed().unwrap().deadline, BootInstant(deadline), "{new:?}");
        }
    }

    #[test]
    fn an_expired_deadline_is_never_extended() {
        let mut lease = armed(5, 10, 100);
        assert_eq!(lease.expire(at(99)), None);
        assert_eq!(lease.arm(given(5, 11, 200), false, at(100)), Err(Refusal::Expired));
        assert_eq!(lease.disarm(Epoch(5), 10, at(100)), Err(Refusal::Expired));
        let lost = lease.expire(at(103)).unwrap();
        assert_eq!((lost.epoch, lost.since, lost.suspended), (Epoch(5), BootInstant(100), false));
        assert_eq!(lease.expire(at(104)), None, "said twice");
        assert_eq!(lease.arm(given(6, 0, 200), false, at(104)), Err(Refusal::Expired));
        assert_eq!(lease.disarm(Epoch(6), 0, at(104)), Err(Refusal::Expired));
        lease.begin_anew();
        assert_eq!(lease.arm(given(6, 0, 200), false, at(104)), Ok(()));
    }

    #[test]
    fn a_deadline_that_is_over_arms_nothing() {
        let mut lease = Lease::new();
        assert_eq!(lease.arm(given(1, 1, 50), true, at(50)), Err(Refusal::Expired));
        assert_eq!(lease.armed(), None);
        let mut lease = armed(1, 1, 100);
        assert_eq!(lease.arm(given(1, 2, 40), true, at(50)), Ok(()));
        assert!(lease.expire(at(50)).is_some(), "a cut into the past ends it at once");
    }

    #[test]
    fn what_was_disarmed_arms_no_more() {
        let mut lease = armed(5, 10, 100);
        let older = || Err(Refusal::NotNewer { epoch: Epoch(5), renewals: 10 });
        assert_eq!(lease.disarm(Epoch(5), 9, at(50)), older());
        assert_eq!(lease.disarm(Epoch(5), 10, at(50)), Ok(()));
        assert_eq!(lease.expire(at(1000)), None, "there is no deadline any more");
        assert_eq!(lease.arm(given(5, 10, 2000), false, at(1000)), older());
        assert_eq!(lease.arm(given(5, 11, 2000), false, at(1000)), Ok(()));
        lease.disarm(Epoch(5), 11, at(1000)).unwrap();
        lease.forget_spent();
        assert_eq!(lease.arm(given(1, 0, 2000), false, at(1000)), Ok(()));
    }

    #[test]
    fn authority_is_the_armed_epoch_before_the_deadline() {
        assert_eq!(Lease::new().authority(Epoch(5), at(0)), Err(Refusal::NotArmed));
        let mut lease = armed(5, 10, 100);
        let wrong = Err(Refusal::WrongEpoch { armed: Epoch(5) });
        for (epoch, now, answer) in [
            (5, 99, Ok(())),
            (5, 100, Err(Refusal::Expired)),
            (4, 99, wrong.clone()),
            (6, 99, wrong),
            (6, 100, Err(Refusal::Expired)),
        ] {
            assert_eq!(lease.authority(Epoch(epoch), at(now)), answer, "epoch {epoch} at {now}");
        }
        lease.expire(at(100)).unwrap();
        assert_eq!(lease.authority(Epoch(5), at(99)), Err(Refusal::Expired));
    }

    #[test]
    fn a_suspend_loses_the_lease_before_the_deadline() {
        let slept = |millis| Reading {
            boot: BootInstant(50),
            suspended: Duration::from_secs(3) + Duration::from_millis(millis),
        };
        let mut lease = armed(5, 10, 100);
        assert_eq!(lease.authority(Epoch(5), slept(50)), Ok(()), "jitter");
        assert_eq!(lease.authority(Epoch(5), slept(51)), Err(Refusal::Expired));
        assert_eq!(lease.arm(given(5, 11, 200), false, slept(51)), Err(Refusal::Expired));
        let lost = lease.expire(slept(51)).unwrap();
        assert!(lost.suspended && lost.since == BootInstant(50));
    }
}
