//! Text of PostgreSQL's configuration files: quoting, the include line, the file of ALTER SYSTEM.

use super::SettingsError;

/// The line that `postgresql.conf` ends with.
const INCLUDE: &str = "include 'howdah.conf'";

/// A value in single quotes. The server reads both doubled quotes and backslash escapes.
pub fn quote(what: &str, value: &str) -> Result<String, SettingsError> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(SettingsError::Value { what: what.to_owned(), value: value.to_owned() });
    }
    Ok(format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''")))
}

/// A value for a libpq connection string.
pub fn conninfo_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `postgresql.conf` with the include of `howdah.conf` as its last line; where it stands elsewhere
/// it moves there, so that nothing written behind it wins.
pub fn with_include(postgresql_conf: &str) -> String {
    let mut lines: Vec<&str> =
        postgresql_conf.lines().filter(|line| line.trim() != INCLUDE).collect();
    while lines.last().is_some_and(|l| l.trim().is_empty()) {
        lines.pop();
    }
    let mut text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
    text.push_str(INCLUDE);
    text.push('\n');
    text
}

/// `postgresql.auto.conf` without lines that set one of `names`; and the names that were removed.
/// That file is read after every other, so what stands there would win over howdah.
pub fn clean_auto_conf(text: &str, names: &[&str]) -> (String, Vec<String>) {
    let mut removed = Vec::new();
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let name = line.trim_start().split(end).next().unwrap_or_default();
        if names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            removed.push(name.to_ascii_lowercase());
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    (kept, removed)
}
