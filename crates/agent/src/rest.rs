//! REST in Patroni's language: health paths with its status codes, `/patroni`, `/cluster`.
//!
//! Place: one listener per member, for load balancers and monitoring. Answers from what this member
//! knows without asking anybody, so that it answers when the group has no quorum.
//! Differences from Patroni: `/primary` is 200 only where a write can succeed now (`lease_only=true`
//! for the lease alone); HEAD and OPTIONS answer like GET.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};

use crate::services::control::Desk;
use crate::status::Sources;

/// All paths.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/", any(|state, query| health(state, Path("primary".into()), query)))
        .route("/patroni", any(patroni))
        .route("/cluster", any(cluster))
        .route("/{*path}", any(health))
        .with_state(desk)
}

type Parameters = Query<BTreeMap<String, String>>;

fn answer(code: StatusCode, body: &Value) -> Response {
    (code, [("content-type", "application/json")], body.to_string()).into_response()
}

/// What this member is, as health checks see it.
struct Health {
    running: bool,
    leads: bool,
    writable: bool,
    standby: bool,
    streaming: bool,
    lag_bytes: Option<u64>,
    noloadbalance: bool,
    tags: BTreeMap<String, String>,
    quorum: bool,
}

fn observe(sources: &Sources<'_>) -> Health {
    let own = sources.own;
    let leads = sources.leader() == Some(sources.me);
    let shown = sources.cluster();
    let me = shown.members.into_iter().find(|member| member.name == sources.me.0);
    let me = me.unwrap_or_default();
    Health {
        running: own.running && matches!(own.state.as_str(), "running" | "streaming"),
        leads,
        writable: leads && own.running && !own.in_recovery && own.open_for_clients,
        standby: own.running && own.in_recovery,
        streaming: own.streaming_epoch != 0,
        lag_bytes: me.lag_known.then_some(me.replay_lag_bytes),
        noloadbalance: me.tags.get("noloadbalance").is_some_and(|value| value == "true"),
        tags: me.tags.into_iter().collect(),
        quorum: sources.raft.quorum,
    }
}

/// `16kB`, `1MB`, or plain bytes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A parameter that cannot be read, named.
struct BadParameter(String);

/// Whether a standby may be used under the conditions that the parameters set.
fn acceptable(health: &Health, query: &BTreeMap<String, String>) -> Result<bool, BadParameter> {
    for (key, value) in query {
        let met = if key == "lag" {
            let allowed = bytes(value).ok_or_else(|| {
                BadParameter(format!("lag={value}: write bytes, or a size such as 16kB or 1MB"))
            })?;
            health.lag_bytes.is_some_and(|lag| lag <= allowed)
        } else if key == "replication_state" {
            value != "streaming" || health.streaming
        } else if let Some(tag) = key.strip_prefix("tag_") {
            let known = health.tags.get(tag).map_or("false", String::as_str);
            known.eq_ignore_ascii_case(value)
        } else {
            true
        };
        if !met {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn health(
    State(desk): State<Desk>,
    Path(path): Path<String>,
    Query(query): Parameters,
) -> Response {
    let (health, body) = desk.look(|sources| (observe(sources), member_json(sources)));
    let replica = health.standby && health.running;
    let accepts = match acceptable(&health, &query) {
        Ok(accepts) => accepts,
        Err(BadParameter(why)) => {
            return answer(StatusCode::BAD_REQUEST, &json!({ "error": why }));
        }
    };
    let lease_only = query.get("lease_only").is_some_and(|value| value == "true");
    let primary = if lease_only { health.leads } else { health.writable };
    let limit = desk.state().settings.maximum_lag_on_failover_bytes;
    let ready = health.streaming && health.lag_bytes.is_some_and(|lag| lag <= limit);
    let good = match path.trim_end_matches('/').split('/').next().unwrap_or_default() {
        "primary" | "read-write" | "master" | "leader" => primary,
        "replica" => replica && !health.noloadbalance && accepts,
        "read-only" => primary || (replica && !health.noloadbalance && accepts),
        "async" | "asynchronous" => replica && accepts,
        "read-only-sync" | "read-only-synchronous" | "read-only-quorum" => primary,
        "sync" | "synchronous" | "quorum" | "standby-leader" | "standby_leader" => false,
        "health" => health.running,
        // The agent answers, so its loop lives: a dead loop ends the process.
        "liveness" => true,
        "readiness" => primary || (replica && ready && accepts),
        "writable" => primary && health.quorum,
        other => {
            let text = format!("no such path: /{other}");
            return answer(StatusCode::NOT_FOUND, &json!({ "error": text }));
        }
    };
    answer(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

async fn patroni(State(desk): State<Desk>) -> Response {
    answer(StatusCode::OK, &desk.look(member_json))
}

async fn cluster(State(desk): State<Desk>) -> Response {
    answer(StatusCode::OK, &desk.look(cluster_json))
}

fn lsn(value: u64) -> String {
    howdah_core::Lsn(value).to_string()
}

/// This member, in the shape of Patroni's `GET /patroni`.
fn member_json(sources: &Sources<'_>) -> Value {
    let own = sources.own;
    let primary = own.running && !own.in_recovery;
    let xlog = if primary {
        json!({ "location": own.receive_lsn })
    } else {
        json!({
            "received_location": own.receive_lsn,
            "replayed_location": own.replay_lsn,
            "paused": false,
        })
    };
    let mut body = json!({
        "state": if own.state == "streaming" { "running" } else { own.state.as_str() },
        "role": if primary { "primary" } else { "replica" },
        "server_version": own.server_version,
        "timeline": own.timeline,
        "database_system_identifier": own.system_identifier.to_string(),
        "patroni": {
            "version": env!("CARGO_PKG_VERSION"),
            "scope": sources.state.scope,
            "name": sources.me.0,
        },
        "howdah": {
            "version": env!("CARGO_PKG_VERSION"),
            "epoch": sources.state.epoch().0,
            "reason": own.reason,
            "not_writable_because": sources.why_not_writable(),
        },
    });
    if own.running {
        body["xlog"] = xlog;
        body["postmaster_start_time"] = json!(rfc3339(own.postmaster_start_ms));
    }
    if own.streaming_epoch != 0 {
        body["replication_state"] = json!("streaming");
    }
    if sources.leader().is_none() {
        body["cluster_unlocked"] = json!(true);
    }
    if let Some(me) = sources.cluster().members.iter().find(|m| m.name == sources.me.0) {
        body["tags"] = json!(me.tags);
    }
    body
}

fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}

/// The cluster, in the shape of Patroni's `GET /cluster`.
fn cluster_json(sources: &Sources<'_>) -> Value {
    let shown = sources.cluster();
    let members: Vec<Value> = shown
        .members
        .iter()
        .map(|member| {
            let leads = member.name == shown.leader;
            let (host, port) = member.host.rsplit_once(':').unwrap_or((&member.host, "5432"));
            let mut body = json!({
                "name": member.name,
                "role": if leads { "leader" } else { "replica" },
                "state": member.state,
                "api_url": member.api_url,
                "host": host,
                "port": port.parse::<u16>().unwrap_or(5432),
                "timeline": member.timeline,
                "tags": member.tags,
            });
            if !leads {
                let known = |value: u64| {
                    if member.lag_known { json!(value) } else { json!("unknown") }
                };
                body["receive_lsn"] = json!(lsn(member.receive_lsn));
                body["receive_lag"] = known(member.receive_lag_bytes);
                body["replay_lsn"] = json!(lsn(member.replay_lsn));
                body["replay_lag"] = known(member.replay_lag_bytes);
                body["lsn"] = json!(lsn(member.replay_lsn));
                body["lag"] = known(member.replay_lag_bytes);
            }
            body
        })
        .collect();
    let mut body = json!({ "members": members, "scope": shown.scope });
    if let Some(pending) = shown.switchover {
        body["scheduled_switchover"] = json!({ "from": pending.from, "to": pending.to });
    }
    body
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_as_patroni_reads_them() {
        assert_eq!(bytes("1048576"), Some(1 << 20));
        assert_eq!(bytes("16kB"), Some(16 << 10));
        assert_eq!(bytes("1GB"), Some(1 << 30));
        for bad in ["", "MB", "-1", "1XB", "99999999999999999999"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }
}
