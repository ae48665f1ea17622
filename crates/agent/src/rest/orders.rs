//! Orders over REST: the same as over gRPC, with Patroni's codes and messages.

use axum::http::Method;
use howdah_core::MemberName;
use howdah_rpc::access::Caller;
use howdah_rpc::control::{FailoverRequest, Progress, RestartRequest, SwitchoverRequest};

use super::answer::Answer;
use super::body::Fields;
use super::{ORDERS, look};
use crate::order::Order;
use crate::services::audit::{self, Reach};
use crate::services::control::{Desk, Told};

/// Takes an order, and answers when it is done or refused.
pub(super) async fn take(
    desk: &Desk,
    caller: &Caller,
    method: &Method,
    path: &str,
    body: &[u8],
) -> Answer {
    let done = match (method.as_str(), path) {
        ("POST", "switchover") => switchover(desk, caller, body).await,
        ("DELETE", "switchover") => Ok(no_switchover(desk)),
        ("POST", "failover") => failover(desk, caller, body).await,
        ("POST", "restart") => restart(desk, caller, body).await,
        ("DELETE", "restart") => Ok(Answer::message(404, "no restarts are scheduled")),
        ("POST", "reload") => reload(desk, caller).await,
        ("POST", "reinitialize") => reinitialize(desk, caller, body).await,
        ("PATCH" | "PUT", "config") => Err(edit_config(body)),
        (_, path) => Err(misfit(desk, path)),
    };
    done.unwrap_or_else(|refused| refused)
}

/// A method that the path does not take, or a path that does not exist.
fn misfit(desk: &Desk, path: &str) -> Answer {
    if let Some((_, allowed)) = ORDERS.iter().find(|(order, _)| *order == path) {
        return Answer::not_allowed(allowed);
    }
    let asked = desk.look(|sources| look(sources, path, &std::collections::BTreeMap::new()));
    if asked.code == 404 { asked } else { Answer::not_allowed("GET, HEAD, OPTIONS") }
}

fn edit_config(body: &[u8]) -> Answer {
    let fields = match Fields::read(body) {
        Ok(fields) => fields,
        Err(answer) => return answer,
    };
    let keys = match fields.end() {
        Ok(()) => String::new(),
        Err(answer) => serde_json::from_str::<serde_json::Value>(&answer.body)
            .ok()
            .and_then(|body| body["field"].as_str().map(|key| format!("{key}: ")))
            .unwrap_or_default(),
    };
    let error = format!("{keys}the cluster-wide configuration cannot be edited yet");
    Answer::error(501, &error, "set it in bootstrap.dcs before the cluster is made")
}

/// Waits for the last word.
async fn last(mut told: Told) -> Progress {
    let mut last = Progress::default();
    while let Some(Ok(progress)) = told.recv().await {
        last = progress;
    }
    last
}

fn no_switchover(desk: &Desk) -> Answer {
    match desk.state().switchover {
        Some(_) => Answer::message(409, "the switchover is under way"),
        None => Answer::message(404, "no switchover is scheduled"),
    }
}

async fn switchover(desk: &Desk, caller: &Caller, body: &[u8]) -> Result<Answer, Answer> {
    let mut fields = Fields::read(body)?;
    let (leader, candidate) = (fields.text("leader")?, fields.text("candidate")?);
    fields.not_yet("scheduled_at")?;
    fields.end()?;
    let Some(leader) = leader else {
        let text = "Switchover could be performed only from a specific leader";
        return Err(Answer::message(400, text));
    };
    Ok(hand_over(desk, caller, leader, candidate).await)
}

async fn hand_over(
    desk: &Desk,
    caller: &Caller,
    leader: String,
    candidate: Option<String>,
) -> Answer {
    if candidate.as_ref() == Some(&leader) {
        return Answer::message(400, "Switchover target and source are the same");
    }
    let state = desk.state();
    if candidate.is_none() && state.paused() {
        let text = "Switchover is possible only to a specific candidate in a paused state";
        return Answer::message(400, text);
    }
    if state.members.len() < 2 {
        let text = "switchover is not possible: cluster does not have members except leader";
        return Answer::message(412, text);
    }
    let wanted = candidate.clone().unwrap_or_default();
    let request = SwitchoverRequest { leader, candidate: wanted.clone(), dry_run: false };
    let told = desk.order_switchover(caller, request);
    changed(&last(told).await, &wanted, "Switchover", "switched over")
}

/// The end of a change of leader in Patroni's words.
fn changed(end: &Progress, wanted: &str, what: &str, did: &str) -> Answer {
    if end.done {
        return Answer::message(200, format!("Successfully {did} to \"{}\"", end.leader));
    }
    let impossible =
        |why: &str| Answer::message(412, format!("{} is not possible: {why}", what.to_lowercase()));
    match end.error.as_str() {
        "other_leader" if end.text.contains("leads, instead of") => {
            let did = did[..1].to_uppercase() + &did[1..];
            Answer::message(200, format!("{did} to \"{}\" instead of \"{wanted}\"", end.leader))
        }
        "other_leader" => Answer::message(412, "leader name does not match"),
        "no_such_member" => impossible("candidate does not exists"),
        "no_candidate" | "candidate_not_ready" | "is_leader" => {
            impossible(&format!("no good candidates have been found ({})", end.text))
        }
        "timeout" => Answer::message(503, format!("{what} status unknown: {}", end.text)),
        _ => Answer::message(503, format!("{what} failed: {}", end.text)),
    }
}

async fn failover(desk: &Desk, caller: &Caller, body: &[u8]) -> Result<Answer, Answer> {
    let mut fields = Fields::read(body)?;
    let (leader, candidate) = (fields.text("leader")?, fields.text("candidate")?);
    let scheduled = fields.text("scheduled_at")?;
    fields.end()?;
    if scheduled.is_some() {
        return Err(Answer::message(400, "Failover can't be scheduled"));
    }
    let Some(candidate) = candidate else {
        let text = "Failover could be performed only to a specific candidate";
        return Err(Answer::message(400, text));
    };
    if let Some(leader) = leader {
        return Ok(hand_over(desk, caller, leader, Some(candidate)).await);
    }
    let request = FailoverRequest { candidate: candidate.clone(), ..FailoverRequest::default() };
    let told = desk.order_failover(caller, request);
    Ok(changed(&last(told).await, &candidate, "Failover", "failed over"))
}

async fn restart(desk: &Desk, caller: &Caller, body: &[u8]) -> Result<Answer, Answer> {
    let mut fields = Fields::read(body)?;
    fields.not_yet("schedule")?;
    let role = fields.text("role")?.unwrap_or_default();
    let version = fields.text("postgres_version")?.unwrap_or_default();
    let timeout_ms = fields.milliseconds("timeout")?.unwrap_or(0);
    let pending = fields.flag("restart_pending")?;
    fields.end()?;
    let known = ["", "any", "primary", "master", "leader", "replica", "standby", "standby_leader"];
    if !known.contains(&role.as_str()) {
        return Err(Answer::field("role", &format!("{role} is no role"), "primary or replica"));
    }
    if role == "standby_leader" {
        return Err(Answer::message(503, "restart conditions are not satisfied"));
    }
    let number = |part: &str| part.parse::<u32>().is_ok();
    if !version.is_empty() && !version.splitn(2, '.').all(number) {
        let error = format!("{version} is no PostgreSQL version");
        return Err(Answer::field("postgres_version", &error, "write one such as 15.4"));
    }
    let request = RestartRequest {
        member: desk.me.0.clone(),
        role,
        pending,
        postgres_version_below: version,
        timeout_ms,
    };
    let end = last(desk.order_restart(caller, request)).await;
    Ok(match end.error.as_str() {
        "" if end.done => Answer::message(200, "restarted successfully"),
        "condition" => Answer::message(503, "restart conditions are not satisfied"),
        _ => Answer::message(503, end.text),
    })
}

async fn reload(desk: &Desk, caller: &Caller) -> Result<Answer, Answer> {
    let what = (format!("reload {}", desk.me), Reach::Alone);
    let told = |reloaded: &crate::reload::Reloaded| reloaded.to_string();
    let orders = desk.orders.clone();
    let work = async move { orders.reload().await };
    match audit::once(desk, caller, what, work, told, |why| why).await {
        Ok(reloaded) => Ok(Answer::message(202, format!("reload scheduled; {reloaded}"))),
        Err(why) => Err(Answer::error(422, &why, "mend the file; nothing was changed")),
    }
}

async fn reinitialize(desk: &Desk, caller: &Caller, body: &[u8]) -> Result<Answer, Answer> {
    let mut fields = Fields::read(body)?;
    // The copy is made beside the old data, so that there is nothing to force.
    fields.flag("force")?;
    fields.flag("from_leader")?;
    fields.flag("from-leader")?;
    fields.end()?;
    let state = desk.state();
    match state.held() {
        None => Err(Answer::message(503, "Cluster has no leader, can not reinitialize")),
        Some(record) if record.holder == MemberName::from(desk.me.as_str()) => {
            Err(Answer::message(503, "I am the leader, can not reinitialize"))
        }
        Some(_) => {
            let (what, orders) = ((format!("reinit {}", desk.me), Reach::All), desk.orders.clone());
            let work = async move { orders.give(Order::Reinit).await };
            let told = |(): &()| "it was begun".to_owned();
            match audit::once(desk, caller, what, work, told, |why| why).await {
                Ok(()) => Ok(Answer::message(200, "reinitialize started")),
                Err(why) => Err(Answer::message(503, why)),
            }
        }
    }
}
