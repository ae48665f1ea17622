//! `howdah.conf`: the user's parameters, howdah's defaults where the user gave none, and what
//! howdah forces.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{conninfo_value, quote};
use super::{Dynamic, Follow, PgSettings, SettingsError, TargetTimeline, Upstream, tls};
use crate::versions;

/// Values for parameters that the user did not set.
const DEFAULTS: [(&str, &str); 15] = [
    ("superuser_reserved_connections", SUPERUSER_RESERVED),
    ("max_slot_wal_keep_size", "8GB"),
    ("wal_sender_timeout", "5s"),
    ("wal_receiver_timeout", "5s"),
    ("wal_receiver_status_interval", "1s"),
    ("password_encryption", "scram-sha-256"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    // A ring of seven files, each begun anew when its day comes round: bounded, and no cron job.
    ("logging_collector", "on"),
    ("log_directory", "log"),
    ("log_filename", "postgresql-%a.log"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
    ("log_truncate_on_rotation", "on"),
];

/// Connections that clients leave to the agent: it looks by a fresh one each time, while a job may
/// hold another.
const SUPERUSER_RESERVED: &str = "5";
/// Connections that clients leave to the rewinds of other members, where the server can do so.
const REWIND_RESERVED: &str = "2";

/// Parameters that end recovery or bend it; a standby of ours has none of them. A restore gives
/// its own on the command line.
const RECOVERY_TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
];

/// Least values that the user may exceed.
const AT_LEAST: [(&str, u32); 2] = [("max_wal_senders", 10), ("max_replication_slots", 10)];

/// A rendered `howdah.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file's text.
    pub text: String,
    /// The user's parameters that do not take effect, each as a sentence.
    pub warnings: Vec<String>,
    /// Every parameter that howdah decides, which `postgresql.auto.conf` therefore must not set.
    pub forced: Vec<&'static str>,
}

/// Renders `howdah.conf`. Fails on names and values that could not be written safely.
pub fn render_conf(settings: &PgSettings, now: &Dynamic) -> Result<Rendered, SettingsError> {
    settings.check()?;
    let user = normalised(&settings.parameters)?;
    let forced = forced(settings, now, &user)?;
    let mut warnings = Vec::new();
    let mut text = String::from(
        "# Written by howdah at each start and change; what is edited here is lost.\n\
         # Set parameters in howdah's configuration instead.\n\n# The user's parameters\n",
    );
    for (name, value) in &user {
        match forced.iter().find(|(forced, _)| forced == name) {
            None => line(&mut text, name, value)?,
            // The same value in the user's own words needs no warning.
            Some((_, ours)) if ours != value => warnings.push(format!(
                "postgresql.parameters: {name} = {value:?} is not used; howdah sets {ours:?}"
            )),
            Some(_) => {}
        }
    }
    text.push_str("\n# Defaults of howdah\n");
    let reserved = versions::has_reserved_connections(settings.major);
    let reserved = reserved.then_some(("reserved_connections", REWIND_RESERVED));
    for (name, value) in DEFAULTS.into_iter().chain(reserved) {
        if !user.contains_key(name) {
            line(&mut text, name, value)?;
        }
    }
    text.push_str("\n# Decided by howdah\n");
    for (name, value) in &forced {
        line(&mut text, name, value)?;
    }
    Ok(Rendered { text, warnings, forced: forced.into_iter().map(|(name, _)| name).collect() })
}

fn line(text: &mut String, name: &str, value: &str) -> Result<(), SettingsError> {
    let value = quote(name, value)?;
    writeln!(text, "{name} = {value}").expect("writing to a string cannot fail");
    Ok(())
}

/// Names are compared without regard to case, as the server does.
fn normalised(
    parameters: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SettingsError> {
    let mut user = BTreeMap::new();
    for (name, value) in parameters {
        let lower = name.to_ascii_lowercase();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '$';
        let start = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !lower.starts_with(start) || !lower.chars().all(word) {
            return Err(SettingsError::Name { name: name.clone() });
        }
        user.insert(lower, value.clone());
    }
    Ok(user)
}

fn forced(
    settings: &PgSettings,
    now: &Dynamic,
    user: &BTreeMap<String, String>,
) -> Result<Vec<(&'static str, String)>, SettingsError> {
    let mut forced = settings.pinned();
    if let Some(tls) = &settings.tls {
        forced.extend(tls::parameters(tls)?);
    }
    let logical = user.get("wal_level").is_some_and(|l| l.eq_ignore_ascii_case("logical"));
    forced.push(("wal_level", if logical { "logical" } else { "replica" }.to_owned()));
    for (name, least) in AT_LEAST {
        let asked = user.get(name).and_then(|v| v.trim().parse().ok()).unwrap_or(least);
        forced.push((name, asked.max(least).to_string()));
    }
    // With the default of 5 s a promotion can sleep that long when it meets the end of a stream.
    forced.push(("wal_retrieve_retry_interval", "100ms".to_owned()));
    for name in RECOVERY_TARGETS {
        forced.push((name, String::new()));
    }
    if versions::has_promote_trigger_file(settings.major) {
        forced.push(("promote_trigger_file", String::new()));
    }
    let (conninfo, slot, restore) = match &now.upstream {
        Upstream::Isolated => Default::default(),
        Upstream::Follow(follow) => {
            let restore = now.restore_command.clone().unwrap_or_default();
            (conninfo(follow, settings.major)?, follow.slot.clone().unwrap_or_default(), restore)
        }
    };
    forced.push(("primary_conninfo", conninfo));
    forced.push(("primary_slot_name", slot));
    forced.push(("restore_command", restore));
    forced.push((
        "recovery_target_timeline",
        match now.target {
            TargetTimeline::Current => "current".to_owned(),
            TargetTimeline::Latest => "latest".to_owned(),
            TargetTimeline::Number(timeline) => timeline.to_string(),
        },
    ));
    forced.push(("synchronous_standby_names", now.synchronous_standby_names.clone()));
    Ok(forced)
}

/// The connection string of the walreceiver. The time-outs make a peer that vanished noticed.
fn conninfo(follow: &Follow, major: u32) -> Result<String, SettingsError> {
    let mut parts = vec![
        ("host", follow.host.clone()),
        ("port", follow.port.to_string()),
        ("user", follow.user.clone()),
        ("application_name", follow.application_name.clone()),
        ("connect_timeout", "5".to_owned()),
        ("keepalives_idle", "10".to_owned()),
        ("keepalives_interval", "5".to_owned()),
        ("keepalives_count", "3".to_owned()),
    ];
    if let Some(passfile) = &follow.passfile {
        let path = passfile.to_str().ok_or_else(|| SettingsError::Path {
            what: "password file",
            path: passfile.display().to_string(),
        })?;
        parts.insert(3, ("passfile", path.to_owned()));
    }
    if let Some(tls) = &follow.tls {
        parts.extend(tls::words(tls, &follow.host, major)?);
    }
    let words = parts.iter().map(|(name, value)| format!("{name}={}", conninfo_value(value)));
    Ok(words.collect::<Vec<_>>().join(" "))
}
