//! Switchover and failover as an operator sees them: preconditions, steps, and an end that
//! says truthfully whether it was done.
//!
//! Place: one task per request; it proposes one command and then watches the log and the members'
//! words. The work itself is the loops' of the members concerned. If this task dies, the work goes
//! on, and `howdah list` shows it.

use std::time::Duration;

use howdah_core::{Command, Epoch, MemberName, Outcome};
use howdah_rpc::control::{Check, FailoverRequest, Progress, SwitchoverRequest};
use tokio::sync::mpsc;
use tonic::Status;

use super::control::Desk;
use crate::status::Sources;

pub(crate) type Teller = mpsc::Sender<Result<Progress, Status>>;

pub(super) async fn tell(to: &Teller, text: impl Into<String>) {
    let progress = Progress { text: text.into(), ..Progress::default() };
    // A client that went away does not stop the work.
    let _ = to.send(Ok(progress)).await;
}

/// It was done.
pub(super) async fn done(to: &Teller, desk: &Desk, text: impl Into<String>) {
    last(to, desk, "", text).await;
}

/// It was not done; `error` is a word for programs.
pub(super) async fn refused(to: &Teller, desk: &Desk, error: &str, text: impl Into<String>) {
    last(to, desk, error, text).await;
}

async fn last(to: &Teller, desk: &Desk, error: &str, text: impl Into<String>) {
    let leader = desk.look(|sources| sources.leader().map(|name| name.0.clone()));
    let leader = leader.unwrap_or_default();
    let (text, done, error) = (text.into(), error.is_empty(), error.to_owned());
    let progress = Progress { text, finished: true, done, leader, error, ..Progress::default() };
    let _ = to.send(Ok(progress)).await;
}

async fn show(to: &Teller, checks: Vec<Check>) {
    let done = checks.iter().all(|check| check.met);
    let text = if done { "every precondition is met" } else { "not every precondition is met" };
    let progress =
        Progress { text: text.into(), finished: true, done, checks, ..Progress::default() };
    let _ = to.send(Ok(progress)).await;
}

fn check(name: &str, met: bool, detail: impl Into<String>) -> Check {
    Check { name: name.into(), met, detail: detail.into() }
}

/// The word for programs of a precondition that is not met.
fn word_for(check: &str) -> &'static str {
    match check {
        "the Raft group has a quorum" => "no_quorum",
        "there is a leader" => "no_leader",
        "leader name matches" => "other_leader",
        "no switchover is pending" => "switchover_pending",
        "candidate is another member" => "is_leader",
        "candidate is a member" => "no_such_member",
        "there is a candidate" | "somebody could lead" => "no_candidate",
        _ => "candidate_not_ready",
    }
}

/// How `candidate` stands to taking over from the leader.
fn candidate_checks(sources: &Sources<'_>, candidate: &MemberName, planned: bool) -> Vec<Check> {
    let state = sources.state;
    let Some(member) = state.members.get(candidate) else {
        return vec![check("candidate is a member", false, format!("{candidate} is none"))];
    };
    let mut checks = vec![check(
        "candidate may lead",
        !member.tags.nofailover,
        if member.tags.nofailover { "its tag nofailover is set" } else { "no tag forbids it" },
    )];
    if state.fenced.contains(candidate) {
        checks.push(check("candidate is not fenced", false, "`howdah unfence` lets it run again"));
    }
    let words = sources.words(candidate).filter(|(_, age)| *age <= state.settings.ttl());
    let Some((words, _)) = words else {
        checks.push(check("candidate is heard", false, format!("{candidate} is silent")));
        return checks;
    };
    checks.push(check("candidate is heard", true, words.state.clone()));
    let epoch = state.epoch().0;
    if planned {
        let streams = words.streaming_epoch == epoch;
        checks.push(check("candidate streams from the leader", streams, words.reason.clone()));
        checks.extend(sync_checks(sources, candidate));
    }
    let end = sources.leader().and_then(|leader| sources.words(leader));
    let end = end.map_or(0, |(leader, _)| leader.receive_lsn);
    let end = end.max(state.leader.as_ref().map_or(0, |record| record.wal_lsn.0));
    let lag = end.saturating_sub(words.receive_lsn);
    let allowed = state.settings.maximum_lag_on_failover_bytes;
    let detail = format!("{lag} bytes behind, {allowed} are allowed");
    checks.push(check("candidate's lag is small", lag <= allowed, detail));
    checks
}

/// Where commits wait for standbys, leadership is handed to one of these, and by a leader that lets
/// clients in by its own pair.
fn sync_checks(sources: &Sources<'_>, candidate: &MemberName) -> Vec<Check> {
    let Some(sync) = sources.state.sync.record() else { return Vec::new() };
    let pending = sources.state.barrier_pending();
    let detail = if pending { "not yet" } else { "its standbys have what was there before it" };
    let waited_for = sources.is_sync_standby(candidate);
    vec![
        check("leader has passed its barrier", !pending, detail),
        check("commits wait for the candidate", waited_for, format!("for {}", sync.pair.demand())),
    ]
}

/// What an unplanned change of leader may lose.
fn loss(sources: &Sources<'_>, allow_data_loss: bool) -> String {
    let allowed = sources.state.settings.maximum_lag_on_failover_bytes;
    match sources.state.sync.record() {
        Some(_) if allow_data_loss => {
            "acknowledged writes may be lost: standbys that commits waited for need not be heard"
                .into()
        }
        Some(sync) => format!(
            "nothing that was acknowledged: it waits until {} are heard, or one of {} alone",
            sync.pair,
            howdah_core::sync::names(&sync.whole)
        ),
        None => format!(
            "asynchronous: up to {allowed} bytes and what was written since the last renewal may be lost"
        ),
    }
}

fn best(sources: &Sources<'_>) -> Option<MemberName> {
    let leader = sources.leader();
    let others = sources.state.members.keys().filter(|name| Some(*name) != leader);
    others
        .filter(|name| candidate_checks(sources, name, true).iter().all(|check| check.met))
        .max_by_key(|name| {
            let priority = sources.state.members[*name].tags.failover_priority;
            (priority, std::cmp::Reverse((*name).clone()))
        })
        .cloned()
}

pub(crate) fn switchover_checks(
    sources: &Sources<'_>,
    request: &SwitchoverRequest,
) -> (Vec<Check>, Option<MemberName>) {
    let mut checks = vec![check(
        "the Raft group has a quorum",
        sources.raft.quorum,
        format!("{} voters", sources.raft.voters.len()),
    )];
    let leader = sources.leader().cloned();
    let detail = leader.as_ref().map_or("there is none".into(), |name| name.0.clone());
    checks.push(check("there is a leader", leader.is_some(), detail));
    if let Some(leader) = &leader
        && !request.leader.is_empty()
    {
        let met = leader.0 == request.leader;
        checks.push(check("leader name matches", met, format!("{leader} leads")));
    }
    let pending = sources.state.switchover.as_ref();
    let detail = pending.map_or("none is".into(), |p| format!("from {} to {}", p.from, p.to));
    checks.push(check("no switchover is pending", pending.is_none(), detail));
    let candidate = match request.candidate.as_str() {
        "" => best(sources),
        name => Some(MemberName::from(name)),
    };
    match &candidate {
        Some(name) if Some(name) == leader.as_ref() => {
            checks.push(check("candidate is another member", false, format!("{name} leads")));
        }
        Some(name) => checks.extend(candidate_checks(sources, name, true)),
        None => checks.push(check("there is a candidate", false, "no good candidates found")),
    }
    (checks, candidate)
}

/// Hands leadership over, as an operator wants it.
pub async fn switchover(desk: Desk, request: SwitchoverRequest, to: Teller) {
    let (checks, candidate) = desk.look(|sources| switchover_checks(sources, &request));
    if request.dry_run {
        return show(&to, checks).await;
    }
    if let Some(unmet) = checks.iter().find(|check| !check.met) {
        let text = format!("refused: not met: {} ({})", unmet.name, unmet.detail);
        return refused(&to, &desk, word_for(&unmet.name), text).await;
    }
    let state = desk.state();
    let (Some(candidate), Some(record)) = (candidate, state.held()) else {
        let text = "refused: there is nobody to hand over";
        return refused(&to, &desk, "no_candidate", text).await;
    };
    let (epoch, from) = (record.epoch, record.holder.clone());
    let command = Command::RequestSwitchover {
        epoch,
        from: from.clone(),
        to: candidate.clone(),
        at: desk.clock.wall(),
    };
    tell(&to, format!("{from} is to hand over to {candidate}")).await;
    if let Err(why) = put(&desk, command).await {
        return refused(&to, &desk, "refused", format!("refused: {why}")).await;
    }
    let limit = desk.timings.handover + desk.timings.ttl * 4;
    follow_change(&desk, &to, epoch, Some(candidate), limit).await;
}

pub(crate) fn failover_checks(sources: &Sources<'_>, request: &FailoverRequest) -> Vec<Check> {
    let mut checks = vec![check(
        "the Raft group has a quorum",
        sources.raft.quorum,
        "without one, nothing can be decided",
    )];
    if !request.candidate.is_empty() {
        let name = MemberName::from(request.candidate.as_str());
        let mut found = candidate_checks(sources, &name, false);
        if request.allow_data_loss {
            found.retain(|check| check.name != "candidate's lag is small");
        }
        checks.extend(found);
        return checks;
    }
    let leader = sources.leader();
    let others = sources.state.members.keys().filter(|name| Some(*name) != leader);
    let able: Vec<&str> = others
        .filter(|name| {
            let mut found = candidate_checks(sources, name, false);
            found.retain(|c| !(request.allow_data_loss && c.name == "candidate's lag is small"));
            found.iter().all(|check| check.met)
        })
        .map(|name| name.as_str())
        .collect();
    let detail = if able.is_empty() { "nobody".to_owned() } else { able.join(", ") };
    checks.push(check("somebody could lead", !able.is_empty(), detail));
    let detail = loss(sources, request.allow_data_loss);
    checks.push(check("what may be lost is known", true, detail));
    checks
}

/// Takes leadership away from the present leader, or helps an election that is stuck.
pub async fn failover(desk: Desk, request: FailoverRequest, to: Teller) {
    let checks = desk.look(|sources| failover_checks(sources, &request));
    if request.dry_run {
        return show(&to, checks).await;
    }
    if let Some(unmet) = checks.iter().find(|check| !check.met) {
        let text = format!("refused: not met: {} ({})", unmet.name, unmet.detail);
        return refused(&to, &desk, word_for(&unmet.name), text).await;
    }
    let candidate = Some(request.candidate.as_str()).filter(|name| !name.is_empty());
    let epoch = desk.state().epoch();
    let command = Command::Failover {
        epoch,
        candidate: candidate.map(MemberName::from),
        allow_data_loss: request.allow_data_loss,
        holder_is_stopped: request.holder_is_stopped,
        at: desk.clock.wall(),
    };
    tell(&to, format!("asked to end epoch {epoch}")).await;
    if let Err(why) = put(&desk, command).await {
        return refused(&to, &desk, "refused", format!("refused: {why}")).await;
    }
    let limit = desk.timings.ttl * 8;
    follow_change(&desk, &to, epoch, candidate.map(MemberName::from), limit).await;
}

/// Puts a command into the log, and waits until this member has applied it too: what is asked of the
/// state afterwards must not be older.
pub(super) async fn put(desk: &Desk, command: Command) -> Result<(), String> {
    let limit = desk.timings.ttl * 2;
    let proposed = desk.node.propose(command, limit).await.map_err(|err| err.to_string())?;
    if let Outcome::Rejected(why) = proposed.outcome {
        return Err(why.to_string());
    }
    let mut applied = desk.node.applied();
    let caught_up = applied.wait_for(|applied| applied.index >= proposed.index);
    match tokio::time::timeout(limit, caught_up).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err("it was taken, but this member lags behind; see `howdah list`".into()),
    }
}

/// Tells the events until somebody serves under a later epoch, or `limit` passed.
async fn follow_change(
    desk: &Desk,
    to: &Teller,
    epoch: Epoch,
    wanted: Option<MemberName>,
    limit: Duration,
) {
    let deadline = tokio::time::Instant::now() + limit;
    let (mut applied, mut heard, mut own) =
        (desk.node.applied(), desk.board.changes(), desk.board.own());
    let mut told = desk.state().events.back().map_or(0, |event| event.index);
    loop {
        let state = applied.borrow_and_update().state.clone();
        for event in state.events.iter().filter(|event| event.index > told) {
            tell(to, event.text.clone()).await;
        }
        told = state.events.back().map_or(told, |event| event.index.max(told));
        let serving = state.held().filter(|record| record.epoch > epoch);
        if let Some(record) = serving
            && desk.look(|sources| sources.why_not_writable()).is_none()
        {
            let leader = record.holder.clone();
            let text = match &wanted {
                Some(wanted) if *wanted != leader => {
                    format!("{leader} leads, instead of {wanted}")
                }
                _ => format!("{leader} leads with epoch {}", record.epoch),
            };
            let as_wanted = wanted.is_none_or(|wanted| wanted == leader);
            let error = if as_wanted { "" } else { "other_leader" };
            return last(to, desk, error, text).await;
        }
        if state.epoch() == epoch
            && state.switchover.is_none()
            && state.failover.is_none()
            && state.election.is_none()
        {
            let text = "given up: the leader stays; see the events above";
            return refused(to, desk, "given_up", text).await;
        }
        let news = async {
            tokio::select! {
                _ = applied.changed() => {}
                _ = heard.changed() => {}
                _ = own.changed() => {}
            }
        };
        if tokio::time::timeout_at(deadline, news).await.is_err() {
            let text = format!("not finished within {} s; see `howdah list`", limit.as_secs());
            return refused(to, desk, "timeout", text).await;
        }
    }
}
