//! JSON documents in Patroni's shapes, and ours. Pure.

use std::collections::{BTreeMap, HashMap};

use howdah_core::sync::choose::Mode;
use howdah_core::{ChangeKind, ClusterState, Epoch};
use howdah_rpc::peer::Standby;
use serde_json::{Value, json};

use super::answer::Answer;
use crate::explain as told;
use crate::status::Sources;

fn lsn(value: u64) -> String {
    howdah_core::Lsn(value).to_string()
}

/// This member, in the shape of Patroni's `GET /patroni`.
pub(super) fn member(sources: &Sources<'_>) -> Value {
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
    if !own.replication_state.is_empty() {
        body["replication_state"] = json!(own.replication_state);
    }
    if sources.state.paused() {
        body["pause"] = json!(true);
    }
    if !own.pending_restart.is_empty() {
        body["pending_restart"] = json!(true);
        body["pending_restart_reason"] = pending(&own.pending_restart);
    }
    if !own.replication.is_empty() {
        body["replication"] = json!(own.replication.iter().map(standby).collect::<Vec<_>>());
    }
    if sources.is_sync_standby(sources.me) {
        let quorum = sources.state.settings.synchronous_mode == Mode::Quorum;
        body[if quorum { "quorum_standby" } else { "sync_standby" }] = json!(true);
    }
    if sources.leader().is_none() {
        body["cluster_unlocked"] = json!(true);
    }
    if let Some(me) = sources.cluster().members.iter().find(|m| m.name == sources.me.0) {
        body["tags"] = json!(me.tags);
    }
    body
}

pub(super) fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}

/// As Patroni names it here: `leader`, `replica`, `sync_standby`, `quorum_standby`.
fn role(shown: &str) -> String {
    shown.to_ascii_lowercase().replace(' ', "_")
}

/// The cluster, in the shape of Patroni's `GET /cluster`.
pub(super) fn cluster(sources: &Sources<'_>) -> Value {
    let shown = sources.cluster();
    let members: Vec<Value> = shown
        .members
        .iter()
        .map(|member| {
            let leads = member.name == shown.leader;
            let (host, port) = member.host.rsplit_once(':').unwrap_or((&member.host, "5432"));
            let mut body = json!({
                "name": member.name,
                "role": role(&member.role),
                "state": member.state,
                "api_url": member.api_url,
                "host": host,
                "port": port.parse::<u16>().unwrap_or(5432),
                "timeline": member.timeline,
                "tags": member.tags,
            });
            if !member.pending_restart.is_empty() {
                body["pending_restart"] = json!(true);
                body["pending_restart_reason"] = pending(&member.pending_restart);
            }
            if member.fenced {
                body["fenced"] = json!(true);
            }
            if !member.troubles.is_empty() {
                body["troubles"] = json!(member.troubles);
            }
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
    if shown.paused {
        body["pause"] = json!(true);
    }
    if let Some(pending) = shown.switchover {
        body["scheduled_switchover"] = json!({ "from": pending.from, "to": pending.to });
    }
    body
}

/// `old->new` apart, as Patroni shows it.
fn pending(parameters: &HashMap<String, String>) -> Value {
    let mut shown = BTreeMap::new();
    for (name, change) in parameters {
        let (old, new) = change.split_once("->").unwrap_or((change, ""));
        shown.insert(name, json!({ "old_value": old, "new_value": new }));
    }
    json!(shown)
}

fn standby(standby: &Standby) -> Value {
    json!({
        "usename": standby.user,
        "application_name": standby.application_name,
        "client_addr": standby.client_addr,
        "state": standby.state,
        "sync_state": standby.sync_state,
    })
}

/// Timelines: number, where its parent ended, why, when, who.
pub(super) fn history(state: &ClusterState) -> Value {
    let rows: Vec<Value> = state
        .changes
        .iter()
        .filter(|change| change.kind != ChangeKind::Bootstrap)
        .filter_map(|change| {
            let (_, fork) = change.timeline?;
            let parent = state.timelines.recorded_by(change.epoch)?;
            let parent = state.timelines.recorded.get(&parent)?.parent?;
            Some(json!([
                parent.timeline.0,
                fork.0,
                change.reason,
                rfc3339(change.at.0),
                change.to.0
            ]))
        })
        .collect();
    json!(rows)
}

/// Events after the index `since`, oldest first.
pub(super) fn events(state: &ClusterState, query: &BTreeMap<String, String>) -> Answer {
    let since = query.get("since").map_or(Ok(0), |text| text.parse::<u64>());
    let Ok(since) = since else {
        return Answer::bad("since is no index", "give the `index` of the last event that you saw");
    };
    let events: Vec<Value> = state
        .events
        .iter()
        .filter(|event| event.index > since)
        .map(|event| {
            json!({
                "index": event.index,
                "at": rfc3339(event.at.0),
                "epoch": event.epoch.0,
                "kind": event.kind.to_string(),
                "member": event.member.0,
                "text": event.text,
            })
        })
        .collect();
    Answer::json(200, json!(events))
}

/// Why somebody leads, or why nobody does.
pub(super) fn explain(sources: &Sources<'_>, query: &BTreeMap<String, String>) -> Answer {
    let epoch = query.get("epoch").map_or(Ok(0), |text| text.parse::<u64>());
    let Ok(epoch) = epoch else {
        return Answer::bad("epoch is no number", "leave it out for the present one");
    };
    let Some(answer) = told::explain(sources.state, Epoch(epoch)) else {
        let error = format!("epoch {epoch} is not in the history");
        return Answer::error(404, &error, "GET /history");
    };
    let not_writable = sources.why_not_writable();
    let body = json!({ "lines": answer.lines, "not_writable_because": not_writable });
    Answer::json(200, body)
}
