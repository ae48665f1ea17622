//! How a fresh node gets into a group: exactly one is ever founded, whoever starts first.
//!
//! Place: a task from `Node::start` until this node belongs to a group.
//! State: the identity in the store: group 0 (fresh), a group with `founding` (a claim), a group.
//! Invariants: a claim is durable before the partners are asked once more, and a group is
//! initialised only when all of them then answered that they have neither group nor claim; so of
//! two nodes that both claim, each would have to have asked before the other claimed, which cannot
//! be. Of two claims the one with the higher (token, id) is dropped. A node that sees a group joins
//! it.
//! Failure: killed before the claim: fresh. Killed after it: it asks again, and founds, or drops
//! the claim for a group, or a better claim, that is there now. Killed after initialising: the log
//! says so, and the claim is settled at the next start.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures::future::join_all;
use howdah_rpc::raft::{HelloResponse, JoinRequest, JoinResponse};
use openraft::error::{InitializeError, RaftError};
use tokio::time::sleep;

use crate::core::Core;
use crate::group::Fatal;
use crate::store::Identity;
use crate::types::Peer;

/// Pause between rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a leader may take to take a node in.
const JOIN_LIMIT: Duration = Duration::from_secs(8);

/// What the partners say, in sum.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is a group.
    Join(Vec<String>),
    /// All answered, nobody has a group or a claim, and this node is first in line.
    Claim,
    /// This node's claim stands unopposed.
    Found,
    /// Somebody's claim goes before this node's.
    Drop,
    /// Not all answered, or somebody else is to found.
    Wait,
}

/// Decides on the partners' answers; `None` stands for a partner that did not answer.
pub(crate) fn judge(me: &Identity, answers: &[(String, Option<HelloResponse>)]) -> Next {
    let others: Vec<_> = answers
        .iter()
        // A partner address may lead back here.
        .filter(|(_, answer)| answer.as_ref().is_none_or(|answer| answer.node_id != me.node_id))
        .collect();
    let ours = |answer: &HelloResponse| answer.scope == me.scope;
    let mut groups = Vec::new();
    let mut quiet = true;
    let mut first = true;
    let mut opposed = false;
    for (address, answer) in others {
        let Some(answer) = answer.as_ref().filter(|answer| ours(answer)) else {
            quiet = false;
            continue;
        };
        let before_me = (answer.bootstrap_token, answer.node_id) < (me.token, me.node_id);
        if answer.cluster_id != 0 && !answer.founding {
            if !answer.leader_address.is_empty() {
                groups.push(answer.leader_address.clone());
            }
            groups.push(address.clone());
        } else if answer.founding {
            quiet = false;
            opposed |= before_me;
        }
        first &= !before_me;
    }
    match (groups.is_empty(), me.founding) {
        (false, _) => Next::Join(groups),
        (true, true) if opposed => Next::Drop,
        (true, true) if quiet => Next::Found,
        (true, false) if quiet && first => Next::Claim,
        (true, _) => Next::Wait,
    }
}

/// Runs until this node belongs to a group.
pub(crate) async fn run(core: &Core) {
    if let Err(error) = try_run(core).await {
        core.group.end(Fatal::Storage(format!("bootstrap: {error}")));
    }
}

async fn try_run(core: &Core) -> io::Result<()> {
    let group = &core.group;
    loop {
        let identity = group.identity();
        if identity.cluster_id != 0 && (!identity.founding || is_initialised(core).await) {
            return group.save_identity(Identity { founding: false, ..identity }).await;
        }
        let partners = &group.options.partner_addrs;
        let answers = join_all(
            partners
                .iter()
                .map(|address| async move { (address.clone(), group.hello(address).await) }),
        );
        let answers = answers.await;
        warn_of_strangers(&identity, &answers);
        match judge(&identity, &answers) {
            Next::Join(addresses) => {
                if let Some(cluster_id) = ask_to_join(core, addresses).await {
                    let joined = Identity { cluster_id, founding: false, ..identity };
                    return group.save_identity(joined).await;
                }
            }
            Next::Claim => {
                let cluster_id = rand::random_range(1..u64::MAX);
                tracing::info!(cluster_id, "this node means to found the group");
                let claim = Identity { cluster_id, founding: true, ..identity };
                group.save_identity(claim).await?;
                // Asked again at once, now that others can see the claim.
                continue;
            }
            Next::Found => {
                initialise(core).await?;
                continue;
            }
            Next::Drop => {
                let fresh = Identity { cluster_id: 0, founding: false, ..identity };
                group.save_identity(fresh).await?;
            }
            Next::Wait => {}
        }
        sleep(PAUSE).await;
    }
}

fn warn_of_strangers(me: &Identity, answers: &[(String, Option<HelloResponse>)]) {
    for (address, answer) in answers {
        if let Some(answer) = answer.as_ref().filter(|answer| answer.scope != me.scope) {
            tracing::warn!(
                address,
                theirs = answer.scope,
                ours = me.scope,
                "a partner belongs to another cluster; correct `scope` or the partner addresses"
            );
        }
    }
}

async fn is_initialised(core: &Core) -> bool {
    core.raft.is_initialized().await.unwrap_or(false)
}

async fn initialise(core: &Core) -> io::Result<()> {
    let options = &core.group.options;
    let me = Peer { member: options.member.0.clone(), address: options.self_addr.clone() };
    match core.raft.initialize(BTreeMap::from([(core.group.me, me)])).await {
        Ok(()) => {
            tracing::info!(cluster_id = core.group.cluster_id(), "raft group founded");
            Ok(())
        }
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Asks the leader, wherever it is, to take this node in; answers the group when it did.
pub(crate) async fn ask_to_join(core: &Core, addresses: Vec<String>) -> Option<u64> {
    let mut addresses = addresses.into_iter();
    let mut next = addresses.next();
    let mut hops = 0;
    while let Some(address) = next.take() {
        hops += 1;
        match ask(core, &address).await {
            Some(answer) if answer.accepted && answer.cluster_id != 0 => {
                tracing::info!(address, cluster_id = answer.cluster_id, "raft group joined");
                return Some(answer.cluster_id);
            }
            Some(answer) => {
                tracing::warn!(address, reason = answer.reason, "not taken into the raft group");
                if !answer.leader_address.is_empty() && answer.leader_address != address && hops < 4
                {
                    next = Some(answer.leader_address);
                    continue;
                }
            }
            None => {}
        }
        next = addresses.next();
    }
    None
}

async fn ask(core: &Core, address: &str) -> Option<JoinResponse> {
    let mut client = core.group.client(address).ok()?;
    let options = &core.group.options;
    let request = JoinRequest {
        scope: options.scope.clone(),
        member: options.member.0.clone(),
        node_id: core.group.me,
        address: options.self_addr.clone(),
    };
    let answer = tokio::time::timeout(JOIN_LIMIT, client.join(request)).await;
    Some(answer.ok()?.ok()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(founding: bool) -> Identity {
        Identity {
            scope: "demo".into(),
            member: "a".into(),
            node_id: 5,
            token: 50,
            cluster_id: u64::from(founding),
            founding,
        }
    }

    fn partner(node_id: u64, token: u64, cluster_id: u64, founding: bool) -> HelloResponse {
        HelloResponse {
            scope: "demo".into(),
            member: "b".into(),
            node_id,
            cluster_id,
            leader_address: String::new(),
            bootstrap_token: token,
            founding,
            removed: false,
        }
    }

    fn judged(me: &Identity, answers: Vec<Option<HelloResponse>>) -> Next {
        let named = answers.into_iter().enumerate().map(|(at, answer)| (format!("p{at}"), answer));
        judge(me, &named.collect::<Vec<_>>())
    }

    #[test]
    fn only_the_first_in_line_claims_and_only_when_all_answered() {
        let (later, earlier) = (partner(6, 60, 0, false), partner(7, 40, 0, false));
        assert_eq!(judged(&me(false), vec![]), Next::Claim, "a single node founds at once");
        assert_eq!(judged(&me(false), vec![Some(later.clone())]), Next::Claim);
        assert_eq!(judged(&me(false), vec![Some(later.clone()), None]), Next::Wait);
        assert_eq!(judged(&me(false), vec![Some(later), Some(earlier)]), Next::Wait);
    }

    #[test]
    fn a_claim_becomes_a_group_only_unopposed() {
        let fresh = partner(6, 60, 0, false);
        assert_eq!(judged(&me(true), vec![Some(fresh.clone())]), Next::Found);
        assert_eq!(judged(&me(true), vec![Some(fresh), None]), Next::Wait);
        assert_eq!(judged(&me(true), vec![Some(partner(6, 60, 9, true))]), Next::Wait);
        assert_eq!(judged(&me(true), vec![Some(partner(6, 40, 9, true))]), Next::Drop);
        assert_eq!(judged(&me(false), vec![Some(partner(6, 60, 9, true))]), Next::Wait);
    }

    #[test]
    fn a_group_is_joined_whatever_this_node_meant_to_do() {
        for founding in [false, true] {
            let mut member = partner(6, 60, 9, false);
            member.leader_address = "leader".into();
            let answers = vec![None, Some(member)];
            assert_eq!(
                judged(&me(founding), answers),
                Next::Join(vec!["leader".into(), "p1".into()])
            );
        }
    }

    #[test]
    fn another_cluster_and_oneself_are_no_partners() {
        let mut foreign = partner(6, 60, 9, false);
        foreign.scope = "other".into();
        assert_eq!(judged(&me(false), vec![Some(foreign)]), Next::Wait);
        assert_eq!(judged(&me(false), vec![Some(partner(5, 50, 0, false))]), Next::Claim);
    }
}
