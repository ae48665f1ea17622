//! Names and numbers with one meaning each: members, epochs, incarnations, data ids, timelines, LSNs.
//!
//! Place: used by every room. Pure. Nothing here survives a restart by itself; the types are stored
//! inside records of other rooms, so their serialised form (integers, strings) must not change.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a member: one agent and its PostgreSQL. Unique in a cluster, chosen by people.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberName(pub String);

impl MemberName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for MemberName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);
    };
}

number!(
    /// Raft node id. Random, drawn for each fresh store, never used again after it was removed.
    NodeId(u64)
);
number!(
    /// Which Raft group this is; drawn once at bootstrap, and anew by `raft recover`.
    ClusterId(u64)
);
number!(
    /// Fencing number of the leader record: one more with each grant. Zero: nobody ever led.
    Epoch(u64)
);
number!(
    /// One life of one guard process. Random; a guard that ended never comes back under it.
    Incarnation(u64)
);
number!(
    /// The contents of one data directory. A new one is drawn before its first byte is replaced.
    DataId(u64)
);
number!(
    /// One attempt to renew the lease; binds the applied record to the clock reading before sending.
    Nonce(u64)
);
number!(
    /// PostgreSQL's timeline number.
    Timeline(u32)
);
number!(
    /// A position in the write-ahead log, in bytes.
    Lsn(u64)
);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! shown_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                u64::from_str_radix(text, 16).map(Self)
            }
        }
    )*};
}

shown_as_hex!(NodeId, ClusterId, Incarnation, DataId, Nonce);

impl Epoch {
    /// The next one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Lsn {
    /// Bytes from `earlier` to here; 0 if `earlier` lies behind.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF))
    }
}

/// A text is not an LSN of the form `16/B374D848`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no LSN; one looks like 0/3000148")]
pub struct ParseLsnError {
    /// What was given.
    pub text: String,
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let hex = |part: &str| {
            // A sign is none of PostgreSQL's.
            let plain = part.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(part, 16).ok())?
        };
        let parsed = text
            .split_once('/')
            .and_then(|(high, low)| Some(Lsn(u64::from(hex(high)?) << 32 | u64::from(hex(low)?))));
        parsed.ok_or_else(|| ParseLsnError { text: text.to_owned() })
    }
}

/// A position on a timeline.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The timeline on which `lsn` lies.
    pub timeline: Timeline,
    /// The position there.
    pub lsn: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", self.lsn, self.timeline)
    }
}

/// One line of a PostgreSQL history file: `timeline` ended at `end`, where its child begins.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct HistoryEntry {
    /// The parent timeline.
    pub timeline: Timeline,
    /// Where its child forks off.
    pub end: Lsn,
}

/// A reading of CLOCK_BOOTTIME of one machine, in nanoseconds. Never compared between machines.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootInstant(pub u64);

impl BootInstant {
    /// Time that passed from `earlier` to here; zero if `earlier` lies ahead.
    pub fn since(self, earlier: BootInstant) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<std::time::Duration> for BootInstant {
    type Output = BootInstant;

    fn add(self, span: std::time::Duration) -> BootInstant {
        BootInstant(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since 1970, for people to read. No decision compares two of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_back_what_it_prints() {
        for lsn in [Lsn(0), Lsn(0x0300_0148), Lsn(0x16_B374_D848), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
        for bad in ["", "0", "0/", "/0", "x/1", "1/100000000", "0/1 ", "+1/2", "1/+2", "1/2/3"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?} was taken as an LSN");
        }
    }
}
