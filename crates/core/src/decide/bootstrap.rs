//! The cluster's first data: who makes it, or whose data it is.
//!
//! Invariant: while any expected member has not said that its directory is empty, initdb never
//! runs; and it never runs twice, since its result counts only by one committed command.

use crate::action::{Action, Decision};
use crate::command::Command;
use crate::ids::{MemberName, Position, WallTime};
use crate::reason::Reason;
use crate::record::Bootstrap;
use crate::view::{DataView, Job, PeerData, PgView, View};

pub(super) fn decide(view: &View<'_>) -> Decision {
    match &view.state.bootstrap {
        Bootstrap::Granted { attempt, member, incarnation } => {
            if *member == view.me && *incarnation == view.node.incarnation {
                return granted_to_me(view, *attempt);
            }
            let alive = view.peers.get(member).is_some_and(|peer| {
                peer.age < view.timings.ttl && peer.incarnation == *incarnation
            });
            let patience = view.lease.record_seen + view.timings.ttl;
            if *member != view.me && (alive || view.now < patience) {
                return Decision::wait(Reason::BootstrapOf(member.clone()))
                    .until(patience.max(view.now + view.timings.window));
            }
            choose(view, *attempt)
        }
        Bootstrap::Pending => choose(view, 0),
        Bootstrap::Done { .. } => Decision::wait(Reason::NotLookedYet),
    }
}

fn choose(view: &View<'_>, attempt: u64) -> Decision {
    let (known, expected) = (view.state.members.len(), view.node.members_expected);
    if known < expected {
        return Decision::wait(Reason::BootstrapAwaitsMembers { known, expected });
    }
    let mut clusters: Vec<(Position, MemberName, u64)> = Vec::new();
    let mut empty: Vec<MemberName> = Vec::new();
    for name in view.state.members.keys() {
        match report(view, name) {
            Some(Report::Empty) => empty.push(name.clone()),
            Some(Report::Cluster(system, position)) => {
                clusters.push((position, name.clone(), system));
            }
            Some(Report::Unusable) | None => {
                return Decision::wait(Reason::BootstrapAwaitsReport(name.clone()))
                    .until(view.now + view.timings.window);
            }
        }
    }
    if clusters.iter().any(|(_, _, system)| *system != clusters[0].2) {
        return Decision::wait(Reason::BootstrapConflict);
    }
    // The data that reaches farthest; among equals, and for making new data, the first name.
    let best = clusters.iter().max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let chosen = best.map(|(_, name, _)| name.clone()).or_else(|| empty.into_iter().min());
    match chosen {
        Some(name) if name == view.me => {
            let command = Command::GrantBootstrap {
                attempt: attempt + 1,
                member: name,
                incarnation: view.node.incarnation,
                at: WallTime::default(),
            };
            Decision::act(Action::Propose(Box::new(command)), Reason::BootstrapMine)
        }
        Some(name) => Decision::wait(Reason::BootstrapOf(name)),
        None => Decision::wait(Reason::BootstrapAwaitsMembers { known, expected }),
    }
}

enum Report {
    Empty,
    Cluster(u64, Position),
    Unusable,
}

fn report(view: &View<'_>, name: &MemberName) -> Option<Report> {
    if *name == view.me {
        return match &view.local.data {
            DataView::Empty | DataView::HalfDone => Some(Report::Empty),
            DataView::Cluster(data) => {
                Some(Report::Cluster(data.system_identifier, data.disk_end?))
            }
            DataView::Unusable(_) => Some(Report::Unusable),
            DataView::Unknown => None,
        };
    }
    let peer = view.fresh_peer(name)?;
    Some(match peer.data? {
        PeerData::Empty => Report::Empty,
        PeerData::Cluster(system) => Report::Cluster(system, peer.position),
        PeerData::Unusable => Report::Unusable,
    })
}

fn granted_to_me(view: &View<'_>, attempt: u64) -> Decision {
    let incarnation = view.node.incarnation;
    match &view.local.data {
        DataView::Empty | DataView::HalfDone => view.unless_failed(
            Job::Initdb,
            Decision::act(Action::Initdb { attempt, incarnation }, Reason::BootstrapInit),
        ),
        DataView::Cluster(_) if view.local.pg != PgView::Stopped => {
            Decision::act(Action::Stop, Reason::BootstrapFinish)
        }
        DataView::Cluster(data) => match data.disk_end {
            Some(position) => {
                let command = Command::FinishBootstrap {
                    attempt,
                    member: view.me.clone(),
                    incarnation,
                    system_identifier: data.system_identifier,
                    position,
                    history: data.history.clone(),
                    at: WallTime::default(),
                };
                Decision::act(Action::Propose(Box::new(command)), Reason::BootstrapFinish)
            }
            None => Decision::wait(Reason::NotLookedYet),
        },
        DataView::Unusable(_) | DataView::Unknown => Decision::wait(Reason::NotLookedYet),
    }
}
