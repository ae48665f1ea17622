//! `HOWDAH_*` environment variables, which go before the file.
//!
//! Place: called by `Config::load` on the parsed tree, before any section is read, so that a value
//! from a variable is checked exactly like one from the file. Pure; the caller hands the variables.

use std::collections::BTreeMap;

use super::reader::{Report, nearest};
use super::value::{Node, Place};

/// Variable, and the path of the scalar that it sets.
const TABLE: &[(&str, &[&str])] = &[
    ("HOWDAH_SCOPE", &["scope"]),
    ("HOWDAH_NAME", &["name"]),
    ("HOWDAH_PROFILE", &["profile"]),
    ("HOWDAH_USER", &["user"]),
    ("HOWDAH_INSECURE", &["insecure"]),
    ("HOWDAH_STOP_TIMEOUT", &["stop_timeout"]),
    ("HOWDAH_HANDOVER_TIMEOUT", &["handover_timeout"]),
    ("HOWDAH_RAFT_DATA_DIR", &["raft", "data_dir"]),
    ("HOWDAH_RAFT_SELF_ADDR", &["raft", "self_addr"]),
    ("HOWDAH_RAFT_BIND_ADDR", &["raft", "bind_addr"]),
    ("HOWDAH_RAFT_PARTNER_ADDRS", &["raft", "partner_addrs"]),
    ("HOWDAH_RESTAPI_LISTEN", &["restapi", "listen"]),
    ("HOWDAH_RESTAPI_CONNECT_ADDRESS", &["restapi", "connect_address"]),
    ("HOWDAH_POSTGRESQL_LISTEN", &["postgresql", "listen"]),
    ("HOWDAH_POSTGRESQL_CONNECT_ADDRESS", &["postgresql", "connect_address"]),
    ("HOWDAH_POSTGRESQL_DATA_DIR", &["postgresql", "data_dir"]),
    ("HOWDAH_POSTGRESQL_BIN_DIR", &["postgresql", "bin_dir"]),
    ("HOWDAH_SUPERUSER_USERNAME", &["postgresql", "authentication", "superuser", "username"]),
    ("HOWDAH_SUPERUSER_PASSWORD", &["postgresql", "authentication", "superuser", "password"]),
    (
        "HOWDAH_SUPERUSER_PASSWORD_FILE",
        &["postgresql", "authentication", "superuser", "password_file"],
    ),
    ("HOWDAH_REPLICATION_USERNAME", &["postgresql", "authentication", "replication", "username"]),
    ("HOWDAH_REPLICATION_PASSWORD", &["postgresql", "authentication", "replication", "password"]),
    (
        "HOWDAH_REPLICATION_PASSWORD_FILE",
        &["postgresql", "authentication", "replication", "password_file"],
    ),
    ("HOWDAH_REWIND_USERNAME", &["postgresql", "authentication", "rewind", "username"]),
    ("HOWDAH_REWIND_PASSWORD", &["postgresql", "authentication", "rewind", "password"]),
    ("HOWDAH_REWIND_PASSWORD_FILE", &["postgresql", "authentication", "rewind", "password_file"]),
];

/// Variables that are read elsewhere.
const ELSEWHERE: &[&str] = &["HOWDAH_CONFIG", "HOWDAH_ENDPOINT", "HOWDAH_LOG", "HOWDAH_GUARD_FD"];

/// Puts the variables into the tree and warns of those that nobody reads.
pub(super) fn apply(root: &mut Node, variables: &BTreeMap<String, String>, report: &Report) {
    for (name, value) in variables {
        if !name.starts_with("HOWDAH_") {
            continue;
        }
        let place = Place::Env(name.clone());
        if let Some((_, path)) = TABLE.iter().find(|(known, _)| known == name) {
            root.set(path, value, &place);
        } else if !ELSEWHERE.contains(&name.as_str()) && !name.starts_with("HOWDAH_TEST_") {
            let known: Vec<&str> = TABLE.iter().map(|(known, _)| *known).collect();
            let remedy = match nearest(name, &known) {
                Some(known) => format!("did you mean {known}?"),
                None => "unset it".to_owned(),
            };
            report.warn(&place, "", "this environment variable sets nothing", &remedy);
        }
    }
}
