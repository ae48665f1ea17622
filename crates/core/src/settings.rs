//! Cluster-wide settings, and the arithmetic that makes a lease safe.
//!
//! Place: `Settings` is part of the replicated state, `Timings` is derived from it by every agent.
//! Invariants: a `Timings` that exists satisfies the inequality of rule S2/S3; it is checked in the
//! one constructor. Source of the numbers: docs/protocol.md, "The lease".

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sync::choose::{Mode, Wish};

/// The least time to live of a lease.
pub const TTL_LEAST: Duration = Duration::from_secs(2);
/// Largest relative error of the rate of any member's clock that the lease tolerates, in percent.
pub const CLOCK_RATE_ERROR_PERCENT: u32 = 1;

/// How quick the cluster is meant to be; sets Raft's timers and the default ttl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// ttl 5 s.
    #[default]
    Default,
    /// ttl 2 s: for members in one room, on machines that are not overloaded.
    Fast,
}

impl Profile {
    /// The ttl that this profile begins with.
    pub fn ttl(self) -> Duration {
        match self {
            Profile::Default => Duration::from_secs(5),
            Profile::Fast => TTL_LEAST,
        }
    }
}

/// Cluster-wide settings, kept in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Time to live of the lease, milliseconds.
    pub ttl_ms: u64,
    /// Raft's timers.
    pub profile: Profile,
    /// A standby further behind than this does not become leader by itself, bytes.
    pub maximum_lag_on_failover_bytes: u64,
    /// How long a crashed PostgreSQL may be restarted in place, milliseconds.
    pub primary_start_timeout_ms: u64,
    /// Diverged members are rewound where possible; else always cloned.
    pub use_pg_rewind: bool,
    /// Each member has a replication slot.
    pub use_slots: bool,
    /// PostgreSQL parameters for all members.
    pub parameters: std::collections::BTreeMap<String, String>,
    /// pg_hba lines for all members, after howdah's own.
    pub pg_hba: Vec<String>,
    /// Whether, and how, commits wait for standbys.
    pub synchronous_mode: Mode,
    /// Commits wait also while no standby can be waited for; else they do not, loudly.
    pub synchronous_mode_strict: bool,
    /// How many standbys a commit waits for; at least 1.
    pub synchronous_node_count: u32,
    /// A standby further behind than this is not waited for, bytes; none: however far.
    pub maximum_lag_on_syncnode_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl_ms: 5000,
            profile: Profile::Default,
            maximum_lag_on_failover_bytes: 1024 * 1024,
            primary_start_timeout_ms: 300_000,
            use_pg_rewind: true,
            use_slots: true,
            parameters: std::collections::BTreeMap::new(),
            pg_hba: Vec::new(),
            synchronous_mode: Mode::Off,
            synchronous_mode_strict: false,
            synchronous_node_count: 1,
            maximum_lag_on_syncnode_bytes: None,
        }
    }
}

impl Settings {
    /// The ttl as a duration.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// What is wanted of synchronous replication.
    pub fn sync_wish(&self) -> Wish {
        Wish {
            mode: self.synchronous_mode,
            count: usize::try_from(self.synchronous_node_count).unwrap_or(usize::MAX).max(1),
            lag_most: self.maximum_lag_on_syncnode_bytes,
        }
    }
}

/// A combination of ttl and timers with which two members could both believe that they may write,
/// or with which a healthy holder could lose its lease by one Raft election.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// ttl is below the least.
    #[error("ttl {}ms is below the least, {}ms; raise ttl", ttl.as_millis(), TTL_LEAST.as_millis())]
    TooShort {
        /// What was asked for.
        ttl: Duration,
    },
    /// The holder could not survive a change of Raft leader.
    #[error(
        "ttl {}ms is too short for these timers: a renewal may need {}ms (ttl/5 + 4 x election + 2 \
         x rpc), and the holder has {}ms; raise ttl or use `profile: fast`",
        ttl.as_millis(), needed.as_millis(), available.as_millis()
    )]
    TooTight {
        /// What was asked for.
        ttl: Duration,
        /// What a renewal may need in the worst case.
        needed: Duration,
        /// For how long the holder may act.
        available: Duration,
    },
}

/// How much of a ttl is over on the slowest clock that is tolerated when all of it is over on the
/// fastest: until then the last process of a holder must be gone (rule S2).
pub fn holder_share(ttl: Duration, rate_error_percent: u32) -> Duration {
    ttl * (100 - rate_error_percent) / (100 + rate_error_percent)
}

/// All time limits that follow from the ttl and the profile. Units are those of `Duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long a challenger waits after the last renewal that it applied.
    pub ttl: Duration,
    /// How long the holder may act after the moment before it sent a renewal: L_h of rule S2.
    pub holder: Duration,
    /// The holder renews this often.
    pub renew_every: Duration,
    /// An election stays open at least this long for members that are expected: ttl/5.
    pub window: Duration,
    /// Raft heartbeat.
    pub heartbeat: Duration,
    /// Shortest Raft election timeout.
    pub election_min: Duration,
    /// Longest Raft election timeout.
    pub election_max: Duration,
    /// Limit of one RPC between members.
    pub rpc_timeout: Duration,
    /// Limit of establishing a connection between members.
    pub connect_timeout: Duration,
    /// A fresh connection to PostgreSQL that gets no answer for this long: it is hung.
    pub probe_timeout: Duration,
    /// How long a planned hand-over may take: 2 ttl.
    pub handover: Duration,
}

impl Timings {
    /// The limits for a profile and a ttl.
    ///
    /// # Errors
    /// `TimingError` if the lease would not be safe or not live with them.
    pub fn for_profile(profile: Profile, ttl: Duration) -> Result<Timings, TimingError> {
        let ms = Duration::from_millis;
        let (kill, jitter, heartbeat, election_min, election_max, rpc_timeout, connect_timeout) =
            match profile {
                Profile::Default => (ms(500), ms(200), ms(250), ms(400), ms(600), ms(250), ms(150)),
                Profile::Fast => (ms(300), ms(100), ms(50), ms(120), ms(200), ms(80), ms(50)),
            };
        if ttl < TTL_LEAST {
            return Err(TimingError::TooShort { ttl });
        }
        let share = holder_share(ttl, CLOCK_RATE_ERROR_PERCENT);
        let holder = share.saturating_sub(kill + jitter);
        let needed = ttl / 5 + election_max * 4 + rpc_timeout * 2;
        if needed >= holder {
            return Err(TimingError::TooTight { ttl, needed, available: holder });
        }
        Ok(Timings {
            ttl,
            holder,
            renew_every: ttl / 5,
            window: ttl / 5,
            heartbeat,
            election_min,
            election_max,
            rpc_timeout,
            connect_timeout,
            probe_timeout: (ttl / 2).max(ms(1000)),
            handover: ttl * 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_are_live_with_their_own_ttl() {
        for profile in [Profile::Default, Profile::Fast] {
            let timings = Timings::for_profile(profile, profile.ttl()).unwrap();
            assert!(timings.holder < timings.ttl, "holder must end before a challenger may begin");
        }
    }

    #[test]
    fn what_cannot_be_safe_or_live_is_refused() {
        assert!(matches!(
            Timings::for_profile(Profile::Fast, Duration::from_millis(1999)),
            Err(TimingError::TooShort { .. })
        ));
        assert!(matches!(
            Timings::for_profile(Profile::Default, Duration::from_secs(3)),
            Err(TimingError::TooTight { .. })
        ));
    }
}
