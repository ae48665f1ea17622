//! The guard rails: rules whose lack the simulation must notice.
//!
//! Always on. Only a build with the feature `sabotage`, which no release has, can switch one off, for
//! the thread that asks, so that a test can see that something catches it: a check that nothing can fail
//! shows nothing. A member that is built so decides without the one that
//! `HOWDAH_TEST_RAIL_OFF` names; what it applies keeps all of them.

/// Names each rail once.
macro_rules! rails {
    ($($(#[$meaning:meta])* $rail:ident,)*) => {
        /// One switch for each rail; on is safe.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Rails {
            $($(#[$meaning])* pub $rail: bool,)*
        }

        /// All of them on.
        pub const ALL: Rails = Rails { $($rail: true,)* };

        impl Rails {
            /// All but the one of this name.
            #[cfg(feature = "sabotage")]
            pub fn all_but(name: &str) -> Option<Rails> {
                match name {
                    $(stringify!($rail) => Some(Rails { $rail: false, ..ALL }),)*
                    _ => None,
                }
            }
        }
    };
}

rails! {
    /// A renewal moves the deadline only by the reading that belongs to its nonce (S2).
    nonce,
    /// A holder's deadline leaves room for clocks of different rates (S2).
    drift_margin,
    /// A guard cuts its deadline to a shorter ttl before that is proposed; the largest does not stay (S2).
    cut_first,
    /// Nobody votes before its promise is proven (S7).
    promise,
    /// As many votes as the commits' acknowledgements ask for, not one less (S7).
    votes,
    /// The log asks more of elections before PostgreSQL asks less of commits (S8).
    log_first,
    /// The log asks less of elections only after everything is flushed as PostgreSQL asks now (S8).
    flushed_first,
    /// PostgreSQL asks less of commits only while no other change of the log can be on its way (S8).
    settled,
    /// Clients stay out until standbys have what was there before (S9).
    barrier,
    /// They stay out until that is in the log as well, not only on the standbys (S9).
    barrier_applied,
    /// Contents that were replaced are somebody else's (data ids).
    data_id,
    /// Ballots set the bar before those that may not lead are left out (S7).
    bar_first,
    /// A timeline is followed only after it was recorded (4.5).
    recorded_first,
    /// A timeline number that was reserved is never drawn again (4.5).
    numbers_once,
}

/// Which are on: all of them.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub const fn rails() -> Rails {
    ALL
}

#[cfg(feature = "sabotage")]
pub use switched::{rails, switch_to, without};

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

    /// Only these, for the rest of this thread's life.
    pub fn switch_to(rails: Rails) {
        RAILS.set(rails);
    }

    /// Does something with these rails only.
    pub fn without<T>(rails: Rails, work: impl FnOnce() -> T) -> T {
        RAILS.set(rails);
        let result = work();
        RAILS.set(ALL);
        result
    }
}
