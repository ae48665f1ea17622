//! Groups of nodes over loopback, ports 24600 to 24699.

#![allow(clippy::unwrap_used)]

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::{Member, PATIENCE, leader, members, renewal, settled, until};
use howdah_consensus::{Fatal, ProposeError};
use howdah_core::{Command, NodeId, Outcome, WallTime};
use howdah_rpc::raft::raft_client::RaftClient;
use howdah_rpc::raft::{Envelope, JoinRequest, JoinResponse};

fn ids(members: &[Member]) -> Vec<NodeId> {
    members.iter().map(|member| member.status().node_id).collect()
}

fn start_all(members: &mut [Member]) {
    members.iter_mut().for_each(Member::start);
}

fn upsert(name: &str, node_id: NodeId) -> Command {
    let member = howdah_core::Member { node_id, ..howdah_core::Member::default() };
    Command::UpsertMember { name: name.into(), member, at: WallTime(1) }
}

#[test]
fn exactly_one_group_is_founded_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (round, order) in orders.into_iter().enumerate() {
        let root = tempfile::tempdir().unwrap();
        let mut members = members(root.path(), 24600, 3);
        for at in order {
            members[at].start();
            std::thread::sleep(Duration::from_millis(rand::random_range(0..400)));
        }
        let all = settled(&members, 3);
        assert_eq!(all.len(), 3, "order {round}");
        assert!(all.iter().all(|status| status.cluster_id == all[0].cluster_id));
    }
}

#[test]
fn exactly_one_group_is_founded_though_members_are_killed_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let dir = root.path().join(round.to_string());
        let mut members = members(&dir, 24605, 3);
        start_all(&mut members);
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(rand::random_range(0..250)));
            let at = rand::random_range(0..3);
            members[at].kill();
            members[at].start();
        }
        settled(&members, 3);
    }
}

#[test]
fn a_restart_of_all_keeps_group_ids_and_state() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24610, 3);
    start_all(&mut members);
    let before = settled(&members, 3);
    let proposed = members[0].propose(upsert("n1", before[0].node_id));
    assert_eq!(proposed.outcome, Outcome::Applied);
    members.iter_mut().for_each(Member::kill);
    start_all(&mut members);
    let after = settled(&members, 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.node_id, before.cluster_id), (after.node_id, after.cluster_id));
    }
    for member in &members {
        until("the applied member", || {
            let applied = member.node().applied();
            let applied = applied.borrow();
            let known = applied.state.members.get(&"n1".into())?.node_id;
            (known == before[0].node_id && applied.index >= proposed.index).then_some(())
        });
    }
}

#[test]
fn an_orderly_end_hands_on_and_lets_the_store_be_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24615, 3);
    start_all(&mut members);
    settled(&members, 3);
    let first = leader(&members);
    let running = members[first].running.as_ref().unwrap();
    running.runtime.block_on(running.node.hand_on_leadership());
    until("another leader", || {
        members.iter().position(|member| member.status().is_leader).filter(|at| *at != first)
    });
    settled(&members, 3);
    let id = members[first].status().node_id;
    let running = members[first].running.as_ref().unwrap();
    running.runtime.block_on(running.node.shutdown()).unwrap();
    assert_eq!(*running.node.is_fatal().borrow(), None, "an orderly end is no failure");
    members[first].kill();
    members[first].start();
    settled(&members, 3);
    assert_eq!(members[first].status().node_id, id);
}

#[test]
fn a_killed_leader_is_replaced_and_followers_forward() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24620, 3);
    start_all(&mut members);
    settled(&members, 3);
    let first = leader(&members);
    let follower = (first + 1) % 3;
    let proposed = members[follower].propose(renewal(1));
    members[first].kill();
    let second = until("another leader", || {
        members.iter().position(|m| m.running.is_some() && m.status().is_leader)
    });
    assert_ne!(first, second);
    let other = 3 - first - second;
    let next = members[other].propose(renewal(2));
    assert!(next.index > proposed.index);
    assert!(matches!(next.outcome, Outcome::Rejected(_)), "there is no lease to renew");
    members[first].start();
    settled(&members, 3);
    until("the old leader catches up", || {
        (members[first].node().applied().borrow().index >= next.index).then_some(())
    });
}

#[test]
fn without_a_quorum_nothing_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24625, 3);
    start_all(&mut members);
    settled(&members, 3);
    let last = leader(&members);
    for at in (0..3).filter(|at| *at != last) {
        members[at].kill();
    }
    until("the leader notices", || (!members[last].status().quorum).then_some(()));
    let running = members[last].running.as_ref().unwrap();
    let proposed = running.node.propose(renewal(1), Duration::from_secs(1));
    let error = running.runtime.block_on(proposed).unwrap_err();
    assert!(matches!(error, ProposeError::NotReady(_) | ProposeError::Unknown(_)), "{error}");
}

#[test]
fn a_wiped_member_comes_back_as_a_new_node() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24630, 3);
    start_all(&mut members);
    settled(&members, 3);
    let former = ids(&members);
    members[2].kill();
    members[2].wipe();
    members[2].start();
    let fresh = members[2].status().node_id;
    assert_ne!(fresh, former[2]);
    let all = until("the new node votes, the former one is gone", || {
        let all = settled(&members, 3);
        let voters: Vec<NodeId> = all[0].voters.iter().map(|node| node.node_id).collect();
        (voters.contains(&fresh) && !voters.contains(&former[2])).then_some(all)
    });
    assert_eq!(all[2].cluster_id, all[0].cluster_id);
    let applied = members[0].node().applied();
    assert!(applied.borrow().state.tombstones.contains(&former[2]));
}

/// Copies what a member has on its disk.
fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_store(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

#[test]
fn an_older_copy_that_is_put_back_is_noticed_and_its_node_removed() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24680, 3);
    start_all(&mut members);
    settled(&members, 3);
    let first = leader(&members);
    let back = (first + 1) % 3;
    let node_id = members[back].status().node_id;
    let older = root.path().join("older");
    members[back].kill();
    copy_store(&members[back].dir, &older);
    members[back].start();
    settled(&members, 3);
    for at in 0..20 {
        members[first].propose(renewal(at));
    }
    settled(&members, 3);
    let has = members[first].node().applied().borrow().index;
    until("it holds all of that", || {
        (members[back].node().applied().borrow().index >= has).then_some(())
    });
    members[back].kill();
    members[back].wipe();
    copy_store(&older, &members[back].dir);
    members[back].start();
    until("it is told", || {
        matches!(&*members[back].node().is_fatal().borrow(), Some(Fatal::Removed(_))).then_some(())
    });
    // The others go on, the one that led before all.
    assert_eq!(*members[first].node().is_fatal().borrow(), None);
    assert_eq!(leader(&members), first);
    until("it votes no more", || {
        let status = members[first].status();
        (status.voters.iter().all(|node| node.node_id != node_id) && status.quorum).then_some(())
    });
    // With its directory moved away it is welcome, as somebody else.
    members[back].kill();
    members[back].wipe();
    members[back].start();
    let all = settled(&members, 3);
    assert_ne!(all[back].node_id, node_id);
}

#[test]
fn a_removed_node_is_told_and_stops() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24635, 3);
    start_all(&mut members);
    settled(&members, 3);
    let gone = (leader(&members) + 1) % 3;
    let node_id = members[gone].status().node_id;
    members[(gone + 1) % 3].propose(Command::RetireNode { node_id });
    until("it is told", || {
        matches!(&*members[gone].node().is_fatal().borrow(), Some(Fatal::Removed(_))).then_some(())
    });
    members[gone].kill();
    settled(&members, 2);
    // It stays removed, also when it comes back with its old store.
    members[gone].start();
    until("it is told again", || {
        matches!(&*members[gone].node().is_fatal().borrow(), Some(Fatal::Removed(_))).then_some(())
    });
}

#[test]
fn a_member_that_lags_far_gets_a_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24640, 3);
    start_all(&mut members);
    settled(&members, 3);
    let late = (leader(&members) + 1) % 3;
    let other = (late + 1) % 3;
    members[late].kill();
    members[other].propose(upsert("mark", NodeId(42)));
    let at = leader(&members);
    let running = members[at].running.as_ref().unwrap();
    let mut last = 0;
    for chunk in 0..70u64 {
        let many = (0..100).map(|at| running.node.propose(renewal(chunk * 100 + at), PATIENCE));
        for proposed in running.runtime.block_on(futures::future::join_all(many)) {
            last = last.max(proposed.unwrap().index);
        }
    }
    let snapshots = |member: &Member| {
        let names = std::fs::read_dir(&member.dir).unwrap();
        names
            .filter(|n| n.as_ref().unwrap().file_name().to_string_lossy().starts_with("snap-"))
            .count()
    };
    until("the leader's snapshot", || (snapshots(&members[at]) > 0).then_some(()));
    assert_eq!(snapshots(&members[late]), 0);
    members[late].start();
    until("it catches up", || {
        let applied = members[late].node().applied();
        let applied = applied.borrow();
        (applied.index >= last && applied.state.members.contains_key(&"mark".into())).then_some(())
    });
    assert!(snapshots(&members[late]) > 0, "it cannot have got the entries one by one");
    settled(&members, 3);
}

fn join(member: &Member, request: JoinRequest) -> JoinResponse {
    let running = member.running.as_ref().unwrap();
    running.runtime.block_on(async {
        let mut client = RaftClient::connect(format!("http://{}", member.address)).await.unwrap();
        client.join(request).await.unwrap().into_inner()
    })
}

#[test]
fn strangers_and_doubles_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24645, 2);
    start_all(&mut members);
    let all = settled(&members, 2);
    let at = leader(&members);
    let double = JoinRequest {
        scope: "demo".into(),
        member: members[1 - at].name.clone(),
        node_id: 4711,
        address: "127.0.0.1:24649".into(),
    };
    let answer = join(&members[at], double.clone());
    assert!(!answer.accepted && answer.reason.contains("lives at"), "{}", answer.reason);
    let answer = join(&members[at], JoinRequest { scope: "other".into(), ..double.clone() });
    assert!(!answer.accepted && answer.reason.contains("not `other`"), "{}", answer.reason);
    let answer = join(&members[1 - at], double);
    assert!(!answer.accepted && answer.leader_address == members[at].address);

    let running = members[at].running.as_ref().unwrap();
    let (ours, me) = (all[at].cluster_id.unwrap().0, all[at].node_id.0);
    let refused = |cluster_id: u64, target: u64| {
        running.runtime.block_on(async {
            let address = format!("http://{}", members[at].address);
            let mut client = RaftClient::connect(address).await.unwrap();
            let envelope =
                Envelope { cluster_id, sender: 5, target, payload: vec![9], encoding: 1 };
            client.vote(envelope).await.unwrap_err()
        })
    };
    assert!(refused(ours + 1, me).message().contains("belongs to group"));
    assert!(refused(ours, me + 1).message().contains("this is node"));
    assert!(refused(ours, me).message().contains("does not decode"));
    settled(&members, 2);
}

#[test]
fn a_member_of_another_cluster_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let mut ours = members(root.path(), 24650, 2);
    start_all(&mut ours);
    settled(&ours, 2);
    let mut strangers = members(&root.path().join("strange"), 24652, 1);
    strangers[0].scope = "other".to_owned();
    strangers[0].start();
    let stranger = settled(&strangers, 1);
    // It was given our addresses by mistake: it founds nothing, and joins nothing.
    let mut lost = members(&root.path().join("lost"), 24653, 1);
    lost[0].scope = "other".to_owned();
    lost[0].name = "n9".to_owned();
    lost[0].partners = vec![ours[0].address.clone(), strangers[0].address.clone()];
    lost[0].start();
    until("it joins its own cluster", || {
        (lost[0].status().cluster_id == stranger[0].cluster_id).then_some(())
    });
    assert_eq!(settled(&ours, 2)[0].voters.len(), 2);
}

#[test]
fn a_single_node_founds_at_once_and_refuses_what_is_too_large() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24655, 1);
    start_all(&mut members);
    let all = settled(&members, 1);
    assert!(all[0].is_leader && all[0].reached == 1);
    let running = members[0].running.as_ref().unwrap();
    let large = upsert(&"x".repeat(70_000), NodeId(1));
    let proposed = running.node.propose(large, PATIENCE);
    let error = running.runtime.block_on(proposed).unwrap_err();
    assert!(matches!(&error, ProposeError::Refused(why) if why.contains("the limit")), "{error}");
}

#[test]
fn a_member_that_moved_is_found_at_its_new_address() {
    let root = tempfile::tempdir().unwrap();
    let mut members = members(root.path(), 24660, 3);
    start_all(&mut members);
    settled(&members, 3);
    members[2].kill();
    members[2].address = "127.0.0.1:24664".to_owned();
    members[2].start();
    until("the group knows the new address", || {
        let all = settled(&members, 3);
        all[0].voters.iter().any(|node| node.address == members[2].address).then_some(())
    });
}
