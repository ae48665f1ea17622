//! One running node: openraft, the shared facts, and what is known of the group right now.
//!
//! Place: used by all modules of this crate. State: nothing of its own survives a restart.

use std::sync::Arc;
use std::time::Duration;

use howdah_core::{ClusterId, MemberName, NodeId};
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, Raft, RaftMetrics};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::group::Group;
use crate::store::{Applied, StateMachine};
use crate::types::Types;

/// A node of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNode {
    /// Its id.
    pub node_id: NodeId,
    /// Its member's name.
    pub member: String,
    /// HOST:PORT of its services.
    pub address: String,
}

/// What this node knows of the group right now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// This node.
    pub node_id: NodeId,
    /// The group; none before one was founded or joined.
    pub cluster_id: Option<ClusterId>,
    /// Who leads; none if nobody was heard lately.
    pub leader: Option<NodeId>,
    /// The leader's member name.
    pub leader_name: Option<String>,
    /// The leader's address.
    pub leader_address: Option<String>,
    /// This node leads.
    pub is_leader: bool,
    /// Nodes that vote, by the last membership that is known to be committed.
    pub voters: Vec<GroupNode>,
    /// Nodes that only follow.
    pub learners: Vec<GroupNode>,
    /// Raft's term.
    pub term: u64,
    /// Index of the last log entry.
    pub last_log: u64,
    /// Index of the last applied entry.
    pub last_applied: u64,
    /// Voters that the leader heard lately, itself included; 0 on a follower.
    pub reached: usize,
    /// On the leader: a quorum answered lately. On others: they heard the leader lately.
    pub quorum: bool,
}

pub(crate) struct Core {
    pub group: Arc<Group>,
    pub raft: Raft<Types, StateMachine>,
    pub applied: watch::Receiver<Applied>,
    pub status: watch::Sender<RaftStatus>,
    /// One membership change at a time.
    pub changing: tokio::sync::Mutex<()>,
    heard: watch::Sender<Option<(u64, Instant)>>,
}

impl Core {
    pub fn new(
        group: Arc<Group>,
        raft: Raft<Types, StateMachine>,
        applied: watch::Receiver<Applied>,
    ) -> Self {
        let status = RaftStatus { node_id: NodeId(group.me), ..RaftStatus::default() };
        let (status, _) = watch::channel(status);
        let changing = tokio::sync::Mutex::new(());
        let (heard, _) = watch::channel(None);
        Self { group, raft, applied, status, changing, heard }
    }

    pub fn metrics(&self) -> RaftMetrics<Types> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Whether the group removed that node for good, as far as this node knows.
    pub fn is_removed(&self, node: u64) -> bool {
        self.applied.borrow().state.tombstones.contains(&NodeId(node))
    }

    /// Whose node that is, as far as this node knows.
    pub fn member_of(&self, node: u64) -> Option<MemberName> {
        let metrics = self.raft.metrics();
        let known =
            metrics.borrow_watched().membership_config.membership().get_node(&node).cloned();
        known.map(|peer| MemberName(peer.member))
    }

    pub fn note_heard(&self, sender: u64) {
        self.heard.send_replace(Some((sender, Instant::now())));
    }

    /// Whom this node heard last as a leader, and when.
    pub fn heard_last(&self) -> watch::Receiver<Option<(u64, Instant)>> {
        self.heard.subscribe()
    }

    /// Who leads, by Raft's word, and where.
    pub fn leader(&self) -> Option<(u64, String)> {
        let metrics = self.metrics();
        let leader = metrics.current_leader?;
        let node = metrics.membership_config.get_node(&leader)?;
        Some((leader, node.address.clone()))
    }

    pub fn leader_address(&self) -> Option<String> {
        self.leader().map(|(_, address)| address)
    }

    /// What was heard within this time counts as alive.
    fn recent(&self) -> Duration {
        self.group.options.timings.election_max * 2
    }

    /// Whether this node, as the leader, got an answer from that one lately.
    pub fn heard_lately(&self, node: u64) -> bool {
        answered(&self.metrics(), node, self.recent())
    }

    /// What is known right now.
    pub fn look(&self) -> RaftStatus {
        let metrics = self.metrics();
        let recent = self.recent();
        let membership = metrics.committed_membership_config.membership();
        let node = |id: u64| {
            let known = membership
                .get_node(&id)
                .or_else(|| metrics.membership_config.get_node(&id))
                .cloned()
                .unwrap_or_default();
            GroupNode { node_id: NodeId(id), member: known.member, address: known.address }
        };
        // In the middle of a change, who votes before and after it: until it is committed, a node
        // that is to vote does not help a quorum yet.
        let configs = membership.get_joint_config();
        let votes = |id: &u64| !configs.is_empty() && configs.iter().all(|c| c.contains(id));
        let (voters, learners): (Vec<u64>, Vec<u64>) =
            membership.nodes().map(|(id, _)| *id).partition(votes);
        let is_leader = metrics.current_leader == Some(self.group.me);
        let (reached, quorum) = if is_leader {
            reach(&metrics, self.group.me, recent)
        } else {
            let heard = self.heard.borrow().is_some_and(|(sender, at)| {
                Some(sender) == metrics.current_leader && at.elapsed() < recent
            });
            (0, heard)
        };
        let leader = metrics.current_leader.filter(|_| quorum || is_leader).map(node);
        let identity = self.group.identity();
        RaftStatus {
            node_id: NodeId(self.group.me),
            cluster_id: (identity.cluster_id != 0 && !identity.founding)
                .then_some(ClusterId(identity.cluster_id)),
            leader: leader.as_ref().map(|node| node.node_id),
            leader_name: leader.as_ref().map(|node| node.member.clone()),
            leader_address: leader.map(|node| node.address),
            is_leader,
            voters: voters.into_iter().map(node).collect(),
            learners: learners.into_iter().map(node).collect(),
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            last_applied: metrics.last_applied.map_or(0, |id| id.index),
            reached,
            quorum,
        }
    }
}

/// Whether a leader got an answer from that node within `recent`.
fn answered(metrics: &RaftMetrics<Types>, node: u64, recent: Duration) -> bool {
    let beat = metrics.heartbeat.as_ref().and_then(|beats| beats.get(&node));
    beat.is_some_and(|at| at.as_ref().is_some_and(|at| at.elapsed() < recent))
}

/// Voters that a leader heard within `recent`, and whether a quorum did answer in that time.
fn reach(metrics: &RaftMetrics<Types>, me: u64, recent: Duration) -> (usize, bool) {
    let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
    let heard = |id: &&u64| **id == me || answered(metrics, **id, recent);
    let reached = voters.iter().filter(heard).count();
    let acked = metrics.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < recent);
    (reached, acked || voters == [me])
}
