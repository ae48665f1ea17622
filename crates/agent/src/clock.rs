//! The one place that reads clocks.
//!
//! Place: the loop and its jobs read time through `Clock`, so that tests can drive it.
//! Invariants: decisions use `boot` alone; `wall` is for people to read.

use howdah_core::{BootInstant, WallTime};

/// Reads time.
pub trait Clock: Send + Sync {
    /// CLOCK_BOOTTIME: goes on in suspend.
    fn boot(&self) -> BootInstant;
    /// Wall-clock time, for people.
    fn wall(&self) -> WallTime;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> BootInstant {
        howdah_guard::clock::boottime_now()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the edge that the ban points to")]
    fn wall(&self) -> WallTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        WallTime(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}
