//! The value of each key as it is in force, for people. Pure.
//!
//! Invariant, held by a test: every key of the list has an answer here.

use super::keys::{Key, is_secret};
use super::{Config, Role, pgbouncer, proxy, tls, units, vip};

/// The value of a key; lists by line breaks, `None` for what is not set.
pub(super) fn value(config: &Config, key: &Key, path: &str) -> Option<String> {
    if is_secret(key.path) {
        if path.starts_with("restapi.") {
            return config.restapi.authentication.as_ref().map(|_| "(set; not shown)".to_owned());
        }
        return role(config, path)?.password.as_ref().map(|_| "(set; not shown)".to_owned());
    }
    let (section, rest) = path.split_once('.').unwrap_or((path, ""));
    match section {
        "raft" => raft(config, rest),
        "restapi" => super::rest::value(&config.restapi, rest),
        "pgbouncer" => pgbouncer::value(&config.pgbouncer, rest),
        "proxy" => proxy::value(&config.proxy, rest),
        "tls" => tls::value(config, rest),
        "vip" => vip::value(config.vip.as_ref(), rest),
        "postgresql" => postgresql(config, path, rest),
        "bootstrap" => bootstrap(config, rest),
        "tags" => tags(config, rest),
        _ => top(config, path),
    }
}

fn top(config: &Config, path: &str) -> Option<String> {
    Some(match path {
        "scope" => config.scope.clone(),
        "name" => config.name.0.clone(),
        "profile" => format!("{:?}", config.profile).to_lowercase(),
        "user" => config.user.clone(),
        "insecure" => config.insecure.to_string(),
        "stop_timeout" => units::written(config.stop_timeout),
        "handover_timeout" => units::written(config.handover_timeout),
        "log.level" => config.log.level.map_or("info", |level| level.word()).to_owned(),
        "log.type" => if config.log.json == Some(true) { "json" } else { "plain" }.to_owned(),
        _ => return None,
    })
}

fn raft(config: &Config, key: &str) -> Option<String> {
    let raft = &config.raft;
    Some(match key {
        "data_dir" => raft.data_dir.display().to_string(),
        "self_addr" => raft.self_addr.clone(),
        "bind_addr" => raft.bind_addr.to_string(),
        "partner_addrs" => raft.partner_addrs.join(", "),
        _ => return None,
    })
}

fn postgresql(config: &Config, path: &str, key: &str) -> Option<String> {
    let pg = &config.postgresql;
    if let Some(name) = key.strip_prefix("parameters.") {
        return pg.parameters.get(&name.to_ascii_lowercase()).cloned();
    }
    Some(match key {
        "listen" => format!("{}:{}", pg.listen_hosts.join(","), pg.port),
        "connect_address" => pg.connect_address.to_string(),
        "data_dir" => pg.data_dir.display().to_string(),
        "bin_dir" => pg.bin_dir.display().to_string(),
        "pg_hba" => pg.pg_hba.join("\n"),
        "pg_ident" => pg.pg_ident.join("\n"),
        _ if key.ends_with(".username") => role(config, path)?.username.clone(),
        _ => return None,
    })
}

fn role<'c>(config: &'c Config, path: &str) -> Option<&'c Role> {
    if path.starts_with("pgbouncer.") {
        return Some(&config.pgbouncer.role);
    }
    let roles = &config.postgresql.authentication;
    match path.strip_prefix("postgresql.authentication.")?.split('.').next()? {
        "superuser" => Some(&roles.superuser),
        "replication" => Some(&roles.replication),
        "rewind" => Some(&roles.rewind),
        "monitoring" => roles.monitoring.as_ref(),
        _ => None,
    }
}

fn bootstrap(config: &Config, key: &str) -> Option<String> {
    let settings = &config.bootstrap.settings;
    if let Some(name) = key.strip_prefix("dcs.postgresql.parameters.") {
        return settings.parameters.get(&name.to_ascii_lowercase()).cloned();
    }
    let millis = |ms| units::written(std::time::Duration::from_millis(ms));
    Some(match key {
        "dcs.ttl" => millis(settings.ttl_ms),
        "dcs.maximum_lag_on_failover" => settings.maximum_lag_on_failover_bytes.to_string(),
        "dcs.primary_start_timeout" => millis(settings.primary_start_timeout_ms),
        "dcs.synchronous_mode" => settings.synchronous_mode.to_string(),
        "dcs.synchronous_mode_strict" => settings.synchronous_mode_strict.to_string(),
        "dcs.synchronous_node_count" => settings.synchronous_node_count.to_string(),
        "dcs.maximum_lag_on_syncnode" => {
            settings.maximum_lag_on_syncnode_bytes.map_or("-1".to_owned(), |b| b.to_string())
        }
        "dcs.postgresql.use_pg_rewind" => settings.use_pg_rewind.to_string(),
        "dcs.postgresql.use_slots" => settings.use_slots.to_string(),
        "dcs.postgresql.pg_hba" | "pg_hba" => settings.pg_hba.join("\n"),
        "initdb" => config.bootstrap.initdb.join("\n"),
        _ => return None,
    })
}

fn tags(config: &Config, key: &str) -> Option<String> {
    let tags = &config.tags;
    Some(match key {
        "nofailover" => tags.nofailover.to_string(),
        "noloadbalance" => tags.noloadbalance.to_string(),
        "clonefrom" => tags.clonefrom.to_string(),
        "nosync" => tags.nosync.to_string(),
        "sync_priority" => tags.sync_priority.to_string(),
        "failover_priority" => tags.failover_priority.to_string(),
        _ => return tags.all.get(key).cloned(),
    })
}
