//! Who is let in: the HBA and ident files. Pure text; [`crate::prepare`] writes it.
//!
//! Between a promotion and the barrier clients are kept out by the HBA file alone, so it is
//! howdah's own file at a fixed path, whose content changes by a reload.
//! Invariants: howdah's lines stand first, so no user's line locks the agent or a standby out;
//! every closed mode ends with lines that reject everybody else.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::settings::{PgSettings, SettingsError};

/// Name of the HBA file in the data directory.
pub const HBA_FILE: &str = "howdah_hba.conf";
/// Name of the ident map file in the data directory.
pub const IDENT_FILE: &str = "howdah_ident.conf";

/// The user's lines when none are given: the local machine, with a password over TCP.
const DEFAULT_LINES: [&str; 3] = [
    "local all all peer",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host all all ::1/128 scram-sha-256",
];

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaMode {
    /// The local agent and the rewind role: until a new timeline is recorded in the log.
    Shut,
    /// These and replication: until the barrier is passed.
    Barred,
    /// These, and whom the user's lines admit.
    Open,
}

/// Renders the HBA file. Fails on values that could not be written safely.
pub fn render_hba(mode: HbaMode, settings: &PgSettings) -> Result<String, SettingsError> {
    settings.check()?;
    let roles = &settings.roles;
    let mut text = String::from("# Written by howdah; what is edited here is lost.\n");
    let mut put = |line: String| writeln!(text, "{line}").expect("writing to a string works");
    put(format!("local all \"{}\" peer map=howdah", roles.superuser));
    // A stolen password alone opens nothing.
    let (kind, method) = match settings.tls {
        Some(_) => ("hostssl", "scram-sha-256 clientcert=verify-ca"),
        None => ("host", "scram-sha-256"),
    };
    for member in &settings.members {
        let address = address(member)?;
        if mode != HbaMode::Shut {
            put(format!("{kind} replication \"{}\" {address} {method}", roles.replication));
        }
        put(format!("{kind} all \"{}\" {address} {method}", roles.rewind));
    }
    match mode {
        HbaMode::Shut | HbaMode::Barred => {
            for kind in ["local", "host"] {
                let address = if kind == "host" { " all" } else { "" };
                put(format!("{kind} all all{address} reject"));
                put(format!("{kind} replication all{address} reject"));
            }
        }
        HbaMode::Open if settings.hba.is_empty() => {
            DEFAULT_LINES.iter().for_each(|line| put((*line).to_owned()));
        }
        HbaMode::Open => {
            for line in &settings.hba {
                put(single_line("postgresql.pg_hba", line)?.to_owned());
            }
        }
    }
    Ok(text)
}

/// Renders the ident map: `howdah` lets the operating system user in as the superuser role.
pub fn render_ident(settings: &PgSettings) -> Result<String, SettingsError> {
    settings.check()?;
    let os_user = single_line("operating system user", &settings.os_user)?;
    if os_user.is_empty() || os_user.contains('"') || os_user.starts_with('/') {
        return Err(SettingsError::Unfit {
            what: "operating system user",
            name: os_user.to_owned(),
            why: "cannot stand in an ident map",
        });
    }
    let mut text = format!(
        "# Written by howdah; what is edited here is lost.\nhowdah \"{os_user}\" \"{}\"\n",
        settings.roles.superuser
    );
    for line in &settings.ident {
        let line = single_line("postgresql.pg_ident", line)?;
        writeln!(text, "{line}").expect("writing to a string works");
    }
    Ok(text)
}

fn single_line<'a>(what: &str, line: &'a str) -> Result<&'a str, SettingsError> {
    // A backslash at the end would join the next line to this one.
    if line.contains(['\n', '\r', '\0']) || line.trim_end().ends_with('\\') {
        return Err(SettingsError::Value { what: what.to_owned(), value: line.to_owned() });
    }
    Ok(line)
}

/// An address as the HBA file wants it: with its mask, or a host name.
fn address(member: &str) -> Result<String, SettingsError> {
    if let Ok(ip) = member.parse::<IpAddr>() {
        return Ok(format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
    }
    let mask = member.split_once('/').is_some_and(|(ip, bits)| {
        let most = ip.parse().map(|ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 });
        most.is_ok_and(|most| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
    });
    let name_char = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let name = !member.is_empty() && member.chars().all(name_char);
    // These words mean something else in this place.
    let keyword = ["all", "samehost", "samenet"].contains(&member);
    if mask || (name && !keyword) {
        return Ok(member.to_owned());
    }
    Err(SettingsError::Unfit {
        what: "member address",
        name: member.to_owned(),
        why: "is neither an IP address nor a host name",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (given, expected) in [
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("::1", Some("::1/128")),
            ("10.0.0.0/24", Some("10.0.0.0/24")),
            ("pg-1.example.org", Some("pg-1.example.org")),
            ("10.0.0.0/33", None),
            ("all", None),
            ("", None),
            ("a b", None),
            ("x\nhost all all all trust", None),
        ] {
            assert_eq!(address(given).ok().as_deref(), expected, "{given:?}");
        }
        assert!(single_line("x", "host all all all trust \\").is_err());
    }
}
