//! Numbers that follow from a seed, so that a run can be repeated.

use std::time::Duration;

/// A small generator: the same seed gives the same numbers.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// In `0..sides`.
    pub fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides
    }

    /// Between the two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let step = (most.saturating_sub(least)) / 1000;
        least + step * u32::try_from(self.throw(1001)).unwrap_or(0)
    }
}

/// A number from the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
