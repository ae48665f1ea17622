//! PostgreSQL parameters: what PostgreSQL would refuse at its next start is refused here, and what
//! howdah sets itself is left out with a warning. Pure.
//!
//! Only parameters whose limits are the same in all supported versions are checked; PostgreSQL has
//! the last word on the others.

use std::collections::BTreeMap;

use super::reader::Section;
use super::units;
use super::value::{Entry, Place, Value};

/// What a number of a parameter counts, and so which units it takes.
#[derive(Clone, Copy)]
enum Counts {
    Things,
    Fraction,
    /// Milliseconds per unit that a bare number counts.
    Time(f64),
    /// Bytes per unit that a bare number counts.
    Memory(f64),
}

const MS: Counts = Counts::Time(1.0);
const SECONDS: Counts = Counts::Time(1000.0);
const KB: Counts = Counts::Memory(1024.0);
const BLOCKS: Counts = Counts::Memory(8192.0);
const MB: Counts = Counts::Memory(1_048_576.0);
const INT: f64 = 2_147_483_647.0;

/// Name, what its number counts, least and greatest value in the unit of a bare number.
const LIMITS: &[(&str, Counts, f64, f64)] = &[
    ("archive_timeout", SECONDS, 0.0, 1_073_741_823.0),
    ("autovacuum_max_workers", Counts::Things, 1.0, 262_143.0),
    ("checkpoint_completion_target", Counts::Fraction, 0.0, 1.0),
    ("checkpoint_timeout", SECONDS, 30.0, 86_400.0),
    ("deadlock_timeout", MS, 1.0, INT),
    ("effective_cache_size", BLOCKS, 1.0, INT),
    ("idle_in_transaction_session_timeout", MS, 0.0, INT),
    ("lock_timeout", MS, 0.0, INT),
    ("maintenance_work_mem", KB, 64.0, INT),
    ("max_connections", Counts::Things, 1.0, 262_143.0),
    ("max_locks_per_transaction", Counts::Things, 10.0, INT),
    ("max_prepared_transactions", Counts::Things, 0.0, 262_143.0),
    // Least for a cluster: a standby's stream, a clone's two connections, and one to spare.
    ("max_replication_slots", Counts::Things, 4.0, 262_143.0),
    ("max_wal_senders", Counts::Things, 4.0, 262_143.0),
    ("max_wal_size", MB, 2.0, INT),
    ("max_worker_processes", Counts::Things, 0.0, 262_143.0),
    ("min_wal_size", MB, 2.0, INT),
    ("random_page_cost", Counts::Fraction, 0.0, f64::MAX),
    ("shared_buffers", BLOCKS, 16.0, 1_073_741_823.0),
    ("statement_timeout", MS, 0.0, INT),
    ("superuser_reserved_connections", Counts::Things, 0.0, 262_143.0),
    ("wal_buffers", BLOCKS, -1.0, 262_143.0),
    ("wal_keep_size", MB, 0.0, INT),
    ("wal_receiver_timeout", MS, 0.0, INT),
    ("wal_sender_timeout", MS, 0.0, INT),
    ("work_mem", KB, 64.0, INT),
];

/// Parameters that howdah sets itself.
const OWN: &[&str] = &[
    "cluster_name",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "hot_standby",
    "ident_file",
    "listen_addresses",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_target_timeline",
    "restart_after_crash",
    "synchronous_standby_names",
    "unix_socket_directories",
    "wal_log_hints",
];

/// Reads a `parameters` section.
pub(super) fn read(section: Option<Section<'_>>) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let Some(section) = section else { return parameters };
    for entry in section.entries() {
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
    if name == "recovery_conf" {
        let what = "is no parameter, and PostgreSQL has had no recovery.conf since version 12";
        report.warn(place, &path, what, "write its values beside it, among the parameters");
        return None;
    }
    if !is_parameter_name(&name) {
        report.error(place, &path, "is no name of a PostgreSQL parameter", "correct the name");
        return None;
    }
    let Some(value) = entry.node.text() else {
        if !matches!(entry.node.value, Value::Null) {
            let what = format!("{} stands where one value belongs", entry.node.kind());
            report.error(place, &path, what, "write one value, lists as 'a, b'");
        }
        return None;
    };
    if value.contains(['\n', '\r', '\0']) {
        report.error(place, &path, "holds a line break", "write the value on one line");
        return None;
    }
    if OWN.contains(&name.as_str()) {
        report.warn(place, &path, "is set by howdah itself; this value is left out", "remove it");
        return None;
    }
    if name == "wal_keep_segments" {
        return keep_segments(section, place, &path, &value);
    }
    check(section, place, &path, (&name, &value));
    Some((name, value))
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
    let Ok(segments) = value.trim().parse::<u32>() else {
        section.report.error(
            place,
            path,
            format!("`{value}` is no whole number"),
            "write wal_keep_size",
        );
        return None;
    };
    let size = format!("{}MB", u64::from(segments) * 16);
    let what = format!("was removed in PostgreSQL 13; taken as wal_keep_size {size}");
    section.report.warn(place, path, what, &format!("write `wal_keep_size: {size}`"));
    Some(("wal_keep_size".to_owned(), size))
}

fn check(section: &Section<'_>, place: &Place, path: &str, (name, value): (&str, &str)) {
    let report = section.report;
    match (name, value) {
        ("wal_level", "minimal") => {
            report.error(
                place,
                path,
                "`minimal` leaves nothing for standbys",
                "write replica or logical",
            );
        }
        ("fsync" | "full_page_writes", "off" | "false" | "no" | "0") => {
            report.warn(place, path, "a crash of the machine damages the data", "remove it");
        }
        _ => {}
    }
    let Some(&(_, counts, least, most)) = LIMITS.iter().find(|(known, ..)| *known == name) else {
        return;
    };
    let Some(number) = number(value, counts) else {
        let what = format!("`{value}` is no value for it");
        report.error(place, path, what, &format!("write {}", example(counts)));
        return;
    };
    if number < least || number > most {
        let range = if most >= INT {
            format!("at least {}", shown(least, counts))
        } else {
            format!("{} to {}", shown(least, counts), shown(most, counts))
        };
        let what = format!("`{value}` means {}, out of range ({range})", shown(number, counts));
        let bound = if number < least { least } else { most };
        report.error(
            place,
            path,
            what,
            &format!("write {bound} or {}", if number < least { "more" } else { "less" }),
        );
    }
}

/// The value in the unit that a bare number counts.
fn number(value: &str, counts: Counts) -> Option<f64> {
    let (number, unit) = units::split(value)?;
    let factor = match (counts, unit) {
        (_, "") => return Some(number),
        (Counts::Things | Counts::Fraction, _) => return None,
        (Counts::Time(base), "us") => 0.001 / base,
        (Counts::Time(base), "ms") => 1.0 / base,
        (Counts::Time(base), "s") => 1000.0 / base,
        (Counts::Time(base), "min") => 60_000.0 / base,
        (Counts::Time(base), "h") => 3_600_000.0 / base,
        (Counts::Time(base), "d") => 86_400_000.0 / base,
        (Counts::Time(_), _) => return None,
        // PostgreSQL is strict about the case of kB; so is this.
        (Counts::Memory(_), "KB") => return None,
        (Counts::Memory(base), unit) => units::memory_factor(unit)? / base,
    };
    Some(number * factor)
}

fn example(counts: Counts) -> &'static str {
    match counts {
        Counts::Things => "a whole number",
        Counts::Fraction => "a number",
        Counts::Time(_) => "a number, or as 500ms, 30s, 5min",
        Counts::Memory(_) => "a number, or as 64kB, 128MB, 1GB",
    }
}

fn shown(number: f64, counts: Counts) -> String {
    match counts {
        Counts::Things | Counts::Fraction => number.to_string(),
        Counts::Time(1.0) => format!("{number} ms"),
        Counts::Time(_) => format!("{number} s"),
        Counts::Memory(1024.0) => format!("{number} kB"),
        Counts::Memory(8192.0) => format!("{number} blocks of 8 kB"),
        Counts::Memory(_) => format!("{number} MB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_postgresql() {
        assert_eq!(number("15", SECONDS), Some(15.0));
        assert_eq!(number("5min", SECONDS), Some(300.0));
        assert_eq!(number("500ms", SECONDS), Some(0.5));
        assert_eq!(number("128MB", BLOCKS), Some(16_384.0));
        assert_eq!(number("128KB", BLOCKS), None);
        assert_eq!(number("128kB", KB), Some(128.0));
        assert_eq!(number("5s", Counts::Things), None);
        assert_eq!(number("soon", MS), None);
    }

    #[test]
    fn names_may_have_one_dot() {
        for good in ["work_mem", "pg_stat_statements.max"] {
            assert!(is_parameter_name(good), "{good}");
        }
        for bad in ["", "a.b.c", "work mem", "1a", "x'; --", "a."] {
            assert!(!is_parameter_name(bad), "{bad}");
        }
    }
}
