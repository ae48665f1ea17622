//! The cluster-wide configuration in Patroni's names and units, as `/config` and `show-config` show it.

use howdah_core::ClusterState;
use serde_json::{Value, json};

/// The settings in the log, in seconds and bytes as Patroni writes them.
pub fn to_json(state: &ClusterState) -> Value {
    let settings = &state.settings;
    let mut postgresql = json!({
        "use_pg_rewind": settings.use_pg_rewind,
        "use_slots": settings.use_slots,
        "parameters": settings.parameters,
    });
    if !settings.pg_hba.is_empty() {
        postgresql["pg_hba"] = json!(settings.pg_hba);
    }
    let mut config = json!({
        "ttl": seconds(settings.ttl_ms),
        "maximum_lag_on_failover": settings.maximum_lag_on_failover_bytes,
        "primary_start_timeout": seconds(settings.primary_start_timeout_ms),
        "synchronous_mode": settings.synchronous_mode.to_string(),
        "synchronous_mode_strict": settings.synchronous_mode_strict,
        "synchronous_node_count": settings.synchronous_node_count,
        "postgresql": postgresql,
    });
    if let Some(bytes) = settings.maximum_lag_on_syncnode_bytes {
        config["maximum_lag_on_syncnode"] = json!(bytes);
    }
    if state.pause_wanted {
        config["pause"] = json!(true);
    }
    config
}

/// Whole seconds as an integer, as people write them.
fn seconds(ms: u64) -> Value {
    if ms.is_multiple_of(1000) {
        return json!(ms / 1000);
    }
    json!(std::time::Duration::from_millis(ms).as_secs_f64())
}
