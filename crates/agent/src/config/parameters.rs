//! PostgreSQL parameters: what PostgreSQL would refuse at its next start is refused here.
//!
//! Place: called for `postgresql.parameters` and for the cluster-wide ones; `howdah config check`
//! asks again with the major version that is installed ([`for_major`]). Pure.
//! What a parameter may be comes from a table of all versions; a value passes when one supported
//! version would take it. What howdah decides itself is left out with a warning where its owner
//! loses nothing, and refused where it would do something else than is written.

mod check;
mod table;

use std::collections::BTreeMap;

use super::reader::{Section, nearest};
use super::value::{Entry, Place, Value};

pub(crate) use table::needs_restart;

/// Left out with a warning: howdah sets these, to what everybody wants or from keys of its own.
const LEFT_OUT: &[(&str, &str)] = &[
    ("cluster_name", "remove it; it is `scope`"),
    ("data_directory", "remove it; it is `postgresql.data_dir`"),
    ("hot_standby", "remove it; it is on"),
    ("listen_addresses", "remove it; it comes from `postgresql.listen`"),
    ("port", "remove it; it comes from `postgresql.listen`"),
    ("unix_socket_directories", "remove it; the directory is `<data_dir>.sock`"),
    ("wal_log_hints", "remove it; it is on"),
    ("wal_retrieve_retry_interval", "remove it; it is 100ms"),
];

const FOLLOWS: &str = "remove it; howdah decides whom a standby follows";
const FILES: &str = "remove it; write lines under `postgresql.pg_hba` and `postgresql.pg_ident`";
const TARGETS: &str = "remove it; howdah decides how far is recovered";

/// Refused: with them PostgreSQL would do what howdah must decide.
const REFUSED: &[(&str, &str)] = &[
    ("config_file", "remove it; PostgreSQL's configuration lies in the data directory"),
    ("external_pid_file", "remove it"),
    ("hba_file", FILES),
    ("ident_file", FILES),
    ("primary_conninfo", FOLLOWS),
    ("primary_slot_name", FOLLOWS),
    ("promote_trigger_file", "remove it; howdah promotes"),
    ("recovery_target", TARGETS),
    ("recovery_target_lsn", TARGETS),
    ("recovery_target_name", TARGETS),
    ("recovery_target_time", TARGETS),
    ("recovery_target_timeline", TARGETS),
    ("recovery_target_xid", TARGETS),
    ("restore_command", "remove it; standbys take WAL from the leader"),
    ("synchronous_standby_names", "remove it; write `synchronous_mode` under `bootstrap.dcs`"),
];

/// Each transaction's own; PostgreSQL takes them from no file.
const OF_A_TRANSACTION: &[&str] =
    &["transaction_deferrable", "transaction_isolation", "transaction_read_only"];

/// Switches that howdah holds in one position, and why.
const HELD: &[(&str, bool, &str)] = &[
    ("fsync", true, "a crash of the machine would damage the data"),
    ("full_page_writes", true, "a crash of the machine would damage the data"),
    ("restart_after_crash", false, "howdah must see each crash"),
];

/// Least values for a cluster, which PostgreSQL alone would not ask for.
const LEAST: &[(&str, f64, &str)] = &[
    ("max_wal_senders", 4.0, "a standby's stream, a copy's two connections, and one to spare"),
    ("max_replication_slots", 4.0, "one for each member, and one to spare"),
];

/// Reads a `parameters` section.
pub(super) fn read(section: Option<Section<'_>>) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let Some(section) = section else { return parameters };
    section.report.asked.borrow_mut().insert(section.path("NAME"));
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for entry in section.entries() {
        let name = entry.key.to_ascii_lowercase();
        if let Some(before) = seen.insert(name, &entry.key) {
            let what = format!("is the same parameter as `{before}`");
            let path = section.path(&entry.key);
            section.report.error(&entry.place, &path, what, "remove one of the two");
        }
        if let Some((name, value)) = read_one(&section, entry) {
            parameters.insert(name, value);
        }
    }
    parameters
}

fn read_one(section: &Section<'_>, entry: &Entry) -> Option<(String, String)> {
    let name = entry.key.to_ascii_lowercase();
    let (place, path) = (&entry.node.place, section.path(&entry.key));
    let report = section.report;
    let error = |what: String, remedy: &str| {
        report.error(place, &path, what, remedy);
        None
    };
    if name == "recovery_conf" {
        let what = "is no parameter; PostgreSQL has had no recovery.conf since version 12, and \
                    howdah decides what is recovered";
        report.warn(place, &path, what, "remove it");
        return None;
    }
    if !is_parameter_name(&name) {
        return error("is no name of a PostgreSQL parameter".to_owned(), "correct the name");
    }
    let Some(value) = entry.node.text() else {
        if !matches!(entry.node.value, Value::Null) {
            let what = format!("{} stands where one value belongs", entry.node.kind());
            return error(what, "write one value, lists as 'a, b'");
        }
        return None;
    };
    if value.contains(['\n', '\r', '\0']) {
        return error("holds a line break".to_owned(), "write the value on one line");
    }
    if let Some((_, remedy)) = REFUSED.iter().find(|(own, _)| *own == name) {
        return error("is decided by howdah".to_owned(), remedy);
    }
    if let Some((_, remedy)) = LEFT_OUT.iter().find(|(own, _)| *own == name) {
        report.warn(place, &path, "is set by howdah itself; this value is left out", remedy);
        return None;
    }
    if name == "wal_keep_segments" {
        return keep_segments(section, place, &path, &value);
    }
    judge(&name, &value)
        .map_or_else(|(what, remedy)| error(what, &remedy), |()| Some((name.clone(), value)))
}

/// What is wrong with a parameter in every supported version, and what to do.
fn judge(name: &str, value: &str) -> Result<(), check::Mistake> {
    let Some(rows) = table::TABLE.get(name) else {
        // Names with a dot are an extension's, and only it knows what they take.
        return if name.contains('.') { Ok(()) } else { Err(unknown(name)) };
    };
    if rows.iter().all(|row| row.fixed) {
        let remedy = "remove it; it is fixed when PostgreSQL is built or the data made";
        return Err(("cannot be set".to_owned(), remedy.to_owned()));
    }
    if OF_A_TRANSACTION.contains(&name) {
        let remedy = format!("write `default_{name}`");
        return Err(("is each transaction's own".to_owned(), remedy));
    }
    let verdicts = rows.iter().rev().map(|row| check::check(name, value, row));
    let mut mistakes: Vec<check::Mistake> = Vec::new();
    for verdict in verdicts {
        match verdict {
            Ok(()) => return for_a_cluster(name, value, &rows[0]),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    Err(mistakes.swap_remove(0))
}

fn for_a_cluster(name: &str, value: &str, row: &table::Row) -> Result<(), check::Mistake> {
    if name == "wal_level" && value.eq_ignore_ascii_case("minimal") {
        let what = "`minimal` leaves nothing for standbys".to_owned();
        return Err((what, "write replica or logical".to_owned()));
    }
    if let Some((_, held, why)) = HELD.iter().find(|(known, ..)| *known == name)
        && check::boolean(value) != Some(*held)
    {
        let what = format!("`{value}` is not possible: {why}");
        return Err((what, "remove it".to_owned()));
    }
    if let Some((_, least, why)) = LEAST.iter().find(|(known, ..)| *known == name)
        && check::number(value, row).is_some_and(|number| number < *least)
    {
        let what = format!("`{value}` is too little for a cluster: {why}");
        return Err((what, format!("write {least} or more")));
    }
    Ok(())
}

fn unknown(name: &str) -> check::Mistake {
    let known: Vec<&str> = table::TABLE.keys().copied().collect();
    let remedy = match nearest(name, &known) {
        Some(known) => format!("did you mean `{known}`?"),
        None => {
            "correct the name; those of extensions have a dot, as pg_stat_statements.max".to_owned()
        }
    };
    ("no PostgreSQL from 14 to 18 has this parameter".to_owned(), remedy)
}

/// What one major version refuses among parameters that passed [`read`]: name, what, what to do.
pub(super) fn for_major(
    parameters: &BTreeMap<String, String>,
    major: u32,
) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (name, value) in parameters {
        let Some(rows) = table::TABLE.get(name.as_str()) else { continue };
        let within = |row: &&table::Row| (row.versions.0..=row.versions.1).contains(&major);
        match rows.iter().find(within) {
            Some(row) => {
                if let Err((what, remedy)) = check::check(name, value, row) {
                    found.push((name.clone(), format!("{what} in PostgreSQL {major}"), remedy));
                }
            }
            None => {
                let (first, last) = (rows[0].versions.0, rows[rows.len() - 1].versions.1);
                let what = if major < first {
                    format!("PostgreSQL {major} does not have it; {first} is the first that does")
                } else {
                    format!("PostgreSQL {major} does not have it; {last} was the last that did")
                };
                found.push((name.clone(), what, "remove it".to_owned()));
            }
        }
    }
    found
}

fn is_parameter_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    name.split('.').all(plain) && name.split('.').count() <= 2
}

/// PostgreSQL 13 renamed the parameter and counts megabytes; a segment has 16 of them by default.
fn keep_segments(
    section: &Section<'_>,
    place: &Place,
    path: &str,
    value: &str,
) -> Option<(String, String)> {
    let report = section.report;
    let Ok(segments) = value.trim().parse::<u32>() else {
        let what = format!("`{value}` is no whole number");
        report.error(place, path, what, "write wal_keep_size");
        return None;
    };
    let size = format!("{}MB", u64::from(segments) * 16);
    if let Err((what, remedy)) = judge("wal_keep_size", &size) {
        report.error(place, path, format!("as wal_keep_size: {what}"), &remedy);
        return None;
    }
    let what = format!("was removed in PostgreSQL 13; taken as wal_keep_size {size}");
    report.warn(place, path, what, &format!("write `wal_keep_size: {size}`"));
    Some(("wal_keep_size".to_owned(), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_one_dot() {
        for good in ["work_mem", "pg_stat_statements.max"] {
            assert!(is_parameter_name(good), "{good}");
        }
        for bad in ["", "a.b.c", "work mem", "1a", "x'; --", "a."] {
            assert!(!is_parameter_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_value_passes_when_one_version_takes_it() {
        // 14 to 16 ask for 1 MB.
        assert_eq!(judge("maintenance_work_mem", "64"), Ok(()));
        assert!(judge("maintenance_work_mem", "63").is_err());
        let parameters = BTreeMap::from([
            ("maintenance_work_mem".to_owned(), "64".to_owned()),
            ("promote_trigger_file".to_owned(), String::new()),
            ("io_method".to_owned(), "worker".to_owned()),
            ("pg_stat_statements.max".to_owned(), "anything".to_owned()),
        ]);
        let names = |major| {
            for_major(&parameters, major).into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(15), ["io_method", "maintenance_work_mem"]);
        assert_eq!(names(18), ["promote_trigger_file"]);
    }

    /// For the versions of which no server is at hand, too.
    #[test]
    fn every_version_takes_what_howdah_writes_for_it() {
        use howdah_postgres::settings::{Dynamic, PgSettings, RoleNames, render_conf};
        for major in howdah_postgres::versions::OLDEST..=howdah_postgres::versions::NEWEST {
            let settings = PgSettings {
                data_dir: "/pg/main".into(),
                listen: "0.0.0.0".into(),
                port: 5432,
                socket_dir: "/pg/socket".into(),
                cluster_name: "demo".into(),
                major,
                parameters: BTreeMap::new(),
                hba: Vec::new(),
                ident: Vec::new(),
                members: vec!["10.0.0.1".into()],
                roles: RoleNames {
                    superuser: "postgres".into(),
                    replication: "replicator".into(),
                    rewind: "rewinder".into(),
                },
                os_user: "postgres".into(),
                tls: None,
            };
            let text = render_conf(&settings, &Dynamic::isolated()).expect("renders").text;
            let pairs = text.lines().filter_map(|line| line.split_once(" = "));
            let written: BTreeMap<String, String> = pairs
                .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
                .collect();
            assert!(written.len() > 35, "{text}");
            for name in written.keys() {
                assert!(table::TABLE.contains_key(name.as_str()), "{name}");
            }
            assert_eq!(for_major(&written, major), []);
        }
    }

    #[test]
    fn every_name_that_howdah_decides_is_one_of_postgresql() {
        let names = LEFT_OUT.iter().chain(REFUSED).map(|(name, _)| *name);
        for name in
            names.chain(HELD.iter().map(|held| held.0)).chain(LEAST.iter().map(|least| least.0))
        {
            assert!(table::TABLE.contains_key(name), "{name}");
        }
    }
}
