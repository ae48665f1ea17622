//! Who belongs to the group: joining, removing, and the autopilot of the leader.
//!
//! Place: `join` is called by the service, `tend` by the leader's tending task.
//! State: Raft's own membership, and the tombstones in the replicated state.
//! Invariants: one change at a time, only on the leader, with a limit; a node id that was removed
//! never comes back; a new node follows as a learner before it votes.
//! Failure: every step is decided anew from membership and tombstones, so a change that a leader
//! left half way is finished by its successor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use howdah_core::{ClusterId, Command, NodeId};
use howdah_rpc::raft::{JoinRequest, JoinResponse};
use openraft::{ChangeMembers, RaftMetrics};

use crate::core::Core;
use crate::propose::propose;
use crate::types::{Peer, Types};

/// How long one change may take; afterwards it is looked at anew.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);
/// A learner that lacks at most this many entries is caught up.
const CAUGHT_UP: u64 = 50;

type Change = ChangeMembers<u64, Peer>;

fn refuse(reason: impl Into<String>) -> JoinResponse {
    JoinResponse { reason: reason.into(), ..JoinResponse::default() }
}

/// Changes the membership; the caller holds `changing`.
async fn change(core: &Core, change: Change, retain: bool) -> Result<(), String> {
    let text = change.to_string();
    match tokio::time::timeout(CHANGE_LIMIT, core.raft.change_membership(change, retain)).await {
        Err(_) => Err(format!("{text}: not done within {}s", CHANGE_LIMIT.as_secs())),
        Ok(Err(error)) => Err(format!("{text}: {error}")),
        Ok(Ok(_)) => {
            tracing::info!(change = text, "raft membership changed");
            Ok(())
        }
    }
}

/// Takes a node in, if this node leads. The same request may come any number of times.
pub(crate) async fn join(core: &Core, asker: JoinRequest) -> JoinResponse {
    let _one_at_a_time = core.changing.lock().await;
    let metrics = core.metrics();
    if metrics.current_leader != Some(core.group.me) {
        return JoinResponse {
            reason: "this node does not lead".to_owned(),
            leader_address: core.leader_address().unwrap_or_default(),
            ..JoinResponse::default()
        };
    }
    let peer = Peer { member: asker.member.clone(), address: asker.address.clone() };
    let membership = metrics.membership_config.membership();
    let known = membership.get_node(&asker.node_id).cloned();
    let taken = match known {
        Some(known) if known == peer => Ok(()),
        Some(_) => {
            let nodes = BTreeMap::from([(asker.node_id, peer)]);
            change(core, Change::SetNodes(nodes), true).await
        }
        None => {
            let former = membership
                .nodes()
                .find(|(_, node)| node.member == asker.member)
                .map(|(id, node)| (*id, node.clone()));
            if let Some((id, node)) = former {
                return refuse(replace(core, id, &node).await);
            }
            add_learner(core, asker.node_id, peer).await
        }
    };
    match taken {
        Ok(()) => JoinResponse {
            accepted: true,
            cluster_id: core.group.cluster_id(),
            ..JoinResponse::default()
        },
        Err(why) => refuse(why),
    }
}

async fn add_learner(core: &Core, id: u64, peer: Peer) -> Result<(), String> {
    tracing::info!(member = peer.member, address = peer.address, node_id = id, "node joins");
    match tokio::time::timeout(CHANGE_LIMIT, core.raft.add_learner(id, peer, false)).await {
        Err(_) => Err("the group did not take it in in time".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) => Ok(()),
    }
}

/// A member came back as a new node: retires its former one, unless that is alive. Answers why the
/// new one must ask again.
async fn replace(core: &Core, id: u64, node: &Peer) -> String {
    let alive = core.group.hello(&node.address).await;
    if alive.is_some_and(|answer| answer.node_id == id) {
        return format!(
            "member `{}` lives at {} as node {}; give this one another name",
            node.member,
            node.address,
            NodeId(id)
        );
    }
    // One lost answer is no proof of death: the heartbeats must have ceased too.
    if core.heard_lately(id) {
        return format!("its former node {} was heard a moment ago; ask again", NodeId(id));
    }
    let retire = Command::RetireNode { node_id: NodeId(id) };
    match propose(core, &retire, CHANGE_LIMIT).await {
        Ok(_) => format!("its former node {} is being removed; ask again", NodeId(id)),
        Err(error) => format!("its former node {} could not be removed: {error}", NodeId(id)),
    }
}

/// One step that the leader may take now.
fn next_step(core: &Core, metrics: &RaftMetrics<Types>) -> Option<(Change, bool)> {
    let membership = metrics.membership_config.membership();
    let configs = membership.get_joint_config();
    if let [.., last] = configs.as_slice()
        && configs.len() > 1
    {
        // Left half way by a former leader.
        return Some((Change::ReplaceAllVoters(last.clone()), true));
    }
    let options = &core.group.options;
    let me = Peer { member: options.member.0.clone(), address: options.self_addr.clone() };
    if membership.get_node(&core.group.me).is_some_and(|known| *known != me) {
        // This member was given another address, and won an election before anybody could note it.
        return Some((Change::SetNodes(BTreeMap::from([(core.group.me, me)])), true));
    }
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let learners: BTreeSet<u64> = membership.learner_ids().collect();
    let removed = |id: &&u64| **id != core.group.me && core.is_removed(**id);
    if let Some(gone) = voters.iter().find(removed) {
        return Some((Change::RemoveVoters(BTreeSet::from([*gone])), false));
    }
    if let Some(gone) = learners.iter().find(removed) {
        return Some((Change::RemoveNodes(BTreeSet::from([*gone])), false));
    }
    if voters.len() >= options.max_voters {
        return None;
    }
    let replication = metrics.replication.as_ref()?;
    let wanted = metrics.last_log_index.unwrap_or(0).saturating_sub(CAUGHT_UP);
    let ready = learners.iter().find(|id| {
        replication.get(id).copied().flatten().is_some_and(|matched| matched.index >= wanted)
    })?;
    Some((Change::AddVoterIds(BTreeSet::from([*ready])), true))
}

/// A node that lacks what it had acknowledged may have voted, too, for what it knows nothing of: it is one no more.
async fn retire_who_went_back(core: &Core) {
    let gone_back = core.group.memory().gone_back();
    for id in gone_back.into_iter().filter(|id| !core.is_removed(*id)) {
        let retire = Command::RetireNode { node_id: NodeId(id) };
        if let Err(error) = propose(core, &retire, CHANGE_LIMIT).await {
            tracing::warn!(node = %NodeId(id), %error, "a node whose log went back is not removed yet");
        }
    }
}

/// The leader's round: finishes the founding, then brings the membership one step further. Answers
/// whether it is settled: nothing is left to do, and only news can change that.
pub(crate) async fn tend(core: &Core) -> bool {
    let status = core.look();
    if !status.is_leader || !status.quorum {
        return false;
    }
    if core.applied.borrow().state.cluster_id == ClusterId(0) {
        let found = Command::FoundGroup {
            cluster_id: ClusterId(core.group.cluster_id()),
            scope: core.group.options.scope.clone(),
            settings: core.group.options.settings.clone(),
        };
        if let Err(error) = propose(core, &found, CHANGE_LIMIT).await {
            tracing::warn!(%error, "the group could not be founded yet");
        }
        return false;
    }
    retire_who_went_back(core).await;
    if core.is_removed(core.group.me) {
        // Whoever takes over removes this node.
        crate::tending::hand_on(core).await;
        return false;
    }
    let Ok(_one_at_a_time) = core.changing.try_lock() else { return false };
    let metrics = core.metrics();
    let Some((step, retain)) = next_step(core, &metrics) else {
        // Learners that are to vote catch up without any news.
        let full = status.voters.len() >= core.group.options.max_voters;
        return status.learners.is_empty() || full;
    };
    if let Err(why) = change(core, step, retain).await {
        tracing::warn!(why, "raft membership change");
    }
    false
}
