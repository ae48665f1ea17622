//! What happened since this agent started, counted for `/metrics`.
//!
//! Place: the loop counts; REST reads. Memory only: Prometheus knows counters that begin anew.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use howdah_core::{BootInstant, ChangeKind, ClusterState, Epoch};
use howdah_proxy::{DoorStatus, Doors};

/// Upper bounds of the buckets, milliseconds.
const BOUNDS_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000];

/// Durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let ms = duration.as_millis();
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= u128::from(*bound));
        self.buckets[bucket.unwrap_or(BOUNDS_MS.len())].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Bound (seconds, as a text) and how many lie at or below it; the sum in seconds; the count.
    pub fn read(&self) -> (Vec<(String, u64)>, f64, u64) {
        let (mut below, mut buckets) = (0, Vec::new());
        for (index, bucket) in self.buckets.iter().enumerate() {
            below += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS_MS.get(index).map(|ms| Duration::from_millis(*ms).as_secs_f64());
            buckets.push((bound.map_or("+Inf".to_owned(), |bound| bound.to_string()), below));
        }
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        (buckets, sum, below)
    }
}

/// How a leader came to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With the cluster's first data.
    Bootstrap,
    /// Its predecessor failed, or was made to go.
    Election,
    /// Its predecessor handed over.
    Switchover,
    /// It took back what it had handed over.
    TakeBack,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Bootstrap, Kind::Election, Kind::Switchover, Kind::TakeBack];

    /// As a label.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Bootstrap => "bootstrap",
            Kind::Election => "election",
            Kind::Switchover => "switchover",
            Kind::TakeBack => "take-back",
        }
    }

    fn of(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Bootstrap => Kind::Bootstrap,
            ChangeKind::Election => Kind::Election,
            ChangeKind::Switchover => Kind::Switchover,
            ChangeKind::TakeBack => Kind::TakeBack,
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sending of a renewal to its application.
    pub renewals: Histogram,
    /// Opening of an election to its winner.
    pub elections: Histogram,
    /// No primary that takes writes.
    pub outages: Histogram,
    changes: [AtomicU64; 4],
    rewinds: AtomicU64,
    clones: AtomicU64,
    /// Nanoseconds of the boot clock; 0: none.
    deadline: AtomicU64,
    turned: AtomicU64,
    opened: AtomicU64,
    out_since: AtomicU64,
    seen_epoch: AtomicU64,
    doors: OnceLock<Arc<Doors>>,
    vip: AtomicBool,
    /// Seconds since 1970, of the certificate and of the CA that ends first; 0: there are none.
    ends: [AtomicU64; 2],
}

impl Counters {
    /// This member has these doors.
    pub fn count_doors(&self, doors: Arc<Doors>) {
        // They are opened once.
        let _ = self.doors.set(doors);
    }

    /// Whether this machine has the virtual address.
    pub fn vip_held(&self, held: bool) {
        self.vip.store(held, Ordering::Relaxed);
    }

    /// Whether it has it.
    pub fn has_vip(&self) -> bool {
        self.vip.load(Ordering::Relaxed)
    }

    /// When this member's certificate ends, and the CA that ends first.
    pub fn certificates_end(&self, cert: SystemTime, ca: SystemTime) {
        for (known, at) in self.ends.iter().zip([cert, ca]) {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            known.store(since.as_secs(), Ordering::Relaxed);
        }
    }

    /// The same in seconds since 1970, by file; none without certificates.
    pub fn ends(&self) -> Option<[(&'static str, u64); 2]> {
        let [cert, ca] = self.ends.each_ref().map(|at| at.load(Ordering::Relaxed));
        (cert != 0).then_some([("cert", cert), ("ca", ca)])
    }

    /// How its doors are.
    pub fn doors(&self) -> Vec<DoorStatus> {
        self.doors.get().map(|doors| doors.status()).unwrap_or_default()
    }

    /// Changes of leader of this kind.
    pub fn leader_changes(&self, kind: Kind) -> u64 {
        self.changes[kind as usize].load(Ordering::Relaxed)
    }

    /// Rewinds and copies.
    pub fn copies(&self) -> (u64, u64) {
        (self.rewinds.load(Ordering::Relaxed), self.clones.load(Ordering::Relaxed))
    }

    /// A rewind came to its end.
    pub fn rewound(&self) {
        self.rewinds.fetch_add(1, Ordering::Relaxed);
    }

    /// A copy came to its end.
    pub fn cloned(&self) {
        self.clones.fetch_add(1, Ordering::Relaxed);
    }

    /// The loop turned; until when the guard lets PostgreSQL write, and whether a write can succeed.
    pub fn turn(&self, now: BootInstant, deadline: Option<BootInstant>, writable: bool) {
        self.turned.store(now.0, Ordering::Relaxed);
        self.deadline.store(deadline.map_or(0, |deadline| deadline.0), Ordering::Relaxed);
        let since = BootInstant(self.out_since.load(Ordering::Relaxed));
        if !writable && since.0 == 0 {
            self.out_since.store(now.0, Ordering::Relaxed);
        } else if writable && since.0 != 0 {
            self.outages.observe(now.since(since));
            self.out_since.store(0, Ordering::Relaxed);
        }
    }

    /// The applied state, as the loop sees it.
    pub fn applied(&self, state: &ClusterState, now: BootInstant) {
        let epoch = Epoch(self.seen_epoch.swap(state.epoch().0, Ordering::Relaxed));
        // What happened before this agent started is not its to count.
        if epoch != Epoch(0) {
            for change in state.changes.iter().filter(|change| change.epoch > epoch) {
                self.changes[Kind::of(change.kind) as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
        let opened = BootInstant(self.opened.load(Ordering::Relaxed));
        match (&state.election, opened.0) {
            (Some(_), 0) => self.opened.store(now.0, Ordering::Relaxed),
            (None, since) if since != 0 => {
                self.elections.observe(now.since(opened));
                self.opened.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// How long ago the loop turned.
    pub fn turned(&self, now: BootInstant) -> Duration {
        now.since(BootInstant(self.turned.load(Ordering::Relaxed)))
    }

    /// Until the guard would kill PostgreSQL, milliseconds; none: it holds no deadline.
    pub fn fence_margin_ms(&self, now: BootInstant) -> Option<u128> {
        let deadline = BootInstant(self.deadline.load(Ordering::Relaxed));
        (deadline.0 != 0).then(|| deadline.since(now).as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::default();
        for ms in [1, 5, 6, 70_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let (buckets, sum, count) = histogram.read();
        assert_eq!((buckets[0].1, buckets[1].1, count), (2, 3, 4));
        assert_eq!(buckets.last(), Some(&("+Inf".to_owned(), 4)));
        assert!((sum - 70.012).abs() < 0.001, "{sum}");
    }

    #[test]
    fn an_outage_lasts_until_a_write_can_succeed() {
        let (counters, second) = (Counters::default(), 1_000_000_000);
        counters.turn(BootInstant(second), None, true);
        counters.turn(BootInstant(2 * second), None, false);
        counters.turn(BootInstant(3 * second), None, false);
        counters.turn(BootInstant(4 * second), Some(BootInstant(9 * second)), true);
        let (_, sum, count) = counters.outages.read();
        assert_eq!((sum, count), (2.0, 1));
        assert_eq!(counters.fence_margin_ms(BootInstant(8 * second)), Some(1000));
    }
}
