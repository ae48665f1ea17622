//! `list` and `topology`. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use howdah_rpc::control::{ClusterStatus, Member};
use serde::Serialize;

use super::{bytes, lsn, table};

/// The cluster for programs. LSNs are texts, lags are bytes and absent when unknown.
#[derive(Debug, Serialize)]
pub struct StatusView {
    scope: String,
    /// A text: 64 bits do not fit the numbers of every JSON reader.
    system_identifier: String,
    epoch: u64,
    timeline: u32,
    leader: Option<String>,
    lease: String,
    ttl_ms: u64,
    writable: bool,
    not_writable_because: Option<String>,
    raft_leader: Option<String>,
    quorum: bool,
    quorum_reached: u32,
    quorum_size: u32,
    answered_by: String,
    open_election: Option<u64>,
    switchover: Option<SwitchoverView>,
    synchronous_mode: String,
    pause: bool,
    pause_wanted: bool,
    reason: String,
    members: Vec<MemberView>,
}

#[derive(Debug, Serialize)]
struct SwitchoverView {
    from: String,
    to: String,
}

#[derive(Debug, Serialize)]
struct MemberView {
    name: String,
    host: String,
    role: String,
    state: String,
    timeline: Option<u32>,
    receive_lsn: Option<String>,
    receive_lag: Option<u64>,
    replay_lsn: Option<String>,
    replay_lag: Option<u64>,
    reason: String,
    control_address: String,
    api_url: String,
    raft_role: String,
    node_id: String,
    open_for_clients: bool,
    age_ms: u64,
    progress_percent: Option<u32>,
    progress_bytes: Option<u64>,
    server_version: Option<u32>,
    postmaster_start: Option<String>,
    tags: BTreeMap<String, String>,
    fenced: bool,
    /// Parameters that wait for a restart, as `old->new`.
    pending_restart: BTreeMap<String, String>,
    replication_state: Option<String>,
    /// What is wrong though nothing crashed, with what to do.
    troubles: Vec<String>,
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl From<&ClusterStatus> for StatusView {
    fn from(status: &ClusterStatus) -> Self {
        let pending = status.switchover.as_ref();
        StatusView {
            scope: status.scope.clone(),
            system_identifier: status.system_identifier.to_string(),
            epoch: status.epoch,
            timeline: status.timeline,
            leader: some(&status.leader),
            lease: status.lease.clone(),
            ttl_ms: status.ttl_ms,
            writable: status.not_writable_because.is_empty(),
            not_writable_because: some(&status.not_writable_because),
            raft_leader: some(&status.raft_leader),
            quorum: status.quorum,
            quorum_reached: status.quorum_reached,
            quorum_size: status.quorum_size,
            answered_by: status.answered_by.clone(),
            open_election: (status.open_election != 0).then_some(status.open_election),
            switchover: pending
                .map(|it| SwitchoverView { from: it.from.clone(), to: it.to.clone() }),
            synchronous_mode: status.synchronous_mode.clone(),
            pause: status.paused,
            pause_wanted: status.pause_wanted,
            reason: status.reason.clone(),
            members: status.members.iter().map(MemberView::from).collect(),
        }
    }
}

impl From<&Member> for MemberView {
    fn from(member: &Member) -> Self {
        MemberView {
            name: member.name.clone(),
            host: member.host.clone(),
            role: member.role.clone(),
            state: member.state.clone(),
            timeline: (member.timeline != 0).then_some(member.timeline),
            receive_lsn: some(&lsn(member.receive_lsn)),
            receive_lag: member.lag_known.then_some(member.receive_lag_bytes),
            replay_lsn: some(&lsn(member.replay_lsn)),
            replay_lag: member.lag_known.then_some(member.replay_lag_bytes),
            reason: member.reason.clone(),
            control_address: member.control_address.clone(),
            api_url: member.api_url.clone(),
            raft_role: member.raft_role.clone(),
            node_id: member.node_id.clone(),
            open_for_clients: member.open_for_clients,
            age_ms: member.age_ms,
            progress_percent: member.in_progress.then_some(member.progress_percent),
            progress_bytes: member.in_progress.then_some(member.progress_bytes),
            server_version: (member.server_version != 0).then_some(member.server_version),
            postmaster_start: some(&super::time(member.postmaster_start_ms)),
            tags: member.tags.clone().into_iter().collect(),
            fenced: member.fenced,
            pending_restart: member.pending_restart.clone().into_iter().collect(),
            replication_state: some(&member.replication_state),
            troubles: member.troubles.clone(),
        }
    }
}

const HEADER: &[&str] =
    &["Member", "Host", "Role", "State", "TL", "Receive LSN", "Lag", "Replay LSN", "Lag"];
const RIGHT: &[usize] = &[4, 5, 6, 7, 8];

/// The table of `list`, with title and footer; with `extended` the reasons, tags and pending restarts too.
pub fn list(status: &ClusterStatus, extended: bool) -> String {
    whole(status, &status.members.iter().collect::<Vec<_>>(), extended, false)
}

/// The table of `topology`: the leader first, what follows it below.
pub fn topology(status: &ClusterStatus, extended: bool) -> String {
    let (mut members, rest): (Vec<&Member>, Vec<&Member>) =
        status.members.iter().partition(|member| member.role == "Leader");
    members.extend(rest);
    whole(status, &members, extended, true)
}

fn whole(status: &ClusterStatus, members: &[&Member], extended: bool, tree: bool) -> String {
    let rows: Vec<Vec<String>> = members.iter().map(|member| row(member, tree)).collect();
    let mut text = title(status) + "\n" + &table(HEADER, &rows, RIGHT);
    text += &footer(status);
    for member in members {
        for trouble in &member.troubles {
            let _ = writeln!(text, " Trouble {}: {trouble}", member.name);
        }
        if extended {
            details(&mut text, member);
        }
    }
    text
}

/// What only a closer look asks for.
fn details(text: &mut String, member: &Member) {
    let name = &member.name;
    if !member.reason.is_empty() {
        let _ = writeln!(text, " Reason {name}: {}", member.reason);
    }
    let pairs = |map: &std::collections::HashMap<String, String>, between: &str| {
        let sorted: BTreeMap<&String, &String> = map.iter().collect();
        let pairs: Vec<String> =
            sorted.iter().map(|(key, value)| format!("{key}{between}{value}")).collect();
        pairs.join(", ")
    };
    if !member.tags.is_empty() {
        let _ = writeln!(text, " Tags {name}: {}", pairs(&member.tags, "="));
    }
    if !member.pending_restart.is_empty() {
        let _ = writeln!(text, " Pending restart {name}: {}", pairs(&member.pending_restart, ": "));
    }
}

fn title(status: &ClusterStatus) -> String {
    let identifier = match status.system_identifier {
        0 => "not bootstrapped".to_owned(),
        identifier => identifier.to_string(),
    };
    let raft_leader = if status.raft_leader.is_empty() { "none" } else { &status.raft_leader };
    let lost = if status.quorum { "" } else { " (lost)" };
    format!(
        "Cluster {} ({identifier}, epoch {}, timeline {})   raft leader: {raft_leader}   quorum \
         {}/{}{lost}",
        status.scope, status.epoch, status.timeline, status.quorum_reached, status.quorum_size
    )
}

fn row(member: &Member, tree: bool) -> Vec<String> {
    let leads = member.role == "Leader";
    let name = if tree && !leads { format!("+ {}", member.name) } else { member.name.clone() };
    let fenced = if member.fenced { " (fenced)" } else { "" };
    let pending = if member.pending_restart.is_empty() { "" } else { " *" };
    let state = if member.in_progress {
        format!("{} {}%", member.state, member.progress_percent)
    } else {
        format!("{}{fenced}{pending}", member.state)
    };
    let timeline = if member.timeline == 0 { String::new() } else { member.timeline.to_string() };
    let mut row = vec![name, member.host.clone(), member.role.clone(), state, timeline];
    if leads || member.role == "Witness" {
        row.extend(std::iter::repeat_n(String::new(), 4));
    } else {
        let lag = |lag| if member.lag_known { bytes(lag) } else { "unknown".to_owned() };
        row.push(lsn(member.receive_lsn));
        row.push(lag(member.receive_lag_bytes));
        row.push(lsn(member.replay_lsn));
        row.push(lag(member.replay_lag_bytes));
    }
    row
}

fn footer(status: &ClusterStatus) -> String {
    let mut text = String::new();
    if !matches!(status.synchronous_mode.as_str(), "" | "off") {
        let _ = writeln!(text, " Synchronous mode {}", status.synchronous_mode);
    }
    if status.paused {
        text += " Maintenance mode: on\n";
    } else if status.pause_wanted {
        text += " Maintenance mode: asked for; it comes when the leader serves\n";
    }
    if status.members.iter().any(|member| !member.pending_restart.is_empty()) {
        text += " * waits for a restart; `howdah restart --pending`\n";
    }
    if let Some(pending) = &status.switchover {
        let _ = writeln!(text, " Switchover under way from: {} to: {}", pending.from, pending.to);
    }
    if status.open_election != 0 {
        let _ = writeln!(text, " Election of epoch {} is open", status.open_election);
    }
    if !status.quorum {
        let who = if status.answered_by.is_empty() { "the member" } else { &status.answered_by };
        let _ = writeln!(text, " {who} has no quorum; this may be out of date");
    }
    if !status.not_writable_because.is_empty() {
        let _ = writeln!(text, " Not writable: {}", status.not_writable_because);
    }
    text
}
