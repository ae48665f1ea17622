//! Builds what `decide` sees.

use std::collections::BTreeMap;

use howdah_core::view::{NodeView, PeerData, PeerView, View};
use howdah_core::{ClusterState, DataId, Epoch, Incarnation, Lsn, MemberName, Position, Timeline};
use howdah_rpc::peer::Status;

use super::Shell;
use crate::board::Heard;

impl Shell {
    /// What is known now.
    pub(super) fn view<'a>(&self, state: &'a ClusterState) -> View<'a> {
        let (now, timings) = (self.context.clock.boot(), self.context.timings);
        let heard = self.context.board.heard();
        let peers: BTreeMap<MemberName, PeerView> = state
            .members
            .iter()
            .filter(|(name, _)| **name != self.context.me)
            .filter_map(|(name, member)| {
                let Heard { status, at } = heard.get(name)?;
                // A member that came back as a new node speaks for itself only.
                (status.node_id == member.node_id.0)
                    .then(|| (name.clone(), peer(status, now.since(*at))))
            })
            .collect();
        View {
            state,
            me: self.context.me.clone(),
            now,
            timings,
            node: NodeView {
                incarnation: self.lease.incarnation,
                started: self.started,
                stopping: self.stopping,
                stopping_since: self.stopping_since,
                members_expected: self.context.config.raft.partner_addrs.len() + 1,
                raft_quorum: self.quorum,
            },
            lease: self.lease.view(),
            local: self.local.view(now, timings.probe_timeout),
            peers,
        }
    }
}

pub(crate) fn peer(status: &Status, age: std::time::Duration) -> PeerView {
    PeerView {
        age,
        incarnation: Incarnation(status.incarnation),
        data: match status.data_dir.as_str() {
            "empty" => Some(PeerData::Empty),
            "cluster" => Some(PeerData::Cluster(status.system_identifier)),
            "unusable" => Some(PeerData::Unusable),
            _ => None,
        },
        running: status.running,
        in_recovery: status.in_recovery,
        streaming_epoch: Epoch(status.streaming_epoch),
        position: Position { timeline: Timeline(status.timeline), lsn: Lsn(status.receive_lsn) },
        data_id: DataId(status.data_id),
        eligible: status.eligible,
        open: status.open_for_clients,
        checkpointed: status.checkpointed_since_promotion,
        stopping: status.stopping,
        oldest_wal: (status.oldest_wal_lsn > 0).then_some(Lsn(status.oldest_wal_lsn)),
        bootstrapping: status.state == "initializing new cluster",
    }
}
