//! Health checks: 200 or 503 by what this member is. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use howdah_core::sync::choose::Mode;

use super::answer::Answer;
use super::shapes;
use crate::status::Sources;

/// What this member is, as health checks see it.
struct Health {
    running: bool,
    leads: bool,
    writable: bool,
    standby: bool,
    streaming: bool,
    replication_state: String,
    lag_bytes: Option<u64>,
    noloadbalance: bool,
    tags: BTreeMap<String, String>,
    quorum: bool,
    /// Commits wait for it.
    waited_for: bool,
    mode: Mode,
}

impl Health {
    fn is_sync(&self, mode: Mode) -> bool {
        self.waited_for && self.mode == mode
    }
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
        replication_state: own.replication_state.clone(),
        lag_bytes: me.lag_known.then_some(me.replay_lag_bytes),
        noloadbalance: me.tags.get("noloadbalance").is_some_and(|value| value == "true"),
        tags: me.tags.into_iter().collect(),
        quorum: sources.raft.quorum,
        waited_for: sources.is_sync_standby(sources.me),
        mode: sources.state.settings.synchronous_mode,
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

/// Whether a standby may be used under the conditions that the parameters set.
fn acceptable(health: &Health, query: &BTreeMap<String, String>) -> Result<bool, String> {
    for (key, value) in query {
        let met = if key == "lag" {
            let allowed = bytes(value).ok_or_else(|| format!("lag={value} is no size"))?;
            health.lag_bytes.is_some_and(|lag| lag <= allowed)
        } else if key == "replication_state" {
            *value == health.replication_state
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

/// Patroni matches the beginning of a path; so do old configurations of load balancers.
fn begins(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// Whether this is the path of a health check.
pub(super) fn is_path(path: &str) -> bool {
    PATHS.contains(&begins(path))
}

/// All of them.
const PATHS: [&str; 21] = [
    "",
    "primary",
    "read-write",
    "master",
    "leader",
    "replica",
    "read-only",
    "async",
    "asynchronous",
    "sync",
    "synchronous",
    "quorum",
    "read-only-sync",
    "read-only-synchronous",
    "read-only-quorum",
    "standby-leader",
    "standby_leader",
    "health",
    "liveness",
    "readiness",
    "writable",
];

/// The answer, if this is the path of a health check.
pub(super) fn check(
    sources: &Sources<'_>,
    path: &str,
    query: &BTreeMap<String, String>,
) -> Option<Answer> {
    let health = observe(sources);
    let replica = health.standby && health.running;
    let lease_only = query.get("lease_only").is_some_and(|value| value == "true");
    let primary = if lease_only { health.leads } else { health.writable };
    let limit = sources.state.settings.maximum_lag_on_failover_bytes;
    let ready = health.streaming && health.lag_bytes.is_some_and(|lag| lag <= limit);
    let accepts = acceptable(&health, query);
    let fine = *accepts.as_ref().unwrap_or(&false);
    let good = match begins(path) {
        "" | "primary" | "read-write" | "master" | "leader" => primary,
        "replica" => replica && !health.noloadbalance && fine,
        "read-only" => primary || (replica && !health.noloadbalance && fine),
        "async" | "asynchronous" => replica && !health.waited_for && fine,
        "sync" | "synchronous" => replica && health.is_sync(Mode::On),
        "quorum" => replica && health.is_sync(Mode::Quorum),
        "read-only-sync" | "read-only-synchronous" => {
            primary || (replica && health.is_sync(Mode::On))
        }
        "read-only-quorum" => primary || (replica && health.is_sync(Mode::Quorum)),
        "standby-leader" | "standby_leader" => false,
        "health" => health.running,
        "liveness" => return Some(liveness(sources, &health)),
        "readiness" => {
            let asked = query.contains_key("lag");
            primary || (replica && fine && if asked { health.streaming } else { ready })
        }
        "writable" => return Some(writable(sources, &health)),
        _ => return None,
    };
    if let Err(why) = accepts {
        return Some(Answer::bad(&why, "write bytes, or a size such as 16kB or 1MB"));
    }
    Some(Answer::json(if good { 200 } else { 503 }, shapes::member(sources)))
}

/// Whether the loop turns; it does so once a second at least.
fn liveness(sources: &Sources<'_>, health: &Health) -> Answer {
    let ttl = sources.state.settings.ttl();
    let limit: Duration = if health.leads { ttl } else { ttl * 2 };
    let alive = sources.turned <= limit || sources.state.paused();
    Answer::text(if alive { 200 } else { 503 }, "application/json", String::new())
}

/// Whether a write can succeed here now, and why not.
fn writable(sources: &Sources<'_>, health: &Health) -> Answer {
    let good = health.writable && health.quorum;
    let why = match sources.why_not_writable() {
        _ if good => None,
        Some(why) => Some(why),
        None if health.leads => Some("this member sees no quorum".to_owned()),
        None => Some("this member does not lead".to_owned()),
    };
    let leader = sources.leader().map(|name| name.0.clone());
    let body = serde_json::json!({ "writable": good, "because": why, "leader": leader });
    Answer::json(if good { 200 } else { 503 }, body)
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
