//! The two clocks that matter: one that goes on in suspend, and one that does not.

use howdah_core::BootInstant;
use nix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> u64 {
    // Both clocks exist on every kernel that this runs on; a zero would only end a lease early.
    let time = clock_gettime(clock).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// CLOCK_BOOTTIME: counts suspend.
pub fn boottime_now() -> BootInstant {
    BootInstant(read(ClockId::CLOCK_BOOTTIME))
}

/// CLOCK_MONOTONIC, in nanoseconds: does not count suspend.
pub fn monotonic_now() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// By how much the first is ahead of the second; it grows only in suspend.
pub(crate) fn suspended() -> std::time::Duration {
    let (boot, mono) = (boottime_now().0, monotonic_now());
    std::time::Duration::from_nanos(boot.saturating_sub(mono))
}
