//! Properties of `apply`, elections and lineage, over random sequences of commands: some fit the
//! present state, some are late or repeated copies of earlier ones.

use howdah_core::election::{self, count};
use howdah_core::{
    Ballot, ClusterId, ClusterState, Command, DataId, Epoch, HistoryEntry, Incarnation,
    LeaderRecord, LeaseState, Lsn, Member, MemberName, NodeId, Nonce, OpenReason, Outcome,
    Position, Rejection, Settings, SyncState, Tags, Timeline, WallTime,
};
use howdah_testkit::invariant;
use proptest::prelude::*;

const NAMES: [&str; 4] = ["n1", "n2", "n3", "n4"];
const AT: WallTime = WallTime(0);

/// One step: a command of some kind that mostly fits the state, or a copy of an earlier one.
#[derive(Clone, Debug)]
enum Step {
    New { kind: u8, member: usize, other: usize, bytes: u64, odd: bool },
    Copy { back: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        3 => 0u8..3, 1 => Just(3u8), 4 => 5u8..8, 2 => Just(8u8), 2 => Just(9u8),
        3 => Just(10u8), 4 => Just(11u8), 2 => Just(12u8), 1 => Just(13u8),
        1 => Just(14u8), 1 => Just(15u8),
    ];
    let odd = prop::bool::weighted(0.15);
    let new = (kind, 0usize..4, 0usize..4, 0u64..4096, odd).prop_map(
        |(kind, member, other, bytes, odd)| Step::New { kind, member, other, bytes, odd },
    );
    let copy = (1usize..12).prop_map(|back| Step::Copy { back });
    prop::collection::vec(prop_oneof![6 => new, 1 => copy], 1..120)
}

fn name(index: usize) -> MemberName {
    NAMES[index].into()
}

fn life(index: usize) -> Incarnation {
    Incarnation(100 + index as u64)
}

/// A state in which n1 leads, and where each member's data stands.
struct World {
    state: ClusterState,
    ends: Vec<(Position, Vec<HistoryEntry>)>,
    past: Vec<Command>,
}

impl World {
    fn new() -> Self {
        let start = Position { timeline: Timeline(1), lsn: Lsn(0x0300_0000) };
        let mut world = Self {
            state: ClusterState::default(),
            ends: vec![(start, Vec::new()); NAMES.len()],
            past: Vec::new(),
        };
        let settings = Settings::default();
        world.commit(Command::FoundGroup { cluster_id: ClusterId(1), scope: "p".into(), settings });
        for index in 0..NAMES.len() {
            let node_id = NodeId(index as u64 + 1);
            let tags = Tags { failover_priority: index as i32 % 3, ..Tags::default() };
            let member = Member { node_id, tags, ..Member::default() };
            world.commit(Command::UpsertMember { name: name(index), member, at: AT });
        }
        let (member, incarnation) = (name(0), life(0));
        world.commit(Command::GrantBootstrap { attempt: 1, member, incarnation, at: AT });
        world.commit(Command::FinishBootstrap {
            attempt: 1,
            member: name(0),
            incarnation: life(0),
            system_identifier: 7,
            position: start,
            history: Vec::new(),
            at: AT,
        });
        world
    }

    fn commit(&mut self, command: Command) -> Outcome {
        self.past.push(command.clone());
        self.state.apply(self.past.len() as u64, command)
    }

    fn ballot(&self, index: usize, odd: bool, priority: i32) -> Ballot {
        let (position, history) = self.ends[index].clone();
        Ballot {
            incarnation: life(index),
            data_id: DataId(index as u64),
            position,
            history,
            barred: (odd && index == 1).then(|| "odd".to_owned()),
            bar_only: odd && index == 2,
            priority,
        }
    }

    fn command(&mut self, step: &Step) -> Command {
        let (kind, member, other, bytes, odd) = match *step {
            Step::New { kind, member, other, bytes, odd } => (kind, member, other, bytes, odd),
            Step::Copy { back } => {
                return self.past[self.past.len().saturating_sub(back)..][0].clone();
            }
        };
        self.ends[member].0.lsn.0 += bytes;
        match kind {
            0..=4 => self.of_lease(kind, member, bytes, odd),
            5..=8 => self.of_election(kind, member, other, odd),
            _ => self.of_change(kind, member, other, odd),
        }
    }

    /// The record, its holder's index, and the epoch that a command names: an odd one is late.
    fn record(&self, odd: bool) -> (LeaderRecord, usize, Epoch) {
        let record = self.state.leader.clone().unwrap_or_default();
        let epoch = if odd { Epoch(record.epoch.0.saturating_sub(1)) } else { record.epoch };
        let holder = index_of(&record.holder);
        (record, holder, epoch)
    }

    fn of_lease(&self, kind: u8, member: usize, bytes: u64, odd: bool) -> Command {
        let (record, holder, epoch) = self.record(odd);
        let who = if odd { member } else { holder };
        match kind {
            0 | 1 => Command::Renew {
                epoch,
                incarnation: life(who),
                nonce: Nonce(bytes),
                ttl_ms: 5000,
                wal_lsn: self.ends[holder].0.lsn,
                paused: kind == 1,
                seen: record.renewals,
            },
            2 => Command::Release {
                epoch,
                renewals: record.renewals,
                holder: name(who),
                wal_lsn: odd.then_some(Lsn(bytes)),
                reason: "r".into(),
                at: AT,
            },
            _ => Command::OpenElection {
                observed_epoch: epoch,
                observed_renewals: record.renewals,
                reason: OpenReason::LeaseRanOut,
                by: name(member),
                at: AT,
            },
        }
    }

    fn of_election(&self, kind: u8, member: usize, other: usize, odd: bool) -> Command {
        let epoch = self.state.epoch().next();
        if kind == 8 {
            return Command::CloseElection { epoch, waited_ms: 7, not_heard: Vec::new(), at: AT };
        }
        let ballot = self.ballot(member, odd, other as i32 % 2);
        Command::CastBallot { epoch, member: name(member), ballot, at: AT }
    }

    fn of_change(&mut self, kind: u8, member: usize, other: usize, odd: bool) -> Command {
        let (record, holder, epoch) = self.record(odd);
        let who = if odd { member } else { holder };
        let to = self.state.switchover.as_ref().map_or(name(other), |pending| pending.to.clone());
        if kind == 11 && !odd {
            self.ends[index_of(&to)] = self.ends[holder].clone();
        }
        let giver = self.state.transfer.as_ref().map_or(name(other), |t| t.from.clone());
        match kind {
            9 => {
                // The holder promotes, and says what PostgreSQL wrote.
                let (end, mut history) = self.ends[holder].clone();
                if end.timeline < record.reserved {
                    history.push(HistoryEntry { timeline: end.timeline, end: end.lsn });
                    let begun = Position { timeline: record.reserved, lsn: end.lsn };
                    self.ends[holder] = (begun, history.clone());
                }
                let timeline = Timeline(record.reserved.0 + u32::from(odd));
                Command::RecordTimeline { epoch, incarnation: life(who), timeline, history, at: AT }
            }
            10 => {
                // Another copies the holder, and so gets onto its timeline.
                self.ends[member] = self.ends[holder].clone();
                Command::RequestSwitchover { epoch, from: name(who), to: name(other), at: AT }
            }
            11 => Command::TransferLease {
                from: name(holder),
                incarnation: life(holder),
                epoch,
                renewals: record.renewals,
                shutdown_lsn: self.ends[holder].0.lsn,
                ballot: self.ballot(index_of(&to), odd, 1),
                to,
                at: AT,
            },
            12 => {
                let incarnation = life(index_of(&giver));
                Command::TakeBack { epoch, by: giver, incarnation, at: AT }
            }
            14 => Command::SetPause { paused: odd, at: AT },
            15 => Command::SetFence { member: name(member), fenced: odd, at: AT },
            _ => {
                let candidate = Some(name(other));
                let (allow_data_loss, holder_is_stopped) = (odd, other == 0);
                Command::Failover { epoch, candidate, allow_data_loss, holder_is_stopped, at: AT }
            }
        }
    }
}

fn index_of(member: &MemberName) -> usize {
    NAMES.iter().position(|name| *name == member.as_str()).unwrap_or(0)
}

fn check_election(state: &ClusterState) -> Result<(), TestCaseError> {
    let Some(open) = &state.election else { return Ok(()) };
    let counted = count(state, open);
    let Ok(winner) = &counted.winner else { return Ok(()) };
    let chosen: Vec<_> = counted.verdicts.iter().filter(|verdict| verdict.chosen).collect();
    prop_assert_eq!(chosen.len(), 1);
    prop_assert_eq!(&chosen[0].member, winner);
    prop_assert_eq!(&chosen[0].ineligible, &None);
    for verdict in counted.verdicts.iter().filter(|verdict| verdict.ineligible.is_none()) {
        prop_assert!(verdict.reach <= chosen[0].reach, "{} reaches farther", verdict.member);
    }
    Ok(())
}

fn check_lineage(state: &ClusterState) -> Result<(), TestCaseError> {
    let chain = state.timelines.chain();
    let mut history: Vec<HistoryEntry> = Vec::new();
    let mut begin = Lsn(0);
    for (timeline, end) in chain {
        let last = end.unwrap_or(Lsn(begin.0 + 999));
        prop_assert!(begin <= last, "timeline {} ends before it begins", timeline);
        for lsn in [begin, Lsn(begin.0.midpoint(last.0)), last] {
            let at = Position { timeline, lsn };
            prop_assert_eq!(state.timelines.diverges_at(at, &history), None, "{} is shared", at);
        }
        if let Some(end) = end {
            let past = Position { timeline, lsn: Lsn(end.0 + 1) };
            let fork = Some(Position { timeline, lsn: end });
            prop_assert_eq!(state.timelines.diverges_at(past, &history), fork);
            history.push(HistoryEntry { timeline, end });
        }
        begin = last;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_is_committed_the_invariants_hold(steps in steps()) {
        let mut world = World::new();
        let mut grants = std::collections::BTreeMap::new();
        for step in &steps {
            let command = world.command(step);
            let before = world.state.clone();
            let outcome = world.commit(command.clone());
            let after = &world.state;
            let found = invariant::violations(&before, after);
            prop_assert!(found.is_empty(), "{:?}: {}", command, found.join("; "));
            if matches!(outcome, Outcome::Rejected(_)) {
                prop_assert_eq!(&before, after, "{:?} was rejected", command);
            }
            if let Some(record) = &after.leader {
                let grant = (record.holder.clone(), record.incarnation, record.reserved);
                let known = grants.entry(record.epoch).or_insert_with(|| grant.clone());
                prop_assert_eq!(&*known, &grant, "epoch {} was granted twice", record.epoch);
                if record.state == LeaseState::Revoked {
                    let open = after.election.as_ref().map(|open| open.epoch);
                    prop_assert_eq!(open, Some(record.epoch.next()));
                }
            }
            check_election(after)?;
            check_lineage(after)?;
        }
        let numbers: std::collections::BTreeSet<_> = grants.values().map(|g| g.2).collect();
        prop_assert_eq!(numbers.len(), grants.len(), "a timeline number was drawn twice");
        let text = serde_json::to_string(&world.state).expect("it can be written");
        let back: ClusterState = serde_json::from_str(&text).expect("it can be read");
        prop_assert_eq!(back, world.state);
    }

    /// The same log gives the same state, wherever it is applied.
    #[test]
    fn a_replayed_log_gives_the_same_state(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            let command = world.command(step);
            world.commit(command);
        }
        let mut again = ClusterState::default();
        for (index, command) in world.past.iter().enumerate() {
            let text = serde_json::to_string(command).expect("it can be written");
            let command: Command = serde_json::from_str(&text).expect("it can be read");
            again.apply(index as u64 + 1, command);
        }
        prop_assert_eq!(again, world.state);
    }

    #[test]
    fn the_order_of_ballots_does_not_matter(
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        ends in prop::collection::vec((0u64..3, 0i32..3, any::<bool>()), 4),
    ) {
        let vote = |order: &[usize]| {
            let mut world = World::new();
            for (index, (bytes, ..)) in ends.iter().enumerate() {
                world.ends[index].0.lsn.0 += bytes;
            }
            let (by, reason) = (name(0), OpenReason::LeaseRanOut);
            world.commit(Command::OpenElection {
                observed_epoch: Epoch(1), observed_renewals: 0, reason, by, at: AT,
            });
            for index in order {
                let (_, priority, odd) = ends[*index];
                let ballot = world.ballot(*index, odd, priority);
                let member = name(*index);
                world.commit(Command::CastBallot { epoch: Epoch(2), member, ballot, at: AT });
            }
            let not_heard = Vec::new();
            world.commit(Command::CloseElection { epoch: Epoch(2), waited_ms: 0, not_heard, at: AT });
            world.state.leader
        };
        let usual = vote(&[0, 1, 2, 3]);
        prop_assert!(usual.as_ref().is_some_and(|record| record.epoch == Epoch(2)));
        prop_assert_eq!(vote(&order), usual);
    }

    /// Positions on an abandoned branch never reach the newest timeline, however long they are.
    #[test]
    fn an_abandoned_branch_never_wins(fork in 1u64..1000, old in 0u64..1_000_000, new in 0u64..100) {
        let mut world = World::new();
        let base = Lsn(0x0300_0000);
        let parent = HistoryEntry { timeline: Timeline(1), end: Lsn(base.0 + fork) };
        let (by, reason) = (name(1), OpenReason::LeaseRanOut);
        world.commit(Command::OpenElection {
            observed_epoch: Epoch(1), observed_renewals: 0, reason, by, at: AT,
        });
        let ballot = world.ballot(1, false, 1);
        world.commit(Command::CastBallot { epoch: Epoch(2), member: name(1), ballot, at: AT });
        let not_heard = Vec::new();
        world.commit(Command::CloseElection { epoch: Epoch(2), waited_ms: 0, not_heard, at: AT });
        world.commit(Command::RecordTimeline {
            epoch: Epoch(2), incarnation: life(1), timeline: Timeline(2), history: vec![parent], at: AT,
        });
        let stale = Position { timeline: Timeline(1), lsn: Lsn(parent.end.0 + 1 + old) };
        let fresh = Position { timeline: Timeline(2), lsn: Lsn(parent.end.0 + new) };
        let reach = |at, history: &[HistoryEntry]| world.state.timelines.reach(at, history);
        prop_assert!(reach(stale, &[]) < reach(fresh, &[parent]));
        let judged = election::judge(
            &world.state,
            &name(0),
            &Ballot { position: stale, ..Ballot::default() },
            None,
        );
        prop_assert!(judged.ineligible.is_some());
    }
}

/// Nobody is granted what was granted before, and nothing is counted past its end.
#[test]
fn where_a_number_is_spent_nothing_is_granted() {
    type Spend = fn(&mut ClusterState);
    let spends: [Spend; 4] = [
        |state| state.leader.as_mut().expect("it leads").epoch = Epoch(u64::MAX),
        |state| state.leader.as_mut().expect("it leads").renewals = u64::MAX,
        |state| state.sync = SyncState::Async { since: Epoch(1), generation: u64::MAX },
        |state| state.timelines.reserved.extend([(Timeline(u32::MAX), Epoch(1))]),
    ];
    for spend in spends {
        let mut state = World::new().state;
        spend(&mut state);
        let (before, record) = (state.clone(), state.leader.clone().expect("it leads"));
        let open = Command::OpenElection {
            observed_epoch: record.epoch,
            observed_renewals: record.renewals,
            reason: OpenReason::LeaseRanOut,
            by: name(1),
            at: AT,
        };
        let outcome = state.apply(99, open);
        assert!(matches!(outcome, Outcome::Rejected(Rejection::NoneLeft(_))), "{outcome:?}");
        assert_eq!(state, before);
    }
}

/// Others must be able to go on from the data that a cluster begins with.
#[test]
fn a_cluster_begins_with_a_timeline_that_can_be_followed() {
    let ancestor = |timeline, end| HistoryEntry { timeline: Timeline(timeline), end: Lsn(end) };
    for (timeline, history) in [
        (0, vec![]),
        (u32::MAX, vec![]),
        (3, vec![ancestor(3, 5)]),
        (3, vec![ancestor(2, 5), ancestor(1, 9)]),
        (3, vec![ancestor(1, 9), ancestor(2, 5)]),
    ] {
        let mut state = ClusterState::default();
        let (member, incarnation) = (name(0), life(0));
        state.members.insert(name(0), Member::default());
        let grant =
            Command::GrantBootstrap { attempt: 1, member: member.clone(), incarnation, at: AT };
        assert_eq!(state.apply(1, grant), Outcome::Applied);
        let position = Position { timeline: Timeline(timeline), lsn: Lsn(10) };
        let (attempt, system_identifier, at) = (1, 7, AT);
        let finish = Command::FinishBootstrap {
            attempt,
            member,
            incarnation,
            system_identifier,
            position,
            history,
            at,
        };
        assert!(matches!(state.apply(2, finish), Outcome::Rejected(_)), "timeline {timeline}");
        assert_eq!(state.leader, None);
    }
}

/// A state that a newer version wrote is read: what is unknown is ignored, what is missing has its
/// default.
#[test]
fn a_newer_state_and_an_older_one_are_read() {
    let world = World::new();
    let mut json = serde_json::to_value(&world.state).expect("it can be written");
    for place in ["", "/settings", "/leader", "/timelines", "/members/n1", "/members/n1/tags"] {
        let object = json.pointer_mut(place).and_then(|value| value.as_object_mut());
        object.expect(place).insert("from_the_future".into(), serde_json::json!({"a": [1]}));
    }
    let read: ClusterState = serde_json::from_value(json.clone()).expect("the newer one is read");
    assert_eq!(read, world.state);
    for (place, key) in [("", "failover"), ("/leader", "evicted"), ("/settings", "use_slots")] {
        let object = json.pointer_mut(place).and_then(|value| value.as_object_mut());
        object.expect(place).remove(key).expect("it was there");
    }
    let read: ClusterState = serde_json::from_value(json).expect("the older one is read");
    assert_eq!(read, world.state);
}

/// The sequences are no idle ones: among them every kind of command is applied, not only refused.
#[test]
fn the_random_sequences_reach_every_kind_of_change() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut applied = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..200 {
        let steps = steps().new_tree(&mut runner).expect("a sequence").current();
        let mut world = World::new();
        for step in &steps {
            let command = world.command(step);
            let kind = format!("{command:?}");
            if world.commit(command) == Outcome::Applied {
                let kind = kind.split(' ').next().unwrap_or_default().to_owned();
                *applied.entry(kind).or_default() += 1;
            }
        }
    }
    for kind in [
        "Renew",
        "Release",
        "OpenElection",
        "CastBallot",
        "CloseElection",
        "RecordTimeline",
        "Failover",
        "RequestSwitchover",
        "TransferLease",
        "TakeBack",
        "SetPause",
        "SetFence",
    ] {
        let times = applied.get(kind).copied().unwrap_or_default();
        assert!(times >= 20, "{kind} was applied {times} times: {applied:?}");
    }
}
