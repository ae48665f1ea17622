//! One value against one row of the table, as PostgreSQL's own parser would judge it. Pure.

use super::super::units;
use super::table::{Kind, Row};

/// What is wrong, and what to do.
pub(super) type Mistake = (String, String);

/// Values that PostgreSQL takes and does not show.
const HIDDEN: &[(&str, &[&str])] = &[
    ("client_min_messages", &["debug", "info"]),
    ("log_min_messages", &["debug"]),
    ("log_min_error_statement", &["debug"]),
    ("ssl_max_protocol_version", &[""]),
    ("trace_recovery_messages", &["debug", "info"]),
    ("icu_validation_level", &["debug", "info"]),
    ("wal_level", &["archive", "hot_standby"]),
];

/// Counted in banks of 16.
const IN_BANKS: &[&str] = &[
    "commit_timestamp_buffers",
    "multixact_member_buffers",
    "multixact_offset_buffers",
    "notify_buffers",
    "serializable_buffers",
    "subtransaction_buffers",
    "transaction_buffers",
];

/// Whether `value` can be the value of the parameter.
pub(super) fn check(name: &str, value: &str, row: &Row) -> Result<(), Mistake> {
    match row.kind {
        Kind::Text => Ok(()),
        Kind::Bool => match boolean(value) {
            Some(_) => Ok(()),
            None => Err((format!("`{value}` is no boolean"), "write on or off".to_owned())),
        },
        Kind::Enum => enumerated(name, value, row),
        Kind::Integer | Kind::Real => {
            number_within(value, row)?;
            between(name, number(value, row).unwrap_or_default())
        }
    }
}

/// PostgreSQL's booleans: the words and what begins them, where that is unambiguous.
pub(super) fn boolean(value: &str) -> Option<bool> {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    match value.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ if begins("true", 1) || begins("yes", 1) || begins("on", 2) => Some(true),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Some(false),
        _ => None,
    }
}

fn enumerated(name: &str, value: &str, row: &Row) -> Result<(), Mistake> {
    let is = |known: &&str| known.eq_ignore_ascii_case(value);
    let hidden =
        HIDDEN.iter().find(|(of, _)| *of == name).is_some_and(|(_, all)| all.iter().any(is));
    // What knows on and off knows the other words for them, in full.
    let words = ["true", "false", "yes", "no", "1", "0"];
    let switch = row.values.contains(&"on") && words.iter().any(is);
    if hidden || switch || row.values.iter().any(is) {
        return Ok(());
    }
    let remedy = match super::super::reader::nearest(value, &row.values) {
        Some(known) => format!("did you mean `{known}`? It takes {}", row.values.join(", ")),
        None => format!("write one of {}", row.values.join(", ")),
    };
    Err((format!("`{value}` is no value for it"), remedy))
}

fn number_within(value: &str, row: &Row) -> Result<(), Mistake> {
    let Some(number) = number(value, row) else {
        return Err((format!("`{value}` is no value for it"), format!("write {}", example(row))));
    };
    if (row.least..=row.most).contains(&number) {
        return Ok(());
    }
    let (least, most) = (shown(row.least, row.unit), shown(row.most, row.unit));
    let range = if number < row.least && row.most >= 2_147_483_647.0 {
        format!("at least {least}")
    } else {
        format!("{least} to {most}")
    };
    let meant = shown(number, row.unit);
    let what = if meant == value {
        format!("`{value}` is out of range ({range})")
    } else {
        format!("`{value}` means {meant}, out of range ({range})")
    };
    let remedy = if number < row.least {
        format!("write {} or more", row.least)
    } else {
        format!("write {} or less", row.most)
    };
    Err((what, remedy))
}

/// Gaps within the range, which only PostgreSQL's code knows.
fn between(name: &str, number: f64) -> Result<(), Mistake> {
    if IN_BANKS.contains(&name) && number % 16.0 != 0.0 {
        let what = format!("{number} is no multiple of 16");
        return Err((what, "write a multiple of 16 blocks of 8 kB".to_owned()));
    }
    if name == "vacuum_buffer_usage_limit" && number > 0.0 && number < 128.0 {
        return Err((format!("{number} kB is too little"), "write 0, or 128kB or more".to_owned()));
    }
    Ok(())
}

/// The value in the unit that a bare number counts, whole for integers.
pub(super) fn number(value: &str, row: &Row) -> Option<f64> {
    let value = value.trim();
    let (number, unit) = match hexadecimal(value) {
        Some(parsed) => parsed,
        None => units::split(value)?,
    };
    let number = match unit {
        "" => number,
        unit => number * factor(unit, row.unit)?,
    };
    Some(if row.kind == Kind::Integer { number.round_ties_even() } else { number })
}

/// `0x1F` and a unit behind it; PostgreSQL reads these too.
fn hexadecimal(value: &str) -> Option<(f64, &str)> {
    let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"))?;
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    let number = i64::from_str_radix(&digits[..end], 16).ok()?;
    Some((number as f64, digits[end..].trim()))
}

/// How many of the bare number's unit one `unit` is. PostgreSQL is strict about case; so is this.
fn factor(unit: &str, base: &str) -> Option<f64> {
    let time = |unit: &str| {
        Some(match unit {
            "us" => 0.001,
            "ms" => 1.0,
            "s" => 1000.0,
            "min" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return None,
        })
    };
    let memory = |unit: &str| match unit {
        "8kB" => Some(8192.0),
        "KB" => None,
        unit => units::memory_factor(unit),
    };
    match base {
        "" => None,
        base => match (time(unit), time(base)) {
            (Some(unit), Some(base)) => Some(unit / base),
            _ => Some(memory(unit)? / memory(base)?),
        },
    }
}

fn example(row: &Row) -> &'static str {
    match (row.unit, row.kind) {
        ("", Kind::Integer) => "a whole number",
        ("", _) => "a number",
        ("us" | "ms" | "s" | "min" | "h" | "d", _) => "a number, or as 500ms, 30s, 5min",
        _ => "a number, or as 64kB, 128MB, 1GB",
    }
}

fn shown(number: f64, unit: &str) -> String {
    match unit {
        "" => number.to_string(),
        "8kB" => format!("{number} blocks of 8 kB"),
        unit => format!("{number} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::TABLE;
    use super::*;

    fn judged(name: &str, value: &str) -> Result<(), Mistake> {
        check(name, value, &TABLE[name][0])
    }

    #[test]
    fn units_are_those_of_postgresql() {
        let number = |name: &str, value: &str| number(value, &TABLE[name][0]);
        assert_eq!(number("checkpoint_timeout", "15"), Some(15.0));
        assert_eq!(number("checkpoint_timeout", "5min"), Some(300.0));
        assert_eq!(number("checkpoint_timeout", "1500ms"), Some(2.0));
        assert_eq!(number("shared_buffers", "128MB"), Some(16_384.0));
        assert_eq!(number("shared_buffers", "128KB"), None);
        assert_eq!(number("shared_buffers", "5s"), None);
        assert_eq!(number("work_mem", "0x80kB"), Some(128.0));
        assert_eq!(number("max_connections", "5s"), None);
        assert_eq!(number("random_page_cost", "1.1"), Some(1.1));
        assert_eq!(number("lock_timeout", "soon"), None);
    }

    #[test]
    fn each_kind_has_its_values() {
        for (name, value) in [
            ("work_mem", "64"),
            ("fsync", "tr"),
            ("synchronous_commit", "remote_apply"),
            ("synchronous_commit", "yes"),
            ("wal_level", "hot_standby"),
            ("log_min_messages", "WARNING"),
            ("search_path", "anything, at all"),
            ("autovacuum_vacuum_scale_factor", "1e-2"),
        ] {
            assert_eq!(judged(name, value), Ok(()), "{name} = {value}");
        }
        for (name, value) in [
            ("work_mem", "63"),
            ("fsync", "o"),
            ("synchronous_commit", "maybe"),
            ("wal_level", "logic"),
            ("autovacuum_vacuum_scale_factor", "101"),
            ("max_connections", "ten"),
            ("max_connections", ""),
            ("notify_buffers", "24"),
            ("vacuum_buffer_usage_limit", "64kB"),
        ] {
            assert!(judged(name, value).is_err(), "{name} = {value}");
        }
    }
}
