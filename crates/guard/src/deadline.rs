//! The deadline: which one is in force, and whether something that needs authority may be done now.
//! Pure; time comes in.

use howdah_core::{BootInstant, Epoch};

use crate::wire::{Armed, Refusal};

/// The deadline in force.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadline {
    armed: Option<Armed>,
    /// Epochs up to here ended by a deadline that passed; none of them comes back.
    burnt: Option<Epoch>,
}

impl Deadline {
    /// What is in force.
    pub fn armed(&self) -> Option<Armed> {
        self.armed
    }

    /// Takes a newer deadline.
    pub fn arm(&mut self, new: Armed, cut: bool, now: BootInstant) -> Result<(), Refusal> {
        let late = new.deadline <= now || self.expired(now);
        if late || self.burnt.is_some_and(|epoch| new.epoch <= epoch) {
            return Err(Refusal::Expired);
        }
        if let Some(known) = self.armed {
            let (old, young) = ((known.epoch, known.renewals), (new.epoch, new.renewals));
            if young < old {
                return Err(Refusal::Stale);
            }
            if young == old && new.deadline < known.deadline && !cut {
                return Ok(());
            }
        }
        self.armed = Some(new);
        Ok(())
    }

    /// No deadline from now on, unless a newer one was given than the caller knows.
    pub fn disarm(&mut self, epoch: Epoch, renewals: u64, now: BootInstant) -> Result<(), Refusal> {
        let Some(known) = self.armed else { return Ok(()) };
        if self.expired(now) {
            return Err(Refusal::Expired);
        }
        if (epoch, renewals) < (known.epoch, known.renewals) {
            return Err(Refusal::Stale);
        }
        self.armed = None;
        Ok(())
    }

    /// Whether something that needs authority under `epoch` may be done at this moment.
    pub fn check(&self, epoch: Epoch, now: BootInstant) -> Result<(), Refusal> {
        match self.armed {
            None => Err(Refusal::NotArmed),
            Some(known) if known.epoch != epoch => Err(Refusal::WrongEpoch(known.epoch)),
            Some(known) if now >= known.deadline => Err(Refusal::Expired),
            Some(_) => Ok(()),
        }
    }

    /// Whether the deadline has passed.
    pub fn expired(&self, now: BootInstant) -> bool {
        self.armed.is_some_and(|known| now >= known.deadline)
    }

    /// The deadline passed and was acted on: its epoch is over for good.
    pub fn burn(&mut self) -> Option<Epoch> {
        let epoch = self.armed.take()?.epoch;
        self.burnt = self.burnt.max(Some(epoch));
        Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(epoch: u64, renewals: u64, deadline: u64) -> Armed {
        Armed { epoch: Epoch(epoch), renewals, deadline: BootInstant(deadline) }
    }

    #[test]
    fn only_the_newest_deadline_counts_and_none_comes_after_one_that_passed() {
        let mut deadline = Deadline::default();
        let at = BootInstant;
        assert_eq!(deadline.arm(armed(3, 1, 100), false, at(0)), Ok(()));
        assert_eq!(deadline.arm(armed(3, 0, 500), false, at(1)), Err(Refusal::Stale));
        assert_eq!(deadline.arm(armed(3, 2, 200), false, at(2)), Ok(()));
        assert_eq!(deadline.check(Epoch(3), at(199)), Ok(()));
        assert_eq!(deadline.check(Epoch(2), at(3)), Err(Refusal::WrongEpoch(Epoch(3))));
        assert_eq!(deadline.check(Epoch(3), at(200)), Err(Refusal::Expired));
        assert_eq!(deadline.arm(armed(3, 3, 900), false, at(200)), Err(Refusal::Expired));
        assert_eq!(deadline.disarm(Epoch(3), 2, at(200)), Err(Refusal::Expired));
        assert_eq!(deadline.burn(), Some(Epoch(3)));
        assert_eq!(deadline.arm(armed(3, 4, 900), false, at(300)), Err(Refusal::Expired));
        assert_eq!(deadline.arm(armed(4, 0, 900), false, at(300)), Ok(()));
    }

    #[test]
    fn a_late_answer_of_the_same_renewal_shortens_only_when_it_says_so() {
        let mut deadline = Deadline::default();
        let now = BootInstant(0);
        deadline.arm(armed(1, 1, 100), false, now).unwrap();
        deadline.arm(armed(1, 1, 50), false, now).unwrap();
        assert_eq!(deadline.armed().unwrap().deadline, BootInstant(100));
        deadline.arm(armed(1, 1, 50), true, now).unwrap();
        assert_eq!(deadline.armed().unwrap().deadline, BootInstant(50));
    }

    #[test]
    fn without_a_deadline_nothing_that_needs_authority_is_done() {
        let deadline = Deadline::default();
        assert_eq!(deadline.check(Epoch(1), BootInstant(0)), Err(Refusal::NotArmed));
    }
}
