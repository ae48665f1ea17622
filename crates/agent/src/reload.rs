//! Reading the configuration again while everything runs.
//!
//! Place: a job of the loop, begun by SIGHUP or an operator. Tags, PostgreSQL parameters, pg_hba
//! and pg_ident lines, and passwords of replication and rewinding are taken at once; what else changed is named, and waits for a restart of howdah. A file
//! with a mistake in it changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Config;
use crate::shell::Context;

/// Limit of the questions to PostgreSQL.
const LIMIT: Duration = Duration::from_secs(5);

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that changed and are in force.
    pub applied: Vec<String>,
    /// PostgreSQL parameters that wait for a restart of PostgreSQL.
    pub needs_restart: Vec<String>,
    /// Keys that wait for a restart of howdah.
    pub needs_howdah_restart: Vec<String>,
}

impl std::fmt::Display for Reloaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists = [
            ("in force", &self.applied),
            ("waits for `howdah restart`", &self.needs_restart),
            ("waits for a restart of howdah", &self.needs_howdah_restart),
        ];
        let told: Vec<String> = lists
            .iter()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(what, keys)| format!("{what}: {}", keys.join(", ")))
            .collect();
        if told.is_empty() { f.write_str("nothing changed") } else { f.write_str(&told.join("; ")) }
    }
}

/// Reads the file again and takes what can be taken.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) async fn reload(context: &Context) -> Result<Reloaded, String> {
    let elephant = &context.elephant;
    let old = elephant.current();
    let (new, warnings) = Config::load(&old.file).map_err(|error| error.to_string())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let mut reloaded = Reloaded {
        applied: taken(&old, &new),
        needs_howdah_restart: left(&old, &new),
        needs_restart: Vec::new(),
    };
    let mut config = (*old).clone();
    config.tags = new.tags;
    config.postgresql.parameters = new.postgresql.parameters;
    config.postgresql.pg_hba = new.postgresql.pg_hba;
    config.postgresql.pg_ident = new.postgresql.pg_ident;
    let (roles, given) = (&mut config.postgresql.authentication, new.postgresql.authentication);
    if roles.replication.username == given.replication.username {
        roles.replication.password = given.replication.password;
    }
    if roles.rewind.username == given.rewind.username {
        roles.rewind.password = given.rewind.password;
    }
    roles.monitoring = given.monitoring;
    elephant.set_current(config);
    let written = write_files(context).await;
    match written {
        Ok(needs) => reloaded.needs_restart = needs,
        Err(why) => {
            elephant.set_current((*old).clone());
            return Err(why);
        }
    }
    Ok(reloaded)
}

/// Renders and reloads; the parameters that wait for a restart.
async fn write_files(context: &Context) -> Result<Vec<String>, String> {
    let elephant = &context.elephant;
    if elephant.postmaster().await.is_err() {
        // Files are written anew before each start.
        return Ok(Vec::new());
    }
    let (now, mode) = elephant.written();
    elephant.write_files(now, mode).map_err(|why| why.to_string())?;
    elephant.reload().await.map_err(|why| why.to_string())?;
    let pending = elephant.look_for_pending(LIMIT).await.map_err(|why| why.to_string())?;
    Ok(pending.into_keys().collect())
}

/// Keys that are taken at once and differ.
fn taken(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (&old.postgresql.parameters, &new.postgresql.parameters);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut keys: Vec<String> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("postgresql.parameters.{name}"))
        .collect();
    if old.postgresql.pg_hba != new.postgresql.pg_hba {
        keys.push("postgresql.pg_hba".into());
    }
    if old.postgresql.pg_ident != new.postgresql.pg_ident {
        keys.push("postgresql.pg_ident".into());
    }
    let passwords = |config: &Config| {
        let roles = &config.postgresql.authentication;
        [("replication", roles.replication.clone()), ("rewind", roles.rewind.clone())]
    };
    for ((role, before), (_, after)) in passwords(old).into_iter().zip(passwords(new)) {
        if before.username == after.username && before.password != after.password {
            keys.push(format!("postgresql.authentication.{role}.password"));
        }
    }
    if old.postgresql.authentication.monitoring != new.postgresql.authentication.monitoring {
        keys.push("postgresql.authentication.monitoring".into());
    }
    let tags: BTreeSet<&String> = old.tags.all.keys().chain(new.tags.all.keys()).collect();
    let tags = tags.into_iter().filter(|tag| old.tags.all.get(*tag) != new.tags.all.get(*tag));
    keys.extend(tags.map(|tag| format!("tags.{tag}")));
    keys
}

/// Names of the roles that are read at start only.
fn users(config: &Config) -> String {
    let roles = &config.postgresql.authentication;
    let names = [&roles.superuser, &roles.replication, &roles.rewind].map(|role| &role.username);
    format!("{names:?} {:?}", roles.superuser)
}

/// Keys that differ and are read at start only.
fn left(old: &Config, new: &Config) -> Vec<String> {
    let sections = |config: &Config| {
        [
            ("scope", config.scope.clone()),
            ("name", config.name.0.clone()),
            ("profile", format!("{:?}", config.profile)),
            ("log", format!("{:?}", config.log)),
            ("raft", format!("{:?}", config.raft)),
            ("restapi", format!("{:?}", config.restapi)),
            ("proxy", format!("{:?}", config.proxy)),
            ("pgbouncer", format!("{:?}", config.pgbouncer)),
            ("tls", format!("{:?} {:?}", config.tls, config.ca_key)),
            ("postgresql.data_dir", format!("{:?}", config.postgresql.data_dir)),
            ("postgresql.bin_dir", format!("{:?}", config.postgresql.bin_dir)),
            (
                "postgresql.listen",
                format!("{:?} {}", config.postgresql.listen_hosts, config.postgresql.port),
            ),
            ("postgresql.connect_address", config.postgresql.connect_address.to_string()),
            ("postgresql.authentication", users(config)),
        ]
    };
    let (before, after) = (sections(old), sections(new));
    let changed = before.iter().zip(&after).filter(|(before, after)| before.1 != after.1);
    changed.map(|(before, _)| before.0.to_owned()).collect()
}
