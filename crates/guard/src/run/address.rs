//! The virtual address, as far as the loop has to do with it: held under an epoch, and never longer than PostgreSQL may
//! be writable.

use howdah_core::Epoch;

use super::Guard;
use crate::clock::Reading;
use crate::log::log;
use crate::vip::Keeper;
use crate::wire::{Armed, Event, Refusal};

/// The keeper, and under which epoch the agent wants the address.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub keeper: Option<Keeper>,
    pub epoch: Option<Epoch>,
}

impl Guard {
    /// The agent wants it: its primary is open.
    pub(super) fn hold_vip(&mut self, epoch: Epoch) -> Result<(), Refusal> {
        if self.address.keeper.is_none() {
            return Err(Refusal::NoVip);
        }
        if self.address.epoch == Some(epoch) {
            // Asked once more, by the next agent: it was not lost meanwhile.
            return Ok(());
        }
        if self.postmaster.is_none() || self.killing.is_some() {
            return Err(Refusal::NoPostmaster);
        }
        self.lease.authority(epoch, Reading::take())?;
        self.address.epoch = Some(epoch);
        self.prolong_vip(self.lease.armed());
        Ok(())
    }

    /// Another deadline; none: the cluster is in maintenance, and the server goes on without one.
    pub(super) fn prolong_vip(&mut self, armed: Option<Armed>) {
        let Some(epoch) = self.address.epoch else { return };
        if armed.is_some_and(|armed| armed.epoch != epoch) {
            return self.let_vip_go();
        }
        if let Some(keeper) = self.address.keeper.as_mut() {
            keeper.hold(armed.map(|armed| armed.deadline));
        }
    }

    /// Whatever the reason is: nobody is to come here any more.
    pub(super) fn let_vip_go(&mut self) {
        self.address.epoch = None;
        if let Some(keeper) = self.address.keeper.as_mut() {
            keeper.let_go();
        }
    }

    /// In each turn: what could not be said is said again, and news are passed on.
    pub(super) fn tend_keeper(&mut self) {
        if self.address.keeper.as_mut().is_some_and(Keeper::carry_on) {
            self.tell_of_vip();
        }
    }

    /// Tells the agent, also one that was just started.
    pub(super) fn tell_of_vip(&mut self) {
        if let Some(keeper) = &self.address.keeper {
            let said = keeper.said.clone();
            self.tell(Event::Vip { held: said.held, trouble: said.trouble });
        }
    }

    /// Whether the child that ended was the keeper.
    pub(super) fn keeper_ended(&mut self, pid: i32, status: &str) -> bool {
        let Some(keeper) = self.address.keeper.as_mut().filter(|one| one.pid() == Some(pid)) else {
            return false;
        };
        keeper.ended(status);
        self.address.epoch = None;
        log!("the keeper of the virtual address ended ({status}); it is not held any more");
        self.tell_of_vip();
        true
    }
}
