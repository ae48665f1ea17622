//! The `bootstrap` section: what a new cluster begins with. Pure.

use std::time::Duration;

use howdah_core::sync::choose::Mode;
use howdah_core::{Profile, Settings, Timings};

use super::reader::{Section, boolean};
use super::value::{Node, Place, Value};
use super::{BootstrapConfig, hba, parameters, units};

pub(super) fn read(top: &Section<'_>, profile: Profile) -> BootstrapConfig {
    let ttl_ms = millis(profile.ttl());
    let mut settings = Settings { ttl_ms, profile, ..Settings::default() };
    let mut initdb = vec!["--encoding=UTF8".to_owned(), "--data-checksums".to_owned()];
    let Some(section) = top.section("bootstrap") else {
        return BootstrapConfig { settings, initdb };
    };
    if let Some(dcs) = section.section("dcs") {
        read_settings(dcs, &mut settings);
    }
    if let Some(node) = section.take("initdb") {
        initdb = read_initdb(&section, node);
    }
    settings.pg_hba.extend(hba::lines(&section, "pg_hba"));
    section.finish();
    BootstrapConfig { settings, initdb }
}

fn read_settings(dcs: Section<'_>, settings: &mut Settings) {
    if let Some(ttl) = dcs.duration("ttl") {
        settings.ttl_ms = millis(ttl);
    }
    if let Err(error) = Timings::for_profile(settings.profile, settings.ttl()) {
        dcs.error("ttl", error.to_string(), "5 is the default, 2 with `profile: fast`");
    } else if settings.ttl() > Duration::from_secs(15) {
        let what = format!(
            "a failover waits {} after the leader's last sign",
            units::show(settings.ttl())
        );
        dcs.warn("ttl", what, "5 is the default and enough for most networks");
    }
    if let Some(bytes) = dcs.bytes("maximum_lag_on_failover") {
        settings.maximum_lag_on_failover_bytes = bytes;
    }
    for key in ["master_start_timeout", "primary_start_timeout"] {
        if let Some(limit) = dcs.duration(key) {
            settings.primary_start_timeout_ms = millis(limit);
        }
    }
    if dcs.take("master_start_timeout").is_some() {
        dcs.warn("master_start_timeout", "is the old name", "write `primary_start_timeout`");
    }
    read_sync(&dcs, settings);
    if let Some(section) = dcs.section("postgresql") {
        settings.use_pg_rewind = section.boolean("use_pg_rewind").unwrap_or(settings.use_pg_rewind);
        settings.use_slots = section.boolean("use_slots").unwrap_or(settings.use_slots);
        settings.parameters = parameters::read(section.section("parameters"));
        settings.pg_hba = hba::lines(&section, "pg_hba");
        section.finish();
    }
    dcs.finish();
}

/// Synchronous replication, in Patroni's words.
fn read_sync(dcs: &Section<'_>, settings: &mut Settings) {
    if let Some(text) = dcs.text("synchronous_mode") {
        match (text.as_str(), boolean(&text)) {
            ("quorum", _) => settings.synchronous_mode = Mode::Quorum,
            (_, Some(true)) => settings.synchronous_mode = Mode::On,
            (_, Some(false)) => settings.synchronous_mode = Mode::Off,
            _ => {
                let what = format!("`{text}` is no mode");
                dcs.error("synchronous_mode", what, "write off, on or quorum");
            }
        }
    }
    if let Some(strict) = dcs.boolean("synchronous_mode_strict") {
        settings.synchronous_mode_strict = strict;
        if strict && settings.synchronous_mode == Mode::Off {
            let what = "has no effect without synchronous_mode";
            dcs.warn("synchronous_mode_strict", what, "write synchronous_mode: on or quorum");
        }
    }
    if let Some(count) = dcs.integer("synchronous_node_count") {
        match u32::try_from(count) {
            Ok(count @ 1..) => settings.synchronous_node_count = count,
            _ => {
                let what = format!("{count}: a commit waits for at least one standby");
                dcs.error("synchronous_node_count", what, "write 1, or synchronous_mode: off");
            }
        }
    }
    // Patroni's -1: a standby is never too far behind to be waited for.
    if dcs.text("maximum_lag_on_syncnode").is_some_and(|text| text.trim() != "-1") {
        settings.maximum_lag_on_syncnode_bytes = dcs.bytes("maximum_lag_on_syncnode");
    }
}

/// `encoding: UTF8` becomes `--encoding=UTF8`, `data-checksums` becomes `--data-checksums`.
fn read_initdb(section: &Section<'_>, node: &Node) -> Vec<String> {
    if let (Place::Env(_), Some(text)) = (&node.place, node.text()) {
        return from_variable(section, node, &text);
    }
    let Value::List(items) = &node.value else {
        section.error("initdb", "is no list", "write a list, as [encoding: UTF8, data-checksums]");
        return Vec::new();
    };
    let mut arguments = Vec::new();
    for item in items {
        match &item.value {
            Value::Map(entries) => {
                for entry in entries {
                    let value = entry.node.text();
                    if matches!(entry.node.value, Value::List(_) | Value::Map(_)) {
                        let what = format!("{} stands where one value belongs", entry.node.kind());
                        let path = section.path("initdb");
                        section.report.error(&entry.node.place, &path, what, "write one value");
                    }
                    add_option(section, item, (&entry.key, value.as_deref()), &mut arguments);
                }
            }
            _ => {
                let name = item.text().unwrap_or_default();
                add_option(section, item, (&name, None), &mut arguments);
            }
        }
    }
    arguments
}

/// `encoding=UTF8,data-checksums`.
fn from_variable(section: &Section<'_>, node: &Node, text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    // By line breaks too, as `howdah config explain` shows them.
    for part in text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (part, None),
        };
        add_option(section, node, (name, value), &mut arguments);
    }
    arguments
}

fn add_option(
    section: &Section<'_>,
    item: &Node,
    (name, value): (&str, Option<&str>),
    arguments: &mut Vec<String>,
) {
    const OWN: &[&str] = &["pgdata", "D", "username", "U", "pwfile", "pwprompt", "auth", "no-sync"];
    let name = name.trim_start_matches('-');
    let path = section.path("initdb");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || !name.chars().all(plain) {
        section.report.error(
            &item.place,
            &path,
            format!("`{name}` is no option"),
            "see `initdb --help`",
        );
    } else if OWN.contains(&name) {
        let what = format!("`{name}` is set by howdah itself; left out");
        section.report.warn(&item.place, &path, what, "remove it");
    } else {
        arguments.push(match value {
            Some(value) => format!("--{name}={value}"),
            None => format!("--{name}"),
        });
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
