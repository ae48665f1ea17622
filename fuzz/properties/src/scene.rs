//! What a member knows, out of an input: the log's state, its own words, and those of others.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_agent::board::Heard;
use howdah_agent::counters::Counters;
use howdah_agent::status::Sources;
use howdah_consensus::RaftStatus;
use howdah_core::{BootInstant, ClusterState, MemberName};
use howdah_rpc::peer::Status;
use prost::Message;

/// Now, on this member's clock.
pub(crate) const NOW: BootInstant = BootInstant(100_000_000_000);

/// All that a picture is made of.
pub(crate) struct Scene {
    pub state: ClusterState,
    pub me: MemberName,
    pub own: Status,
    pub heard: BTreeMap<MemberName, Heard>,
    raft: RaftStatus,
    counters: Counters,
}

impl Scene {
    /// The state as JSON; then this member's words; then each other's, as they came over the wire. Members are
    /// those that the words name. `None`: one of them does not decode.
    pub fn of(parts: &[&[u8]]) -> Option<Self> {
        let (state, words) = parts.split_first()?;
        let state: ClusterState = serde_json::from_slice(state).ok()?;
        let mut words = words.iter().map(|words| Status::decode(*words).ok());
        let own = words.next().unwrap_or_else(|| Some(Status::default()))?;
        let mut heard = BTreeMap::new();
        for status in words {
            let status = status?;
            let at =
                BootInstant(NOW.0.saturating_sub(status.replay_lag_ms.wrapping_mul(1_000_000)));
            heard.insert(MemberName(status.member.clone()), Heard { status, at });
        }
        let me = MemberName(own.member.clone());
        let raft = RaftStatus { quorum: own.quorum, ..RaftStatus::default() };
        Some(Self { state, me, own, heard, raft, counters: Counters::default() })
    }

    /// What answers are made of.
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            state: &self.state,
            me: &self.me,
            own: &self.own,
            heard: &self.heard,
            raft: &self.raft,
            counters: &self.counters,
            turned: Duration::ZERO,
            now: NOW,
        }
    }
}
