//! What an operator asks of one member, or of the cluster's automatic actions: reinit, restart, reload,
//! pause, fence. One task per request, as in [`super::operations`].

use std::time::Duration;

use howdah_core::{Command, Member, MemberName};
use howdah_rpc::control::{ReinitRequest, ReloadResponse, RestartRequest};
use howdah_rpc::peer;
use howdah_rpc::peer::peer_client::PeerClient;
use howdah_rpc::refusal::Reason as Refusal;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::control::Desk;
use super::operations::{Teller, done, put, refused, tell};
use crate::order::Order;

/// Has one standby's data replaced.
pub async fn reinit(desk: Desk, request: ReinitRequest, to: Teller) {
    let name = MemberName::from(request.member.as_str());
    let state = desk.state();
    let Some(member) = state.members.get(&name) else {
        let text = format!("refused: there is no member {name}");
        return refused(&to, &desk, "no_such_member", text).await;
    };
    if state.held().is_none_or(|record| record.holder == name) {
        let (error, text) = if state.held().is_some() {
            ("is_leader", format!("refused: {name} is the leader"))
        } else {
            ("no_leader", "refused: cluster has no leader to copy from".to_owned())
        };
        return refused(&to, &desk, error, text).await;
    }
    let asked = ask_reinit(&desk, &name, &member.control_address).await;
    if let Err(why) = asked {
        return refused(&to, &desk, "refused", format!("refused: {why}")).await;
    }
    tell(&to, format!("{name} replaces its data by a fresh copy")).await;
    watch_reinit(&desk, &name, &to).await;
}

async fn ask_reinit(desk: &Desk, name: &MemberName, address: &str) -> Result<(), String> {
    if *name == desk.me {
        return desk.orders.give(Order::Reinit).await;
    }
    let (scope, member) = (desk.state().scope.clone(), name.0.clone());
    let mut client = peer_of(desk, address)?;
    let request = peer::ReinitRequest { scope, member };
    let answer = within(desk, name, client.reinit(request)).await?;
    if answer.accepted { Ok(()) } else { Err(answer.reason) }
}

/// Tells the progress until the member streams with other data than before.
async fn watch_reinit(desk: &Desk, name: &MemberName, to: &Teller) {
    let words = || desk.look(|sources| sources.words(name).map(|(words, _)| words.clone()));
    let before = words().map_or(0, |words| words.data_id);
    let (mut heard, mut own) = (desk.board.changes(), desk.board.own());
    let mut last = String::new();
    loop {
        if let Some(now) = words() {
            let text = if now.in_progress {
                format!("{}: {} % ({} bytes)", now.state, now.progress_percent, now.progress_bytes)
            } else {
                format!("{}: {}", now.state, now.reason)
            };
            if text != last {
                tell(to, format!("{name} {text}")).await;
                last = text;
            }
            let fresh = now.data_id != before;
            if fresh && now.streaming_epoch != 0 {
                return done(to, desk, format!("{name} streams with fresh data")).await;
            }
        }
        let news = async {
            tokio::select! { _ = heard.changed() => {}, _ = own.changed() => {} }
        };
        let limit = Duration::from_secs(120);
        if tokio::time::timeout(limit, news).await.is_err() || to.is_closed() {
            let text = format!("no news of {name} for {} s; see `howdah list`", limit.as_secs());
            return refused(to, desk, "timeout", text).await;
        }
    }
}

fn peer_of(desk: &Desk, address: &str) -> Result<PeerClient<Channel>, String> {
    Ok(PeerClient::new(desk.node.channel(address).map_err(|error| error.to_string())?))
}

async fn within<T>(
    desk: &Desk,
    name: &MemberName,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, String> {
    let answer = tokio::time::timeout(desk.timings.ttl, answer).await;
    let answer = answer.map_err(|_| format!("{name} does not answer"))?;
    answer.map(tonic::Response::into_inner).map_err(|status| match status.code() {
        // Its agent is away or starts in this moment; the transport's own words name nobody.
        Code::Unavailable => format!("{name} does not answer ({})", status.message()),
        _ => status.message().to_owned(),
    })
}

fn known(desk: &Desk, name: &MemberName) -> Result<Member, Status> {
    let state = desk.state();
    let member = state.members.get(name).cloned();
    member.ok_or_else(|| {
        Refusal::NoSuchMember.status(format!("there is no member {name}; see `howdah list`"))
    })
}

/// Has one member read its configuration again.
///
/// # Errors
/// `NotFound`: no such member. `Unavailable`: it does not answer. `InvalidArgument`: its file has a
/// mistake, and nothing was changed.
pub async fn reload(desk: Desk, member: String) -> Result<ReloadResponse, Status> {
    let name = MemberName::from(member.as_str());
    let address = known(&desk, &name)?.control_address;
    if name == desk.me {
        let reloaded =
            desk.orders.reload().await.map_err(|why| Refusal::WrongConfiguration.status(why))?;
        return Ok(ReloadResponse {
            applied: reloaded.applied,
            needs_restart: reloaded.needs_restart,
            needs_howdah_restart: reloaded.needs_howdah_restart,
        });
    }
    let mut client = peer_of(&desk, &address).map_err(|why| Refusal::Unreachable.status(why))?;
    let scope = desk.state().scope.clone();
    let answer = within(&desk, &name, client.reload(peer::ReloadRequest { scope, member })).await;
    let answer = answer.map_err(|why| Refusal::Unreachable.status(why))?;
    if !answer.reason.is_empty() {
        return Err(Refusal::WrongConfiguration.status(answer.reason));
    }
    Ok(ReloadResponse {
        applied: answer.applied,
        needs_restart: answer.needs_restart,
        needs_howdah_restart: answer.needs_howdah_restart,
    })
}

/// What a reload did, for people.
pub(super) fn told(answer: &ReloadResponse) -> String {
    crate::reload::Reloaded {
        applied: answer.applied.clone(),
        needs_restart: answer.needs_restart.clone(),
        needs_howdah_restart: answer.needs_howdah_restart.clone(),
    }
    .to_string()
}

/// What a member last said, if it was heard a moment ago.
fn words(desk: &Desk, name: &MemberName) -> Option<peer::Status> {
    desk.look(|sources| {
        let (words, age) = sources.words(name)?;
        sources.fresh(age).then(|| words.clone())
    })
}

/// `15.4` as 150004; `16` as 160000.
fn version_number(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    major.checked_mul(10_000)?.checked_add(minor)
}

/// Why a restart is not to be done; none: it is.
fn unmet_condition(desk: &Desk, request: &RestartRequest, words: &peer::Status) -> Option<String> {
    let leads = desk.look(|sources| sources.leader().is_some_and(|name| name.0 == request.member));
    match request.role.as_str() {
        "" | "any" => {}
        "primary" | "leader" | "master" if leads => {}
        "replica" | "standby" if !leads => {}
        role @ ("primary" | "leader" | "master" | "replica" | "standby") => {
            return Some(format!("restart conditions are not satisfied: its role is not {role}"));
        }
        role => return Some(format!("role {role} is unknown; write primary or replica")),
    }
    if request.pending && words.pending_restart.is_empty() {
        return Some("restart conditions are not satisfied: no parameter waits for one".into());
    }
    if !request.postgres_version_below.is_empty() {
        let Some(bound) = version_number(&request.postgres_version_below) else {
            let text = format!("{} is no PostgreSQL version", request.postgres_version_below);
            return Some(text + "; write one such as 15.4");
        };
        if words.server_version >= bound {
            return Some(format!(
                "restart conditions are not satisfied: it runs {}",
                words.server_version
            ));
        }
    }
    None
}

/// Restarts one member's PostgreSQL.
pub async fn restart(desk: Desk, request: RestartRequest, to: Teller) {
    let name = MemberName::from(request.member.as_str());
    let Ok(member) = known(&desk, &name) else {
        let text = format!("refused: there is no member {name}");
        return refused(&to, &desk, "no_such_member", text).await;
    };
    let Some(before) = words(&desk, &name) else {
        let text = format!("refused: {name} is not heard");
        return refused(&to, &desk, "not_heard", text).await;
    };
    if let Some(why) = unmet_condition(&desk, &request, &before) {
        return refused(&to, &desk, "condition", format!("refused: {why}")).await;
    }
    let asked = if name == desk.me {
        desk.orders.give(Order::Restart).await
    } else {
        ask_restart(&desk, &name, &member.control_address).await
    };
    if let Err(why) = asked {
        return refused(&to, &desk, "refused", format!("refused: {why}")).await;
    }
    tell(&to, format!("{name} restarts its PostgreSQL")).await;
    let limit = match request.timeout_ms {
        0 => Duration::from_millis(desk.state().settings.primary_start_timeout_ms),
        ms => Duration::from_millis(ms),
    };
    let started = before.postmaster_start_ms;
    let good = |desk: &Desk| {
        words(desk, &name).is_some_and(|now| {
            now.running && now.postmaster_start_ms > started && now.open_for_clients
        })
    };
    if until(&desk, limit, good).await {
        done(&to, &desk, format!("{name} was restarted")).await;
    } else {
        let text = format!(
            "{name} is not back after {} s; see `howdah list`, `howdah doctor`",
            limit.as_secs()
        );
        refused(&to, &desk, "timeout", text).await;
    }
}

async fn ask_restart(desk: &Desk, name: &MemberName, address: &str) -> Result<(), String> {
    let (scope, member) = (desk.state().scope.clone(), name.0.clone());
    let mut client = peer_of(desk, address)?;
    let answer = within(desk, name, client.restart(peer::RestartRequest { scope, member })).await?;
    if answer.accepted { Ok(()) } else { Err(answer.reason) }
}

/// Waits until `good`, for at most `limit`; whether it came.
async fn until(desk: &Desk, limit: Duration, good: impl Fn(&Desk) -> bool) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    let (mut applied, mut heard, mut own) =
        (desk.node.applied(), desk.board.changes(), desk.board.own());
    while !good(desk) {
        let news = async {
            tokio::select! {
                _ = applied.changed() => {}
                _ = heard.changed() => {}
                _ = own.changed() => {}
            }
        };
        if tokio::time::timeout_at(deadline, news).await.is_err() {
            return good(desk);
        }
    }
    true
}

/// Switches automatic actions off or on, and waits until the holder of the lease has taken it up.
pub async fn set_pause(desk: Desk, paused: bool, to: Teller) {
    let already = desk.state();
    if already.pause_wanted == paused && already.paused() == paused {
        let text = if paused { "already paused" } else { "not paused" };
        return refused(&to, &desk, "no_change", text).await;
    }
    let command = Command::SetPause { paused, at: desk.clock.wall() };
    if let Err(why) = put(&desk, command).await {
        return refused(&to, &desk, "refused", format!("refused: {why}")).await;
    }
    tell(&to, "the leader is to take it up with its next renewal").await;
    if !until(&desk, desk.timings.ttl * 4, |desk| desk.state().paused() == paused).await {
        let text = if paused {
            "asked for, but no leader has taken it up yet: it will when it serves"
        } else {
            "asked for, but the leader, which is silent, keeps the pause; if its PostgreSQL is \
             stopped: `howdah failover --holder-is-stopped`"
        };
        return refused(&to, &desk, "timeout", text).await;
    }
    let text = if paused {
        "cluster management is paused: nothing is started, stopped or promoted by itself"
    } else {
        "cluster management is resumed"
    };
    done(&to, &desk, text).await;
}

/// Stops one member's PostgreSQL and keeps it stopped, or lets it run again.
pub async fn set_fence(desk: Desk, member: String, fenced: bool, to: Teller) {
    let name = MemberName::from(member.as_str());
    let state = desk.state();
    if state.members.contains_key(&name) && state.fenced.contains(&name) == fenced {
        let text = format!("{name} is {}fenced already", if fenced { "" } else { "not " });
        return refused(&to, &desk, "no_change", text).await;
    }
    let command = Command::SetFence { member: name.clone(), fenced, at: desk.clock.wall() };
    if let Err(why) = put(&desk, command).await {
        return refused(&to, &desk, "refused", format!("refused: {why}")).await;
    }
    tell(&to, format!("{name} is to {}", if fenced { "stop" } else { "start" })).await;
    let limit = desk.timings.handover + desk.timings.ttl * 12;
    let good = |desk: &Desk| {
        let leads = desk.look(|sources| sources.leader() == Some(&name));
        words(desk, &name)
            .is_some_and(|now| if fenced { now.state == "stopped" && !leads } else { now.running })
    };
    if until(&desk, limit, good).await {
        let text = if fenced { "fenced: its PostgreSQL is stopped" } else { "unfenced: it runs" };
        done(&to, &desk, format!("{name} is {text}")).await;
    } else {
        let text = format!(
            "recorded, but {name} was not seen to {} within {} s; see `howdah list`",
            if fenced { "stop" } else { "start" },
            limit.as_secs()
        );
        refused(&to, &desk, "timeout", text).await;
    }
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn versions_are_read_as_people_write_them() {
        assert_eq!(version_number("15.4"), Some(150_004));
        assert_eq!(version_number("16"), Some(160_000));
        for bad in ["", "x", "15.x", "15.4.1", "-1", "999999999999"] {
            assert_eq!(version_number(bad), None, "{bad}");
        }
    }
}
