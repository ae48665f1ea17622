//! The guard rails: rules whose lack the simulation must notice.
//!
//! Always on. Only a build with the feature `sabotage`, which no release has, can switch one off, for
//! the thread that asks, so that a test can see that something catches it: a check that nothing can fail
//! shows nothing. A member that is built so decides with the rails that `HOWDAH_TEST_RAILS_OFF` leaves on.

/// One switch for each rail; on is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rails {
    /// A renewal moves the deadline only by the reading that belongs to its nonce (S2).
    pub nonce: bool,
    /// A holder's deadline leaves room for clocks of different rates (S2).
    pub drift_margin: bool,
    /// A guard cuts its deadline to a shorter ttl before that is proposed; the largest does not stay (S2).
    pub cut_first: bool,
    /// Nobody votes before its promise is proven (S7).
    pub promise: bool,
    /// As many votes as the commits' acknowledgements ask for, not one less (S7).
    pub votes: bool,
    /// The log asks more of elections before PostgreSQL asks less of commits (S8).
    pub log_first: bool,
    /// The log asks less of elections only after everything is flushed as PostgreSQL asks now (S8).
    pub flushed_first: bool,
    /// PostgreSQL asks less of commits only while no other change of the log can be on its way (S8).
    pub settled: bool,
    /// Clients stay out until standbys have what was there before (S9).
    pub barrier: bool,
    /// They stay out until that is in the log as well, not only on the standbys (S9).
    pub barrier_applied: bool,
    /// Contents that were replaced are somebody else's (data ids).
    pub data_id: bool,
    /// Ballots set the bar before those that may not lead are left out (S7).
    pub bar_first: bool,
    /// A timeline is followed only after it was recorded (4.5).
    pub recorded_first: bool,
    /// A timeline number that was reserved is never drawn again (4.5).
    pub numbers_once: bool,
}

/// All of them on.
pub const ALL: Rails = Rails {
    nonce: true,
    drift_margin: true,
    cut_first: true,
    promise: true,
    votes: true,
    log_first: true,
    flushed_first: true,
    settled: true,
    barrier: true,
    barrier_applied: true,
    data_id: true,
    bar_first: true,
    recorded_first: true,
    numbers_once: true,
};

/// Which are on: all of them.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub const fn rails() -> Rails {
    ALL
}

#[cfg(feature = "sabotage")]
pub use switched::{rails, switch_promise_off, without};

#[cfg(feature = "sabotage")]
mod switched {
    use std::cell::Cell;

    use super::{ALL, Rails};

    thread_local! {
        static RAILS: Cell<Rails> = const { Cell::new(ALL) };
    }

    /// Which are on, for this thread.
    pub fn rails() -> Rails {
        RAILS.get()
    }

    /// Nobody promises any more, for the rest of this thread's life.
    pub fn switch_promise_off() {
        RAILS.set(Rails { promise: false, ..ALL });
    }

    /// Does something with these rails only.
    pub fn without<T>(rails: Rails, work: impl FnOnce() -> T) -> T {
        RAILS.set(rails);
        let result = work();
        RAILS.set(ALL);
        result
    }
}
