//! TLS between the members' servers, from the same certificates as everything else between them. Pure.

use std::net::IpAddr;
use std::path::Path;

use howdah_locks::Paths;

use super::SettingsError;
use crate::versions;

/// Parameters of a server that shows them, and asks members for theirs.
pub(super) fn parameters(tls: &Paths) -> Result<[(&'static str, String); 6], SettingsError> {
    Ok([
        ("ssl", "on".to_owned()),
        ("ssl_ca_file", text(&tls.ca)?),
        ("ssl_cert_file", text(&tls.cert)?),
        ("ssl_key_file", text(&tls.key)?),
        ("ssl_min_protocol_version", "TLSv1.2".to_owned()),
        // Of TLS 1.2's: those that keep the past secret and whose text cannot be tampered with.
        ("ssl_ciphers", "ECDHE+AESGCM:ECDHE+CHACHA20".to_owned()),
    ])
}

/// libpq's words for a connection to another member. libpq before 15 compares names only, so that by an IP address
/// any member of the cluster is believed.
pub(crate) fn words(
    tls: &Paths,
    host: &str,
    major: u32,
) -> Result<[(&'static str, String); 4], SettingsError> {
    let by_address = host.parse::<IpAddr>().is_ok();
    let full = !by_address || versions::compares_ip_addresses(major);
    Ok([
        ("sslmode", if full { "verify-full" } else { "verify-ca" }.to_owned()),
        ("sslrootcert", text(&tls.ca)?),
        ("sslcert", text(&tls.cert)?),
        ("sslkey", text(&tls.key)?),
    ])
}

fn text(path: &Path) -> Result<String, SettingsError> {
    path.to_str().map(str::to_owned).ok_or_else(|| SettingsError::Path {
        what: "certificate file",
        path: path.display().to_string(),
    })
}
