//! `HOWDAH_*` environment variables, which go before the files.
//!
//! Place: called by `Config::from_sources` on the merged tree, before any section is read, so that
//! a value from a variable is checked exactly like one from a file. Pure. The name of a variable
//! follows from the key ([`super::keys::variable`]); there is no second list to keep.

use super::keys::{self, Named};
use super::reader::{Report, nearest};
use super::source::Sources;
use super::value::{Node, Place};

const PREFIX: &str = "HOWDAH_";

/// Variables that are read elsewhere, by the binary itself or by the tools around it.
const ELSEWHERE: &[&str] =
    &["HOWDAH_CONFIG", "HOWDAH_ENDPOINT", "HOWDAH_KEYS", "HOWDAH_LOG", "HOWDAH_GUARD_FD"];
const ELSEWHERE_PREFIXES: &[&str] = &["HOWDAH_TEST_", "HOWDAH_SIM_", "HOWDAH_DSN_"];

/// Puts the variables into the tree and refuses those that nobody reads.
pub(super) fn apply(root: &mut Node, sources: &Sources, report: &Report) {
    for name in sources.unreadable.iter().filter(|name| !read_elsewhere(name)) {
        let place = Place::Env(name.clone());
        report.error(&place, "", "its value is no UTF-8 text", "set it anew, or unset it");
    }
    for (name, value) in &sources.variables {
        if !name.starts_with(PREFIX) || read_elsewhere(name) || of_a_service(name, value) {
            continue;
        }
        let place = Place::Env(name.clone());
        match keys::named(name) {
            Named::Key(path) => root.set(&path, value, &place),
            Named::Unknown => {
                let known = keys::variables();
                let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
                let known: Vec<String> = known.iter().map(|known| bare(known)).collect();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let remedy = match nearest(&bare(name), &known) {
                    Some(known) => format!("did you mean {PREFIX}{known}? Else unset it"),
                    None => "unset it".to_owned(),
                };
                report.error(&place, "", "sets no key", &remedy);
            }
        }
    }
}

fn read_elsewhere(name: &str) -> bool {
    ELSEWHERE.contains(&name) || ELSEWHERE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Container platforms tell each container of each service by such variables; a service called
/// `howdah` would otherwise keep howdah from starting.
fn of_a_service(name: &str, value: &str) -> bool {
    let host = name.ends_with("_SERVICE_HOST") && value.parse::<std::net::IpAddr>().is_ok();
    let port = name.contains("_SERVICE_PORT") && value.parse::<u16>().is_ok();
    let link =
        name.contains("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://"));
    let part = ["_PROTO", "_PORT", "_ADDR"].iter().any(|end| {
        name.strip_suffix(end).is_some_and(|rest| rest.ends_with("_TCP") || rest.ends_with("_UDP"))
    });
    host || port || link || part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_service_called_howdah_are_no_mistakes() {
        for (name, value) in [
            ("HOWDAH_SERVICE_HOST", "10.0.0.1"),
            ("HOWDAH_SERVICE_PORT_REST", "8008"),
            ("HOWDAH_N1_PORT", "tcp://10.0.0.1:5432"),
            ("HOWDAH_PORT_5432_TCP", "tcp://10.0.0.1:5432"),
            ("HOWDAH_PORT_5432_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(of_a_service(name, value), "{name}");
        }
        assert!(!of_a_service("HOWDAH_POSTGRESQL_PORT", "5432"));
        assert!(!of_a_service("HOWDAH_POSTGRESQL_LISTEN", "10.0.0.1:5432"));
    }
}
