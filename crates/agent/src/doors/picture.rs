//! What a member knows that its doors depend on. Pure: time comes in.

use std::time::Duration;

use howdah_core::{BootInstant, ChangeKind, ClusterState, Epoch, LeaderRecord, Lsn, MemberName};
use howdah_proxy::route::{Leader, Picture, Place, Unfit};
use howdah_rpc::peer::Status;

use crate::board::OwnLease;
use crate::config::ProxyConfig;
use crate::status::Sources;

/// Tag that names a member's zone.
const ZONE: &str = "zone";

/// What this task saw, on this member's clock.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Epoch of the record.
    pub epoch: Epoch,
    renewals: u64,
    /// When the record changed last.
    renewed: BootInstant,
    /// When the epoch did.
    pub begun: BootInstant,
}

impl Seen {
    /// Nothing yet.
    pub fn new(now: BootInstant) -> Self {
        Self { epoch: Epoch(0), renewals: 0, renewed: now, begun: now }
    }

    /// Takes the record in.
    pub fn take_in(&mut self, record: Option<&LeaderRecord>, now: BootInstant) {
        let (epoch, renewals) = record.map_or((Epoch(0), 0), |r| (r.epoch, r.renewals));
        if epoch != self.epoch {
            self.begun = now;
        }
        if (epoch, renewals) != (self.epoch, self.renewals) {
            self.renewed = now;
        }
        (self.epoch, self.renewals) = (epoch, renewals);
    }
}

/// How long a new primary waits for members whose doors have not told that old sessions are gone.
pub fn behind_limit(state: &ClusterState) -> Duration {
    state.settings.ttl() / 10
}

/// What the doors must know.
pub fn picture(
    sources: &Sources<'_>,
    config: &ProxyConfig,
    lease: OwnLease,
    seen: &Seen,
) -> Picture {
    let state = sources.state;
    let held = state.held();
    let leader = held
        .map(|record| leader(sources, record, lease, seen))
        .filter(|leader| leader.until.is_none_or(|until| until > sources.now));
    let why_none = match (held, sources.why_not_writable()) {
        (_, Some(why)) => why,
        (Some(record), None) => {
            format!("no renewal of {}'s lease was seen in time", record.holder)
        }
        (None, None) => "there is no leader".into(),
    };
    let members = state.members.keys().map(|name| place(sources, config, name)).collect();
    let zone = zone(state, sources.me);
    Picture { leader, why_none, members, primary_reads: config.primary_reads, zone }
}

fn leader(sources: &Sources<'_>, record: &LeaderRecord, lease: OwnLease, seen: &Seen) -> Leader {
    let (state, name) = (sources.state, &record.holder);
    let own = name == sources.me;
    let armed = !own || lease.armed == Some(record.epoch);
    let until = match (record.paused, own) {
        (true, _) => None,
        (false, true) => Some(lease.deadline.filter(|_| armed).unwrap_or(BootInstant(0))),
        // The holder's own deadline is earlier: it counts from before its renewal was sent.
        (false, false) => Some(seen.renewed + Duration::from_millis(record.ttl_ms)),
    };
    let words = fresh(sources, name);
    let opened = words.is_some_and(|words| words.open_epoch == record.epoch.0);
    let why_not = match sources.why_not_writable() {
        Some(why) => why,
        None => format!("{name}, the leader, does not admit clients yet"),
    };
    let address = state.members.get(name).map(|member| member.postgres_address.clone());
    let open = opened && address.is_some();
    Leader {
        name: name.clone(),
        address: address.unwrap_or_default(),
        epoch: record.epoch,
        until,
        open,
        why_not: if open { String::new() } else { why_not },
        closing: words.is_some_and(|words| words.closing),
        behind: behind(sources, record.epoch, seen),
    }
}

/// Members with doors that have not told yet that sessions of an earlier primary are gone. Only after a
/// hand-over: after an election, that primary's time is over (rule S2), and nobody is waited for.
fn behind(sources: &Sources<'_>, epoch: Epoch, seen: &Seen) -> Vec<MemberName> {
    let last = sources.state.changes.back();
    let handed = last.is_some_and(|change| {
        change.epoch == epoch && matches!(change.kind, ChangeKind::Switchover)
    });
    if !handed || sources.now >= seen.begun + behind_limit(sources.state) {
        return Vec::new();
    }
    let names = sources.state.members.keys().filter(|name| *name != sources.me);
    let late = |words: &Status| words.doors_epoch != 0 && words.doors_epoch < epoch.0;
    names.filter(|name| fresh(sources, name).is_some_and(late)).cloned().collect()
}

/// The words of a member that are of now.
fn fresh<'a>(sources: &'a Sources<'_>, name: &MemberName) -> Option<&'a Status> {
    sources.words(name).filter(|(_, age)| sources.fresh(*age)).map(|(words, _)| words)
}

fn zone(state: &ClusterState, name: &MemberName) -> String {
    let tags = state.members.get(name).map(|member| &member.tags.other);
    tags.and_then(|tags| tags.get(ZONE)).cloned().unwrap_or_default()
}

fn place(sources: &Sources<'_>, config: &ProxyConfig, name: &MemberName) -> Place {
    let state = sources.state;
    let member = state.members.get(name);
    let words = fresh(sources, name);
    let serves = words.is_some_and(|words| words.running && words.open_for_clients);
    let standby = words.filter(|words| words.in_recovery);
    let lag = standby.and_then(|words| {
        let end = sources.leader_lsn()?;
        (words.replay_lsn > 0).then(|| end.bytes_since(Lsn(words.replay_lsn)))
    });
    // While there is nobody to stream from, what a standby has is the newest there is to read.
    let open = state.held().filter(|record| {
        fresh(sources, &record.holder).is_some_and(|words| words.open_epoch == record.epoch.0)
    });
    let streams = standby.is_some_and(|words| words.streaming_epoch != 0);
    let unfit = if sources.leader() == Some(name) {
        Some(Unfit::Leads)
    } else if member.is_some_and(|member| member.tags.noloadbalance) {
        Some(Unfit::Tagged)
    } else if !serves || standby.is_none() {
        Some(Unfit::Down)
    } else if open.is_some() && !streams {
        Some(Unfit::NotStreaming)
    } else if open.is_some() && lag.is_none_or(|bytes| bytes > config.max_lag_bytes) {
        Some(Unfit::Behind)
    } else {
        None
    };
    Place {
        name: name.clone(),
        address: member.map(|member| member.postgres_address.clone()).unwrap_or_default(),
        zone: zone(state, name),
        serves,
        unfit,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use howdah_consensus::RaftStatus;
    use howdah_core::{Change, LeaseState, Member};

    use super::*;
    use crate::board::Heard;
    use crate::counters::Counters;

    const SECOND: u64 = 1_000_000_000;

    /// n1, n2, n3, of whom n2 leads with epoch 3; asked of n1 at second 100.
    struct World {
        state: ClusterState,
        own: Status,
        heard: BTreeMap<MemberName, Heard>,
        lease: OwnLease,
        seen: Seen,
        config: ProxyConfig,
    }

    fn standby() -> Status {
        Status {
            running: true,
            in_recovery: true,
            open_for_clients: true,
            streaming_epoch: 3,
            replay_lsn: 0x1000,
            receive_lsn: 0x1000,
            doors_epoch: 3,
            ..Status::default()
        }
    }

    impl World {
        fn new() -> Self {
            let mut state = ClusterState::default();
            state.settings.ttl_ms = 5000;
            for name in ["n1", "n2", "n3"] {
                let postgres_address = format!("{name}:5432");
                let member = Member { postgres_address, ..Member::default() };
                state.members.insert(name.into(), member);
            }
            state.leader = Some(LeaderRecord {
                holder: "n2".into(),
                epoch: Epoch(3),
                renewals: 7,
                ttl_ms: 5000,
                state: LeaseState::Held,
                ..LeaderRecord::default()
            });
            state.bootstrap = howdah_core::Bootstrap::Done { system_identifier: 1 };
            let leads =
                Status { in_recovery: false, streaming_epoch: 0, open_epoch: 3, ..standby() };
            let at = BootInstant(100 * SECOND);
            let heard = [("n2", leads), ("n3", standby())]
                .map(|(name, status)| (name.into(), Heard { status, at }))
                .into();
            let mut seen = Seen::new(BootInstant(90 * SECOND));
            seen.take_in(state.leader.as_ref(), BootInstant(99 * SECOND));
            let (lease, config) = (OwnLease::default(), ProxyConfig::default());
            Self { state, own: standby(), heard, lease, seen, config }
        }

        fn record(&mut self) -> &mut LeaderRecord {
            self.state.leader.as_mut().unwrap()
        }

        fn status(&mut self, name: &str) -> &mut Status {
            &mut self.heard.get_mut(&MemberName::from(name)).unwrap().status
        }

        fn picture(&self) -> Picture {
            let sources = Sources {
                state: &self.state,
                me: &"n1".into(),
                own: &self.own,
                heard: &self.heard,
                raft: &RaftStatus::default(),
                counters: &Counters::default(),
                turned: Duration::ZERO,
                now: BootInstant(100 * SECOND),
            };
            picture(&sources, &self.config, self.lease, &self.seen)
        }

        fn unfit(&self, name: &str) -> Option<Unfit> {
            let picture = self.picture();
            picture.members.iter().find(|place| place.name.as_str() == name).unwrap().unfit
        }
    }

    #[test]
    fn a_leader_is_open_when_it_says_so_of_the_records_own_epoch() {
        let mut world = World::new();
        let leader = world.picture().leader.unwrap();
        assert!(leader.open, "{leader:?}");
        assert_eq!(leader.until, Some(BootInstant(104 * SECOND)));
        // Words of an earlier life mean nothing.
        world.status("n2").open_epoch = 2;
        let leader = world.picture().leader.unwrap();
        assert!(!leader.open);
        assert_eq!(leader.why_not, "n2, the leader, does not admit clients yet");
        world.status("n2").open_for_clients = false;
        world.status("n2").reason = "promotes".into();
        assert_eq!(world.picture().leader.unwrap().why_not, "n2, the leader: promotes");
    }

    #[test]
    fn nobody_is_led_to_whose_lease_may_be_over() {
        let mut world = World::new();
        // The record changed last at second 95.
        world.seen = Seen::new(BootInstant(90 * SECOND));
        world.seen.take_in(world.state.leader.as_ref(), BootInstant(95 * SECOND));
        let picture = world.picture();
        assert_eq!(picture.leader, None);
        assert_eq!(picture.why_none, "no renewal of n2's lease was seen in time");
        // In maintenance mode the record alone counts.
        world.record().paused = true;
        assert_eq!(world.picture().leader.unwrap().until, None);
        world.record().state = LeaseState::Revoked;
        assert_eq!(world.picture().leader, None);
    }

    #[test]
    fn this_members_own_lease_counts_by_the_guards_deadline() {
        let mut world = World::new();
        world.record().holder = "n1".into();
        world.own = world.status("n2").clone();
        assert_eq!(world.picture().leader, None, "the guard has no deadline yet");
        let deadline = Some(BootInstant(103 * SECOND));
        world.lease = OwnLease { armed: Some(Epoch(2)), deadline };
        assert_eq!(world.picture().leader, None, "it is that of an earlier epoch");
        world.lease.armed = Some(Epoch(3));
        assert_eq!(world.picture().leader.unwrap().until, deadline);
    }

    #[test]
    fn only_after_a_hand_over_and_not_for_long_others_doors_are_waited_for() {
        let mut world = World::new();
        world.status("n3").doors_epoch = 2;
        let behind = |world: &World| world.picture().leader.unwrap().behind;
        assert!(behind(&world).is_empty());
        let change = |kind| Change {
            epoch: Epoch(3),
            kind,
            from: Some("n1".into()),
            to: "n2".into(),
            at: howdah_core::WallTime(0),
            reason: String::new(),
            verdicts: Vec::new(),
            bar: None,
            waited_ms: 0,
            not_heard: Vec::new(),
            timeline: None,
            former_wal_lsn: Lsn(0),
            allow_data_loss: false,
            synchronous: false,
        };
        world.state.changes = VecDeque::from([change(ChangeKind::Switchover)]);
        assert!(behind(&world).is_empty(), "it began ten seconds ago");
        world.seen.begun = BootInstant(100 * SECOND - 1);
        assert_eq!(behind(&world), ["n3".into()]);
        // One without doors has no sessions.
        world.status("n3").doors_epoch = 0;
        assert!(behind(&world).is_empty());
        world.status("n3").doors_epoch = 2;
        world.state.changes = VecDeque::from([change(ChangeKind::Election)]);
        assert!(behind(&world).is_empty());
    }

    #[test]
    fn a_standby_gets_readers_while_it_follows_closely() {
        let mut world = World::new();
        assert_eq!((world.unfit("n1"), world.unfit("n2")), (None, Some(Unfit::Leads)));
        assert_eq!(world.unfit("n3"), None);
        world.status("n2").receive_lsn = 0x1000 + (16 << 20) + 1;
        assert_eq!(world.unfit("n3"), Some(Unfit::Behind));
        world.status("n2").receive_lsn = 0x1000 + (16 << 20);
        world.status("n3").streaming_epoch = 0;
        assert_eq!(world.unfit("n3"), Some(Unfit::NotStreaming));
        // Where there is nobody to stream from, what it has is the newest there is.
        world.record().state = LeaseState::Revoked;
        assert_eq!(world.unfit("n3"), None);
        world.heard.get_mut(&MemberName::from("n3")).unwrap().at = BootInstant(94 * SECOND);
        assert_eq!(world.unfit("n3"), Some(Unfit::Down));
        world.state.members.get_mut(&MemberName::from("n1")).unwrap().tags.noloadbalance = true;
        assert_eq!(world.unfit("n1"), Some(Unfit::Tagged));
    }
}
