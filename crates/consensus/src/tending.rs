//! The node's standing tasks: status, autopilot, and noticing its own end.
//!
//! Place: spawned by `Node::start`. State: none that survives.
//! Invariants: a dead Raft core or a failed store is told once, through `Node::is_fatal`.

use std::sync::Arc;
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout, timeout_at};

use crate::core::Core;
use crate::group::Fatal;
use crate::types::{LogId, Types};
use crate::{bootstrap, membership};

/// The autopilot looks this often while the membership is not yet as it should be.
const ROUND: Duration = Duration::from_millis(200);
/// And this often when it is, or when another leads; sooner when something changes.
const SETTLED_ROUND: Duration = Duration::from_secs(1);
/// A node that hears nobody for so many longest election timeouts asks whether it was removed.
const LONELY: u32 = 5;
/// Handing on the leadership may take this long.
const HAND_ON_LIMIT: Duration = Duration::from_secs(1);

/// Keeps the status up to date, and tells when Raft's core has died.
///
/// Raft's metrics change with every heartbeat and every answer to one; what depends on time alone
/// is looked at once per heartbeat, the rest as it changes. The clock wakes this task only when nothing
/// was heard.
pub(crate) async fn watch_status(core: Arc<Core>) {
    let mut metrics = core.raft.metrics();
    let tick = core.group.options.timings.heartbeat;
    let (mut known, mut due) = (None, Instant::now());
    loop {
        let silent = Instant::now() + tick * 3 / 2;
        let now = Some(outline(&metrics.borrow_watched()));
        if now != known || Instant::now() >= due {
            if let Err(error) = &core.metrics().running_state {
                core.group.end(Fatal::Storage(format!("raft stopped: {error}")));
                return;
            }
            show_status(&core);
            (known, due) = (now, Instant::now() + tick);
        }
        if let Ok(Err(_)) = timeout_at(silent, metrics.changed()).await {
            core.group.end(Fatal::Storage("raft's core is gone".to_owned()));
            return;
        }
    }
}

/// Lets openraft's timer sleep while there is nothing for it to see.
///
/// It looks at its clocks five times per heartbeat. On a follower nothing can be due before the shortest
/// election timeout has passed since the leader was heard last; from a little before that on it looks as
/// always, so that no election begins later for it. A leader is told here when a heartbeat is due, which
/// is all that its timer would do. Whoever hears nobody is looked after without a pause.
pub(crate) async fn quieten(core: Arc<Core>) {
    let timings = core.group.options.timings;
    let quiet = timings.election_min * 3 / 4;
    let (mut status, mut heard) = (core.status.subscribe(), core.heard_last());
    loop {
        let leader = status.borrow_and_update().leader.map(|leader| leader.0);
        if leader == Some(core.group.me) {
            core.raft.runtime_config().tick(false);
            // An error means that Raft's core is gone, which `watch_status` tells.
            let told = core.raft.trigger().heartbeat().await;
            let wake = Instant::now() + timings.heartbeat;
            if told.is_err() || matches!(timeout_at(wake, status.changed()).await, Ok(Err(_))) {
                return;
            }
            continue;
        }
        let follows = leader;
        let last = heard.borrow_and_update().filter(|(from, _)| Some(*from) == follows);
        let until = last.map(|(_, at)| at + quiet).filter(|until| *until > Instant::now());
        core.raft.runtime_config().tick(until.is_none());
        let wake = until.unwrap_or_else(|| Instant::now() + timings.heartbeat);
        // As long as heartbeats come they end this, and no timer wakes the process for it.
        let news = async {
            tokio::select! {
                changed = status.changed() => changed.is_ok(),
                changed = heard.changed() => changed.is_ok(),
            }
        };
        if let Ok(false) = timeout_at(wake, news).await {
            return;
        }
    }
}

/// What is news whenever it changes.
#[derive(PartialEq)]
struct Outline {
    leader: Option<u64>,
    term: u64,
    membership: [Option<LogId>; 2],
    runs: bool,
}

fn outline(metrics: &RaftMetrics<Types>) -> Outline {
    Outline {
        leader: metrics.current_leader,
        term: metrics.current_term,
        membership: [
            *metrics.membership_config.log_id(),
            *metrics.committed_membership_config.log_id(),
        ],
        runs: metrics.running_state.is_ok(),
    }
}

fn show_status(core: &Core) {
    for (id, node) in core.metrics().membership_config.nodes() {
        core.group.note_address(*id, &node.address);
    }
    let status = core.look();
    core.status.send_if_modified(|known| {
        // What moves with every entry is no news by itself, but never stays old either.
        let news = (&known.leader, &known.voters, &known.learners, known.quorum)
            != (&status.leader, &status.voters, &status.learners, status.quorum)
            || (known.is_leader, known.term, known.reached, known.cluster_id)
                != (status.is_leader, status.term, status.reached, status.cluster_id);
        *known = status;
        news
    });
}

/// Tells when the store cannot be written any more.
pub(crate) async fn watch_store(core: Arc<Core>) {
    let mut failed = core.group.keeper().failed();
    if let Ok(why) = failed.wait_for(Option::is_some).await {
        let why = why.clone().unwrap_or_default();
        core.group.end(Fatal::Storage(why));
    }
}

/// Gets into a group, then looks after the membership.
pub(crate) async fn tend(core: Arc<Core>) {
    bootstrap::run(&core).await;
    let lonely = core.group.options.timings.election_max * LONELY;
    let mut last_company = Instant::now();
    let mut changes = core.status.subscribe();
    loop {
        let status = core.look();
        if status.quorum {
            last_company = Instant::now();
        }
        let mut round = SETTLED_ROUND;
        if status.is_leader {
            let settled = membership::tend(&core).await;
            round = if settled { SETTLED_ROUND } else { ROUND };
        } else if has_moved(&core) {
            // Nobody can reach it where the group believes it to be.
            let mut addresses: Vec<String> = status.leader_address.into_iter().collect();
            addresses.extend(others(&core));
            bootstrap::ask_to_join(&core, addresses).await;
        } else if last_company.elapsed() > lonely {
            ask_if_removed(&core).await;
            last_company = Instant::now();
        }
        // Time is up or something changed: a look is due either way.
        let _ = timeout(round, changes.changed()).await;
    }
}

/// This member may have been given another address since it joined.
fn has_moved(core: &Core) -> bool {
    let metrics = core.metrics();
    let known = metrics.membership_config.get_node(&core.group.me);
    known.is_some_and(|known| known.address != core.group.options.self_addr)
}

/// Addresses of everybody else, by the configuration and by the group's membership.
fn others(core: &Core) -> Vec<String> {
    let metrics = core.metrics();
    let nodes = metrics.membership_config.nodes().filter(|(id, _)| **id != core.group.me);
    let mut addresses = core.group.options.partner_addrs.clone();
    addresses.extend(nodes.map(|(_, node)| node.address.clone()));
    addresses.sort();
    addresses.dedup();
    addresses
}

async fn ask_if_removed(core: &Core) {
    for address in &others(core) {
        if core.group.hello(address).await.is_some_and(|answer| answer.removed) {
            let scope = &core.group.options.scope;
            let text = format!("{address} says: this node was removed from cluster `{scope}`");
            core.group.end(Fatal::Removed(text));
            return;
        }
    }
}

/// Hands the leadership to the voter that has most of the log. Best effort, at most a second.
pub(crate) async fn hand_on(core: &Core) {
    let metrics = core.metrics();
    let me = core.group.me;
    if metrics.current_leader != Some(me) {
        return;
    }
    let Some(replication) = &metrics.replication else { return };
    let best = metrics
        .membership_config
        .voter_ids()
        .filter(|id| *id != me && !core.is_removed(*id))
        .filter_map(|id| Some((replication.get(&id).copied().flatten()?, id)))
        .max();
    let Some((_, target)) = best else { return };
    if core.raft.trigger().transfer_leader(target).await.is_err() {
        return;
    }
    let mut watched = core.raft.metrics();
    let gone = async {
        while watched.borrow_watched().current_leader == Some(me) {
            if watched.changed().await.is_err() {
                return;
            }
        }
    };
    if timeout(HAND_ON_LIMIT, gone).await.is_err() {
        tracing::warn!(target, "the leadership was not taken over in time");
    }
}
