//! The clocks that deadlines are measured with.
//!
//! Place: the guard's loop, and the agent's edge. CLOCK_BOOTTIME goes on while the machine is
//! suspended, CLOCK_MONOTONIC does not: a change of their distance is a suspend.

use std::time::Duration;

use howdah_core::BootInstant;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// Pause between two readings beyond which their distance says nothing.
const READING_MAX: u64 = 1_000_000;

/// Reads CLOCK_BOOTTIME; a handle for callers that take their clock as a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl BootClock {
    /// CLOCK_BOOTTIME now.
    pub fn now(&self) -> BootInstant {
        boottime_now()
    }
}

/// CLOCK_BOOTTIME now: since the machine's start, suspends included.
pub fn boottime_now() -> BootInstant {
    BootInstant(nanos(read(ClockId::CLOCK_BOOTTIME)))
}

/// CLOCK_MONOTONIC now: since the machine's start, suspends left out.
pub fn monotonic_now() -> Duration {
    Duration::from_nanos(nanos(read(ClockId::CLOCK_MONOTONIC)))
}

/// One look at both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// CLOCK_BOOTTIME.
    pub boot: BootInstant,
    /// How long the machine was suspended so far.
    pub suspended: Duration,
}

impl Reading {
    /// Reads both clocks close together, so that being preempted does not look like a suspend.
    pub fn take() -> Self {
        let mut best: Option<(u64, Self)> = None;
        for _ in 0..5 {
            let before = nanos(read(ClockId::CLOCK_MONOTONIC));
            let boot = boottime_now();
            let after = nanos(read(ClockId::CLOCK_MONOTONIC));
            let width = after.saturating_sub(before);
            let suspended = Duration::from_nanos(boot.0.saturating_sub(after));
            if best.is_none_or(|(least, _)| width < least) {
                best = Some((width, Self { boot, suspended }));
            }
            if width <= READING_MAX {
                break;
            }
        }
        best.map_or(Self { boot: boottime_now(), suspended: Duration::ZERO }, |(_, reading)| {
            reading
        })
    }
}

fn read(clock: ClockId) -> TimeSpec {
    clock_gettime(clock).expect("Linux has had this clock since 2.6.39")
}

fn nanos(time: TimeSpec) -> u64 {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_forward_together() {
        let first = Reading::take();
        let second = Reading::take();
        assert!(second.boot >= first.boot);
        assert!(second.suspended.abs_diff(first.suspended) < Duration::from_millis(20));
        assert!(
            boottime_now().0 >= nanos(read(ClockId::CLOCK_MONOTONIC)).saturating_sub(1_000_000)
        );
    }
}
