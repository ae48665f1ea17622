//! Outages: how long nothing was acknowledged, by fault.

use std::time::Duration;

use super::Verdict;

/// A stretch of the run in which something was broken, nanoseconds since its begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// What was broken.
    pub fault: String,
    /// From when on.
    pub from: u64,
    /// Until the cluster was whole again.
    pub to: u64,
}

/// The longest time without an acknowledgement that reaches into the band. `acked` is sorted.
pub fn longest(acked: &[u64], band: &Band) -> Duration {
    let first = acked.partition_point(|at| *at <= band.from);
    // What a fault opens begins with the last acknowledgement before it.
    let mut last = first.checked_sub(1).map_or(band.from, |before| acked[before]);
    let mut longest = 0;
    for at in acked[first..].iter().take_while(|at| **at <= band.to) {
        longest = longest.max(at - last);
        last = *at;
    }
    // One that is still open at the end of the band ends with the next acknowledgement.
    let next = acked[first..].iter().find(|at| **at > band.to).copied().unwrap_or(band.to);
    Duration::from_nanos(longest.max(next.saturating_sub(last)))
}

/// A run with less than half of the acknowledgements that its quiet seconds promise proves nothing.
pub fn enough(acks: usize, expected: usize) -> Verdict {
    if acks * 2 < expected {
        return Verdict::Unknown(format!(
            "only {acks} operations were acknowledged where {expected} were expected"
        ));
    }
    Verdict::Good(format!("{acks} operations were acknowledged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_reaches_beyond_its_band() {
        let acked = [0, 10, 20, 500, 510, 900];
        let band = |from, to| Band { fault: "cut".into(), from, to };
        let nanos = |band| longest(&acked, &band).as_nanos();
        assert_eq!(nanos(band(25, 600)), 480);
        assert_eq!(nanos(band(25, 400)), 480);
        assert_eq!(nanos(band(505, 600)), 390);
        assert_eq!(nanos(band(910, 950)), 50);
        assert_eq!(longest(&[], &band(5, 50)).as_nanos(), 45);
    }

    #[test]
    fn a_run_without_work_proves_nothing() {
        assert!(enough(50, 100).is_good());
        assert!(matches!(enough(49, 100), Verdict::Unknown(_)));
    }
}
